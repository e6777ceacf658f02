"""websockets, its asyncio implementation with its own broadcast()."""

from __future__ import annotations

from common import BACKLOG, HOST, OPTIONS, run, tls_context
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def publish(connection: ServerConnection) -> None:
    async for message in connection:
        broadcast(connection.server.connections, message)


async def listen() -> int:
    handler = {"echo": echo, "broadcast": publish}[OPTIONS.mode]
    compression = "deflate" if OPTIONS.deflate else None
    server = await serve(handler, HOST, 0, compression=compression, max_size=None, backlog=BACKLOG, ssl=tls_context())
    return server.sockets[0].getsockname()[1]


run(listen)
