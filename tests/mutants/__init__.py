"""Mutants: small faults, planted one at a time in a copy of the package, each killed by one test.

Random faults found too few of them; each has a test that was made, or chosen, to notice it.
`python -m tests.mutants` shows that it still does.
"""

from tests.mutants.bounding import BOUNDING
from tests.mutants.failing_over import FAILING_OVER
from tests.mutants.fencing import FENCING
from tests.mutants.moving import MOVING
from tests.mutants.serving import SERVING
from tests.mutants.sharing import SHARING

MUTANTS = [*BOUNDING, *FAILING_OVER, *FENCING, *MOVING, *SERVING, *SHARING]
