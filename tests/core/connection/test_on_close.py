"""on_close: once for each connection that opened, behind its other handlers, and nothing is kept afterwards."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import weakref

import pytest

from fastws import ws

from ...kit.client import CLOSE, TEXT, close_payload, frame, until, within
from ...kit.services import Log, Watch, at, nothing_follows


@at()
class Wait(Watch):
    """Its handler waits until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    @ws.on_text_message
    async def wait(self, text: str) -> str:
        self.saw("waits")
        await self.go.wait()
        self.saw("done")
        return text


@at()
class Deaf(Watch):
    """Its handler waits for what only itself knows."""

    @ws.on_text_message
    async def wait(self, text: str) -> None:
        self.saw("waits")
        await asyncio.Event().wait()


@at()
class Both(Log):
    """Notes what both sides said at the end."""

    @ws.on_close
    def closed(self, code: int, *, received_code: int | None, sent_code: int | None) -> None:
        self.saw(code, sent_code, received_code)

    @ws.on_text_message
    def close(self, connection: ws.Connection) -> None:
        connection.close(4001, "as you wish")


CLOSE_1000 = frame(CLOSE, close_payload(1000))


@pytest.mark.parametrize(
    ("sends", "expected"),
    [
        ([CLOSE_1000], (1000, 1000, 1000)),
        ([frame(CLOSE)], (1005, 1005, 1005)),
        ([frame(TEXT), CLOSE_1000], (1000, 4001, 1000)),
        ([frame(TEXT), frame(CLOSE)], (1005, 4001, 1005)),
        ([frame(TEXT) + frame(CLOSE, close_payload(4999))], (4999, 4001, 4999)),
        ([b"\x88\x00"], (1002, 1002, None)),
        ([frame(CLOSE, b"\0\0")], (1002, 1002, None)),
        ([frame(TEXT), frame(CLOSE, b"\0\0")], (4001, 4001, None)),
        ([], (1006, None, None)),
        ([frame(TEXT), None], (4001, 4001, None)),
    ],
    ids=repr,
)
async def test_on_close_and_the_connection_tell_what_either_side_said(opened, sends, expected):
    service = Both()
    _, client, connection = await opened(service, close_timeout=0.05)
    assert (connection.sent_code, connection.received_code) == (None, None)
    for data in sends:
        if data is not None:
            client.write(data)
        if len(sends) == 2 and data is sends[0]:
            assert await client.close_frame() == (4001, "as you wish")
            assert (connection.sent_code, connection.received_code) == (4001, None)
    if not sends:
        client.reset()
    assert await service.next() == expected
    assert (connection.close_code, connection.sent_code, connection.received_code) == expected


@pytest.mark.parametrize(
    ("sends", "line"),
    [
        (CLOSE_1000, "connection %d of Both closed: 1000 '' (sent 1000, received 1000)"),
        (b"\x88\x00", "connection %d of Both closed: 1002 'protocol error' (sent 1002, received None)"),
    ],
)
async def test_the_log_tells_both_codes_to_those_who_debug(opened, caplog, sends, line):
    caplog.set_level(logging.DEBUG, "fastws")
    service = Both()
    _, client, connection = await opened(service)
    client.write(sends)
    await service.next()
    assert [each.message for each in caplog.records if each.name == "fastws"] == [line % connection.id]


async def test_on_close_comes_although_nobody_knows_the_suspended_handler(opened):
    service = Deaf()
    server, client, _ = await opened(service, close_timeout=0.05)
    client.send("first")
    assert await service.next() == ("waits",)
    client.reset()
    await until(lambda: service.connections[0].close_code == 1006)
    service.connections.clear()
    gc.collect()
    assert await service.next() == ("closed", 1006, "")
    await nothing_follows(server, service)


async def test_on_close_itself_may_wait_for_what_nobody_else_knows(opened):
    @at()
    class Waits(Log):
        @ws.on_close
        async def closed(self) -> None:
            self.saw("waits")
            try:
                await asyncio.Event().wait()
            finally:
                self.saw("done")

    service = Waits()
    _, client, _ = await opened(service, close_timeout=0.05)
    client.reset()
    assert await service.next() == ("waits",)
    service.connections.clear()
    gc.collect()
    assert await service.next() == ("done",)


async def test_on_close_waits_for_the_handler_that_is_suspended(opened):
    service = Wait()
    server, client, connection = await opened(service)
    client.send("first")
    assert await service.next() == ("waits",)
    client.reset()
    await until(lambda: connection.close_code == 1006)
    assert service.events.empty()
    service.go.set()
    assert [await service.next(), await service.next()] == [("done",), ("closed", 1006, "")]
    await nothing_follows(server, service)


