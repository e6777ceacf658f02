"""Nodes in memory, and the links between them."""

from __future__ import annotations

import asyncio

import pytest

from fastws import http, ws
from fastws.testing import cluster


@http.base_path("/")
@ws.upgrade_path("/")
class Rooms:
    """Everybody is in a room, and may be known by a name."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.alone = False

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        connection.join("room")

    @ws.on_text_message
    async def said(self, connection: ws.Connection, text: str) -> str | None:
        verb, _, rest = text.partition(" ")
        if verb == "call":
            connection.store(rest)
        elif verb == "to":
            name, _, rest = rest.partition(" ")
            ws.push_text_to_connection(name, rest)
        elif verb == "count":
            return f"{await ws.count('room', timeout=1):d}"
        else:
            await asyncio.sleep(0)
            ws.push_text_to_group("room", text)
        return None

    @http.post("/say")
    def say(self, body: bytes) -> int:
        return ws.push_text_to_group("room", body.decode()).matched

    @ws.on_backplane
    def told(self, state: str) -> None:
        self.states.append(state)

    @ws.on_start(once=True)
    async def lead(self) -> None:
        self.alone = True
        try:
            await asyncio.Event().wait()
        finally:
            self.alone = False


@http.base_path("/rest")
class Rest:
    """Has no WebSocket of its own."""

    @http.post("/say")
    async def say(self, body: bytes) -> int:
        await asyncio.sleep(0)
        return ws.push_text_to_group("room", body.decode()).matched


def services(nodes):
    return [node.instances[0] for node in nodes]


async def test_a_group_and_a_name_reach_every_node(no_task_left):
    async with cluster(3, Rooms) as nodes:
        assert len(nodes) == 3
        clients = [await node.connect() for node in nodes]
        await clients[0].send("hello")
        for client in clients:
            await client.expect_text("hello")
        await clients[2].send("call bob")
        await clients[0].send("to bob hi")
        await clients[2].expect_text("hi")
        await clients[1].expect_nothing()
        assert (await nodes[1].post("/say", body="from HTTP")).json() == 1
        for client in clients:
            await client.expect_text("from HTTP")
        await clients[0].send("count")
        await clients[0].expect_text("3")
        assert nodes[2].call(ws.push_text_to_group, "room", "from a test").matched == 1
        for client in clients:
            await client.expect_text("from a test")


async def test_a_resource_of_a_service_without_a_websocket_belongs_to_its_node(no_task_left):
    async with cluster(2, Rest, Rooms) as nodes:
        clients = [await node.connect() for node in nodes]
        assert (await nodes[1].post("/rest/say", body="hi")).json() == 1
        for client in clients:
            await client.expect_text("hi")


async def test_a_node_that_is_cut_off_and_healed_knows_that_it_missed_something(no_task_left):
    async with cluster(2, Rooms) as nodes:
        one, other = [await node.connect() for node in nodes]
        nodes.cut(1)
        await one.send("lost")
        await one.expect_text("lost")
        await other.expect_nothing()
        assert [service.states for service in services(nodes)] == [["up", "gap"], ["up", "down", "gap"]]
        nodes.heal()
        await one.send("found")
        await other.expect_text("found")
        assert services(nodes)[1].states[-2:] == ["up", "gap"]


async def test_a_link_between_two_is_cut_and_the_third_hears_both(no_task_left):
    async with cluster(3, Rooms) as nodes:
        clients = [await node.connect() for node in nodes]
        nodes.cut(0, 1)
        await clients[0].send("hello")
        await clients[0].expect_text("hello")
        await clients[1].expect_nothing()
        await clients[2].expect_text("hello")
        nodes.heal()
        await clients[0].send("again")
        for client in clients:
            await client.expect_text("again")


async def test_messages_take_as_long_as_the_test_says(no_task_left):
    async with cluster(2, Rooms) as nodes:
        one, other = [await node.connect() for node in nodes]
        nodes.delay(0.5)
        await one.send("slow")
        await nodes.clock.advance(0.4)
        await other.expect_nothing()
        nodes.delay(0)
        await one.send("fast")
        await other.expect_nothing()  # no message overtakes another one
        await nodes.clock.advance(0.1)
        await other.expect_text("slow")
        await other.expect_text("fast")


async def test_one_of_all_does_what_one_shall_do(no_task_left):
    async with cluster(2, Rooms) as nodes:
        assert [service.alone for service in services(nodes)] == [True, False]
        await nodes[0].close()
        await nodes.clock.advance(0.2)
        assert [service.alone for service in services(nodes)] == [False, True]


async def test_mistakes_are_told(no_task_left):
    with pytest.raises(TypeError, match="1 or more"):
        cluster(0, Rooms)
    async with cluster(1, Rooms) as nodes:
        for wrong, words in ((nodes.cut, "name a node"), (lambda: nodes.delay(-1), "0 or more")):
            with pytest.raises(TypeError, match=words):
                wrong()
