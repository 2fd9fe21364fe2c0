"""The checker on histories made by hand: legal ones pass, and each planted anomaly is found."""

from collections.abc import Callable

import pytest

from delayq import Ordering
from delayq.keys import lane_of
from delayq.verify.history import FOREIGN, Declared, Terms, Verdict
from tests.histories import START_MS, Story, judge


def story(*names: str, keyed: str | None = None, lane: int = 0) -> Story:
    """Begin with messages that are ready, and a holder of the lease."""
    s = Story(lane)
    for name in names:
        s.publish(name, key=keyed)
    s.acquire("c1")
    return s


# -- legal histories --


def a_life() -> Story:
    s = story("a")
    s.publish("b", delay_ms=500)
    s.asked("a")
    s.receipt("a", START_MS + 1_000)
    s.promote("b")
    s.fetch("a", "b")
    s.handle("c1", "a")
    s.handle("c1", "b", "raised")
    s.ack("a")
    s.retry("b")
    s.promote("b")
    s.fetch("b")
    s.handle("c1", "b")
    s.fetch(acks=("b",))
    s.release()
    return s


def a_takeover(keyed: str | None = None, lane: int = 0) -> Story:
    s = story("a", "b", "c", keyed=keyed, lane=lane)
    s.asked("a", key=keyed)
    s.receipt("a", START_MS + 1_000)
    s.fetch("a", "b")
    s.begins("c1", "a")
    s.fault("kill", "c1")
    s.acquire("c2", dead=True)
    s.reclaim("a", "b")
    s.fetch("a", "b", "c")
    for name in "abc":
        s.handle("c2", name)
    s.ack("a", "b", "c")
    return s


def a_stall() -> Story:
    s = story("a")
    s.fetch("a")
    s.begins("c1", "a")
    old = s.epoch
    s.fault("freeze", "c1")
    s.acquire("c2", dead=True)
    s.reclaim("a")
    s.fetch("a")
    s.begins("c2", "a")
    s.fault("thaw", "c1")
    s.ends("c1", "a", "cancelled", epoch=old)
    s.call("fetch", fenced=True, epoch=old, consumer=f"c1@{old}", refusal="LEASELOST epoch")
    s.ends("c2", "a")
    s.ack("a")
    return s


def a_death() -> Story:
    s = story("a")
    s.fetch("a")
    s.handle("c1", "a", "raised")
    s.dead_letter("a")
    s.call("redrive", *s.schedule("a", s.now_ms + 1_000), (f"XDEL :dead {s.now_ms}-0", "1"))
    s.base["a"] = 0
    s.promote("a")
    s.fetch("a")
    s.handle("c1", "a")
    s.ack("a")
    return s


def a_server_frozen_in_a_script() -> Story:
    """For the server no time passes in a script, whatever its clock says at the end."""
    s = story("a")
    s.fetch("a")
    s.handle("c1", "a")
    s.call("renew", ("PEXPIRE :lease 2000", "1"), fenced=True)
    s.call("ack", *s.acked("a"), fenced=True, took_ms=9_000)
    s.acquire("c2")
    s.call("renew", ("PEXPIRE :lease 6000", "1"), fenced=True, took_ms=9_000)
    s.publish("b")
    s.fetch("b")
    s.handle("c2", "b")
    s.ack("b")
    return s


def foreign_hands() -> Story:
    s = story("a", "b")
    s.fetch("a")
    s.call(FOREIGN, (f"XDEL :stream {s.entries['a']}", "1"))
    s.call(FOREIGN, ("XADD :stream * bodi x", f"{s.now_ms + 1_000}-7"))
    s.fetch("b", acks=())
    s.handle("c1", "b")
    s.call("ack", *s.acked("b"), fenced=True)
    return s