async def test_a_handler_that_outlives_its_connection_is_cancelled(opened):
    service = Wait()
    server, client, _ = await opened(service, close_timeout=0.05)
    client.send("first")
    assert await service.next() == ("waits",)
    client.reset()
    assert await service.next() == ("closed", 1006, "")
    await nothing_follows(server, service)


async def test_messages_that_wait_for_a_suspended_handler_are_handled_before_on_close(opened):
    service = Wait()
    server, client, _ = await opened(service)
    client.send("1", "2", "3")
    assert await service.next() == ("waits",)
    client.send_close()
    await within(client.rest())
    service.go.set()
    seen = [await service.next() for _ in range(6)]
    assert seen == [("done",), ("waits",), ("done",), ("waits",), ("done",), ("closed", 1000, "")]
    await nothing_follows(server, service)


@pytest.mark.parametrize("end", ["close", "abort", "fail"])
async def test_a_connection_that_ends_within_on_open_still_gets_on_close_once(serve, connect, failures, end):
    @at()
    class Door(Log):
        @ws.on_open
        async def refuse(self, connection: ws.Connection) -> None:
            self.saw("opened")
            if end == "abort":
                await asyncio.Event().wait()
            elif end == "fail":
                raise RuntimeError
            connection.close(4003, "no")

        opened = None

        @ws.on_close
        def closed(self, code: int) -> None:
            self.saw("closed", code)

    door = Door()
    server = await serve(door, close_timeout=0.05)
    client = await connect(server)
    assert await door.next() == ("opened",)
    client.reset()
    assert await door.next() == ("closed", {"close": 4003, "abort": 1006, "fail": 1011}[end])
    await nothing_follows(server, door)
    assert len(failures.records) == (end == "fail")


async def test_a_failing_on_close_is_logged_and_ends_all_the_same(opened, failures):
    @at()
    class Last(Log):
        @ws.on_close
        def closed(self) -> None:
            self.saw("closed")
            raise RuntimeError("too late")

    last = Last()
    server, client, _ = await opened(last)
    await client.close()
    assert await last.next() == ("closed",)
    await nothing_follows(server, last)
    assert failures.messages() == ["Last.closed failed on connection 1"]


async def test_an_ended_connection_is_freed(opened):
    watch = Watch()
    server, client, connection = await opened(watch)
    connection.attributes["self"] = "something"
    gone = weakref.ref(connection)
    await client.close()
    await watch.next()
    await until(lambda: len(server.connections(watch)) == 0)
    watch.connections.clear()
    del connection

    def freed() -> bool:
        gc.collect()
        return gone() is None

    await until(freed)


async def test_connections_that_were_pushed_to_in_every_way_are_freed(serve, connect):
    watch = Watch()
    server = await serve(watch)
    clients = [await connect(server) for _ in range(5)]
    await until(lambda: len(watch.connections) == 5)
    for number, connection in enumerate(watch.connections):
        connection.store("taken over")
        connection.store(f"own {number}")
        connection.join("all")
        connection.join(f"own {number}")
        connection.broadcast_text("x", exclude=watch.connections[number:])
        connection.push_binary(bytes(1_000_000))
        ws.push_text_to_group("all", "x")
    waiting = [asyncio.ensure_future(connection.drain()) for connection in watch.connections]
    gone = [weakref.ref(connection) for connection in watch.connections]
    for client in clients:
        client.reset()
    for _ in clients:
        assert await watch.next() == ("closed", 1006, "")
    await within(asyncio.gather(*waiting))
    watch.connections.clear()
    waiting.clear()
    del connection
    await until(lambda: gc.collect() >= 0 and not any(connection() for connection in gone))


async def test_on_close_may_wait(opened):
    @at()
    class Slow(Log):
        @ws.on_close
        async def closed(self, connection: ws.Connection, code: int, reason: str) -> None:
            self.saw("first", code, reason, connection.is_open)
            await asyncio.sleep(0)
            self.saw("second", ws.push_text("?"), ws.broadcast_text("?"))

    slow = Slow()
    server, client, _ = await opened(slow)
    await client.close(4000, "bye")
    assert await slow.next() == ("first", 4000, "bye", False)
    assert await slow.next() == ("second", ws.Delivery(1, 0, 1), ws.Delivery(0, 0, 0))
    await nothing_follows(server, slow)


