"""The command that runs an app."""

import importlib
import sys
from pathlib import Path

from delayq import logs
from delayq.app import App
from delayq.errors import UsageError
from delayq.settings import RunSettings


async def run_app(settings: RunSettings) -> None:
    """Run an app until a signal comes.

    :raises UsageError: if there is no such app, or it has nothing to run
    :raises ServerError: if the server will not do
    """
    app = load(settings.target)
    if app.settings.redis_url is None:
        raise UsageError("run: set DELAYQ_REDIS_URL; `python -m delayq server` runs one")
    if not app.roles(app.name):
        raise UsageError(f"run: {settings.target} has no queue with a handler")
    if app.observe is logs.log_trouble:
        app.observe = logs.log_event

    def begun() -> None:
        logs.tell("running until Ctrl-C", app=settings.target, name=app.name)

    await app.run(begun)


def load(target: str) -> App:
    """Return the app that `module:name` names; modules are found in the working folder, too.

    :raises UsageError: if there is none
    """
    module_name, colon, name = target.partition(":")
    if not (all(module_name.split(".")) and colon and name):
        raise UsageError(f"run: {target!r} is not module:name, such as shop:app")
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            where = f"neither installed nor in {Path.cwd()}"
            raise UsageError(f"run: there is no module {error.name}: {where}") from error
        raise
    app = getattr(module, name, None)
    if not isinstance(app, App):
        apps = ", ".join(n for n, value in vars(module).items() if isinstance(value, App))
        raise UsageError(f"run: {name} in {module_name} is no App; there are: {apps or 'none'}")
    return app