def a_destroyed_group() -> Story:
    """Two are in hand, and a third is not read, when another program destroys the group."""
    s = story("a", "b", "c")
    s.asked("b")
    s.receipt("b", START_MS + 2_000)
    s.fetch("a", "b")
    s.handle("c1", "a")
    s.handle("c1", "b")
    s.call(FOREIGN, ("XGROUP DESTROY :stream delayq", "1"))
    s.call("fetch", (f"XDEL :stream {s.entries['a']}", "1"), fenced=True, refusal="NOGROUP")
    s.deliveries["b"] = 0
    s.fetch("b", "c")
    s.handle("c1", "b")
    s.handle("c1", "c")
    return s


def a_takeover_of_one_key() -> Story:
    return a_takeover(keyed="k")


HELD_MS = START_MS + 60_000


def parked(*, due_ms: int = 0) -> Story:
    """Park a key for `a`; `b` waits for it, and is held; `c` is due then."""
    s = story("a", "b", keyed="k")
    if due_ms:
        s.publish("c", delay_ms=due_ms - s.now_ms - 1_000)
    s.fetch("a", "b")
    s.handle("c1", "a", "raised")
    s.row("a")
    s.retry("a", 1_000, "place", s.places["a"])
    s.call("retry", *s.waits("a"), fenced=True)
    s.row("b")
    s.park("b", HELD_MS + 0.5)
    return s


def a_parked_key() -> Story:
    s = parked()
    s.promote("a")
    s.fetch("a")
    s.handle("c1", "a")
    s.call("ack", s.waits_no_more("a"), s.let_go("b", 31), *s.acked("a"), fenced=True)
    s.promote("b")
    s.fetch("b")
    s.handle("c1", "b")
    s.call("ack", s.waits_no_more("b"), *s.acked("b"), fenced=True)
    return s


LEGAL: dict[str, Callable[[], Story]] = {
    f.__name__: f
    for f in (
        a_life,
        a_takeover,
        a_takeover_of_one_key,
        a_stall,
        a_death,
        a_parked_key,
        a_server_frozen_in_a_script,
    )
}


def _first_and_held(s: Story) -> None:
    s.call("cancel", s.waits_no_more("a"), *s.unschedule("a"))


def _made_due_by_a_renewal(s: Story) -> None:
    s.call("renew", s.let_go("b"), fenced=True)


def _made_due_before_its_retry(s: Story) -> None:
    s.call("cancel", s.waits_no_more("a"), s.let_go("a"), *s.unschedule("a"), s.let_go("b"))


def _let_go_to_a_later_time(s: Story) -> None:
    s.call("cancel", s.waits_no_more("a"), s.let_go("b", -1), *s.unschedule("a"))


def _held_by_a_cancel(s: Story) -> None:
    s.call("cancel", (f"ZADD :schedule {s.now_ms + 9_000}.5 {s.members['a']}", "0"))


@pytest.mark.parametrize(
    ("invariant", "said", "plant"),
    [
        ("I8", "b is held after cancel, and is the first of its key", _first_and_held),
        ("I2", "renew changed the due time of b", _made_due_by_a_renewal),
        ("I2", "cancel changed the due time of a", _made_due_before_its_retry),
        ("I2", "cancel changed the due time of b", _let_go_to_a_later_time),
        ("I8", "cancel has a held", _held_by_a_cancel),
    ],
)
def test_who_is_held_and_let_go_wrongly_is_found(
    invariant: str, said: str, plant: Callable[[Story], None]
) -> None:
    s = parked()
    assert not s.judged("key", drained=False).violations
    plant(s)
    found = s.judged("key", drained=False).violations
    assert (invariant, said) in [(v.invariant, v.sentence) for v in found], found


def test_what_is_held_comes_before_what_is_due_in_the_ms_after() -> None:
    s = parked(due_ms=HELD_MS + 1)
    s.promote("a")
    s.now_ms = s.scores["b"] = HELD_MS + 1
    s.promote("b")
    s.promote("c")
    assert not s.judged("key", drained=False).violations


@pytest.mark.parametrize("name", LEGAL)
@pytest.mark.parametrize("ordering", ["strict", "key", "none"])
def test_a_legal_history_passes(name: str, ordering: str) -> None:
    verdict = LEGAL[name]().judged(ordering)
    assert not verdict.violations
    assert verdict.counts["acked"] == verdict.counts["accepted"] > 0
    assert verdict.counts["live"] == verdict.counts["lost"] == 0


