"""redis-py's connections, less what they pay for each argument and each send."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any

import hiredis
from redis import exceptions as redis_errors


@cache
def quick(kind: type[Any]) -> type[Any]:
    """Return a class of connections that does what `kind` does, for less.

    redis-py packs arguments one by one in Python, which for a batch costs more than all else, where
    hiredis packs them together; and it watches each send with a task and a timer, where nearly
    always the socket takes all at once, and only the reply is waited for.
    """

    class Quick(kind):  # type: ignore[misc]
        def pack_command(self, *args: Any) -> Any:
            words = (*args[0].split(), *args[1:]) if isinstance(args[0], str) else args
            try:
                return [hiredis.pack_command(words)]
            except (UnicodeEncodeError, TypeError):  # bytes that are no UTF-8, odd types
                return super().pack_command(*args)

        async def send_packed_command(self, command: Any, *args: Any, **options: Any) -> None:
            if not self.is_connected:
                await self.connect()  # to where the primary is now; redis-py's own goes back
            writer = self._writer
            if writer.is_closing():  # uvloop raises a RuntimeError if it is written to
                await self.disconnect(nowait=True)
                raise redis_errors.ConnectionError("closed before it was written to")
            if isinstance(command, list):
                writer.writelines(command)
                command = b""
                if not writer.transport.get_write_buffer_size():
                    return
            try:
                await super().send_packed_command(command, *args, **options)
            except AttributeError as error:  # redis-py takes the writer away as it closes
                if self._writer is None:
                    raise redis_errors.ConnectionError("closed while it was written to") from error
                raise

    return Quick


def introduced_as(name: str) -> Callable[[Any], Awaitable[None]]:
    """Give each connection a name, where the user may: redis-py fails where they may not."""

    async def connect(connection: Any) -> None:
        await connection.on_connect()
        await connection.send_command("CLIENT", "SETNAME", name)
        with suppress(redis_errors.ResponseError):
            await connection.read_response()

    return connect
