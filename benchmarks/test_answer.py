"""What does it cost to answer a message, from the bytes of a read through a handler to the bytes that are written?

No socket and no loop: the way through a library alone. A read brings one message; the answer is that message.
"""

from __future__ import annotations

import asyncio

import picows
import pytest
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from fastws import _speedups, http, ws
from fastws.options import ServerOptions
from fastws.service.compile import compile

from .inprocess import KEY, Transport, aiohttp_reader, aiohttp_writer, feed, in_callback, picows_protocol


@http.base_path("/")
@ws.upgrade_path("/", max_message_size=1 << 30)
class Echo:
    @ws.on_text_message
    def text(self, text: str) -> str:
        return text


@http.base_path("/")
@ws.upgrade_path("/", max_message_size=1 << 30)
class AsyncEcho:
    @ws.on_text_message
    async def text(self, text: str) -> str:
        return text


async def fastws_answer(handlers):
    loop = asyncio.get_running_loop()
    turn = []
    loop.call_soon = turn.append
    try:
        hub = _speedups.hub_of_thread(loop, lambda head: {}, lambda query: {})
    finally:
        del loop.call_soon
    hub.attach()
    connection = _speedups.Connection(_speedups.Endpoint(hub, compile(handlers), ServerOptions(close_timeout=1.0)))
    transport = Transport()
    connection.start(transport, b"", b"")

    def answer(data):
        feed(connection, data)
        while turn:  # each read has a turn of the loop to itself
            turn.pop()()
        return transport.take()

    return answer, lambda: (connection.connection_lost(None), hub.detach())


async def picows_answer():
    class Listener(picows.WSListener):
        def on_ws_frame(self, transport, frame):
            transport.send(picows.WSMsgType.TEXT, frame.get_payload_as_memoryview())

    protocol, transport = await picows_protocol(Listener())

    def answer(data):
        feed(protocol, data)
        return transport.take()

    return answer, lambda: None


async def websockets_answer():
    protocol = ServerProtocol(state=State.OPEN, max_size=None)

    def answer(data):
        protocol.receive_data(data)
        for frame in protocol.events_received():
            assert frame.opcode is Opcode.TEXT
            protocol.send_text(frame.data.decode().encode())
        return b"".join(protocol.data_to_send())

    return answer, lambda: None


async def wsproto_answer():
    connection = Connection(ConnectionType.SERVER)

    def answer(data):
        connection.receive_data(data)
        parts = []
        for event in connection.events():
            parts.append(event.data)
            if event.message_finished:
                return connection.send(TextMessage("".join(parts)))
        raise AssertionError("no message")

    return answer, lambda: None


async def aiohttp_answer():
    transport = Transport()
    read, write = aiohttp_reader(), aiohttp_writer(transport)

    def answer(data):
        for text in read(data):
            write(text.encode())
        return transport.take()

    return answer, lambda: None


CONTENDERS = {
    "fastws": lambda: fastws_answer(Echo),
    "fastws async": lambda: fastws_answer(AsyncEcho),
    "picows": picows_answer,
    "websockets": websockets_answer,
    "wsproto": wsproto_answer,
    "aiohttp": aiohttp_answer,
}


@pytest.mark.parametrize("contender", CONTENDERS)
async def test_answer(measure, contender, size):
    answer, end = await CONTENDERS[contender]()
    frame = _speedups.build_frame(1, b"x" * size, KEY)
    written = await in_callback(lambda: measure("answer a message", size, contender, answer, frame))
    end()
    assert written == _speedups.build_frame(1, b"x" * size)
