"""What one call takes at most, and whom it holds up."""

from tests.mutants.mutant import mutant

BOUNDS = "test_bounds.py::test_"
HELD_BACK = "test_feed.py::test_a_last_delivery_is_held_back_from_those_that_came_and_are_not_read"

BOUNDING = [
    mutant(
        "large messages are promoted as many as small ones",
        f"{BOUNDS}what_is_large_is_promoted_in_small_parts",
        ("lua/prelude/schedule.lua", "    if bytes > ENOUGH_BYTES then break end\n"),
    ),
    mutant(
        "large messages are read for correction as many as small ones",
        f"{BOUNDS}what_is_large_is_read_for_correction_in_small_parts",
        ("lua/due.lua", " or bytes > ENOUGH_BYTES then", " then"),
    ),
    mutant(
        "large entries are read as many as small ones",
        f"{BOUNDS}dead_letters_that_are_large_are_redriven_in_small_parts",
        ("lua/prelude/entry.lua", " or bytes > ENOUGH_BYTES\n", "\n"),
    ),
    mutant(
        "large messages are purged from the schedule as many as small ones",
        f"{BOUNDS}what_is_large_is_purged_in_small_parts",
        ("lua/purge_scheduled.lua", "  if bytes > ENOUGH_BYTES then break end\n"),
    ),
    mutant(
        "a fetch begins with many",
        f"{BOUNDS}what_is_large_is_fetched_in_small_parts",
        ("lua/fetch.lua", "local part = 1\n", "local part = 8\n"),
    ),
    mutant(
        "a call takes as many of those that take longer",
        "test_outbox.py::test_a_call_has_fewer_messages_where_they_take_longer",
        ("outbox.py", "room -= 6 if when != NOW else 1 if values == 1 else 2", "room -= 1"),
    ),
    mutant(
        "a batch is read before the next is called for",
        "test_feed.py::test_what_came_is_read_and_handled_when_the_next_call_is_on_its_way[none]",
        ("service.py", "        if len(batch.entries) == 1:\n", "        if True:\n"),
    ),
    mutant(
        "what came and is not read is not in hand",
        f"{HELD_BACK}[none]",
        ("service.py", "            self._in_hand.update(batch.entries)\n"),
    ),
    mutant(
        "keys that came and are not read are not in hand",
        f"{HELD_BACK}[key]",
        ("keyed.py", "bool(self._pool.awake or self._fetched)", "bool(self._pool.awake)"),
    ),
    mutant(
        "a hook that is cancelled from inside takes its neighbours along",
        "test_poller.py::test_a_hook_that_is_cancelled_from_inside_takes_nobody_along",
        (
            "promoter.py",
            "        except asyncio.CancelledError as error:\n"
            "            failed = cancelled_inside(error)\n",
        ),
    ),
    mutant(
        "after hooks the poller sleeps as it would have before them",
        "test_poller.py::test_after_hooks_the_schedule_is_looked_at_again",
        (
            "promoter.py",
            "                return 0  # while the hooks ran, more may have become due\n",
        ),
    ),
    mutant(
        "a command that blocks goes over the shared wire",
        "test_wire.py::test_a_command_that_blocks_holds_up_nobody[words0]",
        ("transport/wire.py", '"BLPOP", ', ""),
    ),
    mutant(
        "a command in small letters goes over the shared wire",
        "test_wire.py::test_a_command_that_blocks_holds_up_nobody[words1]",
        ("transport/wire.py", 'name.split(" ", 1)[0].upper() in', 'name.split(" ", 1)[0] in'),
    ),
    mutant(
        "a transaction is begun for all",
        "test_wire.py::test_a_command_for_one_connection_changes_no_other",
        ("transport/wire.py", '"MULTI", ', ""),
    ),
]
