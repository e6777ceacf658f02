"""What measurements in process share: transports that are none, and the insides of libraries that only know servers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import picows
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from aiohttp._websocket.writer import WebSocketWriter

KEY = b"\x37\xfa\x21\x3d"
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Transport(asyncio.Transport):
    """It keeps what is written, until it is taken."""

    def __init__(self, extra: dict | None = None) -> None:
        super().__init__(extra)
        self._written: list[bytes] = []

    def set_protocol(self, protocol) -> None:
        pass

    def take(self) -> bytes:
        written = b"".join(self._written)
        self._written.clear()
        return written

    def write(self, data) -> None:
        self._written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Hand a read to a protocol as a transport does."""
    rest = memoryview(data)
    while rest:
        room = protocol.get_buffer(-1)
        length = min(len(room), len(rest))
        room[:length] = rest[:length]
        rest = rest[length:]
        protocol.buffer_updated(length)


async def picows_protocol(listener: picows.WSListener) -> tuple[asyncio.BufferedProtocol, Transport]:
    """What picows's server makes for an accepted connection, after the opening handshake."""
    loop = asyncio.get_running_loop()

    async def create_server(factory, *arguments, **options):
        return factory()

    loop.create_server = create_server
    try:
        protocol = await picows.ws_create_server(
            lambda request: listener, websocket_handshake_timeout=None, use_aiofastnet=False, max_frame_size=1 << 30
        )
    finally:
        del loop.create_server
    with socket.socket() as unconnected:  # whose buffers it wants to know
        transport = Transport({"socket": unconnected})
        protocol.connection_made(transport)
    feed(protocol, REQUEST)
    transport.take()
    return protocol, transport


def step(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


async def in_callback(function: Callable[[], Any]) -> Any:
    """Call a function as a loop calls a transport: no Task is current."""
    loop = asyncio.get_running_loop()
    called: asyncio.Future[Any] = loop.create_future()

    def call() -> None:
        try:
            called.set_result(function())
        except BaseException as error:
            called.set_exception(error)

    loop.call_soon(call)
    return await called


class Flow:
    """What aiohttp's reader and writer want of a protocol: it is never paused."""

    _paused = _reading_paused = False

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def aiohttp_reader() -> Callable[[bytes], list[str]]:
    queue = WebSocketDataQueue(Flow(), 1 << 29, loop=asyncio.get_running_loop())
    reader = WebSocketReader(queue, 0, False, True)

    def read(data: bytes) -> list[str]:
        reader.feed_data(data)
        return [step(queue.read()).data for _ in range(len(queue._buffer))]

    return read


def aiohttp_writer(transport: Transport) -> Callable[[bytes], None]:
    writer = WebSocketWriter(Flow(), transport)

    return lambda payload: step(writer.send_frame(payload, 1))
