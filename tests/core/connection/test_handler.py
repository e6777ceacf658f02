"""Handlers: one at a time for each connection, in the order of its messages, each with its own current connection."""

from __future__ import annotations

import asyncio

import pytest

from fastws import NoCurrentConnectionError, ws

from ...kit.client import PING, PONG, TEXT, frame, turns, until
from ...kit.services import AsyncCommanded, AsyncEcho, Commanded, Echo, Log, Watch, at
from ...kit.wires import MemoryWire, wired


class Gate:
    """Where handlers wait until the test lets them go."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.waiting = 0

    async def wait(self) -> None:
        self.waiting += 1
        await self.event.wait()


# ---------------------------------------------------------------------------------------------------------------------
# Order


@pytest.mark.parametrize("service", [Echo, AsyncEcho])
async def test_replies_come_in_the_order_of_the_messages(serve, connect, service):
    client = await connect(await serve(service))
    numbers = [str(number) for number in range(500)]
    client.send(*numbers)
    assert await client.texts(500) == numbers


async def test_handlers_of_one_connection_never_overlap(serve, connect):
    running = []
    most = []

    async def enter() -> str:
        running.append(None)
        most.append(len(running))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.pop()
        return "done"

    client = await connect(await serve(AsyncCommanded(enter=enter)))
    client.send(*["enter"] * 50)
    assert await client.texts(50) == ["done"] * 50
    assert most == [1] * 50


async def test_a_message_waits_for_the_suspended_on_open(serve, connect):
    gate = Gate()

    @at()
    class Slow(Echo):
        @ws.on_open
        async def opened(self) -> None:
            await gate.wait()
            ws.push_text("opened")

    client = await connect(await serve(Slow()))
    client.send("first", "second")
    await until(lambda: gate.waiting)
    gate.event.set()
    assert await client.texts(3) == ["opened", "first", "second"]


async def test_messages_of_both_kinds_and_controls_keep_their_order(serve, connect):
    @at()
    class Order(Log):
        @ws.on_text_message
        async def text(self, text: str) -> None:
            await asyncio.sleep(0)
            self.saw(text)

        @ws.on_binary_message
        @ws.on_ping
        def other(self, data: bytes) -> None:
            self.saw(data)

    order = Order()
    client = await connect(await serve(order))
    client.send("1", b"2")
    client.write(frame(PING, b"3"))
    client.send("4")
    assert [await order.next() for _ in range(4)] == [("1",), (b"2",), (b"3",), ("4",)]


async def test_a_suspended_handler_holds_back_its_own_connection_only(serve, connect):
    gate = Gate()

    async def here() -> str:
        return "here"

    server = await serve(AsyncCommanded(wait=gate.wait, here=here))
    stuck, free = await connect(server), await connect(server)
    stuck.send("wait", "here")
    await until(lambda: gate.waiting)
    assert await free.asks("here") == "here"
    gate.event.set()
    assert await stuck.text() == "here"


async def test_pings_are_answered_while_a_handler_is_suspended(serve, connect):
    gate = Gate()
    client = await connect(await serve(AsyncCommanded(wait=gate.wait)))
    client.send("wait")
    await until(lambda: gate.waiting)
    client.write(frame(PING, b"alive?"))
    assert await client.receive() == (PONG, b"alive?")
    gate.event.set()


@at(max_queue=4, max_message_size=100_000)
class Queued(Log):
    """Waits at the first message."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    @ws.on_text_message
    async def text(self, text: str) -> None:
        if not self.gate.event.is_set():
            await self.gate.wait()
        self.saw(text)

    async def all(self, count: int) -> list[str]:
        return [(await self.next())[0] for _ in range(count)]


@pytest.mark.parametrize(("count", "length"), [(6, 10), (4, 60_000)])
async def test_a_full_inbox_pauses_reading_until_there_is_room(count, length):
    service = Queued()
    messages = [str(number).rjust(length, ".") for number in range(count + 1)]
    async with wired(service, MemoryWire, 1) as (_, (wire,)):
        for message in messages[:-1]:
            assert wire.reading
            wire.send(frame(TEXT, message.encode()))
            await turns(2)
        assert not wire.reading
        wire.send(frame(TEXT, messages[-1].encode()))
        service.gate.event.set()
        assert await service.all(count + 1) == messages
        assert wire.reading


