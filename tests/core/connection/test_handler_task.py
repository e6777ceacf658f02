"""What a handler runs as: a context of its connection, a Task that is the same all along, the server's thread."""

from __future__ import annotations

import asyncio
import contextvars
import sys

import pytest

from fastws import ws

from ...kit.client import TEXT, frame, turns, until
from ...kit.services import AsyncCommanded, Commanded, Watch, at
from ...kit.wires import PacketWire, wired

marker = contextvars.ContextVar("marker", default="unset")


# ---------------------------------------------------------------------------------------------------------------------
# Context variables


@pytest.mark.parametrize("service", [Commanded, AsyncCommanded])
async def test_context_variables_belong_to_one_connection_and_last(serve, connect, service):
    values = iter(["first", "second"])

    def set_it() -> str:
        marker.set(next(values))
        return "set"

    async def set_it_async() -> str:
        set_it()
        await asyncio.sleep(0)
        return marker.get() and "set"

    async def get_async() -> str:
        before = marker.get()
        await asyncio.sleep(0)
        assert marker.get() == before
        return before

    does = {"set": set_it, "get": marker.get} if service is Commanded else {"set": set_it_async, "get": get_async}
    server = await serve(service(**does))
    one, two, three = [await connect(server) for _ in range(3)]
    assert await one.asks("set") == "set"
    assert await two.asks("set") == "set"
    assert [await each.asks("get") for each in (one, two, three)] == ["first", "second", "unset"]
    assert marker.get() == "unset"


# ---------------------------------------------------------------------------------------------------------------------
# Tasks


async def test_the_current_task_is_the_same_before_and_after_an_await(serve, connect):
    tasks = []

    async def look() -> str:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        await asyncio.get_running_loop().create_task(turns())
        tasks.append(asyncio.current_task())
        return "looked"

    server = await serve(AsyncCommanded(look=look))
    one, two = await connect(server), await connect(server)
    assert await one.asks("look") == "looked"
    assert await two.asks("look") == "looked"
    assert tasks[0] is tasks[1] is tasks[2]
    assert tasks[3] is tasks[4] is tasks[5]
    assert tasks[0] is not tasks[3]
    assert all(isinstance(task, asyncio.Task) for task in tasks)
    assert tasks[0].done()
    tasks.clear()


async def test_a_handler_that_runs_within_another_task_gives_it_back():
    seen = []

    async def look() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async with wired(AsyncCommanded(look=look), PacketWire, 1) as (_, (wire,)):
        mine = asyncio.current_task()
        wire.send(frame(TEXT, b"look") * 2)
        assert asyncio.current_task() is mine
        await until(lambda: len(seen) == 4)
        assert seen[0] is seen[1] is not seen[2] is seen[3]
        assert mine not in seen
        seen.clear()


async def test_a_def_handler_has_no_current_task(serve, connect):
    client = await connect(await serve(Commanded(task=lambda: str(asyncio.current_task()))))
    assert await client.asks("task") == "None"


async def test_a_wait_within_a_handler_may_time_out(serve, connect):
    async def wait() -> str:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except asyncio.TimeoutError:
            return "timed out"
        return "never"

    client = await connect(await serve(AsyncCommanded(wait=wait)))
    client.send("wait", "wait")
    assert await client.texts(2) == ["timed out"] * 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout() is new in 3.11")
