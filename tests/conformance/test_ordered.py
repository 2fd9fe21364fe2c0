from tests.test_ordered import (  # noqa: F401
    test_a_failing_message_is_retried_in_place_and_blocks_those_behind_it,
    test_a_handover_to_a_standby_takes_milliseconds,
    test_a_message_that_kills_its_consumer_is_a_dead_letter_in_the_end,
    test_a_stalled_consumer_is_refused_when_it_wakes,
    test_after_a_kill_the_standby_takes_everything_in_order,
    test_after_a_stop_the_standby_goes_on_and_nothing_is_handled_twice,
    test_messages_are_handled_in_order_and_leave_redis,
)
