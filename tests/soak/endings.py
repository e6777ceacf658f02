"""Every manner in which a connection can end: a service that takes part, and what a client does for each.

A client here is a bare socket that knows a few literal frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable

import fastws
from fastws import http, ws

from ..kit.client import BINARY, CLOSE, PING, REQUEST, TEXT, close_payload, frame, until, within

AT_A_TIME = 200  # connections
LIMITS = {"close_timeout": 0.5}
HELLO = REQUEST % (b"/", b"")
DEFLATE = REQUEST % (b"/", b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
RSV1 = 0x40
DEFLATED = bytes.fromhex("f248cdc9c90700")  # "Hello", RFC 7692 section 7.2.3.1
FLOOD = bytes(200_000)  # more than the kernel takes from us, less than `max_backlog`


@http.base_path("/")
@ws.upgrade_path(
    "/", max_backlog=300_000, max_message_size=10_000, max_queue=2, ping_interval=0.1, compression="dedicated"
)
class Busy:
    """Is in groups, stored, and does what it is told."""

    names = itertools.cycle(f"name {number}" for number in range(50))

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        connection.attributes["filler"] = [connection]
        connection.join("everybody")
        connection.join(f"group {connection.id % 20}")
        connection.store(next(self.names))

    @ws.on_text_message
    def told(self, connection: ws.Connection, text: str) -> str | None:
        if text == "close":
            connection.close(4000, "as you wish")
        elif text == "fail":
            raise ZeroDivisionError
        elif text == "flood":
            connection.push_binary(FLOOD)
            connection.push_text("more")
        elif text == "overflow":
            for _ in range(30):
                connection.push_binary(FLOOD)
        elif text == "tell":
            ws.push_text_to_group(f"group {connection.id % 20}", "told")
        return text

    @ws.on_binary_message
    async def waits(self, data: bytes) -> None:
        await asyncio.Event().wait()

    @ws.on_close
    def closed(self, connection: ws.Connection) -> None:
        ws.push_text_to_group(f"group {connection.id % 20}", "left")

    @http.get("/resource")
    def resource(self) -> str:
        return "here"

    @http.get("/slow")
    async def slow(self) -> None:
        await asyncio.Event().wait()


@http.base_path("/")
@ws.upgrade_path("/impatient", idle_timeout=0.05)
class Impatient:
    """Does not wait for anybody."""


SERVICES = (Busy, Impatient)


class Peer:
    """The client's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def send(self, *pieces: bytes) -> None:
        await self.loop.sock_sendall(self.sock, b"".join(pieces))

    async def until(self, mark: bytes) -> None:
        """Read until something has come."""
        seen = b""
        while mark not in seen:
            data = await self.loop.sock_recv(self.sock, 65536)
            if not data:
                raise EOFError(seen)
            seen += data

    async def end(self) -> bytes:
        """Read until the server ends; the last that it said."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while more := await self.loop.sock_recv(self.sock, 65536):
                data = (data + more)[-1000:]
        return data

    async def open(self, path: bytes = b"/") -> None:
        await self.send(REQUEST % (path, b""))
        await self.until(b"\r\n\r\n")

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Manner = Callable[[Peer], Awaitable[object]]


async def ends_at_once(peer: Peer) -> None:
    pass


async def ends_within_the_head(peer: Peer) -> None:
    await peer.send(HELLO[:60])


async def resets_within_the_head(peer: Peer) -> None:
    await peer.send(HELLO[:60])
    peer.reset()


async def is_refused(peer: Peer) -> None:
    await peer.send(HELLO.replace(b"Version: 13", b"Version: 12"))
    assert b"426" in await peer.end()


async def asks_for_what_is_not_there(peer: Peer) -> None:
    await peer.send(HELLO.replace(b"GET /", b"GET /nothing"))
    assert b"404" in await peer.end()


async def speaks_no_http(peer: Peer) -> None:
    await peer.send(b"\x16\x03\x01 not here\r\n\r\n")
    assert b"400" in await peer.end()


async def gets_a_resource_and_idles(peer: Peer) -> None:
    await peer.send(b"GET /resource HTTP/1.1\r\nHost: a\r\n\r\n")
    await peer.until(b"here")


async def leaves_a_resource_that_runs(peer: Peer) -> None:
    await peer.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(0.01)
    peer.reset()


async def opens_and_ends_in_one_piece(peer: Peer) -> None:
    await peer.send(HELLO, frame(TEXT, b"hello"), frame(CLOSE, close_payload(1000)))
    assert close_payload(1000) in await peer.end()


async def closes(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"hello"), frame(PING, b"ping"), frame(CLOSE, close_payload(1000, "bye")))
    assert close_payload(1000) in await peer.end()


async def is_closed(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"close"))
    await peer.until(close_payload(4000))
    await peer.send(frame(CLOSE, close_payload(4000)))
    await peer.end()


async def is_closed_and_only_hangs_up(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"close"))
    await peer.until(close_payload(4000))


async def closes_without_reading(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"flood"), frame(CLOSE, close_payload(1000)))


async def resets(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"tell"))
    await peer.until(b"tell")
    peer.reset()


async def ends_its_direction(peer: Peer) -> None:
    await peer.open()
    peer.sock.shutdown(socket.SHUT_WR)
    await peer.end()


async def breaks_the_protocol(peer: Peer) -> None:
    await peer.open()
    await peer.send(b"\x81\x05hello")
    assert close_payload(1002) in await peer.end()


async def sends_too_much(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(BINARY, bytes(9_000), fin=False), frame(0, bytes(2_000)))
    assert close_payload(1009) in await peer.end()


async def makes_a_handler_fail(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"fail"))
    await peer.until(close_payload(1011))
    await peer.send(frame(CLOSE, close_payload(1011)))
    await peer.end()


async def resets_within_a_message(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"x" * 5_000, fin=False), frame(PING), frame(0, b"y" * 3_000)[:1_000])
    await peer.until(b"\x8a\x00")
    peer.reset()


async def resets_between_compressed_messages(peer: Peer) -> None:
    await peer.send(DEFLATE)
    await peer.until(b"Sec-WebSocket-Extensions")
    await peer.send(frame(TEXT | RSV1, DEFLATED), frame(TEXT, b"x" * 2_000))
    await peer.until(b"Hello")
    peer.reset()


async def ends_within_a_compressed_message(peer: Peer) -> None:
    await peer.send(DEFLATE, frame(TEXT | RSV1, DEFLATED[:3], fin=False), frame(0, DEFLATED[3:])[:-1])
    await peer.until(b"\r\n\r\n")


async def ends_within_a_header(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(BINARY, bytes(300))[:3])


async def leaves_a_handler_that_waits(peer: Peer) -> None:
    await peer.open()
    await peer.send(*[frame(BINARY, bytes(3_000))] * 6, frame(TEXT, b"never handled"))
    await asyncio.sleep(0.01)
    peer.reset()


async def resets_while_a_backlog_waits(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"flood"))
    await peer.until(bytes(1000))
    peer.reset()


async def is_too_slow(peer: Peer) -> None:
    await peer.open()
    await peer.send(frame(TEXT, b"overflow"))
    await peer.end()


async def says_nothing(peer: Peer) -> None:
    await peer.open(b"/impatient")
    await peer.until(close_payload(1001))


MANNERS: tuple[Manner, ...] = (
    ends_at_once,
    ends_within_the_head,
    resets_within_the_head,
    is_refused,
    asks_for_what_is_not_there,
    speaks_no_http,
    gets_a_resource_and_idles,
    leaves_a_resource_that_runs,
    opens_and_ends_in_one_piece,
    closes,
    is_closed,
    is_closed_and_only_hangs_up,
    closes_without_reading,
    resets,
    ends_its_direction,
    breaks_the_protocol,
    sends_too_much,
    makes_a_handler_fail,
    resets_within_a_message,
    resets_between_compressed_messages,
    ends_within_a_compressed_message,
    ends_within_a_header,
    leaves_a_handler_that_waits,
    resets_while_a_backlog_waits,
    is_too_slow,
    says_nothing,
)


async def connection(port: int, manner: Manner) -> None:
    """One connection from its begin to its end."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await manner(Peer(sock))


async def connections_in_all_manners(server: fastws.Server, count: int) -> None:
    """Open and end so many, some at a time, and wait until the server has forgotten them all."""
    port = server.addresses[0][1]
    manners = itertools.islice(itertools.cycle(MANNERS), count)

    async def one_after_another() -> None:
        for manner in manners:
            await within(connection(port, manner))

    await asyncio.gather(*(one_after_another() for _ in range(AT_A_TIME)))
    await until(lambda: not server.http_connections and not any(map(server.connections, SERVICES)))
    await until(lambda: not any(endpoint.live for endpoint in server._site.endpoints.values()))
