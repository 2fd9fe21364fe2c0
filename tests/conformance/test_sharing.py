from tests.test_sharing import (  # noqa: F401
    queue,
    test_a_poller_promotes_what_is_due_in_any_lane,
    test_alone_a_consumer_has_every_lane,
    test_lanes_are_even_after_joining_dying_and_leaving,
)
