"""Groups, as an operator looks at them and drops them."""

from delayq.doctor import LATE_MS
from tests.conftest import KEYS, Client, Run
from tests.sides import Side
from tests.test_commands import answer


async def test_stats_show_each_group_and_the_slowest(
    operate: Run, ours: Side, theirs: Side
) -> None:
    await ours.queue.publish_many(range(3))
    await ours.pending.ack(ours.lease, [d.entry for d in await ours.fetch()])  # type: ignore[attr-defined]
    await theirs.fetch(count=1)
    said = operate("stats", "orders").stdout
    rows = [line.split()[:5] for line in said.splitlines()]
    assert ["delayq", "0", "0", "0", "0"] in rows
    assert ["billing", "0", "2", "1", "0"] in rows
    assert said.splitlines()[-1] == "slowest: billing"
    value = answer(operate("stats", "orders", "--json"))
    assert (value["slowest"], value["groups"]["billing"]["ready"]) == ("billing", 2)
    rows = [line.split()[:5] for line in operate("stats").stdout.splitlines()]
    assert rows[1:] == [["orders", "0", "0", "0", "0"], ["orders/billing", "0", "2", "1", "0"]]


async def test_without_other_groups_stats_do_not_tell_of_any(operate: Run, ours: Side) -> None:
    await ours.queue.publish(1)
    assert "slowest" not in operate("stats", "orders").stdout
    assert "groups" not in answer(operate("stats", "orders", "--json"))


async def test_commands_see_a_queue_as_a_group_does(operate: Run, ours: Side, theirs: Side) -> None:
    await ours.queue.publish("a", id="a")
    await ours.queue.publish("b", id="b")
    first, second = await theirs.fetch()
    await theirs.pending.dead_letter(theirs.lease, first.entry, 1, "why")  # type: ignore[attr-defined]
    await theirs.pending.halt(theirs.lease, second, "stuck", "")  # type: ignore[arg-type]
    at = ("--group", "billing")
    assert "nothing is dead" in operate("dead", "list", "orders").stdout
    assert "why" in operate("dead", "list", "orders", *at).stdout
    assert "nothing is ready" in operate("list", "orders", "ready", *at).stdout
    assert answer(operate("show", "orders", "b", *at, "--json"))["state"] == "pending"
    assert answer(operate("show", "orders", "b", "--json"))["state"] == "ready"
    [active] = answer(operate("who", "orders", *at, "--json"))["lanes"]
    assert active["epoch"] == theirs.lease.epoch
    assert operate("resume", "orders").returncode == 1
    assert "goes on with b" in operate("resume", "orders", *at).stdout
    assert "1 sent again" in operate("dead", "redrive", "orders", "--yes", *at).stdout
    assert answer(operate("cancel", "orders", "a", *at, "--json")) == {"id": "a", "cancelled": True}
    passed = operate("handover", "orders", *at, "--wait-ms", "1")
    assert "c1 has not passed on yet" in passed.stdout


async def test_a_group_that_is_not_there_is_named(operate: Run, theirs: Side) -> None:
    said = operate("who", "orders", "--group", "bilking")
    assert (said.returncode, said.stdout) == (2, "")
    assert "orders has no group bilking; there are: billing" in said.stderr
    said = operate("who", "orders", "--group", "a b")
    assert (said.returncode, "--group" in said.stderr) == (2, True)
    assert theirs.queue.full_name == "orders/billing"


async def test_a_group_is_dropped_when_that_is_confirmed_and_it_is_served_no_more(
    operate: Run, client: Client, ours: Side, theirs: Side
) -> None:
    await ours.queue.publish_many(range(3))
    await ours.pending.ack(ours.lease, [d.entry for d in await ours.fetch()])  # type: ignore[attr-defined]
    words = ("drop-group", "orders", "billing")
    said = operate(*words)
    assert (said.returncode, "Drop the group billing of orders" in said.stderr) == (2, True)
    said = operate(*words, "--yes")
    assert (said.returncode, "c1@" in said.stdout) == (1, True)
    await theirs.store.release(theirs.lease)
    assert answer(operate(*words, "--yes", "--json"))["dropped"] is True
    assert (await client.xlen(KEYS.stream), await client.keys("*group*")) == (0, [])
    for flags in ((), ("--yes",)):  # there is nothing to ask about
        said = operate(*words, *flags)
        assert (said.returncode, "has no group billing; there are:" in said.stderr) == (2, True)
    await client.xadd(theirs.queue.keys.dead, {"body": "1"})  # as of a drop that was cut off
    said = operate(*words)
    assert (said.returncode, "--yes" in said.stderr) == (2, True)
    said = operate("drop-group", "orders", "a b", "--yes")
    assert (said.returncode, "GROUP-NAME" in said.stderr) == (2, True)


async def test_the_doctor_finds_a_group_that_nobody_serves(
    operate: Run, client: Client, ours: Side, theirs: Side
) -> None:
    await client.xadd(KEYS.stream, {"body": "1"}, id=f"{await now_ms(client) - 2 * LATE_MS}-0")
    await ours.pending.ack(ours.lease, [(await ours.one()).entry])
    said = operate("doctor", "orders")
    assert said.returncode == 1
    [line] = [line for line in said.stdout.splitlines() if "PROBLEM" in line]
    assert "orders/billing: ready for" in line
    assert "drop-group" in line
    await theirs.pending.ack(theirs.lease, [(await theirs.one()).entry])
    assert operate("doctor", "orders").returncode == 0


async def now_ms(client: Client) -> int:
    seconds, micros = await client.time()
    return int(seconds * 1000 + micros // 1000)
