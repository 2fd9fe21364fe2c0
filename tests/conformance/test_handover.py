from tests.test_handover import (  # noqa: F401
    test_a_halted_lane_stays_halted_over_a_takeover_until_it_is_resumed,
    test_a_handover_passes_on_after_the_message_in_hand,
    test_who_tells_the_active_one_and_those_that_stand_by,
)
