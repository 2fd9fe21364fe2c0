from tests.test_dead import (  # noqa: F401
    test_a_redriven_message_rings_the_bell_and_is_handled,
    test_redriven_messages_keep_their_order_and_overtake_nothing,
    test_what_is_asked_for_is_redriven_or_deleted_alone,
)