async def test_asyncio_timeout_works_from_the_first_step_on(serve, connect):
    async def wait() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(0)
            return f"timed out, {asyncio.current_task().cancelling()} left"
        return "never"

    async def expired() -> str:
        try:
            async with asyncio.timeout(-1):
                await asyncio.sleep(0)
        except TimeoutError:
            return "at once"
        return "never"

    async def in_time() -> str:
        async with asyncio.timeout(10):
            pass
        return "in time"

    client = await connect(await serve(AsyncCommanded(wait=wait, expired=expired, in_time=in_time)))
    client.send("wait", "expired", "in_time", "wait")
    assert await client.texts(4) == ["timed out, 0 left", "at once", "in time", "timed out, 0 left"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup is new in 3.11")
async def test_a_task_group_works_within_a_handler(serve, connect):
    async def child(name: str) -> None:
        await asyncio.sleep(0)
        ws.push_text(name)

    async def group() -> str:
        async with asyncio.TaskGroup() as tasks:
            for name in ("a", "b", "c"):
                tasks.create_task(child(name))
        return "all"

    async def failing() -> str:
        async def fail() -> None:
            raise KeyError

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
                await asyncio.Event().wait()
        except Exception as group:
            return f"failed with {group.exceptions!r}"
        return "never"

    client = await connect(await serve(AsyncCommanded(group=group, failing=failing)))
    client.send("group", "failing", "group")
    assert await client.texts(9) == ["a", "b", "c", "all", "failed with (KeyError(),)", "a", "b", "c", "all"]


async def test_a_handler_may_be_cancelled_from_outside_and_fails(serve, connect, failures):
    tasks = []

    async def wait() -> None:
        tasks.append(asyncio.current_task())
        await asyncio.Event().wait()

    service = AsyncCommanded(wait=wait)
    client = await connect(await serve(service))
    client.send("wait")
    await until(lambda: tasks)
    tasks.pop().cancel()
    assert await client.close_frame() == (1011, "internal error")
    client.send_close(1011)
    assert await service.next() == ("closed", 1011, "")
    assert failures.messages() == ["AsyncCommanded.obey failed on connection 1"]
    assert isinstance(failures.records[0].exc_info[1], asyncio.CancelledError)


@pytest.mark.parametrize("suspends", [True, False])
async def test_a_handler_may_cancel_itself(serve, connect, failures, suspends):
    async def cancel() -> str:
        asyncio.current_task().cancel()
        if not suspends:
            return "returned"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            getattr(asyncio.current_task(), "uncancel", int)()
        await asyncio.sleep(0)
        return "went on"

    async def hello() -> str:
        await asyncio.sleep(0)
        return "hello"

    server = await serve(AsyncCommanded(cancel=cancel, hello=hello))
    client, other = await connect(server), await connect(server)
    client.send("cancel", "hello")
    assert await client.texts(2) == ["went on" if suspends else "returned", "hello"]
    assert await other.asks("hello") == "hello"
    assert failures.messages() == []


async def test_handlers_that_are_cancelled_do_not_spoil_those_after_them(serve, connect):
    async def cancelled_child() -> str:
        child = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(child.cancel)
        try:
            await child
        except asyncio.CancelledError:
            return "child was cancelled"
        return "never"

    client = await connect(await serve(AsyncCommanded(child=cancelled_child)))
    client.send(*["child"] * 3)
    assert await client.texts(3) == ["child was cancelled"] * 3


async def test_a_failure_behind_an_await_closes_with_1011(serve, connect, failures):
    async def fail() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("late")

    server = await serve(AsyncCommanded(fail=fail))
    client, other = await connect(server), await connect(server)
    client.send("fail", "fail")
    assert await client.close_frame() == (1011, "internal error")
    assert failures.messages() == ["AsyncCommanded.obey failed on connection 1"]
    other.send("fail")
    assert await other.close_frame() == (1011, "internal error")


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_error_sees_the_error_and_may_speak_before_the_close(serve, connect, failures, is_async):
    @at()
    class Sorry(Watch):
        @ws.on_text_message
        def fail(self, text: str) -> None:
            raise KeyError(text)

        if is_async:

            @ws.on_error
            async def failed(self, connection: ws.Connection, error: Exception) -> None:
                await asyncio.sleep(0)
                connection.push_text(f"sorry for {error}")
                self.saw(error)
        else:

            @ws.on_error
            def failed(self, connection: ws.Connection, error: Exception) -> None:
                connection.push_text(f"sorry for {error}")
                self.saw(error)

    service = Sorry()
    client = await connect(await serve(service))
    client.send("a", "b")
    assert await client.text() == "sorry for 'a'"
    assert await client.close_frame() == (1011, "internal error")
    client.send_close(1011)
    (error,) = await service.next()
    assert error.args == ("a",)
    assert await service.next() == ("closed", 1011, "")
    assert len(failures.records) == 1


async def test_a_failing_on_error_is_logged_and_the_close_is_the_same(serve, connect, failures):
    @at()
    class Twice(Watch):
        @ws.on_text_message
        @ws.on_error
        def fail(self) -> None:
            raise KeyError

    service = Twice()
    client = await connect(await serve(service))
    client.send("a")
    assert await client.close_frame() == (1011, "internal error")
    client.send_close(1011)
    assert await service.next() == ("closed", 1011, "")
    assert failures.messages() == ["Twice.fail failed on connection 1"] * 2
