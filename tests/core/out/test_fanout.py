"""One frame to many connections: who gets it, what it returns, and how many system calls it costs."""

from __future__ import annotations

import gc

import pytest

from fastws import _speedups, ws

from ...kit import reference
from ...kit.client import BINARY, TEXT, frame, take_frames, turns
from ...kit.services import Commanded, Echo, Patient, Watch, at
from ...kit.wires import PacketWire, StreamWire, texts, wired


def live_chunks() -> int:
    gc.collect()
    return _speedups.live_objects()["chunks"]


# ---------------------------------------------------------------------------------------------------------------------
# Recipients


async def test_a_broadcast_reaches_everybody_of_the_service_the_sender_too(serve, connect):
    service = Commanded(shout=lambda: ws.broadcast_text("hear") and None)
    server = await serve(service)
    clients = [await connect(server) for _ in range(3)]
    clients[0].send("shout")
    assert [await client.text() for client in clients] == ["hear"] * 3


async def test_a_broadcast_stays_within_its_service(serve, connect):
    @at("/other")
    class Other(Echo):
        pass

    server = await serve(Commanded(shout=lambda: ws.broadcast_text("ours") and None), Other())
    ours, theirs = await connect(server), await connect(server, "/other")
    ours.send("shout")
    assert await ours.text() == "ours"
    assert await theirs.asks("nothing before this") == "nothing before this"


@pytest.mark.parametrize("form", ["one", "tuple", "set", "generator"])
async def test_who_is_excluded_is_left_out(form):
    async with wired(Watch(), PacketWire, 3) as (connections, wires):
        one = connections[1]
        exclude = {"one": one, "tuple": (one,), "set": {one}, "generator": (each for each in [one, one])}[form]
        assert connections[0].broadcast_text("hear", exclude=exclude) == ws.Delivery(2, 2, 0)
        assert connections[0].broadcast_text("all") == ws.Delivery(3, 3, 0)
        await turns()
        assert [texts(wire.packets()) for wire in wires] == [[["hear", "all"]], [["all"]], [["hear", "all"]]]


async def test_a_broadcast_that_excludes_everybody_matches_nobody():
    async with wired(Watch(), PacketWire, 2) as (connections, wires):
        delivery = connections[0].broadcast_text("hear", exclude=connections)
        assert (delivery, bool(delivery)) == (ws.Delivery(0, 0, 0), False)
        await turns()
        assert [wire.packets() for wire in wires] == [[], []]


async def test_a_wrong_exclude_reaches_nobody():
    async with wired(Watch(), PacketWire, 2) as (connections, wires):
        with pytest.raises(TypeError, match="exclude takes connections, not str"):
            connections[0].broadcast_text("hear", exclude=(connections[1], "Bob"))
        assert connections[0].broadcast_text("all") == ws.Delivery(2, 2, 0)
        await turns()
        assert [texts(wire.packets()) for wire in wires] == [[["all"]], [["all"]]]


async def test_a_member_of_overlapping_groups_gets_each_push_once():
    async with wired(Watch(), PacketWire, 3) as (connections, wires):
        for connection in connections[:2]:
            connection.join("a")
        for connection in connections[1:]:
            connection.join("b")
        assert ws.push_text_to_group("a", "to a") == ws.Delivery(2, 2, 0)
        connections[1].push_text("to one")
        assert ws.push_text_to_group("b", "to b") == ws.Delivery(2, 2, 0)
        connections[0].broadcast_text("to all")
        await turns()
        assert [texts(wire.packets()) for wire in wires] == [
            [["to a", "to all"]],
            [["to a", "to one", "to b", "to all"]],
            [["to b", "to all"]],
        ]


async def test_the_counts_of_a_delivery_tell_who_is_closing():
    async with wired(Watch(), PacketWire, 3) as (connections, _):
        connections[1].close()
        delivery = connections[0].broadcast_text("hear")
        assert (delivery.matched, delivery.queued, delivery.dropped) == (3, 2, 1)
        assert delivery == ws.Delivery(3, 2, 1) != ws.Delivery(3, 3, 0)
        assert repr(delivery) == "Delivery(matched=3, queued=2, dropped=1)"


