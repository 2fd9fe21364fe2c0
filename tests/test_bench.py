"""The benchmark, small: that its figures are sane, and that it leaves nothing behind."""

import json
import math
import re
import signal
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, get_args

import anyio
import pytest

from delayq import Consumer, Queue, Server, Supervisor
from delayq.bench.draining import nothing
from delayq.bench.goals import GOALS
from delayq.bench.meter import Cost
from delayq.bench.report import Figure, Report, Section
from delayq.bench.rounds import Contender, figures
from delayq.bench.run import MEASUREMENTS
from delayq.bench.scales import slowest, weighing
from delayq.bench.settings import BenchSettings, Measurement
from delayq.bench.stage import CONSUMERS, stage
from delayq.events import TookOver
from delayq.settings import load
from delayq.tape import Tape
from tests.conftest import Client
from tests.processes import run, running

SMALL = {
    "DELAYQ_ROUNDS": "1",
    "DELAYQ_SIZE": "200",
    "DELAYQ_LOAD_SECONDS": "0.2",
    "DELAYQ_BURST": "50",
    "DELAYQ_ENDS": "1",
    "DELAYQ_SCALE": "1000",
}
ROUND_TRIP_MS = 5
"""On a busy machine."""
Values = dict[str, Any]
Measure = Callable[..., dict[str, Values]]


@pytest.fixture
def measure(server: Server) -> Measure:
    def measure(*words: str, **variables: str) -> dict[str, Values]:
        given = SMALL | {"DELAYQ_REDIS_URL": server.url} | variables
        said = run("bench", *words, "--json", **given)
        assert said.returncode == 0, said.stderr
        assert "Traceback" not in said.stderr
        assert len(said.stdout.splitlines()) == 1
        [section] = json.loads(said.stdout)["sections"]
        assert section["measurement"] == words[0]
        return {figure.pop("name"): figure for figure in section["figures"]}

    return measure


def judged(measurement: str, found: dict[str, Values], unknown: Collection[str] = ()) -> None:
    """Each goal was held against a figure, but those whose value is not known."""
    of_it = (goal for goal in GOALS if goal.measurement == measurement)
    goals = {(goal.figure, goal.value) for goal in of_it if goal.value not in unknown}
    assert goals == {(name, g["value"]) for name, f in found.items() for g in f["goals"]}


def has_rates(figure: Values) -> None:
    for name in ("per_s", "client_us", "server_us"):
        assert 0 < figure[name] < math.inf


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("publish", {"one by one", "100 at once", "in bulk", "in bulk, scheduled"}),
        ("drain", {"shared", "strict", "key"}),
        ("waiting", {"waits 5 ms"}),
        ("burst", {"shared", "strict"}),
    ],
)
async def test_rates_stand_beside_those_of_raw_loops(
    measure: Measure, client: Client, name: str, ours: set[str]
) -> None:
    found = measure(name)
    judged(name, found)
    assert {figure for figure in found if not figure.startswith("raw")} == ours
    for figure, values in found.items():
        has_rates(values)
        assert (values["ratio"] is None) == figure.startswith("raw")
        assert values["ratio"] is None or 0 < values["ratio"] < math.inf
    assert await client.keys() == []


async def test_lateness_is_that_of_every_message(measure: Measure, client: Client) -> None:
    found = measure("lateness")
    judged("lateness", found)
    assert [values.get("messages") for values in found.values()] == [4, 200, None, None]
    for values in found.values():
        # The handler's time is told by the server's clock, known to within a round trip.
        assert -ROUND_TRIP_MS < values["p50_ms"] <= values["p99_ms"] <= values["max_ms"] < math.inf
        assert values.get("early", 0) == 0
    assert await client.keys() == []


async def test_every_cause_of_a_failover_is_measured(measure: Measure, client: Client) -> None:
    found = measure("failover")
    judged("failover", found)
    assert {values["ends"] for values in found.values()} == {1}
    for name, values in found.items():
        assert values["p50_ms"] == values["p99_ms"] == values["max_ms"]
        assert values["p50_ms"] > 0 or name == "stall, past the lease"
    assert found["stall"]["p50_ms"] - 1000 == pytest.approx(
        found["stall, past the lease"]["p50_ms"], abs=0.2
    )
    assert await client.keys() == []


async def test_idle_queues_are_counted_with_what_they_cost(
    measure: Measure, client: Client
) -> None:
    found = measure("idle", DELAYQ_LOAD_SECONDS="1.5")
    judged("idle", found)
    assert list(found) == ["1 queue", "10 queues", "100 queues"]
    for values in found.values():
        assert 0 < values["client_cpu_percent"] < math.inf
        assert 0 < values["server_cpu_percent"] < math.inf
    assert found["100 queues"]["calls_per_s"] > 10
    assert await client.keys() == []


