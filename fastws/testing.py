"""A connected pair in memory: both roles of the protocol against each other, without a socket.

::

    async with connected_pair(Chat, Recorder) as (connection, client):
        client.push_text("hello")

Both sides are services; the second one speaks the client's role: it masks what it sends. Bytes pass through transports
that hand over what was written in a later turn of the loop, as a network does, and that can be stopped (`hold`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from ._speedups import Connection, Endpoint, hub_of_thread
from .service.compile import compile

__all__ = ["MemoryTransport", "connected_pair"]


class MemoryTransport(asyncio.Transport):
    """One end of a pair of transports; what is written here is received by the protocol of the other end.

    Attributes:
        peer: the other end.
        written: all bytes that were written so far.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self.peer: MemoryTransport
        self.written = bytearray()
        self._protocol: Any = None
        self._buffer = bytearray()
        self._held = False
        self._reading = True
        self._closing = False
        self._eof = False
        self._lost = False
        self._high = 65536
        self._paused = False

    # --- For tests.

    def hold(self) -> None:
        """Keep what is written, as a network does whose other end does not read."""
        self._held = True

    def let_go(self) -> None:
        """Pass on what was kept, and whatever is written from now on."""
        self._held = False
        self._schedule()

    # --- asyncio.Transport.

    def write(self, data: Any) -> None:
        """Pass the data on in a later turn of the loop."""
        if self._lost or self._closing or self._eof:
            return
        self.written += data
        self._buffer += data
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()
        self._schedule()

    def _schedule(self) -> None:
        self._loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        peer = self.peer
        if not self._held and peer._reading and not peer._lost:
            while self._buffer:
                room = peer._protocol.get_buffer(-1)
                length = min(len(room), len(self._buffer))
                room[:length] = self._buffer[:length]
                del self._buffer[:length]
                peer._protocol.buffer_updated(length)
            if self._eof or self._closing:
                peer._receive_eof()
        if self._paused and not self._buffer and not self._lost:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing and not self._buffer:
            self._lose()

    def _receive_eof(self) -> None:
        if not self._lost and not self._closing and not self._protocol.eof_received():
            self.close()

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._protocol.connection_lost(None)

    def set_protocol(self, protocol: Any) -> None:
        """Give what arrives to this protocol."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """Return the protocol in use."""
        return self._protocol

    def pause_reading(self) -> None:
        """Leave what arrives with the other end."""
        self._reading = False

    def resume_reading(self) -> None:
        """Receive again."""
        self._reading = True
        self.peer._schedule()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause; it is told to resume when nothing is left."""
        self._high = 65536 if high is None else high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are not passed on yet."""
        return len(self._buffer)

    def can_write_eof(self) -> bool:
        """Return True: each direction ends on its own."""
        return True

    def write_eof(self) -> None:
        """End this direction."""
        self._eof = True
        self._schedule()

    def is_closing(self) -> bool:
        """Tell whether the end has begun."""
        return self._closing or self._lost

    def close(self) -> None:
        """End once everything is passed on."""
        self._closing = True
        self._schedule()

    def abort(self) -> None:
        """End at once; what was not passed on is lost."""
        self._buffer.clear()
        self._closing = True
        self._loop.call_soon(self._lose)
        self._schedule()


def memory_transports(loop: asyncio.AbstractEventLoop) -> tuple[MemoryTransport, MemoryTransport]:
    """Return both ends of a connection in memory."""
    near, far = MemoryTransport(loop), MemoryTransport(loop)
    near.peer, far.peer = far, near
    return near, far


class _Times(NamedTuple):
    """Options of a server that the core reads."""

    close_timeout: float
    slow_handler_time: float | None = None


@asynccontextmanager
async def connected_pair(
    target: object, client: object, *, close_timeout: float = 1.0
) -> AsyncIterator[tuple[Connection, Connection]]:
    """Connect two services in memory and yield their connections, the server's first.

    Args:
        target: the service in the server's role, a class or an instance.
        client: the service in the client's role.
        close_timeout: seconds that either side waits for the closing handshake.
    """
    loop = asyncio.get_running_loop()
    services = [compile(side) for side in (target, client)]
    hub = hub_of_thread(loop, lambda head: {}, lambda query: {})
    hub.attach()
    endpoints = [Endpoint(hub, service, _Times(close_timeout)) for service in services]
    transports = memory_transports(loop)
    server_side, client_side = (Connection(endpoints[0]), Connection(endpoints[1], client=True))
    client_side.start(transports[1], b"", b"")
    server_side.start(transports[0], b"", b"")
    try:
        yield server_side, client_side
    finally:
        server_side.close()
        ended = asyncio.Event()
        for endpoint in endpoints:
            endpoint.on_empty = ended.set
        while any(endpoint.live for endpoint in endpoints):
            ended.clear()
            await ended.wait()
        parked = hub.detach(endpoints)
        if parked is not None:
            await asyncio.wait([parked])