async def test_a_push_to_nobody_is_false_and_no_error():
    async with wired(Watch(), PacketWire, 1) as (connections, _):
        for delivery in (
            ws.push_text_to_connection("nobody", "?"),
            ws.push_binary_to_connection("nobody", b"?"),
            ws.push_text_to_group("empty", "?"),
            ws.push_binary_to_group("empty", b"?"),
        ):
            assert delivery == ws.Delivery(0, 0, 0)
            assert not delivery
        assert connections[0].push_text("!")


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"bytes"), memoryview(b"bytes")])
async def test_binary_pushes_take_what_holds_bytes(data):
    async with wired(Watch(), PacketWire, 1) as (connections, wires):
        (connection,) = connections
        connection.store("name")
        connection.join("group")
        connection.push_binary(data)
        connection.broadcast_binary(data)
        ws.push_binary_to_connection("name", data)
        ws.push_binary_to_group("group", data)
        await turns()
        assert b"".join(wires[0].packets()) == b"\x82\x05bytes" * 4


async def test_what_is_pushed_does_not_change_any_more():
    data = bytearray(b"x" * 40000)
    async with wired(Watch(), PacketWire, 2) as (connections, wires):
        connections[0].broadcast_binary(data)
        data[:] = b"y" * 40000
        await turns()
        assert [take_frames(b"".join(wire.packets())) for wire in wires] == [[(BINARY, b"x" * 40000)]] * 2


@pytest.mark.parametrize("wrong", [b"bytes", 1, None])
async def test_text_pushes_take_only_text(wrong):
    async with wired(Watch(), PacketWire, 1) as (connections, _):
        for push in (connections[0].push_text, connections[0].broadcast_text):
            with pytest.raises(TypeError):
                push(wrong)


@pytest.mark.parametrize("wrong", ["text", 1, None, [1]])
async def test_binary_pushes_take_only_bytes(wrong):
    async with wired(Watch(), PacketWire, 1) as (connections, wires):
        for push in (connections[0].push_binary, connections[0].broadcast_binary):
            with pytest.raises(TypeError, match="expected bytes, not"):
                push(wrong)
        await turns()
        assert wires[0].packets() == []


async def test_text_that_has_no_utf8_is_refused_and_nothing_is_sent():
    async with wired(Watch(), PacketWire, 1) as (connections, wires):
        for push in (connections[0].push_text, connections[0].broadcast_text):
            with pytest.raises(UnicodeEncodeError):
                push("\ud800")
        await turns()
        assert wires[0].packets() == []


# ---------------------------------------------------------------------------------------------------------------------
# System calls


async def test_many_broadcasts_of_a_turn_cost_one_send_for_each_connection():
    async with wired(Watch(), PacketWire, 20) as (connections, wires):
        for number in range(50):
            connections[0].broadcast_text(str(number))
        await turns()
        assert [texts(wire.packets()) for wire in wires] == [[[str(number) for number in range(50)]]] * 20


async def test_everything_that_a_read_leads_to_costs_one_send_for_each_connection():
    def act() -> str:
        ws.push_text("own")
        ws.broadcast_text("all")
        return "reply"

    async with wired(Commanded(act=act), PacketWire, 3) as (_, wires):
        wires[0].send(frame(TEXT, b"act") * 2)
        await turns()
        assert [texts(wire.packets()) for wire in wires] == [[["own", "all", "reply"] * 2], *[[["all", "all"]]] * 2]


async def test_replies_of_a_read_go_out_with_one_send_at_its_end():
    async with wired(Echo(), PacketWire, 1) as (_, wires):
        wires[0].send(b"".join(frame(TEXT, b"%d" % number) for number in range(30)))
        assert texts(wires[0].packets()) == [[str(number) for number in range(30)]]


async def test_a_lone_push_goes_out_at_once_and_its_followers_with_the_turn():
    async with wired(Watch(), PacketWire, 1) as (connections, wires):
        await turns()
        for text in ("lone", "second", "third"):
            connections[0].push_text(text)
        assert texts(wires[0].packets()) == [["lone"]]
        await turns()
        assert texts(wires[0].packets()) == [["second", "third"]]


