"""From publish to promotion, retry, dead letter: each message in one place, in order, on time."""

from tests.mutants.mutant import mutant

PROMOTED = "  unschedule(schedule, bodies, arrival, members, ids)\n  return #members"
DEDUP = "    redis.call('HSET', dedup, 'd:' .. dedup_id, int(due) .. ' ' .. id)\n"
REMEMBERED = "remember_call(dedup, caller, number, now, ARGV[4])\n"
KNOWN = "if due - now < window then redis.call('ZADD', recent, int(due + window), 'i:' .. id) end"
AGAIN = "test_outbox.py::test_a_call_made_again_adds_nothing_though_the_caller_chose_no_id"
DIES = "test_directed.py::test_whoever_dies_after_its_script_leaves_each_message_in_one_place"
BURIED = "  acknowledge_one(stream, group, entry, found)\n"
BURY = "  if not found then return 0 end"
ANSWERED = "    answers = _answers(keys.queue, terms, messages, answer)\n"

MOVING = [
    mutant(
        "promotion not atomic",
        f"{DIES}[promote]",
        ("lua/prelude/schedule.lua", PROMOTED, "  return #members"),
        (
            "schedule.py",
            "        wait_s = _seconds(wait_us)\n",
            "        await scripts.command(\n"
            '            self._queue.client, "ZREMRANGEBYSCORE", k.schedule, "-inf", now_ms\n'
            "        )\n"
            "        wait_s = _seconds(wait_us)\n",
        ),
    ),
    mutant(
        "promotion of what somebody else promoted",
        "test_queue.py::test_a_corrected_message_moves_with_its_new_body_if_it_is_as_it_was_seen",
        ("lua/promote_as.lua", "if redis.call('ZSCORE', schedule, member) == seen then", "do"),
    ),
    mutant(
        "XADD after ZREM",
        "test_directed.py::test_a_promotion_that_fails_half_way_loses_nothing",
        ("lua/prelude/schedule.lua", PROMOTED, "  return #members"),
        (
            "lua/prelude/schedule.lua",
            "    local packed = redis.call('HGET', bodies, id)\n",
            "    local packed = redis.call('HGET', bodies, id)\n"
            "    unschedule(schedule, bodies, arrival, {due[i]}, {id})\n",
        ),
    ),
    mutant(
        "XDEL before the retry is scheduled",
        "test_directed.py::test_a_settlement_that_fails_half_way_loses_nothing",
        (
            "lua/retry.lua",
            "local first = earliest_due(schedule)\n",
            "local first = earliest_due(schedule)\nredis.call('XDEL', stream, entry)\n",
        ),
    ),
    mutant(
        "dead letter not atomic with ack",
        f"{DIES}[dead letter]",
        ("lua/prelude/settling.lua", BURIED, ""),
        (
            "pending.py",
            'return bool(await self._run("dead_letter", lease, args, *keys))',
            'return bool(await self._run("dead_letter", lease, args, *keys)) and bool('
            "await self.ack(lease, [entry]))",
        ),
    ),
    mutant(
        "ack before the dead letter is written",
        "test_directed.py::test_a_settlement_that_fails_half_way_loses_nothing",
        ("lua/prelude/settling.lua", BURIED, ""),
        ("lua/prelude/settling.lua", BURY, f"{BURY}\n{BURIED}"),
    ),
    mutant(
        "due by the client's clock",
        "test_directed.py::test_where_the_hosts_clock_is_wrong_due_times_are_the_servers",
        ("clock.py", "        return None\n", "        return int(real_ms())\n"),
    ),
    mutant(
        "dedup not written with its message",
        f"{DIES}[publish]",
        ("lua/publish.lua", KNOWN, ""),
        (
            "publishing.py",
            ANSWERED,
            "    for m in messages:\n"
            '        await scripts.command(client, "ZADD", keys.recent, 10**14, f"i:{m.id}")\n'
            + ANSWERED,
        ),
    ),
    mutant(
        "dedup id not written with its message",
        f"{DIES}[publish deduplicated]",
        ("lua/publish.lua", DEDUP),
        (
            "publishing.py",
            ANSWERED,
            "    for m in messages:\n"
            '        field = f"d:{m.told[1:]}"\n'
            '        await scripts.command(client, "HSET", keys.dedup, field, f"1 {m.id}")\n'
            + ANSWERED,
        ),
    ),
    mutant(
        "a call of publish is not remembered",
        f"{AGAIN}[ab]",
        ("lua/publish.lua", "if untold or", "if"),
    ),
    mutant(
        "a repeat that is to be confirmed writes nothing",
        "test_durability.py::"
        "test_a_repeat_by_another_process_is_not_confirmed_by_what_that_one_wrote[None]",
        ("lua/publish.lua", "if accepted > 0 or confirm then", "if accepted > 0 then"),
    ),
    mutant(
        "a call of publish made again does not look",
        f"{AGAIN}[ab]",
        ("lua/publish.lua", "elseif told.elsewhere or not again then", "else"),
    ),
    mutant(
        "a lone publish is not remembered",
        f"{AGAIN}[a]",
        ("lua/publish_one.lua", REMEMBERED),
    ),
    mutant(
        "a lone publish made again does not look",
        f"{AGAIN}[a]",
        ("lua/publish_one.lua", " or last >= number"),
    ),
    mutant(
        "a lone publish that failed is known",
        "test_scripts.py::test_a_lone_publish_that_failed_is_not_known",
        ("lua/publish_one.lua", "if redis.pcall('XADD'", f"{REMEMBERED}if redis.pcall('XADD'"),
    ),
    mutant(
        "a call that comes late is taken for a new one",
        "test_caller.py::test_a_call_that_comes_late_adds_nothing",
        ("lua/publish.lua", "if last and last >= number and not again then return {} end\n"),
    ),
    mutant(
        "of a process that was copied what lags behind is lost",
        "test_caller.py::test_a_copy_of_a_machine_loses_nothing[1]",
        ("publishing.py", "    if not answer:\n", "    if not answer and not (answer := [0]):\n"),
    ),
    mutant(
        "of a process that was copied what keeps up is lost",
        "test_caller.py::test_a_copy_of_a_machine_loses_nothing[0]",
        ("lua/publish.lua", " and last_id == ARGV[9]"),
    ),
    mutant(
        "what a full queue refused is sent again",
        "test_outbox.py::test_what_was_refused_for_good_is_not_sent_again_with_the_others",
        ("outbox.py", "            if passing:\n", "            if True:\n"),
    ),
    mutant(
        "what was published at one time was so at another",
        "test_queue.py::test_when_each_was_published_is_told_of_each_that_is_promoted_at_once",
        (
            "lua/prelude/schedule.lua",
            "dates[published] = dates[published] or",
            "dates[published] = dates[next(dates)] or",
        ),
    ),
    mutant(
        "all sleep until a message is due",
        "test_poller.py::test_the_poller_wakes_shortly_before_it_is_time_to_look",
        ("promoter.py", "wait_s = until_near(wait_s, mono_s() - began_s)", "pass"),
    ),
    mutant(
        "many publishers are answered before the others send",
        "test_outbox.py::test_many_publishers_are_two_parties_that_take_turns[64-2]",
        ("outbox.py", " and (alone or not self._many):", ":"),
    ),
    mutant(
        "all publishers share one call, however many",
        "test_outbox.py::test_many_publishers_are_two_parties_that_take_turns[300-2]",
        ("outbox.py", " // 2 if self._many else None", " if self._many else None"),
    ),
    mutant(
        "a repeat that adds nothing is refused at maxmemory",
        "test_durability.py::test_a_repeat_waits_for_its_first_try_also_at_maxmemory",
        ("lua/publish.lua", "if accepted == 0 then redis.call('HDEL', dedup, '') end"),
    ),
    mutant(
        "a caller that goes on calling is forgotten",
        "test_caller.py::test_a_caller_is_known_for_a_minute_after_its_last_call",
        ("lua/publish_one.lua", " or not same_stretch(at, now, ARGV[3])"),
    ),
    mutant(
        "a window is cut short by who has a shorter one",
        "test_queue.py::test_what_is_known_for_long_does_not_end_sooner_as_others_know_less_long",
        ("lua/prelude/known.lua", "if redis.call('PTTL', key) < ms then", "if true then"),
    ),
    mutant(
        "a copy of a caller is that caller",
        "test_caller.py::test_a_copy_is_another_caller[copy]",
        ("caller.py", "        return Caller, ()\n", "        return super().__reduce__()\n"),
    ),
    mutant(
        "a forked process is the caller that its parent is",
        "test_caller.py::test_a_process_that_was_forked_is_another_caller",
        ("caller.py", "    os.register_at_fork(after_in_child=_forked)\n", "    pass\n"),
    ),
    mutant(
        "a lone publish overtakes what is due",
        "test_queue.py::test_a_publish_due_now_overtakes_nothing_due[None]",
        ("lua/publish_one.lua", " or next_up[2] and tonumber(next_up[2]) <= now"),
    ),
    mutant(
        "an id is known before its message is written",
        "test_fuzz.py::test_a_publish_that_failed_half_way_is_not_known_when_it_is_repeated",
        (
            "lua/publish.lua",
            "    accept(id, told, from)\n",
            "    if told.elsewhere then remember(id, told.dedup_id, told.due) end\n"
            "    accept(id, told, from)\n",
        ),
    ),
    mutant(
        "dedup window without an end",
        "test_outbox.py::test_a_dedup_id_makes_one_message_of_many_until_its_window_is_over",
        (
            "lua/publish.lua",
            "'d:' .. dedup_id) or 0) > now then",
            "'d:' .. dedup_id) or 0) > 0 then",
        ),
    ),
    mutant(
        "a publish overtakes what is due",
        "test_queue.py::test_a_publish_due_now_overtakes_nothing_due[new]",
        ("lua/publish.lua", "local overtaking = promote ~= 0 and", "local overtaking = false and"),
    ),
    mutant(
        "bell not rung for an earlier message",
        "test_queue.py::test_a_retry_and_an_earlier_publish_ring_the_bell",
        ("lua/publish.lua", "if earliest and (not first or earliest < first)", "if not first"),
    ),
    mutant(
        "bell not rung for an earlier retry",
        "test_queue.py::test_a_retry_and_an_earlier_publish_ring_the_bell",
        ("lua/retry.lua", "if not first or due < first then", "if not first then"),
    ),
    mutant(
        "bell not rung for a reschedule",
        "test_changes.py::test_the_bell_rings_at_a_new_earliest_time_alone",
        ("lua/reschedule.lua", "if due < first then ring(bell) end"),
    ),
    mutant(
        "a millisecond early",
        "test_queue.py::test_nothing_is_promoted_early_and_the_wait_is_told",
        (
            "lua/prelude/schedule.lua",
            "'-inf', int(now), 'WITHSCORES'",
            "'-inf', int(now + 1), 'WITHSCORES'",
        ),
    ),
    mutant(
        "delays rounded down",
        "test_outgoing.py::test_due_times_are_relative_to_the_servers_now_or_absolute",
        (
            "outgoing.py",
            "-(-round(seconds * 1_000_000) // 1000)",
            "round(seconds * 1_000_000) // 1000",
        ),
    ),
    mutant(
        "promotion without a bound",
        "test_queue.py::test_a_promotion_is_bounded",
        (
            "lua/prelude/schedule.lua",
            "'LIMIT', 0, limit)\n  local members",
            "'LIMIT', 0, -1)\n  local members",
        ),
    ),
    mutant(
        "arrival numbers without a width",
        "test_queue.py::test_messages_come_out_by_due_time_then_arrival",
        ("lua/prelude/schedule.lua", "string.format('%012x'", "string.format('%-12x'"),
    ),
    mutant(
        "equal due times by id",
        "test_queue.py::test_messages_come_out_by_due_time_then_arrival",
        ("lua/prelude/schedule.lua", "    number = number + 1\n", "    number = 1\n"),
    ),
    mutant(
        "one malformed body stops a promotion",
        "test_queue.py::test_what_is_scheduled_and_no_message_goes_to_the_dead_stream",
        (
            "lua/prelude/schedule.lua",
            "local readable, fields = pcall(cjson.decode, string.sub(value or '', 13))",
            "local readable, fields = true, cjson.decode(string.sub(value or '', 13))",
        ),
    ),
    mutant(
        "deliveries forgotten by a retry",
        "test_queue.py::test_a_retried_message_keeps_its_id_fields_and_deliveries",
        (
            "lua/prelude/settling.lua",
            "published or due, 'deliveries', deliveries})",
            "published or due})",
        ),
    ),
    mutant(
        "a cancelled id stays known",
        "test_changes.py::test_a_cancelled_id_may_be_published_anew",
        ("lua/prelude/settling.lua", "  redis.call('ZREM', recent, 'i:' .. id)\n"),
    ),
    mutant(
        "a purge takes what is pending",
        "test_changes.py::test_what_is_ready_is_purged_and_nothing_that_is_pending",
        ("lua/purge_ready.lua", "own and '(' .. own.read or '-'", "'-'"),
    ),
    mutant(
        "a redrive deletes before it schedules",
        "test_directed.py::test_a_settlement_that_fails_half_way_loses_nothing",
        (
            "lua/redrive.lua",
            "  local packed, due = {}",
            "  redis.call('XDEL', dead, entry)\n  local packed, due = {}",
        ),
    ),
    mutant(
        "a redriven message keeps its deliveries",
        "test_dead.py::test_a_redriven_message_is_as_it_was_published",
        ("lua/redrive.lua", "entry = true, deliveries = true,", "entry = true,"),
    ),
    mutant(
        "who waits comes with the one that failed",
        "test_parking.py::test_a_failure_sends_only_the_next_few_round",
        (
            "lua/prelude/parking.lua",
            "local HELD_MS, HELD_EACH_MS = 10000, 10",
            "local HELD_MS, HELD_EACH_MS = 0, 0",
        ),
    ),
    mutant(
        "those that are let go come in the order in which they went back",
        "test_parking.py::test_a_failure_sends_only_the_next_few_round",
        ("lua/prelude/parking.lua", "int(now - LET_GO + i)", "int(now)"),
    ),
    mutant(
        "nobody is let go",
        "test_parking.py::test_whoever_settles_the_first_lets_the_next_few_go",
        (
            "lua/prelude/parking.lua",
            " then let_go(parking, key, now) end",
            " then now = now + 0 end",
        ),
    ),
    mutant(
        "the bell is not rung for those that are let go",
        "test_parking.py::test_whoever_settles_the_first_lets_the_next_few_go",
        ("lua/prelude/parking.lua", "  if tonumber(due[1]) < first then ring(parking.bell) end\n"),
    ),
    mutant(
        "a retry is made due early",
        "test_parking.py::test_a_message_that_waits_for_its_own_retry_is_not_made_due_early",
        ("lua/prelude/parking.lua", "return score and tonumber(score) % 1 ~= 0", "return score"),
    ),
    mutant(
        "park lets a later message pass",
        "test_parking.py::test_what_was_met_before_its_blocker_goes_behind_it_and_before_what_comes_later",
        ("lua/park.lua", "if first_waiting == row then return 3 end", "do return 3 end"),
    ),
    mutant(
        "a parked message loses its place",
        "test_parking.py"
        "::test_one_that_waited_is_not_overtaken_by_a_newer_one_that_goes_behind_the_blocker_first",
        (
            "lua/prelude/settling.lua",
            "local place = place_of(entry, fields)",
            "local place = entry",
        ),
    ),
]
