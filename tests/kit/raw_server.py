"""A server that is no good: it reads the opening handshake and then does what a test says, byte by byte."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable

from fastws._speedups import build_frame

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


class Peer:
    """The other end of a client, as its server sees it.

    Attributes:
        head: the request, without the empty line at its end.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        self.reader = reader
        self.writer = writer
        self.head = head

    @property
    def accept(self) -> bytes:
        """What `Sec-WebSocket-Accept` has to say."""
        key = re.search(rb"Sec-WebSocket-Key: (.+)\r\n", self.head)
        assert key is not None
        return base64.b64encode(hashlib.sha1(key[1] + GUID).digest())

    def answer(self, *fields: bytes, head: bytes = SWITCHING) -> bytes:
        """The answer that opens a WebSocket, with further fields."""
        lines = [b"Sec-WebSocket-Accept: " + self.accept, *fields, b"", b""]
        return head + b"\r\n".join(lines)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_frame(self) -> tuple[int, bytes]:
        """One short masked frame of the client's: opcode and payload."""
        first, second = await self.reader.readexactly(2)
        assert second & 0x80
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        key = await self.reader.readexactly(4)
        data = await self.reader.readexactly(length)
        return first & 0x0F, bytes(byte ^ key[place % 4] for place, byte in enumerate(data))


def text_frame(text: str) -> bytes:
    return build_frame(1, text.encode())


def close_frame(code: int, reason: str = "") -> bytes:
    return build_frame(8, code.to_bytes(2, "big") + reason.encode())


@contextlib.asynccontextmanager
async def raw_server(serve: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[str]:
    """Listen, and yield the URL: each connection is given to `serve` once its request is read, then it is closed."""
    tasks = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                await serve(Peer(reader, writer, head))
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/chat?x=1"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
