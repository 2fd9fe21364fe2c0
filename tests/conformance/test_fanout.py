from tests.test_fanout import (  # noqa: F401
    test_a_failover_of_one_group_is_none_of_another,
    test_a_group_that_always_fails_leaves_the_others_untouched,
    test_the_slowest_decides_what_is_kept,
)
