"""Recipients that come, go and fail while something is on its way to them."""

from __future__ import annotations

import pytest

from fastws import ws

from ...kit.client import turns
from ...kit.services import Commanded, Watch, at
from ...kit.wires import PacketWire, texts, wired

pytestmark = pytest.mark.usefixtures("senders")


async def test_recipients_may_end_between_a_broadcast_and_its_sending():
    watch = Watch()
    async with wired(watch, PacketWire, 3) as (connections, wires):
        connections[0].broadcast_text("hear")
        wires[1].abort()
        connections[2].close()
        connections[0].broadcast_text("again")
        await turns()
        assert texts(wires[0].packets()) == [["hear", "again"]]
        assert b"".join(wires[2].packets()) == b"\x81\x04hear\x88\x02\x03\xe8"
        assert await watch.next() == ("closed", 1006, "")


async def test_a_failing_recipient_does_not_harm_the_others():
    async with wired(Watch(), PacketWire, 3) as (connections, wires):
        wires[1]._far.close()
        for number in range(3):
            connections[0].broadcast_text(str(number))
            await turns()
        assert [texts(wires[i].packets()) for i in (0, 2)] == [[["0"], ["1"], ["2"]]] * 2
        assert connections[0].broadcast_text("3") == ws.Delivery(3, 2, 1)


async def test_a_broadcast_in_on_close_reaches_everybody_but_the_leaver(serve, connect):
    @at()
    class Leaving(Watch):
        @ws.on_close
        def closed(self, connection: ws.Connection) -> None:
            connection.attributes["delivery"] = ws.broadcast_text("somebody left")
            self.saw(ws.broadcast_text("and was missed"))

    service = Leaving()
    server = await serve(service)
    leaver, *others = [await connect(server) for _ in range(3)]
    leaver.reset()
    assert [await other.texts(2) for other in others] == [["somebody left", "and was missed"]] * 2
    assert await service.next() == (ws.Delivery(2, 2, 0),)


async def test_a_broadcast_in_on_open_reaches_the_one_that_opens(serve, connect):
    @at()
    class Greeting(Watch):
        @ws.on_open
        def opened(self) -> None:
            ws.broadcast_text("somebody joined")

    server = await serve(Greeting())
    first = await connect(server)
    assert await first.text() == "somebody joined"
    second = await connect(server)
    assert [await first.text(), await second.text()] == ["somebody joined"] * 2


async def test_a_group_changes_between_two_pushes_of_one_turn():
    async with wired(Watch(), PacketWire, 4) as (connections, wires):
        for connection in connections[:3]:
            connection.join("g")
        ws.push_text_to_group("g", "1")
        connections[0].leave("g")
        connections[3].join("g")
        ws.push_text_to_group("g", "2")
        wires[1].abort()
        connections[0].join("g")
        ws.push_text_to_group("g", "3", exclude=connections[2])
        await turns()
        got = [texts(wires[i].packets()) for i in (0, 2, 3)]
        assert got == [[["1", "3"]], [["1", "2"]], [["2", "3"]]]


async def test_members_that_leave_while_a_group_is_gone_through_do_not_disturb_it(serve, connect):
    def scatter() -> str:
        for member in server.groups["g"]:
            member.leave("g")
        return str("g" in server.groups)

    def gather() -> str:
        ws.add_connection_to_group("g")
        return "in"

    server = await serve(Commanded(scatter=scatter, gather=gather))
    clients = [await connect(server) for _ in range(5)]
    for client in clients:
        assert await client.asks("gather") == "in"
    assert await clients[0].asks("scatter") == "False"


async def test_a_handler_that_broadcasts_while_it_is_broadcast_to_keeps_the_order(serve, connect):
    service = Commanded(a=lambda: ws.broadcast_text("a") and None, b=lambda: ws.broadcast_text("b") and None)
    server = await serve(service)
    one, two = await connect(server), await connect(server)
    one.send(*["a"] * 50)
    two.send(*["b"] * 50)
    first, second = await one.texts(100), await two.texts(100)
    assert first == second
    assert sorted(first) == ["a"] * 50 + ["b"] * 50
