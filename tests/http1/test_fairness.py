"""One peer that has much to say does not keep all others waiting."""

from __future__ import annotations

from fastws import ws
from fastws.handshake.deflate import Deflate

from ..kit.client import BINARY, CLOSE, TEXT, close_payload, frame, turns
from ..kit.deflated import RSV1, deflate
from ..kit.services import Echo, at
from ..kit.wires import PacketWire, wired

A_TURN = 1024  # frames, or KiB of messages, or quarters of a KiB that were inflated
OF_ALL = 4 * A_TURN
SHARED = Deflate(b"", 15, 15, False, False)


@at(max_message_size=1 << 20)
class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told = []

    @ws.on_text_message
    def text(self, text: str) -> None:
        self.told.append(text)

    @ws.on_binary_message
    def binary(self, data: bytes) -> None:
        self.told.append(len(data))


async def test_who_sends_many_messages_at_once_lets_others_have_their_turn():
    service = Listener()
    async with wired(service, PacketWire, 2) as (_, (talker, other)):
        talker.send(b"".join(frame(TEXT, b"%d" % number) for number in range(5000)))
        assert service.told == [str(number) for number in range(A_TURN)]
        other.send(frame(TEXT, b"me too"))
        assert service.told[A_TURN:] == ["me too"]
        await turns(10)
        assert service.told[A_TURN + 1 :] == [str(number) for number in range(A_TURN, 5000)]


async def test_who_sends_long_messages_lets_others_have_their_turn():
    small = deflate(bytes(1 << 19))
    service = Listener()
    async with wired(service, PacketWire, 2, extensions=(SHARED,)) as (_, (talker, other)):
        talker.send(frame(BINARY | RSV1, small) * 10)
        assert service.told == [1 << 19]
        other.send(frame(TEXT, b"me too"))
        await turns(20)
        assert service.told == [1 << 19, "me too"] + [1 << 19] * 9


async def test_a_crowd_that_sends_without_end_waits_for_itself():
    service = Listener()
    async with wired(service, PacketWire, 40) as (_, wires):
        for number, wire in enumerate(wires):
            wire.send(frame(TEXT, b"%d" % number) * 3000)
        assert len(service.told) == OF_ALL
        await turns(1)
        assert len(service.told) == 2 * OF_ALL
        await turns(40)
        assert [service.told.count(str(number)) for number in range(40)] == [3000] * 40


async def test_who_says_little_never_waits_for_a_crowd():
    service = Listener()
    async with wired(service, PacketWire, 11) as (_, (*crowd, guest)):
        for wire in crowd:
            wire.send(frame(TEXT, b"x") * 3000)
        assert len(service.told) == OF_ALL
        guest.send(frame(TEXT, b"hello"))
        assert service.told[OF_ALL:] == ["hello"]


async def test_a_crowd_of_newcomers_with_bombs_waits_for_itself():
    bomb = deflate(bytes(1 << 20))
    service = Listener()
    async with wired(service, PacketWire, 11, extensions=(SHARED,) * 11) as (_, (*crowd, guest)):
        for wire in crowd:
            wire.send(frame(BINARY | RSV1, bomb))
        guest.send(frame(TEXT, b"hello"))
        assert service.told == [1 << 20, "hello"]
        await turns(12)
        assert service.told == [1 << 20, "hello"] + [1 << 20] * 9


async def test_bombs_that_explode_or_are_half_wait_for_one_another_too():
    bomb = deflate(bytes(2 << 20))
    for length in (600, len(bomb)):
        service = Listener()
        async with wired(service, PacketWire, 5, extensions=(SHARED,) * 5) as (_, (*crowd, other, guest)):
            for wire in crowd:
                wire.send(frame(BINARY | RSV1, bomb)[:length])
            other.send(frame(TEXT, b"x" * 200))
            guest.send(frame(TEXT, b"hello"))
            assert service.told == ["hello"]
            await turns(5)
            assert service.told == ["hello", "x" * 200]


async def test_who_says_goodbye_behind_much_else_is_heard_to_the_end():
    service = Listener()
    async with wired(service, PacketWire, 1) as ((connection,), (talker,)):
        talker.send(frame(TEXT, b"x") * 3000 + frame(CLOSE, close_payload(1000, "bye")))
        assert connection.is_open
        await turns(10)
        assert service.told == ["x"] * 3000
        assert (connection.close_code, connection.close_reason) == (1000, "bye")


async def test_a_flood_over_a_socket_arrives_whole_and_in_order(opened):
    service = Echo()
    _, client, _ = await opened(service)
    client.send(*[str(number) for number in range(20_000)])
    assert await client.texts(20_000) == [str(number) for number in range(20_000)]
