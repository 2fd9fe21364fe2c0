"""The faults that there are, by family; each is a function that does it and, in the end, mends it.

What a fault needs is said beside it: `one` server, and no other; `proxy`, that one can stand before
it; `told`, the word of whoever owns it, as others may feel it; `own`, that it is ours to kill;
`replicas`, servers of our own that replace each other; `cluster`, that they are a Cluster.
"""

from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass
from random import Random
from typing import Literal

from delayq.verify import foreign, harm, members, primaries, serving, ways
from delayq.verify.stage import Stage

Need = Literal["", "one", "proxy", "told", "own", "replicas", "cluster"]


@dataclass(frozen=True, slots=True)
class Breaking:
    """A fault."""

    act: Callable[[Stage, Random], Awaitable[None]]
    need: Need = ""

    @property
    def name(self) -> str:
        """What it is called in the verdict."""
        return self.act.__name__.replace("_", " ")


FAMILIES: dict[str, tuple[Breaking, ...]] = {
    "kill": (
        Breaking(harm.kill),
        Breaking(harm.kill_the_active_one),
        Breaking(harm.kill_at_a_point),
        Breaking(harm.kill_all_consumers),
    ),
    "stop": (
        Breaking(harm.stop),
        Breaking(harm.stop_at_a_point),
        Breaking(harm.stop_twice),
        Breaking(harm.hand_over),
    ),
    "freeze": (
        Breaking(harm.freeze),
        Breaking(harm.freeze_to_the_takeover),
        Breaking(harm.freeze_into_the_successor),
        Breaking(harm.freeze_at_a_point),
    ),
    "members": (Breaking(members.join), Breaking(members.leave)),
    "block": (Breaking(harm.block_the_loop),),
    "poison": (Breaking(harm.poison),),
    "network": (
        Breaking(ways.slow_network, "proxy"),
        Breaking(ways.split_frames, "proxy"),
        Breaking(ways.reset, "proxy"),
        Breaking(ways.drop_a_request, "proxy"),
        Breaking(ways.lose_a_reply, "proxy"),
        Breaking(ways.half_open, "proxy"),
        Breaking(ways.requests_held, "proxy"),
        Breaking(ways.replies_held, "proxy"),
    ),
    "cut": (Breaking(serving.cut_a_blocked_reader, "one"), Breaking(serving.cut_any, "one")),
    "foreign": (
        Breaking(foreign.malformed_entry),
        Breaking(foreign.malformed_schedule),
        Breaking(foreign.delete_pending),
        Breaking(foreign.destroy_group),
    ),
    "flush": (Breaking(serving.flush_scripts, "told"),),
    "memory": (Breaking(serving.run_out_of_memory, "told"),),
    "stall": (Breaking(serving.busy_script, "told"), Breaking(serving.freeze_server, "own")),
    "server": (Breaking(serving.kill_server, "own"),),
    "primary": (Breaking(primaries.kill_a_primary, "replicas"),),
    "slot": (Breaking(primaries.move_a_slot, "cluster"),),
}


def possible(families: Iterable[str], needs: Set[Need]) -> dict[str, Breaking]:
    """Return the faults of these families that can be done, by name."""
    every = [breaking for family in families for breaking in FAMILIES[family]]
    return {breaking.name: breaking for breaking in every if breaking.need in needs}
