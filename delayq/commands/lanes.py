"""The command for the number of lanes of a queue."""

from delayq import registry
from delayq.commands.look import opened, queue_of
from delayq.commands.settings import LanesSettings
from delayq.commands.table import Answer, printable
from delayq.resize import resize


async def run_lanes(settings: LanesSettings) -> Answer:
    """Tell how many lanes a queue has, or set it."""
    name, number = settings.queue, settings.number
    async with opened(settings) as client:
        known = await registry.lanes(client, settings.namespace, name)
        if number is None:
            said = f"{name} has {known or 1} lanes" + ("" if known else ": nobody has used it yet")
            return Answer(said, {"queue": name, "lanes": known or 1})
        held = await resize(await queue_of(client, settings, name), number)
    value = {"queue": name, "lanes": (known or 1) if held else number, "held": held}
    if held:
        rows = [printable(f"lane {lane}: {said}") for lane, said in held.items()]
        said = f"{name} keeps its {known or 1} lanes: it must be empty, and its programs ended"
        return Answer("\n".join([said, *rows]), value, ok=False)
    return Answer(f"{name} has {number} lanes", value)
