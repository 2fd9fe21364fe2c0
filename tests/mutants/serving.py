"""Delivery and its counts, takeovers, the loops, the client."""

from tests.mutants.mutant import mutant

CLAIM = "redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', deliveries)[1]"
READ = (
    "redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream,"
    " (pending[i - 1] or {'0'})[1])[1][2][1]"
)
CALL = "test_queue.py::test_a_call_made_again_counts_no_delivery_twice"
HANG = "test_blocking.py::test_where_all_threads_hang_another_takes_over_and_the_rest_is_not_held"

SERVING = [
    mutant(
        "fetch without what is pending",
        "test_queue.py::test_a_fetch_whose_answer_was_lost_delivers_the_same_again",
        ("lua/fetch.lua", "local pending = redis.pcall(unpack(query))", "local pending = {}"),
    ),
    mutant(
        "fetch without cursor",
        "test_queue.py::test_a_fetch_whose_answer_was_lost_delivers_the_same_again",
        (
            "lua/fetch.lua",
            "local query = {'XPENDING', stream, group, start,",
            "local query = {'XPENDING', stream, group, '-',",
        ),
    ),
    mutant(
        "XREADGROUP BLOCK as the wait",
        "test_directed.py::test_a_reader_that_waits_over_a_takeover_takes_no_message_with_it",
        (
            "transport/bells.py",
            '("XREAD", "COUNT", 1,',
            '("XREADGROUP", "GROUP", "delayq", "reader", "COUNT", 1,',
        ),
        ("transport/bells.py", '"STREAMS", *streams, *heard)', '"STREAMS", *streams, ">")'),
    ),
    mutant(
        "poison count from XREADGROUP 0",
        "test_directed.py::test_deliveries_are_counted_over_a_crash_of_the_server",
        ("lua/fetch.lua", CLAIM, READ),
    ),
    mutant(
        "a call made again counts twice",
        CALL,
        (
            "lua/prelude/call.lua",
            "if redis.call('HGET', lease, 'call') == call then return true end",
        ),
    ),
    mutant(
        "each try of a call has an id of its own",
        "test_lost_replies.py"
        "::test_an_ordered_consumer_whose_replies_are_lost_skips_and_reorders_nothing",
        (
            "settling.py",
            "lease, self._start, count, entries, call, busy=busy",
            "lease, self._start, count, entries, new_id(), busy=busy",
        ),
    ),
    mutant(
        "a redelivery does not count",
        CALL,
        ("pending.py", "for part in (entry, delivered + 1)]", "for part in (entry, delivered)]"),
    ),
    mutant(
        "what is given back counts",
        "test_keyed.py::test_what_a_stop_finds_fetched_and_not_begun_is_not_counted",
        ("pending.py", "(d.entry, max(0, d.delivered - 1))", "(d.entry, d.delivered)"),
    ),
    mutant(
        "reclaiming counts",
        "test_queue.py::test_reclaim_takes_everything_and_deletes_the_old_consumers",
        ("lua/prelude/groups.lua", "  command[#command + 1] = 'JUSTID'\n"),
    ),
    mutant(
        "a last delivery beside others",
        "test_queue.py::test_a_last_delivery_is_made_alone",
        ("lua/fetch.lua", "return before == 0 and last > 0 and", "return false and"),
    ),
    mutant(
        "a fetch that does not know that others are in hand",
        "test_queue.py::test_a_last_delivery_is_held_back_while_others_are_in_hand",
        ("lua/fetch.lua", "ARGV[9] == '1'", "false"),
    ),
    mutant(
        "what is held back counts",
        "test_queue.py::test_a_last_delivery_is_held_back_while_others_are_in_hand",
        ("lua/fetch.lua", "      uncount(stream, group, consumer, 0, rest)\n"),
    ),
    mutant(
        "a fetch made again delivers more",
        "test_queue.py::test_a_fetch_made_again_delivers_what_it_delivered_and_no_more",
        ("lua/fetch.lua", "if before > 0 then count = before end\n"),
    ),
    mutant(
        "no lock around acknowledgements",
        "test_keyed.py::test_whatever_settles_a_message_waits_for_acknowledgements_under_way",
        ("settling.py", "anyio.Lock(fast_acquire=True)", "anyio.Semaphore(9)"),
    ),
    mutant(
        "a batch without a bound in bytes",
        "test_queue.py::test_a_batch_is_bounded_in_bytes",
        ("lua/fetch.lua", "return bytes > 0 or before > 0", "return true"),
    ),
    mutant(
        "a pool that calls up no second task",
        "test_competing.py::test_as_many_are_handled_at_once_as_allowed_and_no_more",
        ("pool.py", "                self._call_up(_CALLED_UP)\n", "                pass\n"),
    ),
    mutant(
        "ack leaves the entry",
        "test_queue.py::test_fetch_acknowledges_what_was_handled",
        ("lua/prelude/groups.lua", "redis.call('XDEL', stream, unpack(done))"),
    ),
    mutant(
        "group created at $",
        "test_directed.py::test_what_was_published_before_there_was_a_consumer_is_delivered",
        ("groups.py", '"$" if start == "now" else "0"', '"$"'),
    ),
    mutant(
        "reclaim stops at 100",
        "test_queue.py::test_reclaim_takes_everything_and_deletes_the_old_consumers",
        ("lua/reclaim.lua", "start, '+', limit)", "start, '+', math.min(limit, 100))"),
    ),
    mutant(
        "takeover stops at the first part",
        "test_directed.py::test_a_takeover_takes_every_part_of_a_long_pending_list",
        ("seat.py", "            start = part.next_start\n", "            start = None\n"),
    ),
    mutant(
        "DELCONSUMER with something pending at a release",
        "test_lease.py::test_a_release_keeps_a_consumer_that_has_something_pending",
        ("lua/release.lua", "if not pending.err and #pending == 0 then", "if not pending.err then"),
    ),
    mutant(
        "DELCONSUMER with something pending at an inheritance",
        "test_queue.py::test_inherit_takes_from_the_dead_alone",
        ("lua/inherit.lua", "if #ids < limit then redis", "if #ids then redis"),
    ),
    mutant(
        "client retries on",
        "test_connection.py::test_a_lost_reply_is_told_and_nothing_is_sent_again_unasked[True]",
        (
            "transport/client.py",
            '"retry": Retry(NoBackoff(), 0)',
            '"retry": Retry(NoBackoff(), 10)',
        ),
    ),
    mutant(
        "retry to the tail",
        "test_ordered.py::test_a_failing_message_is_retried_in_place_and_blocks_those_behind_it",
        (
            "ordered.py",
            "                self._report_retry(delivery, outcome)\n",
            "                await self._retry(delivery, outcome)\n                return None\n",
        ),
    ),
    mutant(
        "a stop lets what is behind a failed message begin",
        "test_ordered.py::test_a_stop_while_a_message_is_to_be_retried_begins_none_behind_it",
        (
            "service.py",
            "        self._stopping = True\n        self._pool.close()",
            "        self._stopping = True",
        ),
    ),
    mutant(
        "ack while the message in hand may still fail",
        "test_ordered.py::test_after_a_kill_the_standby_takes_everything_in_order",
        (
            "service.py",
            "        lease = self.term.lease\n",
            "        lease = self.term.lease\n"
            "        self._unacked.append((delivery.entry, delivery.message.id))\n"
            "        self._tasks.start_soon(self._flush)\n",
        ),
    ),
    mutant(
        "what a handler in a thread returns is dropped",
        "test_blocking.py::test_what_a_handler_that_is_not_async_returns_is_awaited",
        ("handling.py", "if inspect.isawaitable(returned):", "if False:"),
    ),
    mutant(
        "what was handled is not acknowledged at a stop",
        "test_ordered.py::test_after_a_stop_the_standby_goes_on_and_nothing_is_handled_twice",
        (
            "service.py",
            "        await self._flush()\n        await self._give_back(",
            "        await self._give_back(",
        ),
    ),
    mutant(
        "a group that is gone ends the consumer",
        "test_ordered.py::test_a_group_that_foreign_hands_destroyed_is_made_again",
        ("settling.py", "        except GroupMissing:\n", "        except ZeroDivisionError:\n"),
    ),
    mutant(
        "safety poll removed",
        "test_poller.py::test_a_lost_bell_delays_by_the_safety_poll_at_most",
        ("promoter.py", "await bell.wait(SAFETY_S)", "await bell.wait(3600)"),
    ),
    mutant(
        "the poller does not hear the bell",
        "test_changes.py::test_a_sleeping_poller_is_woken_by_a_nearer_time",
        ("promoter.py", "bells.bell(self._queue.keys.bell)", "bells.bell(self._queue.keys.dead)"),
    ),
    mutant(
        "a hook that fails stops the others",
        "test_poller.py::test_a_turn_corrects_and_what_fails_goes_on_as_it_was",
        (
            "promoter.py",
            "        except Exception as error:",
            "        except ZeroDivisionError as error:",
        ),
    ),
    mutant(
        "a bell waits from now on",
        "test_directed.py::test_a_bell_hears_what_was_added_before_it_listened",
        ("transport/bells.py", '"STREAMS", *streams, *heard)', '"STREAMS", *streams, "$")'),
    ),
    mutant(
        "a cancelled publisher takes its neighbours along",
        "test_directed.py::test_followers_in_the_call_of_a_cancelled_leader_are_sent_all_the_same",
        (
            "outbox.py",
            "            self._cut = batch\n",
            "            pass\n",
        ),
    ),
    mutant(
        "a call that was cut off is made again under a new id",
        "test_outbox.py::test_a_call_that_was_cut_off_is_made_again_as_the_same_one",
        (
            "outbox.py",
            "            self._cut = batch\n",
            "            self._cut = _Batch(self._caller.call(), batch.slots)\n",
        ),
    ),
    mutant(
        "whoever waited behind others is tried for as long again",
        "test_outbox.py::test_each_is_tried_for_as_long_as_it_has_patience_itself"
        "[ServerUnreachable]",
        ("outbox.py", "batch.call, leader.ends_at)", "batch.call, mono_s() + self._patience_s)"),
    ),
    mutant(
        "a cancelled publisher keeps its turn",
        "test_outbox.py::test_a_publisher_that_is_cancelled_holds_up_no_other",
        (
            "outbox.py",
            "        if slot is self._leader:\n            self._pass_on()\n",
            "",
        ),
    ),
    mutant(
        "a parked key is forgotten by a takeover",
        "test_parking.py::test_parked_keys_stay_parked_over_takeovers",
        ("parking.py", "self._blockers = await self._pending.parked()", "self._blockers = {}"),
    ),
    mutant(
        "a connection closed is a death right after an outage",
        "test_directed.py::test_right_after_an_outage_a_closed_connection_proves_nothing",
        ("transport/anchor.py", "return mono_s() < self._patient_until", "return False"),
    ),
    mutant(
        "a bell beyond the readers waits until one of them is free",
        "test_bells.py::test_bells_beyond_the_readers_share_them_and_each_is_heard[True]",
        ("transport/bells.py", "        elif not self._making_room:", "        elif False:"),
    ),
    mutant(
        "where no reader can be woken none is cut short",
        "test_bells.py::test_bells_beyond_the_readers_share_them_and_each_is_heard[False]",
        ("transport/bells.py", "        reader.scope.cancel()\n        await", "        await"),
    ),
    mutant(
        "a lane where a script fails ends the poller of all",
        "test_lanes.py::test_where_a_script_fails_in_one_lane_the_others_go_on[none]",
        ("poller.py", "if self._queue.lanes == 1:\n                    raise", "raise"),
    ),
    mutant(
        "a lane where a script fails ends the consumer of all",
        "test_lanes.py::test_where_a_script_fails_in_one_lane_the_others_go_on[strict]",
        ("seat.py", "if self._duty.lanes == 1:\n                raise", "raise"),
    ),
    mutant(
        "an outage does not ring",
        "test_bells.py::test_an_outage_rings",
        ("transport/bells.py", "self._rung(reader, None)", "self._rung(reader, {})"),
    ),
    mutant(
        "a look at the connections for each who asks",
        "test_anchor.py::test_many_who_ask_at_once_are_answered_by_one_call",
        ("transport/anchor.py", "if not asked <= self._seen or", "if True or"),
    ),
    mutant(
        "a connection that is not told is one that is gone",
        "test_queue.py::test_inherit_takes_from_the_dead_alone",
        (
            "lua/inherit.lua",
            "if held[2] ~= ARGV[6] then",
            "if held[2] ~= '0' and held[2] ~= ARGV[6] then",
        ),
    ),
    mutant(
        "threads that hang hold what was fetched",
        f"{HANG}[none]",
        ("service.py", "chosen = act_in_threads if handling.threads else act", "chosen = act"),
    ),
    mutant(
        "a thread given up gives its place up",
        "test_blocking.py::test_a_thread_over_its_time_limit_keeps_its_place_and_fails_nobody"
        "_who_waits_for_it",
        ("threads.py", "            self._lost += 1\n", "            self._free(place)\n"),
    ),
    mutant(
        "one whose threads hang takes the lane again",
        f"{HANG}[strict]",
        ("seat.py", "await self._handling.threads.ready()", "pass"),
    ),
    mutant(
        "a stop cuts short only what waits already",
        "test_poller.py::test_a_producer_that_is_stopped_while_it_publishes_waits_no_more",
        ("stop.py", "if self.asked:", "if False:"),
    ),
    mutant(
        "a typed body is not read before it is sent",
        "test_message.py::test_what_could_not_be_read_is_not_written",
        ("body.py", "read = self.decode(text)", "read = body"),
    ),
    mutant(
        "nobody hears that a name is taken",
        "test_competing.py::test_a_second_consumer_of_the_same_name_stands_by_and_warns",
        ("seat.py", "own=not queue.ordered", "own=False"),
    ),
    mutant(
        "what no thread was to be had for counts as delivered",
        "test_blocking.py::test_what_no_thread_was_to_be_had_for_is_not_counted_as_delivered[none]",
        ("service.py", "            self._without_thread.append(delivery)\n"),
    ),
    mutant(
        "a stop waits for a thread though all hang",
        "test_blocking.py::test_a_stop_waits_for_no_thread_where_all_hang",
        ("service.py", "self.work.handling.threads.hurry()", "pass"),
    ),
    mutant(
        "a consumer that hangs keeps its part of the lanes",
        "test_blocking.py::test_a_consumer_that_hangs_leaves_its_lanes_to_others",
        ("consumer.py", "not any(seat.hangs for seat in self.seats)", "True"),
    ),
]
