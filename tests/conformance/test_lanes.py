from tests.test_lanes import (  # noqa: F401
    queue,
    test_a_repeat_is_one_message_by_its_id_or_its_dedup_id,
    test_another_number_of_lanes_is_refused_and_nothing_written,
    test_in_bulk_they_are_in_the_same_lanes_and_order,
    test_messages_of_one_key_are_in_one_lane_in_their_order,
)
