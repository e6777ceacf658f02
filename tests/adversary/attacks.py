"""What is done to the server: each attack is what one connection does, again and again, in a crowd of its kind.

An attack returns when it wants a new connection, and it may end in an OSError when the server ends it. It is cancelled
when the time is up; its connection is then held, and nothing is read from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..kit.client import BINARY, CLOSE, PING, PONG, REQUEST, TEXT, close_payload, frame
from .hall import PATH

BLOCK = 1 << 16  # bytes that a flood sends at a time
SMALL = 4096  # bytes of a receive buffer that is soon full; the kernel doubles it
PAUSE = 0.005  # seconds between two bytes of somebody in a hurry

HANDSHAKE = REQUEST % (PATH.encode(), b"")
DEFLATE = REQUEST % (PATH.encode(), b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
HEAD = HANDSHAKE[:-2]


class Wire:
    """A connection as an attacker sees it: bytes, and no protocol that would read them.

    Attributes:
        number: which of its kind it is.
    """

    def __init__(self, port: int, number: int) -> None:
        self.number = number
        self._address = ("127.0.0.1", port)
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        # What an attacker buffers is no memory of the server's machine; here it would be
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK)

    async def connect(self, handshake: bytes | None = None, *, receive_buffer: int | None = None) -> None:
        """Connect, and become a WebSocket if there is a handshake to send."""
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await self._loop.sock_connect(self._socket, self._address)
        if handshake is not None:
            await self.send(handshake)
            head = b""
            while b"\r\n\r\n" not in head:
                head += await self.receive(4096)
            if b" 101 " not in head:
                raise ConnectionRefusedError(head)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self, size: int = BLOCK) -> bytes:
        data = await self._loop.sock_recv(self._socket, size)
        if not data:
            raise ConnectionResetError("the server closed")
        return data

    async def discard(self) -> None:
        """Read until the server closes."""
        while True:
            await self.receive()

    async def trickle(self, data: bytes, pause: float) -> None:
        """Send byte by byte."""
        for i in range(len(data)):
            await self.send(data[i : i + 1])
            await asyncio.sleep(pause)

    async def flood(self, data: bytes) -> None:
        """Send the same again and again, as fast as it is taken, and read nothing."""
        block = data * max(BLOCK // len(data), 1)
        while True:
            await self.send(block)
            await asyncio.sleep(0)

    async def flood_and_read(self, data: bytes) -> None:
        reading = asyncio.ensure_future(self.discard())
        try:
            await self.flood(data)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def hold(self) -> None:
        """Hold on until the time is up, without a word, and without reading one."""
        await asyncio.Event().wait()

    def end_sending(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with a RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Attack:
    """One kind of attack.

    Attributes:
        name: as it is called in tables and on the command line.
        kind: what it aims at.
        once: what one connection does.
        floods: whether it sends faster than can be handled, so that much is still under way when it stops.
    """

    name: str
    kind: str
    once: Callable[[Wire], Awaitable[None]]
    floods: bool = False


ATTACKS: dict[str, Attack] = {}


def attack(kind: str, name: str, *, floods: bool = False):
    """Register what one connection does."""

    def register(once: Callable[[Wire], Awaitable[None]]) -> Callable[[Wire], Awaitable[None]]:
        ATTACKS[name] = Attack(name, kind, once, floods)
        return once

    return register


def holding(kind: str, name: str, data: bytes, handshake: bytes | None = None) -> None:
    """Register an attack that sends something and holds on."""

    @attack(kind, name)
    async def send_and_hold(wire: Wire) -> None:
        await wire.connect(handshake)
        await wire.send(data)
        await wire.hold()


def trickling(kind: str, name: str, data: bytes, pause: float, handshake: bytes | None = None) -> None:
    """Register an attack that sends byte by byte."""

    @attack(kind, name)
    async def trickle(wire: Wire) -> None:
        await wire.connect(handshake)
        await wire.trickle(data, pause)


def flooding(
    kind: str, name: str, data: bytes, handshake: bytes | None = None, *, start: bytes = b"", read: bool = False
) -> None:
    """Register an attack that sends as much as is taken, and reads what comes or does not."""

    @attack(kind, name, floods=True)
    async def flood(wire: Wire) -> None:
        await wire.connect(handshake)
        await wire.send(start)
        await (wire.flood_and_read(data) if read else wire.flood(data))


# --- Opening

holding("opening", "silence", b"")
holding("opening", "half a head", HEAD)
trickling("opening", "a head, a byte a second", HANDSHAKE, 1.0)
trickling("opening", "a head, a byte each 5 ms", HANDSHAKE, PAUSE)
flooding("opening", "a field without end", b"x", start=HEAD + b"X: ")
flooding("opening", "fields without end", b"X: y\r\n", start=HEAD)
flooding("opening", "a target without end", b"x", start=b"GET /")


@attack("opening", "random bytes")
async def random_bytes(wire: Wire) -> None:
    await wire.connect()
    await wire.send(random.randbytes(1000))
    await wire.discard()


@attack("opening", "connect and close")
async def connect_and_close(wire: Wire) -> None:
    await wire.connect()


@attack("opening", "connect and reset")
async def connect_and_reset(wire: Wire) -> None:
    await wire.connect()
    await wire.send(HANDSHAKE)
    wire.reset()


# --- Frames

holding("frames", "half a frame", frame(TEXT, b"hello")[:8], HANDSHAKE)
holding("frames", "half a header", frame(TEXT, b"x" * 200)[:3], HANDSHAKE)
holding("frames", "all of 1 MiB but a byte", frame(BINARY, bytes(1 << 20))[:-1], HANDSHAKE)
holding("frames", "2^62 bytes announced", b"\x82\xff" + struct.pack("!Q", 1 << 62) + bytes(4), HANDSHAKE)
holding("frames", "an unmasked frame", b"\x81\x05hello", HANDSHAKE)
holding("frames", "invalid UTF-8", frame(TEXT, b"\xed\xa0\x80" * 40), HANDSHAKE)
trickling("frames", "a frame, a byte a second", frame(TEXT, b"x" * 100), 1.0, HANDSHAKE)
trickling("frames", "1 MiB announced, a byte each 5 ms", frame(BINARY, bytes(1 << 20)), PAUSE, HANDSHAKE)


@attack("frames", "random bytes in frames' place")
async def random_frames(wire: Wire) -> None:
    await wire.connect(HANDSHAKE)
    await wire.send(random.randbytes(1000))
    await wire.discard()


# --- Fragments

START = frame(TEXT, fin=False)
EMPTY, ONE = frame(0x0, fin=False), frame(0x0, b"x", fin=False)

flooding("fragments", "empty fragments without end", EMPTY, HANDSHAKE, start=START)
flooding("fragments", "fragments of a byte without end", ONE, HANDSHAKE, start=START)
flooding("fragments", "fragments and pings without end", ONE + frame(PING), HANDSHAKE, start=START)
holding("fragments", "a message that never ends", START + ONE * 1000, HANDSHAKE)


@attack("fragments", "a fragment and a ping, every 5 ms")
async def fragment_and_ping(wire: Wire) -> None:
    await wire.connect(HANDSHAKE)
    await wire.send(START)
    while True:
        await wire.send(ONE + frame(PING, b"x"))
        await asyncio.sleep(PAUSE)


# --- Control frames

flooding("control", "pings, the pongs unread", frame(PING, b"x" * 125), HANDSHAKE)
flooding("control", "empty pings", frame(PING), HANDSHAKE, read=True)
flooding("control", "pings of 125 bytes", frame(PING, b"x" * 125), HANDSHAKE, read=True)
flooding("control", "pongs", frame(PONG), HANDSHAKE)

# --- Messages

flooding("messages", "messages, the echoes unread", frame(TEXT, b"x" * 100), HANDSHAKE)
flooding("messages", "large messages, the echoes unread", frame(BINARY, bytes(1 << 19)), HANDSHAKE)
flooding("messages", "empty messages", frame(TEXT), HANDSHAKE, read=True)
flooding("messages", "messages", frame(TEXT, b"x" * 100), HANDSHAKE, read=True)


@attack("messages", "broadcasts never read")
async def slow_consumer(wire: Wire) -> None:
    await wire.connect(HANDSHAKE, receive_buffer=SMALL)
    await wire.send(frame(TEXT, b"join"))
    while wire.number < 2:
        await wire.send(frame(TEXT, b"shout"))
        await asyncio.sleep(0.2)
    await wire.hold()


# --- Compression

RSV1 = 0x40


def compressed(payload: bytes) -> bytes:
    """A binary message, as small as deflate makes it."""
    deflate = zlib.compressobj(9, wbits=-15)
    small = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return frame(BINARY | RSV1, small[:-4])


BOMB = compressed(bytes(1 << 20))

flooding("compression", "1 MiB in 1 KiB", BOMB, DEFLATE, read=True)
flooding("compression", "1 MiB in 1 KiB, the echoes unread", BOMB, DEFLATE)
holding("compression", "10 MiB in 10 KiB", compressed(bytes(10 << 20)), DEFLATE)
holding("compression", "half of what was compressed", BOMB[:500], DEFLATE)


@attack("compression", "random bytes as a compressed message")
async def random_deflate(wire: Wire) -> None:
    await wire.connect(DEFLATE)
    await wire.send(frame(BINARY | RSV1, random.randbytes(1000)))
    await wire.discard()


# --- Closing

holding("closing", "a close frame, and staying", frame(CLOSE, close_payload(1000)), HANDSHAKE)
flooding("closing", "a close frame, and talking on", frame(TEXT, b"x"), HANDSHAKE, start=frame(CLOSE))


@attack("closing", "half closed, and staying")
async def half_closed(wire: Wire) -> None:
    await wire.connect(HANDSHAKE)
    wire.end_sending()
    await wire.hold()


@attack("closing", "hanging up without a close frame")
async def hang_up(wire: Wire) -> None:
    await wire.connect(HANDSHAKE)


@attack("closing", "resets")
async def reset(wire: Wire) -> None:
    await wire.connect(HANDSHAKE)
    await wire.send(frame(TEXT, b"x"))
    wire.reset()


# --- TLS: the server speaks it, and these do not


def client_hello() -> bytes:
    """What a TLS client says first."""
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return hello.read()


HELLO = client_hello()

holding("tls", "silence instead of a hello", b"")
holding("tls", "half a hello", HELLO[: len(HELLO) // 2])
holding("tls", "a hello, and silence", HELLO)
holding("tls", "a record that does not come", b"\x16\x03\x03\x40\x00\x01")
holding("tls", "HTTP instead of TLS", HANDSHAKE)
trickling("tls", "a hello, a byte each 5 ms", HELLO, PAUSE)
flooding("tls", "hellos without end", HELLO)
flooding("tls", "random bytes without end", random.randbytes(BLOCK))


@attack("tls", "a hello, again and again")
async def hello_again(wire: Wire) -> None:
    await wire.connect()
    await wire.send(HELLO)
    await wire.receive()


# --- HTTP

GET, POST = (b"%s %s/%%s HTTP/1.1\r\nHost: localhost\r\n" % (verb, PATH.encode()) for verb in (b"GET", b"POST"))
MOTD, BOOK = GET % b"motd" + b"\r\n", GET % b"book" + b"\r\n"
BODY = POST % b"notes" + b"Content-Length: 1000000\r\n\r\n"
CHUNKED = POST % b"notes" + b"Transfer-Encoding: chunked\r\n\r\n"

trickling("http", "a body, a byte each 5 ms", BODY + bytes(1_000_000), PAUSE)
holding("http", "a body that does not come", BODY)
flooding("http", "chunks of a byte without end", b"1\r\nx\r\n", start=CHUNKED)
flooding("http", "requests, the responses unread", MOTD)
flooding("http", "requests for much, unread", BOOK)
flooding("http", "requests", MOTD, read=True)


@attack("http", "keep-alive")
async def keep_alive(wire: Wire) -> None:
    await wire.connect()
    await wire.send(MOTD)
    await wire.receive()
    await wire.hold()