@pytest.mark.parametrize("length", [32768, 32769, 65536, 100000])
async def test_a_long_payload_is_sent_with_its_header_in_one_call(length):
    async with wired(Watch(), PacketWire, 2) as (connections, wires):
        connections[0].broadcast_binary(b"x" * length)
        await turns()
        for wire in wires:
            (packet,) = wire.packets()
            assert take_frames(packet) == [(BINARY, b"x" * length)]


async def test_frames_of_a_turn_are_joined_up_to_a_bound_and_keep_their_order():
    sizes = [100, *[30000] * 9, 40000, 5, 70000, 5, 5]
    async with wired(Watch(), PacketWire, 2) as (connections, wires):
        for number, size in enumerate(sizes):
            connections[0].broadcast_binary(b"%x" % number * size)
        await turns()
        for wire in wires:
            packets = wire.packets()
            frames = [take_frames(packet) for packet in packets]
            expected = [(BINARY, b"%x" % number * size) for number, size in enumerate(sizes)]
            assert [each for packet in frames for each in packet] == expected
            assert [len(packet) for packet in frames] == [9, 6], "256 KiB and no more"


async def test_a_long_payload_is_let_go_once_all_have_got_it():
    payload = bytes(100_000)
    async with wired(Patient(), StreamWire, 5) as (connections, wires):
        before = live_chunks()
        connections[0].broadcast_binary(payload)
        await turns()
        assert live_chunks() <= before + 1, "one chunk, whoever waits for it"
        assert sum(connection.buffered for connection in connections) > 0
        received = [b""] * 5
        while any(len(each) < 100_010 for each in received):
            received = [each + wire.receive() for each, wire in zip(received, wires, strict=True)]
            await turns()
        assert live_chunks() == before


async def test_one_broadcast_is_one_chunk_however_many_get_it():
    async with wired(Watch(), PacketWire, 50) as (connections, _):
        before = live_chunks()
        for _ in range(10):
            connections[0].broadcast_text("hear")
        assert live_chunks() <= before + 2
        await turns()
        assert live_chunks() == before


# ---------------------------------------------------------------------------------------------------------------------
# What collects in a turn


@pytest.mark.parametrize("rooms", [2, 3, 8])
@pytest.mark.parametrize("order", ["in a row", "alternately"])
async def test_frames_are_joined_once_for_each_history_in_whatever_order_members_came(rooms, order):
    """As many chunks as there are rooms, and not one for each member."""
    async with wired(Watch(), PacketWire, 24) as (connections, wires):
        for number, connection in enumerate(connections):
            connection.join(f"room {number % rooms if order == 'alternately' else number * rooms // 24}")
        before = live_chunks()
        for number in range(5):
            for room in range(rooms):
                assert ws.push_text_to_group(f"room {room}", f"{room}, {number}").queued == 24 // rooms
        assert connections[0].broadcast_text("all").queued == 24
        assert connections[0].broadcast_text("again").queued == 24
        assert live_chunks() - before == rooms
        await turns()
        for connection, wire in zip(connections, wires, strict=True):
            (room,) = (name.removeprefix("room ") for name in connection.groups)
            assert texts(wire.packets()) == [[*(f"{room}, {number}" for number in range(5)), "all", "again"]]


async def test_what_collects_for_single_connections_is_bounded():
    """Each member holds something of its own, so that frames are copied for each: from 16 MiB on they leave at once."""
    count, length, rounds = 80, 16_000, 15
    async with wired(Patient(), PacketWire, count) as (connections, wires):
        expected = [b"" for _ in wires]
        for number in range(rounds):
            for place, connection in enumerate(connections):
                connection.push_text(f"{place}")
                expected[place] += reference.frame(TEXT, f"{place}".encode())
                expected[place] += reference.frame(BINARY, bytes([number]) * length)
            connections[0].broadcast_binary(bytes([number]) * length)
        assert sum(connection.buffered for connection in connections) < (1 << 24) + count * length
        received = [b"".join(wire.packets()) for wire in wires]
        assert any(received)
        await turns()
        assert [early + b"".join(wire.packets()) for early, wire in zip(received, wires, strict=True)] == expected