def test_what_foreign_hands_do_is_theirs() -> None:
    verdict = foreign_hands().judged(drained=False)
    assert not verdict.violations
    assert verdict.counts["foreign"] == verdict.counts["acked"] == 1


@pytest.mark.parametrize("ordering", ["strict", "key", "none"])
def test_what_is_in_hand_when_a_group_is_destroyed_is_delivered_again(ordering: str) -> None:
    s = a_destroyed_group()
    s.ack("b", "c")
    verdict = s.judged(ordering)
    assert not verdict.violations
    assert verdict.counts["acked"] == 3
    assert verdict.counts["extra"] == verdict.counts["foreign"] == verdict.counts["lost"] == 0


@pytest.mark.parametrize(("destroyed", "found"), [(True, set()), (False, {"I3"})])
def test_what_is_in_hand_when_a_group_is_destroyed_may_be_handled_beside(
    found: set[str], *, destroyed: bool
) -> None:
    s = story("a")
    s.fetch("a")
    s.begins("c1", "a")
    if destroyed:
        s.call(FOREIGN, ("XGROUP DESTROY :stream delayq", "1"))
    first, s.epoch = s.epoch, s.epoch + 1
    s.deliveries["a"] = 0
    s.begins("c2", "a", deliveries=1)
    s.epoch = first
    said = {v.sentence for v in s.judged("none", drained=False).violations}
    assert {"I3" for each in said if "beside" in each} == found


def test_what_is_not_in_hand_when_a_group_is_destroyed_is_judged_as_ever() -> None:
    s = a_destroyed_group()
    s.call("fetch", (f"XDEL :stream {s.entries['c']}", "1"), fenced=True)
    s.ack("b")
    assert {v.invariant for v in s.judged().violations} == {"I1"}


def test_what_a_destroyed_group_had_in_hand_is_not_lost_unseen() -> None:
    s = story("a")
    s.asked("a")
    s.receipt("a", START_MS + 1_000)
    s.fetch("a")
    s.begins("c1", "a")
    s.call(FOREIGN, ("XGROUP DESTROY :stream delayq", "1"))
    s.call("fetch", (f"XDEL :stream {s.entries['a']}", "1"), fenced=True, refusal="NOGROUP")
    [violation] = s.judged().violations
    assert "under which no handler had returned from it" in violation.sentence


def test_the_verdict_counts_what_happened() -> None:
    counts = a_life().judged().counts
    assert {name: count for name, count in counts.items() if count} == {
        "published": 1,
        "accepted": 2,
        "promoted": 2,
        "delivered": 3,
        "handled": 3,
        "retried": 1,
        "acked": 2,
    }
    assert a_takeover().judged().counts["extra"] == 1


def test_the_verdict_tells_the_terms_and_how_they_ended() -> None:
    leases = a_takeover().judged().leases
    assert [(lease.holder[:2], lease.ended) for lease in leases] == [
        ("c1", "taken over"),
        ("c2", ""),
    ]
    assert a_life().judged().leases[0].ended == "released"


def test_the_verdict_tells_how_late_first_deliveries_were() -> None:
    assert a_life().judged().lateness_ms == {"p50": 1_500.0, "p99": 4_000.0, "max": 4_000.0}


# -- anomalies in what scripts did --


def _lost_by_promotion(s: Story) -> None:
    s.publish("d", delay_ms=0)
    s.call("promote", *s.unschedule("d"))


def _promoted_twice(s: Story) -> None:
    s.publish("d", delay_ms=0)
    s.call("promote", s.xadd("d", s.scores["d"]), s.xadd("d", s.scores["d"]), *s.unschedule("d"))


def _promoted_and_kept(s: Story) -> None:
    s.publish("d", delay_ms=0)
    s.call("promote", s.xadd("d", s.scores["d"]))


