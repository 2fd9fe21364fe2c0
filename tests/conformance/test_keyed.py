from tests.test_keyed import (  # noqa: F401
    queue,
    test_keys_go_side_by_side_and_each_in_order,
    test_whoever_follows_goes_on_in_the_order_of_each_key,
)
