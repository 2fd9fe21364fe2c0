"""Groups that share a queue: each has every message, and none is touched by what another does."""

from tests.mutants.mutant import mutant

KEPT = "test_groups.py::test_an_entry_is_kept_until_both_are_done_with_it[0-acknowledged]"
PENDING = "#redis.call('XPENDING', stream, group.name, id, id, 1) > 0"
ALONE = "if group == DEFAULT_GROUP and #others == 0"

SHARING = [
    mutant(
        "an ack deletes what another group has not read",
        KEPT,
        ("lua/prelude/groups.lua", "wanted or comes_after(id, group.read)", "wanted"),
    ),
    mutant(
        "an ack deletes what is pending for another group",
        KEPT,
        ("lua/prelude/groups.lua", PENDING, "false"),
    ),
    mutant(
        "of what is pending for another group one entry keeps all",
        "test_groups.py::test_what_one_acknowledges_is_deleted_one_by_one",
        ("lua/prelude/groups.lua", PENDING, "true"),
    ),
    mutant(
        "a dead letter deletes the entry for all groups",
        "test_groups.py::test_an_entry_is_kept_until_both_are_done_with_it[0-dead]",
        (
            "lua/prelude/settling.lua",
            "  acknowledge_one(stream, group, entry, found)\n",
            "  redis.call('XDEL', stream, entry)\n",
        ),
    ),
    mutant(
        "a call made again settles once more what is kept for another group",
        "test_groups.py::test_what_is_kept_for_another_group_is_settled_once[retried-0-False]",
        (
            "lua/prelude/groups.lua",
            "return redis.pcall('XPENDING', stream, group, entry, entry, 1)[1] and found[2]",
            "return found[2]",
        ),
    ),
    mutant(
        "a purge frees the key of what comes back for another group",
        "test_groups.py::test_purging_what_comes_back_for_another_group_frees_no_key",
        ("lua/purge_ready.lua", "if not is_for_another(entry[2], group) then", "do"),
    ),
    mutant(
        "a retry comes back to all groups",
        "test_groups.py::test_a_retry_comes_back_to_its_group_alone",
        ("lua/prelude/groups.lua", ALONE, "if true"),
    ),
    mutant(
        "a retry of the queue's own handler comes back to all groups",
        "test_groups.py::test_a_retry_of_the_queues_own_handler_comes_back_to_it_alone",
        (
            "lua/prelude/groups.lua",
            "if group == DEFAULT_GROUP and #others == 0",
            "if group == DEFAULT_GROUP",
        ),
    ),
    mutant(
        "a handler sees what is for another group",
        "test_fanout.py::test_a_group_that_always_fails_leaves_the_others_untouched[none]",
        ("lua/fetch.lua", "= is_for_another(fields, group)", "= false"),
    ),
    mutant(
        "a foreign field keeps a message from all",
        "test_groups.py::test_a_foreign_field_is_not_taken_for_a_group",
        (
            "lua/prelude/groups.lua",
            "if fields[i] == 'published' then return",
            "if true then return",
        ),
    ),
    mutant(
        "what is for another group stays pending",
        "test_groups.py::test_a_retry_comes_back_to_its_group_alone",
        ("lua/fetch.lua", "  acknowledge(stream, group, passed)\n", ""),
    ),
    mutant(
        "a stray that is for another group is delivered",
        "test_groups.py::test_what_is_pending_for_a_dead_one_and_for_another_group_is_passed",
        ("lua/redeliver.lua", " and not is_for_another(claimed[2], group)", ""),
    ),
    mutant(
        "after much that is for others nothing more is looked for",
        "test_groups.py::test_much_that_is_for_others_is_passed_in_one_call_or_two[10]",
        ("lua/fetch.lua", " or #passed >= MAX_PASSED then return", " then return"),
    ),
    mutant(
        "all retries of a group are kept for one that is away",
        "test_groups.py::test_what_came_back_for_one_group_is_not_kept_for_one_that_is_away[retried]",
        ("lua/prelude/groups.lua", "addressee(fields) == group and {} or others", "others"),
    ),
    mutant(
        "a group made anew begins now",
        "test_groups.py::test_a_group_that_foreign_hands_took_away_begins_with_what_is_kept",
        ("pending.py", '{self._group: "beginning"}', "self._queue.starts"),
    ),
    mutant(
        "a consumer creates its own group alone",
        "test_fanout.py::test_a_consumer_creates_all_groups_that_have_a_handler",
        ("appqueue.py", "for each in (self, *handled)", "for each in (self,)"),
    ),
    mutant(
        "a poller of a group promotes its retries alone",
        "test_groups.py::test_a_poller_of_a_group_promotes_both_schedules",
        ("queue.py", "(replace(self, keys=shared), self)", "(self,)"),
    ),
    mutant(
        "a publish by a group goes to its own schedule",
        "test_groups.py::test_what_a_group_publishes_is_for_all",
        ("queue.py", "self.client, self.keys.shared", "self.client, self.keys"),
    ),
    mutant(
        "a redrive to nobody",
        "test_groups.py::test_nothing_is_sent_again_to_a_group_that_is_not_there",
        ("lua/redrive.lua", "if #others > 0 and not own then", "if false then"),
    ),
    mutant(
        "a purge of what is ready for one group is for all",
        "test_groups.py::test_purging_what_is_ready_is_for_one_group",
        ("lua/purge_ready.lua", "delete_done(stream, others, ids)", "delete_done(stream, {}, ids)"),
    ),
    mutant(
        "a group is dropped while it is served",
        "test_groups.py::test_a_competing_consumer_keeps_its_group_from_being_dropped",
        ("groups.py", "        if found:\n            return found\n", ""),
    ),
    mutant(
        "a dropped group leaves what was kept for it alone",
        "test_groups.py::test_a_group_dropped_leaves_what_the_others_want",
        ("lua/drop_group.lua", "    delete_done(stream, others, ids)\n", ""),
    ),
    mutant(
        "the only group dropped takes the messages along",
        "test_groups.py::test_the_only_group_dropped_leaves_the_messages",
        ("lua/drop_group.lua", "if #others > 0 then", "do"),
    ),
    mutant(
        "stats of a group count what is kept for others",
        "test_groups.py::test_stats_of_a_group_are_what_is_for_it",
        ("lua/stats.lua", "if #others == 0 then return math", "do return math"),
    ),
    mutant(
        "quiet looks at the queue's own group alone",
        "test_fanout.py::test_a_test_of_yours_is_told_which_group_does_not_end",
        (
            "testing/quiet.py",
            "for lane in queue.every_lane]",
            "if queue.above is None for lane in queue.every_lane]",
        ),
    ),
    mutant(
        "what a slow group has read is not counted",
        "test_groups.py::test_what_is_too_much_to_be_counted_is_told_by_what_was_read[3]",
        ("lua/stats.lua", "more_read and #left or redis.call('XLEN', stream) - #read", "#left"),
    ),
    mutant(
        "a queue of groups alone is not asked for its lanes before the start",
        "test_fanout.py::"
        "test_an_app_of_groups_alone_is_refused_before_it_starts_if_its_lanes_differ",
        (
            "app.py",
            "for queue in {each.name: each for each in self.served}.values():",
            "for queue in filter(lambda each: each.handled, self.queues.values()):",
        ),
    ),
    mutant(
        "a consumer's name is no longer than each of those it is made of",
        "test_fanout.py::test_names_of_any_length_that_is_allowed_go_together",
        (
            "consumer.py",
            'checked_name("consumer", name, MAX_CONSUMER_NAME)',
            'checked_name("consumer", name)',
        ),
    ),
    mutant(
        "the doctor does not know by what lanes are shared",
        "test_doctor.py::test_what_consumers_share_their_lanes_by_is_in_good_order",
        ("doctor.py", "keys.standby, keys.members)", "keys.standby)"),
    ),
]