def _taken_out_before_it_was_put_in(s: Story) -> None:
    s.publish("d", delay_ms=0)
    s.call("promote", *s.unschedule("d"), s.xadd("d", s.scores["d"]))


def _deleted_and_not_acknowledged(s: Story) -> None:
    s.fetch("a")
    s.call("ack", (f"XDEL :stream {s.entries['a']}", "1"), fenced=True)


def _acknowledged_by_a_retry(s: Story) -> None:
    s.fetch("a")
    s.call("retry", *s.acked("a"), fenced=True)


def _acknowledged_and_kept(s: Story) -> None:
    s.fetch("a")
    s.call("ack", s.acked("a")[0], fenced=True)


def _forgotten_with_its_consumer(s: Story) -> None:
    s.fetch("a")
    s.call("release", (f"XGROUP DELCONSUMER :stream delayq {s.holder}", "1"), fenced=True)


def _cancelled_while_pending(s: Story) -> None:
    s.fetch("a")
    s.call("cancel", *s.acked("a"), epoch=s.epoch)


def _another_body(s: Story) -> None:
    s.publish("d", delay_ms=0)
    words, entry = s.xadd("d", s.scores["d"])
    s.call("promote", (words.replace("body d", "body e"), entry), *s.unschedule("d"))


def _another_key(s: Story) -> None:
    s.publish("d", delay_ms=0, key="k")
    words, entry = s.xadd("d", s.scores["d"])
    s.call("promote", (words.replace("key k", "key l"), entry), *s.unschedule("d"))


def _deliveries_forgotten(s: Story) -> None:
    s.fetch("a")
    s.fetch("a")
    s.deliveries["a"] = 0
    claim = f"XCLAIM :stream delayq {s.holder} 0 {s.entries['a']} RETRYCOUNT 1"
    s.call("fetch", (claim, (s.entries["a"],)), fenced=True)


def _deliveries_forgotten_by_a_retry(s: Story) -> None:
    s.fetch("a")
    s.fetch("a")
    s.call("retry", *s.schedule("a", s.now_ms, "deliveries", "1"), *s.acked("a"), fenced=True)


def _dead_too_soon(s: Story) -> None:
    s.fetch("a")
    s.dead_letter("a", "max_deliveries")


def _dead_with_another_count(s: Story) -> None:
    s.fetch("a")
    s.dead_letter("a", deliveries=3)


def _dead_of_a_failure_that_is_retried(s: Story) -> None:
    s.fetch("a")
    s.dead_letter("a", "failed")


def _malformed_with_a_body(s: Story) -> None:
    s.fetch("a")
    s.dead_letter("a", "malformed")


def _promoted_early(s: Story) -> None:
    s.publish("d", delay_ms=60_000)
    s.promote("d")


def _delivered_early(s: Story) -> None:
    s.call("publish", s.xadd("d", s.now_ms + 60_000))
    s.fetch("a", "b", "d")


def _promoted_in_another_order(s: Story) -> None:
    s.publish("d", delay_ms=500)
    s.publish("e", delay_ms=0)
    s.promote("e", "d")


def _promoted_past_what_was_due(s: Story) -> None:
    s.publish("d", delay_ms=0)
    s.publish("e", delay_ms=0)
    s.promote("e")


def _equal_due_times_not_by_arrival(s: Story) -> None:
    due_ms = s.now_ms + 2_000
    s.call("publish", *s.schedule("d", due_ms), *s.schedule("e", due_ms))
    s.promote("e", "d")


def _published_past_what_was_due(s: Story) -> None:
    s.publish("d", delay_ms=0)
    s.publish("e")


def _acknowledged_in_another_order(s: Story) -> None:
    s.fetch("a", "b")
    s.ack("b")


def _acknowledged_in_another_order_across_a_failover(s: Story) -> None:
    s.fetch("a")
    s.acquire("c2", dead=True)
    s.fetch("b")
    s.ack("b")


def _went_on_before_all_was_reclaimed(s: Story) -> None:
    s.fetch("a")
    s.acquire("c2", dead=True)
    s.fetch("b")


