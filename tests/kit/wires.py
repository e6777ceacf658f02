"""Connections over wires that a test sees through: byte by byte, packet by packet, as fast or slow as it likes.

The server's end is a `Connection` as the server makes it; the other end has no protocol at all, only bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable

from fastws import ws
from fastws._speedups import Connection, Endpoint, hub_of_thread
from fastws.options import ServerOptions
from fastws.service.compile import compile
from fastws.testing.memory import MemoryTransport, memory_transports

from .checker import Checker
from .client import take_frames, turns

RECEIVE_LEN = 1 << 20
SMALL = 4096  # bytes of a socket's buffer; the kernel doubles it


def narrow_socket() -> socket.socket:
    """A listening socket whose connections soon have enough."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    sock.bind(("127.0.0.1", 0))
    return sock


def fill(connection: ws.Connection) -> list[bytes]:
    """Push until the connection's socket takes no more; returns the payloads."""
    payloads = []
    while not connection.buffered:
        payloads.append(b"%d " % len(payloads) * 1000)
        connection.push_binary(payloads[-1])
    return payloads


async def blocked(connection: ws.Connection) -> list[bytes]:
    """As fill(), until it also lasts for some turns of the loop."""
    payloads = []
    lasting = 0
    while lasting < 20:
        await turns(2)
        lasting += 1
        if not connection.buffered:
            payloads += fill(connection)
            lasting = 0
    return payloads


class FarEnd(asyncio.BufferedProtocol):
    """Takes what a memory transport passes on, and does nothing with it: the test looks at what was written."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(65536))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        pass

    def eof_received(self) -> bool:
        return True


class MemoryWire:
    """Through transports in memory: without a descriptor everything takes the way through the transport."""

    checker: Checker | None = None

    def __init__(self) -> None:
        self.near, self._far = memory_transports(asyncio.get_running_loop())
        self._far.set_protocol(FarEnd())
        self._seen = 0
        self.near.hold()

    async def open(self) -> asyncio.Transport:
        return self.near

    def send(self, data: bytes) -> None:
        self._far.write(data)

    @property
    def reading(self) -> bool:
        return self.near._reading

    def receive(self) -> bytes:
        """Read what came, which gives the other end room again."""
        data = bytes(self.near.written[self._seen :])
        self._seen += len(data)
        if self.checker is not None:
            self.checker.feed(data)
        self.near.let_go()
        self.near._loop.call_soon(self.near.hold)
        return data

    def close(self) -> None:
        self.near.abort()
        self._far.abort()


class StreamWire:
    """Through a pair of stream sockets with small buffers."""

    checker: Checker | None = None

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)

    async def open(self) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        self._near.setblocking(False)
        self._far.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, self._near)
        return transport

    def send(self, data: bytes) -> None:
        self._far.send(data)

    def receive(self, most: int = sys.maxsize) -> bytes:
        """Read what came, which gives the other end room again."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while more := self._far.recv(min(RECEIVE_LEN, most - len(data))):
                data += more
        if self.checker is not None:
            self.checker.feed(data)
        return data

    def close(self) -> None:
        self._far.close()


class TcpWire(StreamWire):
    """Through TCP, where the kernel tells what has come to the other end; that takes little at a time."""

    def __init__(self, send_buffer: int = SMALL) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
            self._far = socket.socket()
            self._far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            self._far.connect(listening.getsockname())
            self._near, _ = listening.accept()


class PacketWire(MemoryTransport):
    """Through packet sockets, which keep apart what was sent apart: each packet was one system call."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A packet is never sent in part: there has to be room for the largest
        self._near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE_LEN)
        self._far.setblocking(False)
        self.peer = self

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._near if name == "socket" else default

    async def open(self) -> asyncio.Transport:
        return self

    @property
    def descriptor(self) -> int:
        return self._near.fileno()

    def connection_lost(self) -> None:
        """End this very moment, as a loop does when it finds the other end gone."""
        self._lose()

    def send(self, data: bytes) -> None:
        """Have the connection read it, now."""
        self._protocol.get_buffer(-1)[: len(data)] = data
        self._protocol.buffer_updated(len(data))

    def packets(self) -> list[bytes]:
        """What was sent since the last look, call by call."""
        packets = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packets.append(self._far.recv(RECEIVE_LEN))
        return packets

    def close(self) -> None:
        self._near.close()
        self._far.close()
        self.abort()


def texts(packets: list[bytes]) -> list[list[str]]:
    """The texts of each packet: what was sent with one call."""
    return [[payload.decode() for _, payload in take_frames(packet)] for packet in packets]


@contextlib.asynccontextmanager
async def wired(
    target: object,
    kind: Callable[[], object],
    count: int,
    *,
    client: bool = False,
    extensions: tuple = (),
    response: bytes = b"",
    kernel_backlog: int = 0,
) -> AsyncIterator[tuple[list, list]]:
    """Open so many connections of a service over wires of a kind; yields the connections and their wires.

    `extensions`: the `Deflate` of each of the first ones, or None; the others do not compress.
    `response`: the answer to the opening handshake, which each still has to send.
    `kernel_backlog`: what may lie unsent for each, in bytes.
    """
    hub = hub_of_thread(asyncio.get_running_loop(), lambda head: {}, lambda query: {})
    hub.attach()
    options = ServerOptions(close_timeout=1.0, slow_handler_time=None)
    endpoint = Endpoint(hub, compile(target), options, kernel_backlog)
    wires = [kind() for _ in range(count)]
    connections = [Connection(endpoint, client=client) for _ in wires]
    for connection, wire, extension in zip(connections, wires, [*extensions, *[None] * count], strict=False):
        wire.checker = None if client or response else Checker(compressed=extension is not None)
        connection.start(await wire.open(), response, b"", extension=extension)
    try:
        yield connections, wires
    finally:
        for wire in wires:
            wire.close()
        while endpoint.live:
            await turns()
        parked = hub.detach()
        if parked is not None:
            await asyncio.wait([parked])