async def test_an_on_close_that_never_ends_is_cancelled(opened):
    @at()
    class Endless(Log):
        @ws.on_close
        async def closed(self) -> None:
            try:
                self.saw("waits")
                await asyncio.Event().wait()
            finally:
                self.saw("cancelled")

    endless = Endless()
    server, client, _ = await opened(endless, close_timeout=0.05)
    await client.close()
    assert [await endless.next(), await endless.next()] == [("waits",), ("cancelled",)]
    await nothing_follows(server, endless)


async def test_on_close_comes_behind_on_error(opened, failures):
    @at()
    class Failing(Log):
        @ws.on_text_message
        def fail(self) -> None:
            raise KeyError

        @ws.on_error
        async def failed(self) -> None:
            self.saw("error")
            await asyncio.sleep(0)
            self.saw("error is done")

        @ws.on_close
        def closed(self, code: int) -> None:
            self.saw("closed", code)

    failing = Failing()
    server, client, _ = await opened(failing)
    client.send("fail")
    client.end_stream()
    seen = [await failing.next() for _ in range(3)]
    assert seen[:2] == [("error",), ("error is done",)]
    assert seen[2][0] == "closed"
    await nothing_follows(server, failing)
    assert len(failures.records) == 1


async def test_a_handler_may_close_another_connection_whose_message_is_being_handled(serve, connect):
    gate = asyncio.Event()

    @at()
    class Rivals(Watch):
        @ws.on_text_message
        async def said(self, connection: ws.Connection, text: str) -> str:
            if text == "wait":
                connection.store("victim")
                await gate.wait()
            else:
                self.saw(ws.close_stored_connection("victim", 4000, text))
                gate.set()
            return "reply"

    rivals = Rivals()
    server = await serve(rivals)
    victim, other = await connect(server), await connect(server)
    victim.send("wait")
    await until(lambda: "victim" in server.stored)
    assert await other.asks("out") == "reply"
    assert await rivals.next() == (True,)
    victim.send_close(4000)
    assert await victim.rest() == [(CLOSE, close_payload(4000, "out"))]
    assert await rivals.next() == ("closed", 4000, "")


class Keepsake:
    """Something of a client's, whose end can be seen."""


@at()
class Lingering(Watch):
    """Starts in a handler what outlives the connection: a timer, a task and a thread's future."""

    def __init__(self, start) -> None:
        super().__init__()
        self.start = start

    @ws.on_text_message
    def said(self, connection: ws.Connection) -> None:
        keepsake = connection.attributes["keepsake"] = Keepsake()
        self.keepsake = weakref.ref(keepsake)
        self.left = self.start()


def timer() -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(3600, print)


def task() -> asyncio.Task:
    return asyncio.ensure_future(asyncio.sleep(3600))


def copied_context() -> contextvars.Context:
    return contextvars.copy_context()


@pytest.mark.parametrize("start", [timer, task, copied_context])
async def test_what_a_handler_leaves_behind_does_not_keep_its_connection(opened, start):
    service = Lingering(start)
    server, client, connection = await opened(service)
    connection = weakref.ref(connection)
    service.connections.clear()
    client.send("start")
    await until(lambda: hasattr(service, "left"))
    await client.close()
    await nothing_follows_but_the_close(server, service)
    assert connection() is None
    assert service.keepsake() is None
    if start is not copied_context:
        service.left.cancel()


async def nothing_follows_but_the_close(server, service) -> None:
    assert await service.next() == ("closed", 1000, "")
    await nothing_follows(server, service)


async def test_a_task_that_outlives_its_connection_reaches_all_but_that(serve, connect):
    @at()
    class Late(Watch):
        go = None

        @ws.on_text_message
        def said(self) -> None:
            self.go = asyncio.Event()
            self.task = asyncio.ensure_future(self.later())

        async def later(self) -> None:
            await self.go.wait()
            self.saw(ws.push_text("late"), ws.broadcast_text("left"), ws.close_connection())
            ws.store_connection("late")
            ws.add_connection_to_group("late")
            self.saw(ws.remove_connection_from_group("late"))

    service = Late()
    server = await serve(service)
    client, other = await connect(server), await connect(server)
    client.send("go")
    await until(lambda: service.go)
    await client.close()
    assert await service.next() == ("closed", 1000, "")
    await until(lambda: len(server.connections(service)) == 1)
    service.go.set()
    assert await service.next() == (ws.Delivery(1, 0, 1), ws.Delivery(1, 1, 0), False)
    assert await service.next() == (False,)
    assert await other.text() == "left"
    assert "late" not in server.stored
    assert "late" not in server.groups
