from tests.test_changes import (  # noqa: F401
    test_a_rescheduled_message_keeps_its_arrival,
    test_a_sleeping_poller_is_woken_by_a_nearer_time,
    test_the_schedule_is_purged,
    test_to_cancel_a_blocker_lets_its_key_go_on,
    test_what_is_ready_is_purged_and_nothing_that_is_pending,
)
