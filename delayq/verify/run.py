"""A run: processes are started, things are broken, all is mended and handled, and then judged."""

import random
import secrets
import tempfile
from pathlib import Path

import anyio
from anyio import to_thread

from delayq import logs
from delayq.clock import mono_s, real_ms
from delayq.connection import clock_offset_ms, outlast
from delayq.errors import ServerError
from delayq.keys import LaneKeys
from delayq.supervisor import signalled
from delayq.verify import audit
from delayq.verify.checker import Checker
from delayq.verify.drain import drained, promote_what_is_far
from delayq.verify.faults import Breaking
from delayq.verify.figures import Figures
from delayq.verify.history import Declared, Found, Terms
from delayq.verify.log import merged
from delayq.verify.outcome import Outcome
from delayq.verify.part import BATCHES, MAX_DELIVERIES
from delayq.verify.plan import Strike, strikes
from delayq.verify.players import Player
from delayq.verify.scan import scan
from delayq.verify.server import OwnServer
from delayq.verify.settings import VerifySettings
from delayq.verify.slowness import SERVER_SLOW_MS, watch
from delayq.verify.stage import Nobody, Stage, translated
from delayq.verify.staging import Patch, chosen, staged

SHOW_S = 2.0
START_S = 20.0
"""How long the processes may take to start, at most, before things are broken all the same."""
READ_S = 0.2
BORN_AGAIN_S = 0.05