async def test_lanes_are_drained_by_one_process_and_by_several(
    measure: Measure, client: Client
) -> None:
    found = measure("lanes")
    for what in ("does nothing", "waits 5 ms"):
        assert found[f"{what}, 1 lane"]["ratio"] == 1
        assert found[f"{what}, 16 lanes"]["per_s"] > 0
    for name in ("1 process", "2 processes", "4 processes"):
        assert found[name]["per_s"] > 0
        assert found[name]["server_us"] > 0
    assert await client.keys() == []


async def test_what_is_scheduled_is_weighed_and_drained_in_order(
    measure: Measure, client: Client
) -> None:
    found = measure("scale", DELAYQ_SCALE="1500")
    judged("scale", found)
    assert 100 < found["memory"]["bytes_each"] < 1_000
    for name in ("raw: moved, 500 a call", "schedule in bulk", "publish", "cancel", "promote"):
        has_rates(found[name])
    assert 0 < found["promote"]["growth"] < math.inf
    drained = found["all due at once"]
    has_rates(drained)
    assert drained["out_of_order"] == 0
    assert 0 <= drained["rss_growth_mb"] < drained["rss_mb"]
    assert await client.keys() == []


async def test_a_group_is_measured_beside_another_of_each_kind(
    measure: Measure, client: Client
) -> None:
    found = measure("fanout", DELAYQ_LOAD_SECONDS="1")
    judged("fanout", found)
    alone, *beside = [values for values in found.values() if "p99_ms" in values]
    assert [values["messages"] for values in (alone, *beside)] == [300] * 4
    assert (alone["kept"], beside[2]["kept"]) == (0, 300)
    assert beside[2]["kept_kb"] > alone["kept_kb"]
    failing, away = found["the one that fails each"], found["the one that is away"]
    assert failing["retries"] + failing["dead"] > 0
    assert away == {"ready": 300, "retries": 0, "dead": 0, "goals": []}
    assert await client.keys() == []


async def test_without_raw_loops_delayq_is_measured_alone(measure: Measure) -> None:
    found = measure("publish", DELAYQ_COMPARE="none")
    assert list(found) == ["one by one", "100 at once", "in bulk", "in bulk, scheduled"]
    for values in found.values():
        has_rates(values)
        assert (values["ratio"], values["goals"]) == (None, [])


def test_where_no_server_is_named_an_embedded_one_is_measured() -> None:
    said = run("bench", "drain", **SMALL)
    assert said.returncode == 0, said.stderr
    head, _, title, *rest = said.stdout.splitlines()
    for part in ("delayq", "Python", "redis-py", "hiredis", "cores"):
        assert f"{part} " in head
    assert title.startswith("Drain")
    names = ["drain", "messages/s", "client µs", "server µs", "ratio", "goal"]
    assert re.split(r"  +", rest[1]) == names
    assert "measuring" in said.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["speed"], "MEASUREMENT"),
        (["--rounds", "0"], "--rounds, DELAYQ_ROUNDS"),
        (["--size", "many"], "--size, DELAYQ_SIZE"),
        (["--scale", "10"], "--scale, DELAYQ_SCALE"),
        (["--load-seconds", "-1"], "--load-seconds, DELAYQ_LOAD_SECONDS"),
        (["--compare", "arq"], "--compare, DELAYQ_COMPARE"),
        (["--redis-url", "http://x"], "--redis-url, DELAYQ_REDIS_URL"),
        (["--redis-url", "redis+cluster://x:1"], "--redis-url, DELAYQ_REDIS_URL: one server is"),
        (["--namespace", "a b"], "--namespace, DELAYQ_NAMESPACE"),
    ],
)
def test_bad_input_is_refused_by_its_name(words: list[str], named: str) -> None:
    said = run("bench", *words)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(f"delayq: {named}")
    assert "Traceback" not in said.stderr


