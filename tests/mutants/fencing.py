"""Who may: leases, epochs, takeovers, trust."""

from tests.mutants.mutant import mutant

FENCE = "if refusal then return refusal end"
OLDER = "test_scripts.py::test_an_older_epoch_is_refused_and_changes_nothing"
OOM = "test_scripts.py::test_at_maxmemory_publishing_is_refused_and_draining_goes_on"
TYPES = "local refusal = wrong_type(stream, 'stream', "

FENCING = [
    mutant("ack without epoch", f"{OLDER}[ack]", ("lua/ack.lua", FENCE)),
    mutant("fetch without epoch", f"{OLDER}[fetch]", ("lua/fetch.lua", FENCE)),
    mutant("redelivery without epoch", f"{OLDER}[redeliver]", ("lua/redeliver.lua", FENCE)),
    mutant("give-back without epoch", f"{OLDER}[give back]", ("lua/give_back.lua", FENCE)),
    mutant("reclaim without epoch", f"{OLDER}[reclaim]", ("lua/reclaim.lua", FENCE)),
    mutant(
        "retry without epoch",
        f"{OLDER}[retry]",
        ("lua/retry.lua", " or fence(lease, ARGV[1])"),
    ),
    mutant(
        "dead letter without epoch",
        f"{OLDER}[dead letter]",
        ("lua/dead_letter.lua", " or fence(lease, ARGV[1])"),
    ),
    mutant("park without epoch", f"{OLDER}[park]", ("lua/park.lua", " or fence(lease, ARGV[1])")),
    mutant("halt without epoch", f"{OLDER}[halt]", ("lua/halt.lua", " or fence(lease, ARGV[1])")),
    mutant(
        "inherit without epoch",
        f"{OLDER}[inherit]",
        ("lua/inherit.lua", " or fence(lease, ARGV[1])"),
    ),
    mutant(
        "release without epoch",
        "test_lease.py::test_a_release_by_an_older_epoch_changes_nothing",
        ("lua/release.lua", "if redis.call('HGET', lease, 'epoch') ~= ARGV[1] then return 0 end"),
    ),
    mutant(
        "epoch by INCR alone",
        "test_lease.py::test_epochs_grow_even_if_the_server_lost_the_last",
        (
            "lua/acquire.lua",
            "int(math.max((whole(redis.call('GET', last)) or 0) + 1, now))",
            "redis.call('INCR', last)",
        ),
    ),
    mutant(
        "epoch by the clock alone",
        "test_lease.py::test_an_epoch_is_above_the_last_even_if_the_clock_went_back",
        (
            "lua/acquire.lua",
            "int(math.max((whole(redis.call('GET', last)) or 0) + 1, now))",
            "int(now)",
        ),
    ),
    mutant(
        "takeover whatever the epoch",
        "test_lease.py::test_a_takeover_needs_the_epoch_and_the_connection_that_were_seen",
        ("lua/acquire.lua", "held[2] ~= dead_epoch or held[4]", "held[4]"),
    ),
    mutant(
        "takeover by XINFO idle",  # a sign of death that a living holder bears as well
        "test_lease.py::test_a_takeover_needs_the_epoch_and_the_connection_that_were_seen",
        ("lua/acquire.lua", " or held[4] ~= dead_connection then", " then"),
    ),
    mutant(
        "inheritance from the living",
        "test_queue.py::test_inherit_takes_from_the_dead_alone",
        ("lua/inherit.lua", "if held[2] ~= ARGV[6] then return -1 end"),
    ),
    mutant(
        "renewal makes an expired lease again",
        "test_lease.py::test_a_renewal_does_not_make_an_expired_lease_again",
        ("lua/renew.lua", FENCE),
    ),
    mutant(
        "lease at maxmemory without the harmless first write",
        OOM,
        ("lua/acquire.lua", "redis.call('DEL', lease)"),
    ),
    mutant(
        "fence at maxmemory without the harmless first write",
        OOM,
        ("lua/prelude/call.lua", "  redis.call('HDEL', lease, '')"),
    ),
    mutant(
        "promotion at maxmemory without the harmless first write",
        OOM,
        ("lua/promote.lua", "redis.call('PERSIST', schedule)"),
    ),
    mutant(
        "trust lasts as long as the server's lease",
        "test_lease.py::test_trust_ends_before_the_server_lets_go",
        ("lease.py", "sent_at + self.ttl_s - self.margin_s", "sent_at + self.ttl_s"),
    ),
    mutant(
        "lease trusted from its reply",
        "test_directed.py::test_a_lease_is_trusted_from_when_its_call_was_sent",
        (
            "lease.py",
            'answer = await self._anchor.run("acquire", keys, args)',
            'answer = await self._anchor.run("acquire", keys, args); sent_at = mono_s()',
        ),
    ),
    mutant(
        "renewal trusted from its reply",
        "test_directed.py::test_a_lease_is_trusted_from_when_its_call_was_sent",
        (
            "lease.py",
            'await self._anchor.run("renew", [lease.key], args)',
            'await self._anchor.run("renew", [lease.key], args); sent_at = mono_s()',
        ),
    ),
    mutant(
        "heartbeat trusted from its reply",
        "test_directed.py::test_the_heartbeat_trusts_a_lease_from_when_its_call_was_sent",
        (
            "lease.py",
            "(lease.epoch, lease.ttl_ms, connection))",
            "(lease.epoch, lease.ttl_ms, connection)); sent_at = mono_s()",
        ),
    ),
    mutant(
        "a rest of a batch begun without trust",
        "test_directed.py::test_nothing_is_begun_when_trust_has_ended",
        ("service.py", "if mono_s() > lease.trusted_until:", "if False:"),
    ),
    mutant(
        "a handler goes on when trust ends",
        "test_poller.py::test_trust_ends_by_itself_where_the_server_is_away",
        ("term.py", "                self._scope.cancel()", "                pass"),
    ),
    mutant(
        "handover to itself",
        "test_directed.py::test_whoever_passes_on_lets_others_go_first",
        ("seat.py", "if self._letting_another:", "if False:"),
    ),
    mutant(
        "handover kept in spite of a newer epoch",
        "test_directed.py::test_a_call_to_an_older_holder_is_not_the_newer_ones",
        ("lease.py", "bool(asked) and epoch == str(lease.epoch)", "bool(asked)"),
    ),
    mutant(
        "a connection that is another goes unnoticed",
        "test_ordered.py::test_a_holder_whose_connection_is_cut_names_its_new_one",
        ("term.py", "if moved or mono_s() >= due_at", "if mono_s() >= due_at"),
    ),
    mutant(
        "a standby wants the lease of its own last term",
        "test_lease.py::test_a_consumer_that_lost_trust_never_holds_the_same_epoch_again",
        ("standby.py", "        self._store.new_term()\n"),
    ),
    mutant(
        "a lease is renewed by when its last call was answered",
        "test_lease.py::test_a_lease_that_was_given_late_is_renewed_before_trust_in_it_ends",
        (
            "term.py",
            "        while True:\n            due_at = self.lease.renew_at\n",
            "        answered_at = mono_s()\n"
            "        while True:\n            due_at = answered_at + self.lease.ttl_s / 3\n",
        ),
        (
            "term.py",
            '                self.renewed(await self.fenced("renew", self._store.renew))\n',
            '                self.renewed(await self.fenced("renew", self._store.renew))\n'
            "                answered_at = mono_s()\n",
        ),
    ),
]
