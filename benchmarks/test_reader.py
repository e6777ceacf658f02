"""What does it cost to read a masked text message, from the bytes of a read to a str?

A read brings as many messages as fit into 64 KiB, and at least one.
"""

from __future__ import annotations

import picows
import pytest
from websockets.protocol import State
from websockets.server import ServerProtocol
from wsproto.connection import Connection, ConnectionType

from fastws._speedups import FrameReader, build_frame

from .inprocess import KEY, aiohttp_reader, feed, picows_protocol

READ_LEN = 65536  # bytes


async def fastws_reader():
    reader = FrameReader(max_message_size=1 << 30)
    return lambda data: [text for _, text in reader.feed(data)]


async def websockets_reader():
    protocol = ServerProtocol(state=State.OPEN, max_size=None)

    def read(data):
        protocol.receive_data(data)
        return [frame.data.decode() for frame in protocol.events_received()]

    return read


async def wsproto_reader():
    connection = Connection(ConnectionType.SERVER)

    def read(data):
        connection.receive_data(data)
        return [event.data for event in connection.events()]

    return read


async def picows_reader():
    texts = []

    class Listener(picows.WSListener):
        def on_ws_frame(self, transport, frame):
            texts.append(frame.get_payload_as_utf8_text())

    protocol, _ = await picows_protocol(Listener())

    def read(data):
        nonlocal texts
        texts = []
        feed(protocol, data)
        return texts

    return read


async def aiohttp_reader_here():
    return aiohttp_reader()


READERS = {
    "fastws": fastws_reader,
    "picows": picows_reader,
    "websockets": websockets_reader,
    "wsproto": wsproto_reader,
    "aiohttp": aiohttp_reader_here,
}


@pytest.mark.parametrize("contender", READERS)
async def test_reader(measure, contender, size):
    frame = build_frame(1, b"x" * size, KEY)
    messages = max(1, READ_LEN // len(frame))
    read = await READERS[contender]()
    texts = measure("read messages", size, contender, read, frame * messages, messages=messages)
    assert texts == ["x" * size] * messages