async def test_one_read_with_more_than_the_inbox_takes_loses_nothing():
    service = Queued()
    messages = [str(number) for number in range(300)]
    async with wired(service, MemoryWire, 1) as (_, (wire,)):
        wire.send(b"".join(frame(TEXT, message.encode()) for message in messages))
        await until(lambda: not wire.reading)
        wire.send(frame(TEXT, b"behind"))
        service.gate.event.set()
        assert await service.all(301) == [*messages, "behind"]


@pytest.mark.plain("what waits below TLS is not told")
async def test_a_client_feels_that_its_messages_are_not_handled(serve, connect):
    service = Queued()
    client = await connect(await serve(service))
    messages = [f"{number} ".ljust(50_000, ".") for number in range(400)]
    client.send(*messages)
    await until(lambda: service.gate.waiting)
    for _ in range(20):
        await turns()
        assert client.transport.get_write_buffer_size() > 0
    service.gate.event.set()
    assert await service.all(400) == messages
    assert client.transport.get_write_buffer_size() == 0


# ---------------------------------------------------------------------------------------------------------------------
# The current connection


async def test_two_suspended_handlers_push_to_their_own_clients(serve, connect):
    gate = Gate()

    @at()
    class Private(Watch):
        @ws.on_text_message
        async def said(self, text: str) -> str:
            ws.push_text(f"{text} before")
            await gate.wait()
            ws.push_text(f"{text} after")
            await asyncio.sleep(0)
            ws.store_connection(text)
            return f"{text} reply"

    server = await serve(Private())
    one, two = await connect(server), await connect(server)
    one.send("one")
    two.send("two")
    await until(lambda: gate.waiting == 2)
    gate.event.set()
    assert await one.texts(3) == ["one before", "one after", "one reply"]
    assert await two.texts(3) == ["two before", "two after", "two reply"]
    assert server.stored["one"] is not server.stored["two"]


async def test_a_task_made_in_a_handler_still_knows_the_connection(serve, connect):
    tasks = []

    async def later() -> None:
        await turns()
        ws.push_text("later")

    def start() -> str:
        tasks.append(asyncio.get_running_loop().create_task(later()))
        return "started"

    server = await serve(Commanded(start=start))
    client, other = await connect(server), await connect(server)
    client.send("start")
    assert await client.texts(2) == ["started", "later"]
    other.send("start")
    assert await other.texts(2) == ["started", "later"]


async def test_a_callback_made_in_a_handler_still_knows_the_connection(serve, connect):
    def start() -> None:
        asyncio.get_running_loop().call_soon(ws.push_text, "called")

    client = await connect(await serve(Commanded(start=start)))
    assert await client.asks("start") == "called"


async def test_outside_of_a_handler_there_is_no_current_connection(serve, connect):
    server = await serve(Echo())
    client = await connect(server)
    assert await client.asks("hello") == "hello"
    calls = {
        "push_text": lambda: ws.push_text("?"),
        "push_binary": lambda: ws.push_binary(b"?"),
        "broadcast_text": lambda: ws.broadcast_text("?"),
        "broadcast_binary": lambda: ws.broadcast_binary(b"?"),
        "store_connection": lambda: ws.store_connection("?"),
        "add_connection_to_group": lambda: ws.add_connection_to_group("?"),
        "remove_connection_from_group": lambda: ws.remove_connection_from_group("?"),
        "close_connection": ws.close_connection,
    }
    for name, call in calls.items():
        with pytest.raises(NoCurrentConnectionError, match=f"ws.{name} acts on the connection whose handler runs"):
            call()


async def test_a_push_to_a_connection_that_ended_meanwhile_is_dropped(serve, connect):
    gate = Gate()

    @at()
    class Late(Watch):
        @ws.on_text_message
        async def said(self) -> str:
            await gate.wait()
            self.saw(ws.push_text("late"))
            ws.add_connection_to_group("late")
            ws.store_connection("late")
            return "reply"

    late = Late()
    server = await serve(late)
    client = await connect(server)
    client.send("go")
    await until(lambda: gate.waiting)
    client.reset()
    await until(lambda: len(server.connections(late)) == 0)
    gate.event.set()
    assert await late.next() == (ws.Delivery(1, 0, 1),)
    assert await late.next() == ("closed", 1006, "")
    assert (len(server.groups), len(server.stored)) in {(0, 0), (1, 0)}
    assert not server.stored
