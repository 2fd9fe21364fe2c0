from tests.test_competing import (  # noqa: F401
    queue,
    test_a_message_that_kills_its_consumer_takes_no_other_with_it,
    test_a_retried_message_goes_through_the_schedule,
    test_a_stalled_consumer_loses_its_messages_and_is_refused,
    test_a_stop_waits_for_the_handlers_and_leaves_nothing_pending,
    test_consumers_share_the_messages_and_each_is_handled_once,
    test_one_that_fails_too_often_is_a_dead_letter,
    test_what_a_killed_consumer_had_is_handled_by_another_within_a_second,
)
