from tests.test_poller import (  # noqa: F401
    test_a_producer_publishes_all_in_order,
    test_a_turn_corrects_and_what_fails_goes_on_as_it_was,
    test_messages_are_on_time_and_none_is_early,
    test_pollers_side_by_side_double_nothing,
)
