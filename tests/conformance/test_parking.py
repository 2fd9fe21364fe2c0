from tests.test_parking import (  # noqa: F401
    test_parked_keys_stay_parked_over_takeovers,
    test_what_was_met_before_its_blocker_goes_behind_it_and_before_what_comes_later,
)
