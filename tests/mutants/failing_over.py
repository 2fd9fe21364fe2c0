"""Servers that fail over."""

from tests.mutants.mutant import mutant

ADDED = "  redis.call('ZADD', waiting, 0, row)\n"
TAKEN_AWAY = "  if before and before ~= row then redis.call('ZREM', waiting, before) end\n"

FAILING_OVER = [
    mutant(
        "a connection that was cut goes back to where it was",
        "test_clusters.py::test_a_primary_that_comes_back_too_soon_is_not_believed",
        (
            "transport/quick.py",
            "                await self.connect()  #",
            "                pass  #",
        ),
    ),
    mutant(
        "the first Sentinel that answers is believed",
        "test_clusters.py::test_the_sentinel_that_knows_of_the_latest_failover_is_believed",
        (
            "transport/sentinels.py",
            'max(int(state["config-epoch"]) for state in known)',
            'int(known[0]["config-epoch"])',
        ),
    ),
    mutant(
        "one Sentinel that sees no primary is believed",
        "test_clusters.py::test_a_sentinel_that_alone_thinks_that_the_primary_is_down_stops_nobody",
        (
            "transport/sentinels.py",
            "up = [state for state in newest if",
            "up = [state for state in newest[:1] if",
        ),
    ),
    mutant(
        "a Cluster that is down has refused",
        "test_clusters.py::test_a_cluster_that_is_down_is_an_outage_like_any_other",
        ("scripts.py", "    redis_errors.ClusterDownError: ServerUnreachable,"),
    ),
    mutant(
        "whoever a lease names is asked",
        "test_clusters.py::test_nobody_is_asked_who_is_no_node_of_the_cluster",
        (
            "transport/roaming.py",
            "        if known is None:\n            return set()\n",
            "        if known is None:\n            raise LookupError(node)\n",
        ),
    ),
    mutant(
        "a node that does not answer about connections stops a standby",
        "test_clusters.py::test_a_node_that_does_not_answer_proves_nothing_and_stops_nobody",
        (
            "transport/roaming.py",
            "with anyio.move_on_after(ANSWER_S), suppress(ServerError):",
            "if True:",
        ),
    ),
    mutant(
        "one primary of a Cluster is checked",
        "test_clusters.py::test_a_cluster_is_checked_as_a_whole",
        ("fitness.py", "in await primaries(client):", "in (await primaries(client))[:1]:"),
    ),
    mutant(
        "a call that is given up while Sentinels are asked ends its task",
        "test_clusters.py::test_a_call_that_is_given_up_while_sentinels_are_asked_ends_alone",
        (
            "transport/sentinels.py",
            "        async with anyio.create_task_group() as asking:\n"
            "            for sentinel in self.sentinels:\n"
            "                asking.start_soon(_ask, sentinel, answers)\n",
            "        import asyncio\n\n"
            "        await asyncio.gather(*(_ask(each, answers) for each in self.sentinels))\n",
        ),
    ),
    mutant(
        "Sentinels are asked without their password",
        "test_secure.py::test_sentinels_with_a_password_are_asked_with_it",
        ("transport/sentinels.py", "asked = {**address.asking, **quickly,", "asked = {**quickly,"),
    ),
    mutant(
        "a schedule that was deleted is asked for",
        "test_moving.py::test_the_last_message_is_promoted_and_nothing_of_the_schedule_is_left",
        (
            "lua/prelude/schedule.lua",
            "if left == 0 then redis.call('DEL', arrival) end",
            "if redis.call('EXISTS', schedule) == 0 then redis.call('DEL', arrival) end",
        ),
    ),
    mutant(
        "whoever waits last is taken away before the next is added",
        "test_moving.py::test_a_message_that_waits_under_another_id_is_in_one_place",
        ("lua/prelude/parking.lua", f"{ADDED}{TAKEN_AWAY}", f"{TAKEN_AWAY}{ADDED}"),
    ),
    mutant(
        "a key that nobody waits for any more is looked up once more",
        "test_moving.py::test_a_message_for_which_the_last_key_waits_dies_once",
        ("lua/prelude/parking.lua", "  if not is_last and blocker_of(", "  if blocker_of("),
    ),
]
