from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import pytest

from delayq import LeaseLost, Server, ServerUnreachable, scripts
from delayq.clock import mono_s
from delayq.connection import outlast
from delayq.events import StoodBy
from delayq.keys import GROUP
from delayq.lease import Held, Lease, LeaseStore
from delayq.pending import Pending
from delayq.scripts import command
from delayq.share import Share
from delayq.standby import Standby
from delayq.tape import Tape
from delayq.term import Term
from delayq.transport.anchor import Anchor
from tests.conftest import KEYS, Client

KEY = KEYS.lease()


def other(client: Client, name: str = "c2", ttl_s: float = 10) -> LeaseStore:
    return LeaseStore(Anchor(client), KEYS, name, ttl_s)


async def test_a_held_lease_tells_its_holder(client: Client, lease: Lease) -> None:
    held = await other(client).acquire(KEY)
    assert isinstance(held, Held)
    assert (held.holder, held.epoch) == (lease.holder, lease.epoch)
    assert held.connection in [each["id"] for each in await client.client_list()]
    assert 9 < held.expires_in_s <= 10


async def test_a_repeated_acquire_answers_the_same(store: LeaseStore, lease: Lease) -> None:
    again = await store.acquire(KEY)
    assert isinstance(again, Lease)
    assert (again.epoch, again.holder) == (lease.epoch, lease.holder)


async def test_epochs_grow_even_if_the_server_lost_the_last(
    client: Client, store: LeaseStore, lease: Lease
) -> None:
    epochs = [lease.epoch]
    for _ in range(3):
        await client.delete(KEY)
        taken = await store.acquire(KEY)
        assert isinstance(taken, Lease)
        epochs.append(taken.epoch)
    while (await client.time())[0] * 1000 + (await client.time())[1] // 1000 <= epochs[-1]:
        pass  # no failover is faster than the millisecond in which the last epoch was given
    await client.delete(KEY, KEYS.epoch)
    taken = await store.acquire(KEY)
    assert isinstance(taken, Lease)
    epochs.append(taken.epoch)
    assert epochs == sorted(set(epochs))


async def test_an_epoch_is_above_the_last_even_if_the_clock_went_back(
    client: Client, store: LeaseStore
) -> None:
    await client.set(KEYS.epoch, 10**14)
    taken = await store.acquire(KEY)
    assert isinstance(taken, Lease)
    assert taken.epoch == 10**14 + 1


def dead(connection: str, epoch: int) -> Held:
    return Held("whoever", epoch, connection, 1.0)


async def test_a_takeover_needs_the_epoch_and_the_connection_that_were_seen(
    client: Client, lease: Lease
) -> None:
    connection = await client.hget(KEY, "connection")
    for wrong in (dead(connection, lease.epoch - 1), dead(f"{connection}1", lease.epoch)):
        assert isinstance(await other(client).acquire(KEY, wrong), Held)
    taken = await other(client).acquire(KEY, dead(connection, lease.epoch))
    assert isinstance(taken, Lease)
    assert taken.epoch > lease.epoch
    again = await other(client, "c3").acquire(KEY, dead(connection, lease.epoch))
    assert isinstance(again, Held)


async def test_a_renewal_does_not_make_an_expired_lease_again(
    client: Client, store: LeaseStore, lease: Lease
) -> None:
    await client.delete(KEY)
    with pytest.raises(LeaseLost):
        await store.renew(lease)
    assert not await client.exists(KEY)


async def test_a_renewal_extends_and_names_the_connection(
    server: Server, client: Client, lease: Lease
) -> None:
    await client.pexpire(KEY, 100)
    async with server.client() as later:
        renewed = await LeaseStore(Anchor(later), KEYS, "c1", 10).renew(lease)
        connection = await later.client_id()
    assert await client.pttl(KEY) > 9_000
    assert renewed.trusted_until > lease.trusted_until
    assert await client.hget(KEY, "connection") == str(connection)


async def test_a_holder_notices_that_its_connection_is_another(
    server: Server, client: Client
) -> None:
    async with server.client() as anchor:
        store = LeaseStore(Anchor(anchor), KEYS, "c1", 10)
        await store.acquire(KEY)
        assert not await store.moved()
        await client.client_kill_filter(_id=str(await anchor.client_id()))
        with anyio.fail_after(5):
            while not await outlast(store.moved):
                pass


