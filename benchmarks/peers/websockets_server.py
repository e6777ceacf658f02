"""websockets, its asyncio implementation with its own broadcast()."""

from __future__ import annotations

from common import BACKLOG, HOST, MODE, run
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def publish(connection: ServerConnection) -> None:
    async for message in connection:
        broadcast(connection.server.connections, message)


async def listen() -> int:
    handler = {"echo": echo, "broadcast": publish}[MODE]
    server = await serve(handler, HOST, 0, compression=None, max_size=None, backlog=BACKLOG)
    return server.sockets[0].getsockname()[1]


run(listen)
