"""A client that speaks literal frames: it answers nothing, completes nothing and forgives nothing by itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from urllib.parse import urlsplit

from .checker import Checker

TIMEOUT = 20  # seconds; nothing here takes long, and nothing may hang

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
MASKING_KEY = b"\x37\xfa\x21\x3d"

# The ports where TLS is spoken, and how: all that conftest serves at if the whole suite runs over TLS (`pytest --tls`)
TLS: dict[int, ssl.SSLContext] = {}

REQUEST = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)


async def within(awaitable):
    return await asyncio.wait_for(awaitable, TIMEOUT)


async def until(condition) -> None:
    """Wait for what no event tells."""

    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await within(poll())


async def turns(count: int = 5) -> None:
    """Let the loop do what is due now, and what follows from it."""
    for _ in range(count):
        await asyncio.sleep(0)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A masked frame, as a client sends it."""
    length = len(payload)
    short, extended = length, b""
    if length > 125:
        short, extended = (126, struct.pack("!H", length)) if length <= 0xFFFF else (127, struct.pack("!Q", length))
    key = (MASKING_KEY * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")
    return bytes([opcode | 0x80 * fin, 0x80 | short]) + extended + MASKING_KEY + masked


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack("!H", code) + reason.encode()


def take_frame(data: bytearray) -> tuple[int, bytes] | None:
    """Take a server's frame off the front; None while it is not complete."""
    if len(data) < 2:
        return None
    assert data[0] & 0x70 == 0, "reserved bits"
    assert data[0] & 0x80, "a fragment"
    assert not data[1] & 0x80, "a masked frame"
    length, start = data[1], 2
    if length > 125:
        form, start = ("!H", 4) if length == 126 else ("!Q", 10)
        length = struct.unpack(form, data[2:start])[0] if len(data) >= start else 0
    if len(data) < start + length:
        return None
    taken = data[0] & 0x0F, bytes(data[start : start + length])
    del data[: start + length]
    return taken


def take_frames(data: bytes) -> list[tuple[int, bytes]]:
    """All frames of the data, which ends with the last of them."""
    rest = bytearray(data)
    frames = list(iter(lambda: take_frame(rest), None))
    assert not rest, "the data ends within a frame"
    return frames


def url(server, path: str = "/", scheme: str = "ws") -> str:
    """Where a server listens, for clients that want a URL."""
    secure = "s" if server.secure else ""
    return f"{scheme}{secure}://127.0.0.1:{server.addresses[0][1]}{path}"


def tls_at(url: str) -> ssl.SSLContext | None:
    """How to speak TLS with a server at a URL."""
    return TLS.get(urlsplit(url).port)


async def open_connection(port: int | None = None, **options) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a server of ours that `serve` made, at a port or with the options of asyncio's function."""
    if port is not None:
        options = {"host": "127.0.0.1", "port": port, **options}
    else:
        port = options["sock"].getpeername()[1]
    if port in TLS:
        options.update(ssl=TLS[port], server_hostname="localhost")
    try:
        return await within(asyncio.open_connection(**options))
    except OSError:
        if "sock" in options:
            # Where TLS cannot even begin, uvloop closes the descriptor and leaves the socket with its number
            options["sock"].detach()
        raise


def check_from_here(reader: asyncio.StreamReader, *, compressed: bool) -> None:
    """Have all that arrives from here on checked, whether somebody reads it or not."""
    checker = Checker(compressed=compressed)
    checker.feed(reader._buffer)
    feed_data = reader.feed_data

    def feed(data: bytes) -> None:
        checker.feed(data)
        feed_data(data)

    reader.feed_data = feed


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.transport = writer.transport
        self.received = bytearray()

    @classmethod
    async def connect(
        cls, port: int, path: str = "/", *, fields: bytes = b"", receive_buffer: int | None = None
    ) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await within(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port)))
        except OSError:
            sock.close()
            raise
        client = cls(*await open_connection(sock=sock))
        await client.open(path, fields)
        return client

    async def open(self, path: str = "/", fields: bytes = b"") -> None:
        """The opening handshake; ConnectionError with the response when the server refuses it."""
        self.write(REQUEST % (path.encode(), fields))
        self.head = await within(self.reader.readuntil(b"\r\n\r\n"))
        if not self.head.startswith(b"HTTP/1.1 101 "):
            self.transport.abort()
            raise ConnectionError(self.head.decode("latin-1"))
        check_from_here(self.reader, compressed=b"permessage-deflate" in self.head)

    # --- What it sends.

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, *messages: str | bytes) -> None:
        """Send messages, all in one piece."""
        self.write(
            b"".join(
                frame(TEXT, message.encode()) if isinstance(message, str) else frame(BINARY, message)
                for message in messages
            )
        )

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.write(frame(CLOSE, close_payload(code, reason)))

    # --- What it receives.

    async def receive(self) -> tuple[int, bytes]:
        """The next frame; EOFError when the server closed instead, with or without a reset."""
        while (taken := take_frame(self.received)) is None:
            data = b""
            with contextlib.suppress(ConnectionError):
                data = await within(self.reader.read(1 << 16))
            if not data:
                self.transport.close()
                raise EOFError(f"nothing but {bytes(self.received)!r}")
            self.received += data
        return taken

    async def text(self) -> str:
        opcode, payload = await self.receive()
        assert opcode == TEXT, (opcode, payload)
        return payload.decode()

    async def texts(self, count: int) -> list[str]:
        return [await self.text() for _ in range(count)]

    async def close_frame(self) -> tuple[int, str]:
        opcode, payload = await self.receive()
        assert opcode == CLOSE, (opcode, payload)
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    async def rest(self) -> list[tuple[int, bytes]]:
        """Every frame until the server closes."""
        frames = []
        with contextlib.suppress(EOFError):
            while True:
                frames.append(await self.receive())
        return frames

    async def asks(self, message: str) -> str:
        """Send a message and return the next text."""
        self.send(message)
        return await self.text()

    # --- How it ends.

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """A closing handshake that the client begins, then the end of the transport."""
        self.send_close(code, reason)
        assert (await self.rest())[-1] == (CLOSE, close_payload(code))

    def end_stream(self) -> None:
        """End our direction without a word; with TLS, where no direction ends alone, both."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def reset(self) -> None:
        """Leave with a RST."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
