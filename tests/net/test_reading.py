"""How a transport of the core's reads: large messages straight to where they are to lie, and in turns."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct

import pytest

from fastws import ws
from fastws._speedups import hub_of_thread, live_objects

from ..kit.client import BINARY, CLOSE, TEXT, close_payload, frame, take_frames, turns, until
from ..kit.services import at
from ..kit.wires import wired

pytest.importorskip("uvloop")

pytestmark = [
    pytest.mark.asyncio(loop_factories=["uvloop"]),
    pytest.mark.plain("TLS has a transport of the loop's"),
    pytest.mark.skipif(os.environ.get("FASTWS_TRANSPORT") == "loop", reason="there are none, as the environment says"),
]

LENGTH = 700_000  # bytes
ROOM = 100_000  # bytes that a socket takes at once, at least


@at(max_message_size=1 << 20)
class Collector:
    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []

    @ws.on_text_message
    def text(self, text: str) -> None:
        self.log.append(("text", text))

    @ws.on_binary_message
    def binary(self, data: bytes) -> None:
        self.log.append(("binary", data))

    @ws.on_close
    def closed(self, code: int) -> None:
        self.log.append(("closed", code))


class SocketWire:
    """Through a transport of the core's."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as waiting:
            self._far = socket.create_connection(waiting.getsockname())
            self._near, _ = waiting.accept()
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * ROOM)
        for each in (self._near, self._far):
            each.setblocking(False)
        self.transport = None

    async def open(self) -> asyncio.Transport:
        hub = hub_of_thread(asyncio.get_running_loop(), dict, dict)
        self.transport = hub.make_transport(self._near.detach(), asyncio.Protocol())
        self.transport.start()
        return self.transport

    def send(self, data: bytes) -> None:
        assert self._far.send(data) == len(data)

    async def send_all(self, data: bytes, length: int) -> None:
        """Send in pieces, each of which is read before the next one comes."""
        for start in range(0, len(data), length):
            self.send(data[start : start + length])
            await turns(8)

    def receive(self) -> bytes:
        return self._far.recv(1 << 20)

    def close(self) -> None:
        self._far.close()

    def reset(self) -> None:
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._far.close()


def text_with(character: str, place: int) -> str:
    """So many bytes of text, all ASCII but for one character that begins `place` bytes into it."""
    text = ("0123456789abcdef" * (LENGTH // 16))[: LENGTH - len(character.encode())]
    return text[:place] + character + text[place:]


@pytest.mark.parametrize("length", [1000, 65_536, 70_001, ROOM])
@pytest.mark.parametrize(("character", "place"), [("a", 0), ("é", 20), ("€", 380_000), ("𝄞", LENGTH - 4)])
async def test_a_text_arrives_however_it_is_cut(character, place, length):
    service = Collector()
    text = text_with(character, place)
    async with wired(service, SocketWire, 1) as (_, [wire]):
        await wire.send_all(frame(TEXT, text.encode()), length)
        assert service.log == [("text", text)]


@pytest.mark.parametrize("length", [65_536, 99_991])
async def test_fragments_of_all_lengths_arrive_and_what_follows_stays_behind_them(length):
    service = Collector()
    sizes = [300_000, 3, 150_000, 0, 99_000, 100_000]
    data = os.urandom(sum(sizes))
    stream, start = b"", 0
    for number, size in enumerate(sizes):
        opcode = BINARY if number == 0 else 0
        stream += frame(opcode, data[start : start + size], fin=number == len(sizes) - 1)
        stream += frame(0x9, b"%d" % number)
        start += size
    async with wired(service, SocketWire, 1) as (_, [wire]):
        await wire.send_all(stream + frame(TEXT, b"next") + frame(BINARY, data[:LENGTH]), length)
        assert service.log == [("binary", data), ("text", "next"), ("binary", data[:LENGTH])]
        assert take_frames(wire.receive()) == [(0xA, b"%d" % number) for number in range(len(sizes))]


@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3a", b"\xed\xa0\x80"])
async def test_text_that_is_none_is_failed_where_it_goes_wrong(wrong):
    service = Collector()
    stream = frame(TEXT, b"a" * 250_000 + wrong + b"a" * (LENGTH - 250_000))
    async with wired(service, SocketWire, 1) as (_, [wire]):
        await wire.send_all(stream[:300_000], ROOM)
        assert service.log == [("closed", 1007)]
        assert take_frames(wire.receive()) == [(CLOSE, close_payload(1007, "invalid payload"))]


@pytest.mark.parametrize("end", ["abort", "close", "reset"])
async def test_a_connection_may_end_in_the_middle(end):
    service = Collector()
    async with wired(service, SocketWire, 1) as ([connection], [wire]):
        await wire.send_all(frame(TEXT, b"a" * LENGTH)[: 2 * ROOM], ROOM)
        wire.send(b"a" * ROOM)
        if end == "abort":
            wire.transport.abort()
        elif end == "close":
            connection.close(1000)
        else:
            wire.reset()
        await turns(8)
        if end == "close":
            await wire.send_all(b"a" * 2 * ROOM, ROOM)
            assert connection.is_open is False
            wire.close()
        await until(lambda: service.log)
        del connection
    gc.collect()
    assert live_objects()["partials"] == 0


async def test_what_comes_when_all_have_had_their_share_waits_and_is_not_lost():
    service = Collector()
    text = text_with("é", 200_000)
    async with wired(service, SocketWire, 9) as (_, wires):
        stream = frame(TEXT, text.encode())
        await wires[8].send_all(stream[: 2 * ROOM], ROOM)
        for start in range(2 * ROOM, len(stream), ROOM):
            for wire in wires[:8]:
                wire.send(frame(TEXT, b".") * 2000)
            wires[8].send(stream[start : start + ROOM])
            await turns(20)
        await until(lambda: len(service.log) == 8 * 2000 * 6 + 1)
        assert ("text", text) in service.log


@pytest.mark.parametrize("end", ["abort", "close", "peer", "reset"])
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_connection_may_end_while_it_waits_for_its_turn(end, count):
    service = Collector()
    async with wired(service, SocketWire, 12) as (connections, wires):
        for wire in wires:
            wire.send(frame(TEXT, b".") * 2000)
        await turns(count)
        for connection, wire in zip(connections, wires, strict=True):
            if end == "abort":
                wire.transport.abort()
            elif end == "close":
                connection.close(1000)
                wire.send(frame(CLOSE, close_payload(1000)))
            elif end == "reset":
                wire.reset()
            else:
                wire.close()
        await until(lambda: sum(event == "closed" for event, _ in service.log) == 12)
        if end == "peer":
            assert service.log.count(("text", ".")) == 12 * 2000, "what came before the end counts"
        del connections, connection
    gc.collect()
    assert live_objects()["partials"] == 0


async def test_who_says_little_is_read_before_those_who_wait():
    service = Collector()
    async with wired(service, SocketWire, 13) as (_, wires):
        for wire in wires[:12]:
            wire.send(frame(TEXT, b".") * 2000)
        wires[12].send(frame(TEXT, b"me too"))
        await until(lambda: ("text", "me too") in service.log)
        assert len(service.log) < 12 * 2000
        await until(lambda: len(service.log) == 12 * 2000 + 1)
