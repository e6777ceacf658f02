"""What does it cost to read a masked text message, from the bytes of a read to a str?

A read brings as many messages as fit into 64 KiB, and at least one.
"""

from __future__ import annotations

import asyncio
import socket

import picows
import pytest
from websockets.protocol import State
from websockets.server import ServerProtocol
from wsproto.connection import Connection, ConnectionType

from fastws._speedups import FrameReader, build_frame

READ_LEN = 65536  # bytes
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def fastws_reader():
    reader = FrameReader(max_message_size=1 << 30)
    return lambda data: [text for _, text in reader.feed(data)]


def websockets_reader():
    protocol = ServerProtocol(state=State.OPEN, max_size=None)

    def read(data):
        protocol.receive_data(data)
        return [frame.data.decode() for frame in protocol.events_received()]

    return read


def wsproto_reader():
    connection = Connection(ConnectionType.SERVER)

    def read(data):
        connection.receive_data(data)
        return [event.data for event in connection.events()]

    return read


def picows_reader():
    """Its protocol on a transport that is none, as its server makes it for an accepted connection."""
    loop = asyncio.new_event_loop()
    texts = []

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport, frame):
            texts.append(frame.get_payload_as_utf8_text())

    async def make_protocol():
        async def create_server(factory, *arguments, **options):
            return factory()

        loop.create_server = create_server
        return await picows.ws_create_server(
            lambda request: Listener(), websocket_handshake_timeout=None, use_aiofastnet=False
        )

    protocol = loop.run_until_complete(make_protocol())
    loop.close()
    protocol.connection_made(Transport())

    def feed(data):
        while data:
            room = protocol.get_buffer(-1)
            length = min(len(room), len(data))
            room[:length] = data[:length]
            data = data[length:]
            protocol.buffer_updated(length)

    def read(data):
        nonlocal texts
        texts = []
        feed(memoryview(data))
        return texts

    feed(REQUEST)
    return read


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"socket": socket.socket()})

    def __del__(self) -> None:
        self.get_extra_info("socket").close()

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data) -> None:
        pass

    def is_closing(self) -> bool:
        return False


READERS = {
    "fastws": fastws_reader,
    "picows": picows_reader,
    "websockets": websockets_reader,
    "wsproto": wsproto_reader,
}


@pytest.mark.parametrize("contender", READERS)
def test_reader(measure, contender, size):
    frame = build_frame(1, b"x" * size, b"\x37\xfa\x21\x3d")
    messages = max(1, READ_LEN // len(frame))
    read = READERS[contender]()
    texts = measure("read messages", size, contender, read, frame * messages, messages=messages)
    assert texts == ["x" * size] * messages