def _taken_from_another_without_a_reclaim(s: Story) -> None:
    s.fetch("a")
    s.acquire("c2", dead=True)
    s.fetch("a")


def _a_lease_deleted_that_nobody_held(s: Story) -> None:
    s.release()
    s.acquire("c2", dead=True)


def _skipped(s: Story) -> None:
    s.fetch("b")


def _acknowledged_by_a_zombie(s: Story) -> None:
    s.fetch("a")
    old = s.epoch
    s.acquire("c2", dead=True)
    s.ack("a", epoch=old, consumer=f"c1@{old}")


def _fetched_by_a_zombie(s: Story) -> None:
    old = s.epoch
    s.acquire("c2", dead=True)
    s.fetch("a", epoch=old, consumer=f"c1@{old}")


def _acknowledged_without_an_epoch(s: Story) -> None:
    s.fetch("a")
    s.call("ack", *s.acked("a"))


def _acknowledged_after_a_release(s: Story) -> None:
    s.fetch("a")
    s.release()
    s.ack("a")


def _fetched_for_another(s: Story) -> None:
    s.fetch("a", consumer="c2@5")


def _two_holders(s: Story) -> None:
    s.acquire("c2")


def _two_leases_in_one(s: Story) -> None:
    values = f"holder c2@{s.now_ms + 1_000} epoch {s.now_ms + 1_000} nonce n connection 7 since 1"
    s.call("acquire", (f"HSET :lease {values}", "0"))


def _an_epoch_again(s: Story) -> None:
    s.release()
    s.acquire("c2", epoch=s.epoch)


def _an_epoch_by_counting_alone(s: Story) -> None:
    s.release()
    s.acquire("c2", epoch=s.epoch + 1)


def _a_lease_made_again_by_renewal(s: Story) -> None:
    s.release()
    s.call("renew", ("HSET :lease connection 7", "1"), ("PEXPIRE :lease 1000", "1"), fenced=True)


def _a_lease_given_by_renewal(s: Story) -> None:
    epoch = s.now_ms + 2_000
    s.release()
    given = (f"HSET :lease holder c1@{epoch} epoch {epoch}", "2")
    s.call("renew", given, fenced=True)


def _renewed_when_it_was_over(s: Story) -> None:
    s.now_ms += 700_000
    s.call("renew", ("PEXPIRE :lease 1000", "1"), fenced=True)


def _the_holder_refused(s: Story) -> None:
    s.call("fetch", fenced=True, refusal="LEASELOST epoch")


def _a_body_left_behind(s: Story) -> None:
    s.publish("d", delay_ms=0)
    s.publish("e", delay_ms=0)
    moved, body = s.unschedule("d")
    s.call("promote", s.xadd("d", s.scores["d"]), moved)
    del body


def _a_message_without_a_body(s: Story) -> None:
    number, _, member = s.schedule("d", s.now_ms)
    s.call("publish", number, member)


def _an_arrival_number_left_behind(s: Story) -> None:
    s.publish("d", delay_ms=0)
    s.call("promote", s.xadd("d", s.scores["d"]), *s.unschedule("d")[:2])


def _accepted_twice(s: Story) -> None:
    s.fetch("a")
    s.ack("a")
    s.publish("a")


def _an_answer_that_does_not_fit(s: Story) -> None:
    s.fetch("a")
    acked, deleted = s.acked("a")
    s.call("ack", (acked[0], "0"), deleted, fenced=True)


def _a_command_nobody_knows(s: Story) -> None:
    s.call("ack", ("LPUSH :stream x", "1"), fenced=True)


def _a_key_of_another_lane(s: Story) -> None:
    s.call("publish", ("XADD other * body x", f"{s.now_ms}-0"))


