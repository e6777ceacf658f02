"""A proxy between a node and an engine that does what networks do: it cuts, delays, swallows and stalls."""

from __future__ import annotations

import asyncio
import contextlib

PIECE = 1 << 16  # bytes


class Proxy:
    """Passes bytes between whoever connects and a port of loopback.

    Attributes:
        port: where it listens.
        delay: seconds that each piece waits.
        connections: how many there were.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._swallowing = False
        self.delay = 0.0
        self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def swallow(self) -> None:
        """Take and acknowledge all that comes, and pass nothing on; new connections are taken, too."""
        self._swallowing = True

    def stall(self) -> None:
        """Read nothing more."""
        self._flowing.clear()

    def mend(self) -> None:
        """Pass everything on again."""
        self._swallowing = False
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            others = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, others[1]}
        for source, target in ((reader, others[1]), (others[0], writer)):
            task = asyncio.ensure_future(self._pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                await asyncio.sleep(self.delay)
                await self._flowing.wait()
                if writer.is_closing():  # cut meanwhile; uvloop's transport would raise
                    break
                if not self._swallowing:
                    writer.write(data)
                    await writer.drain()
        writer.close()
        self._writers.discard(writer)
