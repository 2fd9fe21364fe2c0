"""The command for the number of lanes of a queue."""

from delayq import registry
from delayq.commands.look import opened, queue_of, queue_there
from delayq.commands.settings import LanesSettings
from delayq.commands.table import Answer, printable
from delayq.resize import resize


async def run_lanes(settings: LanesSettings) -> Answer:
    """Tell how many lanes a queue has, or set it."""
    name, number = settings.queue, settings.number
    async with opened(settings) as client:
        if number is None:
            lanes = (await queue_there(client, settings, name)).lanes
            return Answer(f"{name} has {_counted(lanes)}", {"queue": name, "lanes": lanes})
        known = await registry.lanes(client, settings.namespace, name)
        held = await resize(await queue_of(client, settings, name), number)
    value = {"queue": name, "lanes": (known or 1) if held else number, "held": held}
    if held:
        rows = [printable(f"lane {lane}: {said}") for lane, said in held.items()]
        said = f"{name} keeps its {_counted(known or 1)}: it must be empty, and its programs ended"
        return Answer("\n".join([said, *rows]), value, ok=False)
    return Answer(f"{name} has {_counted(number)}", value)


def _counted(lanes: int) -> str:
    return "1 lane" if lanes == 1 else f"{lanes} lanes"