async def test_a_lease_that_was_given_late_is_renewed_before_trust_in_it_ends(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed, renew = anyio.Event(), LeaseStore.renew

    async def renewing(self: LeaseStore, lease: Lease) -> Lease:
        after = await renew(self, lease)
        renewed.set()
        return after

    monkeypatch.setattr(LeaseStore, "renew", renewing)
    async with server.link("c1") as link:
        store = LeaseStore(link.anchor, KEYS, "c1", 10)
        lease = await store.acquire(KEY)
        assert isinstance(lease, Lease)
        late = lease.renewed(mono_s() - 8.5)  # when the call was sent that was answered now
        term = Term(store, late, "c1", Tape(), calls=link.bells.bell("calls"))
        with anyio.fail_after(5):
            assert await term.run(renewed.wait), "trust ended"
        assert term.trusted_until() > late.trusted_until


async def test_trust_ends_before_the_server_lets_go(lease: Lease) -> None:
    assert lease.renewed(100.0).trusted_until == pytest.approx(109.0)


@pytest.mark.usefixtures("pending")
async def test_a_release_frees_it_once_and_rings(
    client: Client, store: LeaseStore, lease: Lease
) -> None:
    await client.xgroup_createconsumer(KEYS.stream, GROUP, lease.holder)
    assert await store.release(lease)
    assert not await store.release(lease)
    assert await client.xlen(KEYS.vacancy) == 1
    assert await client.pttl(KEYS.vacancy) > 0
    assert await client.xinfo_consumers(KEYS.stream, GROUP) == []


async def test_a_release_keeps_a_consumer_that_has_something_pending(
    client: Client, store: LeaseStore, lease: Lease, pending: Pending
) -> None:
    await client.xadd(KEYS.stream, {"body": "1"})
    await pending.fetch(lease, "-", 1)
    await store.release(lease)
    assert len(await client.xinfo_consumers(KEYS.stream, GROUP)) == 1


async def test_a_release_by_an_older_epoch_changes_nothing(
    client: Client, store: LeaseStore, lease: Lease
) -> None:
    taken = await other(client).acquire(
        KEY, dead(await client.hget(KEY, "connection"), lease.epoch)
    )
    assert isinstance(taken, Lease)
    assert not await store.release(lease)
    assert await client.hget(KEY, "holder") == taken.holder


async def test_a_closed_connection_is_gone(server: Server, store: LeaseStore) -> None:
    async with server.client() as doomed:
        connection = str(await doomed.client_id())
        assert await store.gone([connection]) == set()
    with anyio.fail_after(5):
        while await store.gone([connection, "0"]) != {connection}:
            pass


async def test_where_client_is_not_permitted_expiry_alone_decides(
    server: Server, client: Client, lease: Lease
) -> None:
    words = ("on", ">pw", "allkeys", "+@all", "-client")
    await command(client, "ACL SETUSER", "plain", *words)
    async with Server(f"{server.url}?username=plain&password=pw").client() as limited:
        store = LeaseStore(Anchor(limited), KEYS, "c2", 10)
        assert isinstance(await store.acquire(KEY), Held)
        assert await store.gone([str(lease.epoch)]) == set()


async def test_of_those_that_start_at_one_instant_one_is_active(
    server: Server, client: Client
) -> None:
    for _ in range(50):
        await client.delete(KEY)
        answers: list[Any] = []
        barrier = anyio.Event()

        async def start(name: str, barrier: anyio.Event, answers: list[Any]) -> None:
            async with server.client() as own:
                store = LeaseStore(Anchor(own), KEYS, name, 10)
                await own.ping()
                await barrier.wait()
                answers.append(await store.acquire(KEY))

        async with anyio.create_task_group() as starting:
            for name in ("c1", "c2", "c3"):
                starting.start_soon(start, name, barrier, answers)
            await anyio.wait_all_tasks_blocked()
            barrier.set()
        assert sum(isinstance(answer, Lease) for answer in answers) == 1


async def test_a_consumer_that_lost_trust_never_holds_the_same_epoch_again(server: Server) -> None:
    tape = Tape()
    async with server.link("c1") as link:
        bell = link.bells.bell(KEYS.vacancy)
        store = LeaseStore(link.anchor, KEYS, "c1", 0.3)
        standby = Standby(store, bell, "c1", tape, share=Share("c1", 1))
        first, _ = await standby.wait(KEY)
        second, why = await standby.wait(KEY)
    assert tape.of(StoodBy)[0].epoch == first.epoch
    assert (second.epoch > first.epoch, why) == (True, "expired")


@pytest.mark.parametrize("script", ["acquire", "renew"])
async def test_a_connection_cut_under_another_call_is_not_what_a_lease_names(
    server: Server, client: Client, script: str
) -> None:
    cut = False

    async def cutting(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal cut
        if name == script and not cut:
            cut = True
            await client.client_kill_filter(_id=store.connection)
            with suppress(ServerUnreachable):
                await store.leave()  # as another lane's call, under way at that time
        return await call()

    async with server.link("c1") as link:
        store = LeaseStore(link.anchor, KEYS, "c1", 10)
        scripts.interpose(cutting)
        try:
            lease = await store.acquire(KEY)
            assert isinstance(lease, Lease)
            if script == "renew":
                await store.renew(lease)
        finally:
            scripts.interpose(None)
        named = await client.hget(KEY, "connection")
        assert named in {c["id"] for c in await client.client_list()}
    assert cut


async def test_a_renewal_that_is_told_late_takes_no_trust_away(server: Server) -> None:
    async with server.link("c1") as link:
        store = LeaseStore(link.anchor, KEYS, "c1", 10)
        lease = await store.acquire("lease")
        assert isinstance(lease, Lease)
        term = Term(store, lease, "c1", Tape(), calls=link.bells.bell("calls"))
        earlier = await store.renew(lease)
        term.renewed(later := await store.renew(lease))
        term.renewed(earlier)
        assert term.trusted_until() == later.trusted_until > earlier.trusted_until


async def test_all_leases_of_a_process_name_its_new_connection_at_once(
    server: Server, client: Client
) -> None:
    async with server.link("c1") as link, anyio.create_task_group() as serving:
        for lane in range(3):
            store = LeaseStore(link.anchor, replace(KEYS, lane=lane), "c1", 10)
            lease = await store.acquire(f"lease{lane}")
            assert isinstance(lease, Lease)
            bell = link.bells.bell(f"calls{lane}")
            term = Term(store, lease, "c1", Tape(), calls=bell)
            serving.start_soon(term.run, anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        await client.client_kill_filter(_id=store.connection)
        with anyio.fail_after(0.5):  # no renewal is due before 3 s
            while True:
                named = {await client.hget(f"lease{lane}", "connection") for lane in range(3)}
                if named <= {c["id"] for c in await client.client_list()}:
                    break
        serving.cancel_scope.cancel()
