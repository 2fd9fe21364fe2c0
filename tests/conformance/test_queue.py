from tests.test_queue import (  # noqa: F401
    test_a_message_due_now_is_ready,
    test_a_publish_repeated_after_promotion_or_ack_is_one_message,
    test_messages_come_out_by_due_time_then_arrival,
    test_stats_tell_what_is_where,
    test_what_breaks_a_limit_is_not_written,
)
