"""A connected pair in memory: both roles of the protocol against each other."""

from __future__ import annotations

import pytest

from fastws import ws
from fastws._speedups import FrameReader

from ..kit.client import turns
from ..kit.services import AsyncEcho, Echo, Log, Watch, at
from ..kit.wires import PacketWire, wired


@at(max_message_size=1 << 24)
class Recorder(Log):
    """The client's side: keeps what it receives."""

    @ws.on_text_message
    def text(self, text: str) -> None:
        self.saw(text)

    @ws.on_binary_message
    def binary(self, data: bytes) -> None:
        self.saw(data)

    @ws.on_close
    def closed(self, code: int, reason: str) -> None:
        self.saw("closed", code, reason)


@pytest.mark.parametrize("service", [Echo, AsyncEcho])
async def test_messages_go_there_and_back(pair, service):
    recorder = Recorder()
    _, client = await pair(service, recorder)
    for number in range(100):
        assert client.push_text(f"{number} ☃")
    assert [await recorder.next() for _ in range(100)] == [(f"{number} ☃",) for number in range(100)]


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536, 1_000_000])
async def test_messages_of_any_length_go_there_and_back(pair, length):
    recorder = Recorder()
    connection, client = await pair(Echo(), recorder)
    data = bytes(range(256)) * (length // 256) + bytes(length % 256)
    client.push_binary(data)
    assert await recorder.next() == (data,)
    connection.push_text("behind")
    assert await recorder.next() == ("behind",)


@pytest.mark.parametrize("side", [0, 1])
async def test_either_side_may_close(pair, side):
    watch, recorder = Watch(), Recorder()
    sides = await pair(watch, recorder)
    sides[side].close(4000, "enough")
    seen = [await watch.next(), await recorder.next()]
    assert seen[1 - side] == ("closed", 4000, "enough")
    assert seen[side] == ("closed", 4000, "")
    assert all(connection.was_clean for connection in sides)


async def test_a_client_masks_each_frame_with_another_key():
    async with wired(Watch(), PacketWire, 1, client=True) as ((client,), (wire,)):
        await turns()
        for payload in (b"", b"hello", b"hello", bytes(300), bytes(40_000)):
            client.push_binary(payload)
        await turns()
        sent = b"".join(wire.packets())
    assert FrameReader().feed(sent) == [(2, b""), (2, b"hello"), (2, b"hello"), (2, bytes(300)), (2, bytes(40_000))]
    first, second = sent[6:17], sent[17:28]
    assert first[:2] == second[:2] == b"\x82\x85"
    assert first[2:6] != second[2:6]


@pytest.mark.parametrize("length", [10, 40_000])
async def test_what_a_client_pushes_to_many_is_masked_too(length):
    async with wired(Watch(), PacketWire, 3, client=True) as (clients, wires):
        for _ in range(3):
            clients[0].broadcast_binary(bytes(length))
            clients[0].push_text("own")
        await turns()
        for wire, own in zip(wires, ([(1, "own")], [], []), strict=True):
            assert FrameReader().feed(b"".join(wire.packets())) == [(2, bytes(length)), *own] * 3
