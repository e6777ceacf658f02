"""A server that is done something bad to, while somebody else is connected."""

from __future__ import annotations

import asyncio
import contextlib

from fastws import _speedups, ws

from .client import open_connection, until, within
from .services import Watch, at

LIMIT = 1000  # bytes of a message
ORIGIN = b"Origin: https://example.com\r\n"


@at("/", max_message_size=LIMIT, allowed_origins=["https://example.com"])
class Guarded(Watch):
    """Echoes, and notes whatever reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.handled = []

    @ws.on_text_message
    def text(self, text: str) -> str:
        self.handled.append(text)
        return text

    @ws.on_binary_message
    @ws.on_ping
    @ws.on_pong
    def data(self, data: bytes) -> None:
        self.handled.append(data)


@contextlib.asynccontextmanager
async def bystander(serve, connect, **options):
    """Serve a `Guarded`; what happens meanwhile disturbs nobody, reaches no handler and leaves nothing behind."""
    service = Guarded()
    server = await serve(service, **options)
    client = await connect(server, fields=ORIGIN)
    yield server, service
    assert service.handled == []
    assert await client.asks("still here?") == "still here?"
    await client.close()
    await until(lambda: not server.connections(service) and not server.http_connections)
    assert _speedups.live_objects()["partials"] == 0


async def answer(server, *pieces: bytes) -> bytes:
    """Everything that a server says to these bytes, until it closes; without a RST, which would raise here."""
    reader, writer = await open_connection(server.addresses[0][1])
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0)
    try:
        return await within(reader.read(-1))
    finally:
        writer.transport.abort()
