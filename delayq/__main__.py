"""python -m delayq."""

import sys

from delayq.cli import main

sys.exit(main())