class Run:
    """One run, on a stage that is set."""

    def __init__(self, settings: VerifySettings, seed: int, stage: Stage, folder: Path) -> None:
        self.settings = settings
        self.seed = seed
        self.stage = stage
        self.folder = folder
        self.ending: set[str] = set()
        """Kinds of players that are not started again."""
        self.interrupted = False
        self.took_s = 0.0
        self.checker = Checker(self._terms())
        self.left = 0
        """Messages that were not handled in the end."""
        self._read_to: dict[LaneKeys, str] = {}
        self._started_s = self._began_s = mono_s()
        """When its processes were started; and since when things are broken."""

    async def play(self, breakings: dict[str, Breaking]) -> None:
        """Break things for as long as was told, mend all, and wait until all is handled."""
        async with anyio.create_task_group() as beside:
            for player in self.stage.players:
                beside.start_soon(self._keep, player)
            beside.start_soon(self._resume)
            beside.start_soon(self._show)
            beside.start_soon(watch, self._slow, SERVER_SLOW_MS, lambda: self.stage.command("PING"))
            with anyio.CancelScope() as playing:
                if self._durable:
                    beside.start_soon(self._read_on, playing)
                beside.start_soon(self._obey_signals, playing, beside.cancel_scope)
                await self._under_way()
                playing.deadline = anyio.current_time() + self.settings.seconds
                await self._break(breakings)
                await anyio.sleep_forever()
            await self._drain()
            self.took_s = mono_s() - self._began_s
            beside.cancel_scope.cancel()
        if self.interrupted and not self.took_s:
            raise KeyboardInterrupt

    async def judge(self) -> Outcome:
        """Feed the checker with all that was recorded, and return what follows."""
        await outlast(self._read)
        offset_ms = await outlast(lambda: clock_offset_ms(self.stage.client))
        logs_ = list(self.folder.glob("*.log"))
        server_ms = offset_ms + real_ms() - mono_s() * 1000
        figures = Figures(server_ms, self.stage.queue.ordered, self.settings.lease_ttl_ms)
        found = await outlast(self._found)

        def judge() -> None:
            for event in merged(logs_):
                self.checker.recorded(event)
                figures.recorded(event)
            for key in found:
                self.checker.found(key, drained=not self.left)

        await to_thread.run_sync(judge)
        return Outcome(
            self.settings,
            self.seed,
            self.took_s,
            dict(self.stage.struck),
            tuple(self.stage.crashes),
            self.checker.verdict(),
            figures,
            interrupted=self.interrupted,
            left=self.left,
        )

    async def _under_way(self) -> None:
        """Wait until something is handled: only what works can be broken."""
        with anyio.move_on_after(START_S):
            while not self.stage.count("handled"):  # noqa: ASYNC110 - processes write it to logs
                await anyio.sleep(READ_S)
        self._began_s = mono_s()

    async def _break(self, breakings: dict[str, Breaking]) -> None:
        every_s = self.settings.fault_ms / 1000
        plan = strikes(self.seed, self.settings.seconds, every_s, sorted(breakings))
        async with anyio.create_task_group() as breaking:
            for strike in plan:
                await anyio.sleep(max(0, self._began_s + strike.at_s - mono_s()))
                breaking.start_soon(self._strike, breakings[strike.fault], strike)

    async def _strike(self, breaking: Breaking, strike: Strike) -> None:
        try:
            await breaking.act(self.stage, random.Random(strike.seed))  # noqa: S311 - no secret
        except Nobody:
            return
        except ServerError as error:
            logs.tell("a fault met another", fault=strike.fault, error=str(error))
        self.stage.struck[strike.fault] += 1

    async def _keep(self, player: Player) -> None:
        """Start the player's processes, one after the other."""
        while player.part.kind not in self.ending:
            await player.wanted()
            status = await player.live()
            self.stage.ended(player, status)
            await anyio.sleep(BORN_AGAIN_S)

    def _slow(self, ms: int) -> None:
        """Tell that all waited for the server, or for us, whose proxies stand before it."""
        self.stage.note("server slow", ms=ms)

    async def _drain(self) -> None:
        await self.stage.mend()
        self.ending.add("producer")
        await self._end("producer")
        await outlast(lambda: promote_what_is_far(self.stage.queue))
        self.left = await drained(self.stage.queue, lambda: self.stage.count("handled"))
        self.ending.add("consumer")
        await self._end("consumer")

    async def _end(self, kind: str) -> None:
        for player in self.stage.players:
            if player.part.kind == kind:
                await self.stage.stop(player)

    async def _resume(self) -> None:
        """Be the operator who has a halted lane go on."""
        while True:
            await anyio.sleep(READ_S)
            await outlast(lambda: self.stage.queue.resume(skip=True))

    async def _read_on(self, playing: anyio.CancelScope) -> None:
        """Judge the audit while it grows; at the first violation break no more.

        What only logs and the end can tell, as what was lost or handled again, is judged then.
        """
        while True:
            await anyio.sleep(READ_S)
            await outlast(self._read)
            if self.checker.violations and not playing.cancel_called:
                first = self.checker.violations[0]
                logs.warn("violated", invariant=first.invariant, sentence=first.sentence)
                playing.cancel()

    async def _read(self) -> None:
        """Feed the checker with what the audit has, and free it."""
        for lane in self.stage.queue.every_lane:
            await self._read_lane(lane.keys)

    async def _read_lane(self, keys: LaneKeys) -> None:
        before = at = self._read_to.get(keys, "0-0")
        with translated():
            async for call in audit.read(self.stage.client, keys, before):
                self.checker.audited(call)
                at = self._read_to[keys] = call.at
        if at != before:
            await self.stage.command("XTRIM", keys.audit, "MINID", at)

    async def _found(self) -> list[Found]:
        """Return what is left in Redis."""
        with translated():
            return [key async for key in scan(self.stage.client, self.stage.queue.keys.namespace)]

    async def _show(self) -> None:
        while True:
            await anyio.sleep(SHOW_S)
            logs.tell(
                "running",
                at_s=round(mono_s() - self._started_s),
                published=self.stage.count("published"),
                handled=self.stage.count("handled"),
                faults=self.stage.struck.total(),
                active=self.stage.who(),
                violations=len(self.checker.violations) if self._durable else "told at the end",
            )

    async def _obey_signals(self, playing: anyio.CancelScope, every: anyio.CancelScope) -> None:
        """At the first signal break no more, and judge what happened; at the second, leave."""
        await signalled()
        self.interrupted = True
        playing.cancel()
        await signalled()
        every.cancel()

    @property
    def _durable(self) -> bool:
        own = self.stage.own
        return own is None or (isinstance(own, OwnServer) and self.settings.flushes == "always")

    def _terms(self) -> Terms:
        queue = self.stage.queue
        declared = Declared(
            queue.name,
            queue.ordering,
            queue.on_failure,
            max_deliveries=MAX_DELIVERIES,
            in_flight=2 * max(BATCHES),
            lanes=queue.lanes,
        )
        # Where another server takes the place of one that died, its file is of no use.
        safe = "fsynced" if self.settings.topology == "server" else "replicated"
        return Terms(queue.keys.namespace, {queue.name: declared}, self._durable, safe)


async def run(settings: VerifySettings, patch: Patch = None) -> Outcome:
    """Run, and judge.

    :param patch: see `Part.patch`
    :raises UsageError: if a fault was asked for that cannot be done
    :raises ServerError: if the server will not do
    """
    breakings = chosen(settings)
    seed = secrets.randbelow(10**9) if settings.seed is None else settings.seed
    audit.switch_on()
    with tempfile.TemporaryDirectory(prefix="delayq-verify-") as name:
        folder = Path(name)
        async with staged(settings, seed, folder, patch) as stage:
            playing = Run(settings, seed, stage, folder)
            logs.tell("breaking things", seed=seed, namespace=stage.queue.keys.namespace)
            try:
                await playing.play(breakings)
                return await playing.judge()
            finally:
                with anyio.move_on_after(5, shield=True):
                    await stage.clean()
