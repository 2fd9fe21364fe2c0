from tests.test_browse import (  # noqa: F401
    test_each_message_is_found_where_it_is,
    test_nothing_at_all_is_counted_as_nothing,
    test_pages_together_are_the_whole_list_in_order,
)