PLANTED: list[tuple[str, str, Callable[[Story], None]]] = [
    ("I1", "promote may not move d from scheduled to absent", _lost_by_promotion),
    ("I1", "d is in two places", _promoted_twice),
    ("I1", "d is in two places", _promoted_and_kept),
    ("I1", "promote took d out before it was elsewhere", _taken_out_before_it_was_put_in),
    ("I1", "a left Redis by ack, and was not acknowledged", _deleted_and_not_acknowledged),
    ("I1", "retry may not move a from pending to absent", _acknowledged_by_a_retry),
    ("I6", "a is in the stream after ack, and is not delivered", _acknowledged_and_kept),
    ("I1", "a is in the stream after release, and is not", _forgotten_with_its_consumer),
    ("I1", "cancel may not move a from pending to absent", _cancelled_while_pending),
    ("I1", "promote changed the body of d", _another_body),
    ("I1", "promote changed the key of d", _another_key),
    ("I1", "fetch took the deliveries of a from 2 to 1", _deliveries_forgotten),
    ("I1", "retry wrote 1 deliveries of a, which had 2", _deliveries_forgotten_by_a_retry),
    ("I1", "a died of 'max deliveries' after 1 deliveries", _dead_too_soon),
    ("I1", "tells of 3 deliveries, it had 1", _dead_with_another_count),
    ("I1", "a died of 'failed'", _dead_of_a_failure_that_is_retried),
    ("I1", "a died of 'malformed'", _malformed_with_a_body),
    ("I2", "d was made ready 59000 ms early", _promoted_early),
    ("I2", "d was delivered 58000 ms early", _delivered_early),
    ("I4", "e and d came to the stream in the wrong order", _promoted_in_another_order),
    ("I4", "e and d came to the stream in the wrong order", _promoted_past_what_was_due),
    ("I4", "e and d came to the stream in the wrong order", _equal_due_times_not_by_arrival),
    ("I4", "e, published due now, went past d", _published_past_what_was_due),
    ("I4", "b was acknowledged before a", _acknowledged_in_another_order),
    ("I4", "b was acknowledged before a", _acknowledged_in_another_order_across_a_failover),
    ("I4", "went on to b while messages are pending for c1@", _went_on_before_all_was_reclaimed),
    ("I1", "while it was pending for c1@", _taken_from_another_without_a_reclaim),
    ("audit", "deleted a lease that nobody held", _a_lease_deleted_that_nobody_held),
    ("audit", "is not the next that is unread", _skipped),
    ("I5", "ack under epoch", _acknowledged_by_a_zombie),
    ("I5", "fetch under epoch", _fetched_by_a_zombie),
    ("I5", "ack changed what is pending, and no epoch", _acknowledged_without_an_epoch),
    ("I5", "while nobody holds the lease", _acknowledged_after_a_release),
    ("I5", "acted for c2@5", _fetched_for_another),
    ("I5", "vanished before its time", _two_holders),
    ("I5", "was given the lease that c1@", _two_leases_in_one),
    ("I5", "is not above", _an_epoch_again),
    ("I5", "could come twice", _an_epoch_by_counting_alone),
    ("I5", "renew made a lease again that was over", _a_lease_made_again_by_renewal),
    ("I5", "renew gave a lease to c1@", _a_lease_given_by_renewal),
    ("I5", "when its lease was over", _renewed_when_it_was_over),
    ("I5", "which lasts", _the_holder_refused),
    ("I6", "a body without a message", _a_body_left_behind),
    ("I6", "a body without a message", _a_message_without_a_body),
    ("I6", "the arrival number is left", _an_arrival_number_left_behind),
    ("I7", "a was accepted twice", _accepted_twice),
    ("audit", "answered 0, where range(1, 2) was expected", _an_answer_that_does_not_fit),
    ("audit", "LPUSH: the checker does not know it", _a_command_nobody_knows),
    ("audit", "is no key of this lane", _a_key_of_another_lane),
]


@pytest.mark.parametrize(
    ("invariant", "said", "plant"), PLANTED, ids=lambda v: getattr(v, "__name__", "")
)
def test_an_anomaly_is_found(invariant: str, said: str, plant: Callable[[Story], None]) -> None:
    s = story("a", "b")
    assert not s.judged(drained=False).violations
    planted_at = len(s.calls)
    plant(s)
    found = [v for v in s.judged(drained=False).violations if v.invariant == invariant]
    assert any(said in violation.sentence for violation in found), s.judged().violations
    window = found[0].window
    assert window and any(
        s.calls[at].at in "".join(window) for at in range(planted_at, len(s.calls))
    )


