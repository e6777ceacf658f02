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
from typing import NamedTuple

from .._speedups import Connection, Endpoint, hub_of_thread
from ..service.compile import compile
from .memory import memory_transports

__all__ = ["connected_pair"]


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