def test_a_server_that_is_not_there_is_told() -> None:
    said = run("bench", DELAYQ_REDIS_URL="unix:///nowhere/at/all")
    assert said.returncode == 3
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("name", "what", "number"),
    [
        ("publish", "publish many", signal.SIGINT),
        ("drain", "drain", signal.SIGTERM),
        ("lateness", "lateness, light", signal.SIGINT),
        ("failover", "failover by kill -9", signal.SIGINT),
        ("idle", "idle", signal.SIGTERM),
        ("scale", "scale, draining 50,000", signal.SIGINT),
    ],
)
async def test_a_signal_ends_it_and_nothing_is_left(
    server: Server, client: Client, name: str, what: str, number: signal.Signals
) -> None:
    sizes = {"DELAYQ_ENDS": "1", "DELAYQ_SCALE": "50000", "DELAYQ_ROUNDS": "1"}
    with running("bench", name, DELAYQ_REDIS_URL=server.url, **sizes) as bench:
        bench.logged("measuring", what=what)
        bench.send(number)
        assert bench.process.wait(30) == 1
        bench.logged("delayq: interrupted\n")
        bench.ended()  # none of its processes holds its stderr any more
    assert await client.keys() == []


async def test_others_that_use_the_server_are_warned_of(server: Server, client: Client) -> None:
    async def disturb() -> None:
        while True:
            await client.ping()

    settings = load(BenchSettings, redis_url=server.url)
    async with stage(settings, lambda *_: None) as quiet:
        assert quiet.warnings == []
    async with anyio.create_task_group() as others:
        others.start_soon(disturb)
        async with stage(settings, lambda *_: None) as disturbed:
            assert "other clients make" in disturbed.warnings[0]
        others.cancel_scope.cancel()


async def test_a_consumer_that_was_killed_leaves_no_lease(server: Server, client: Client) -> None:
    tape = Tape()
    settings = load(BenchSettings, redis_url=server.url)
    async with (
        stage(settings, lambda *_: None) as on,
        on.queue() as queue,
        Supervisor(tape) as supervisor,
    ):
        make = partial(Consumer, server, queue, nothing, name=CONSUMERS[0], observe=tape)
        supervisor.spawn("killed", make)
        await tape.until(TookOver)
        await supervisor.kill("killed")
        assert await client.exists(queue.keys.lease(CONSUMERS[0]))
    assert await client.keys() == []


def test_every_measurement_can_be_asked_for() -> None:
    assert get_args(Measurement) == (*MEASUREMENTS, "all")


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    def costs(*rates: int) -> list[Cost]:
        return [Cost(rate, 1, 1, 1) for rate in rates]

    contenders = [Contender("raw", unused), Contender("ours", unused, "raw")]
    raw, ours = figures(contenders, {"raw": costs(100, 10, 100), "ours": costs(50, 9, 80)})
    assert (raw.values["ratio"], ours.values["ratio"]) == (None, 0.8)
    assert (raw.values["per_s"], ours.values["per_s"]) == (100, 50)


async def unused(_count: int) -> Cost:
    raise NotImplementedError


async def test_each_script_call_is_weighed_by_itself(client: Client, queue: Queue) -> None:
    with weighing(client) as spent_ms:
        async with anyio.create_task_group() as publishing:
            for number in range(7):
                publishing.start_soon(queue.publish_many, [number])
    await queue.publish(0)
    assert len(spent_ms) == 7
    assert 0 < min(spent_ms) <= max(spent_ms) < 1_000


async def test_a_script_that_works_longer_weighs_more(client: Client, queue: Queue) -> None:
    with weighing(client) as spent_ms:
        await queue.publish_many(["few"])
        await queue.publish_many(["x" * 1_000] * 500)
    few_ms, many_ms = spent_ms
    assert many_ms > few_ms


def test_a_script_is_slow_if_that_repeats() -> None:
    assert slowest([1, 9, 5, 8, 3]) == {"slowest_script_ms": 9, "over_5_ms": 2}


def test_a_section_is_drawn_with_its_goals_and_its_distribution() -> None:
    met = Figure("stop", {"p50_ms": 3.0, "max_ms": 1234.5})
    missed = Figure("kill -9", {"p50_ms": 151.2, "max_ms": None})
    section = Section("failover", "Failover", [met, missed], {"took": [1.5, 400]}, ["so it is"])
    drawn = section.as_text()
    assert drawn.splitlines()[:5] == [
        "Failover",
        "",
        "failover  p50 ms  max ms  goal",
        "stop           3   1,234  ✓ p50_ms ≤ 20",
        "kill -9      151       –  ✗ p50_ms ≤ 150",
    ]
    assert "took\n" in drawn
    assert drawn.endswith("so it is")
    report = Report({"delayq": "1"}, ["noisy"], [section])
    assert report.as_text().startswith("delayq 1\nwarning: noisy\n\nFailover")
    [value] = json.loads(report.as_json())["sections"]
    assert [[g["met"] for g in f["goals"]] for f in value["figures"]] == [[True], [False]]