# -- lanes --


def in_lanes(*stories: Story, ordering: Ordering = "strict") -> Verdict:
    """Have the histories of several lanes judged as that of one queue."""
    lanes = len(stories)
    queue = Declared("orders", ordering, max_deliveries=3, in_flight=2, lanes=lanes)
    calls = [call for s in stories for call in s.calls]
    events = sorted((e for s in stories for e in s.events), key=lambda event: event.at_ns)
    return judge(Terms("test", {"orders": queue}), calls, events)


@pytest.mark.parametrize("ordering", ["strict", "key", "none"])
def test_lanes_may_have_the_same_ids_entries_epochs_and_consumers(ordering: Ordering) -> None:
    verdict = in_lanes(a_takeover(lane=0), a_takeover(lane=1), ordering=ordering)
    assert not verdict.violations
    assert verdict.counts["acked"] == verdict.counts["accepted"] == 6
    assert verdict.counts["extra"] == verdict.counts["published"] == 2
    assert [(lease.lane, lease.holder[:2]) for lease in verdict.leases] == [
        *((0, "c1"), (0, "c2")),
        *((1, "c1"), (1, "c2")),
    ]


def test_one_epoch_may_be_of_two_consumers_in_two_lanes() -> None:
    one, other = story("a"), Story(1)
    other.publish("a")
    other.acquire("c2")
    for s, process in ((one, "c1"), (other, "c2")):
        s.fetch("a")
        s.handle(process, "a")
        s.ack("a")
    assert one.epoch == other.epoch
    assert not in_lanes(one, other).violations


def _lost_in_the_other(one: Story, other: Story) -> None:
    one.handle("c1", "a")
    one.ack("a")
    other.receipt("a", START_MS + 1_000)


def _handled_and_not_delivered_in_the_other(one: Story, other: Story) -> None:
    other.entries["a"], other.deliveries["a"] = one.entries["a"], 1
    one.handle("c1", "a")
    one.ack("a")
    other.epoch, other.holder = one.epoch, one.holder
    other.handle("c1", "a")


def _handled_again_in_one(one: Story, _other: Story) -> None:
    one.handle("c1", "a")
    one.handle("c1", "a")


def _acknowledged_and_handled_in_the_other(one: Story, other: Story) -> None:
    other.publish("a")
    other.acquire("c2")
    other.fetch("a")
    other.handle("c2", "a")
    one.begins("c1", "a")
    one.ack("a")


def _in_the_lane_of_another_key(_one: Story, other: Story) -> None:
    other.publish("b", key=next(k for k in "klmn" if lane_of(k, 2) == 0))


PLANTED_IN_LANES: list[tuple[str, str, Callable[[Story, Story], None]]] = [
    ("I1", "a was published, and is lost", _lost_in_the_other),
    ("I1", "a was handled, and never published", _handled_and_not_delivered_in_the_other),
    ("I3", "a was handled twice as delivery 1", _handled_again_in_one),
    ("I1", "under which no handler had returned", _acknowledged_and_handled_in_the_other),
    ("I4", "b came to lane 1, and lane 0 is that of its key", _in_the_lane_of_another_key),
]


@pytest.mark.parametrize(
    ("invariant", "said", "plant"), PLANTED_IN_LANES, ids=lambda v: getattr(v, "__name__", "")
)
def test_what_is_right_in_one_lane_excuses_nothing_in_another(
    invariant: str, said: str, plant: Callable[[Story, Story], None]
) -> None:
    one, other = story("a"), Story(1)
    one.fetch("a")
    plant(one, other)
    found = [v.sentence for v in in_lanes(one, other).violations if v.invariant == invariant]
    assert any(said in sentence for sentence in found), found
