from tests.test_lanes_operated import (  # noqa: F401
    queue,
    test_a_key_narrows_a_change_to_its_lane,
    test_a_list_goes_lane_by_lane_in_pages_of_any_size,
    test_a_message_is_found_in_whichever_lane_it_is,
    test_purges_and_dead_letters_are_of_all_lanes,
    test_who_and_handover_tell_of_each_lane,
)
