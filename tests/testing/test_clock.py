"""The clock: what waits for it, in which order it is run, and what goes on in real time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from fastws import http, ws
from fastws.testing import ExpectationError, Refused, serve

from ..kit.services import Echo, at


def quiet(**options):
    return at(ping_interval=None, **options)


async def test_idle_clients_are_closed_at_the_very_moment(no_task_left):
    @quiet(idle_timeout=60)
    class Idle:
        @ws.on_text_message
        def said(self) -> None:
            pass

    async with serve(Idle) as server:
        client = await server.connect()
        await server.clock.advance(59.9)
        await client.expect_nothing()
        await client.send("I am here")
        await server.clock.advance(59.9)
        await client.expect_nothing()
        await server.clock.advance(0.1)
        await client.expect_close(1001, "idle timeout")


async def test_who_does_not_answer_a_ping_is_failed_at_the_very_moment(no_task_left):
    @at(ping_interval=20, ping_timeout=5)
    class Pinged:
        pass

    async with serve(Pinged) as server:
        answers, silent, cut = (
            await server.connect(), await server.connect(answers=False), await server.connect()
        )  # fmt: skip
        cut.cut()
        await server.clock.advance(24.9)
        assert (answers.pings, silent.pings, cut.pings) == ([b""], [b""], [])
        assert len(server.connections(Pinged)) == 3
        await server.clock.advance(0.1)
        await silent.expect_close(1006)
        assert (silent.connection.close_code, silent.connection.close_reason) == (1011, "ping timeout")
        assert list(server.connections(Pinged)) == [answers.connection]
        await server.clock.advance(3600)
        assert len(answers.pings) == 181
        assert answers.is_open


async def test_a_handshake_and_a_body_that_do_not_come_are_given_up(no_task_left):
    async with serve(Echo, handshake_timeout=10) as server:
        dialing = server._dial("GET", None, False)
        dialing.far.write(b"GET / HTTP/1.1\r\nHost: x")
        await server.clock.advance(9.9)
        assert not dialing.has_ended
        await server.clock.advance(0.1)
        assert dialing.has_ended


@at(upgrade_timeout=3)
class Slow:
    """Takes two seconds, or more, for everything."""

    @ws.on_upgrade
    async def check(self, request: http.Request) -> None:
        await asyncio.sleep(float(request.query.get("seconds", "0")))

    @ws.on_text_message
    async def said(self, text: str) -> str:
        await asyncio.sleep(2)
        return text

    @http.get("/slow")
    async def slow(self) -> str:
        async with asyncio.timeout(5) if hasattr(asyncio, "timeout") else contextlib.nullcontext():
            await asyncio.sleep(2)
        return "done"


async def test_a_handler_sleeps_by_the_clock(no_task_left):
    async with serve(Slow, patience=0.01) as server:
        client = await server.connect()
        await client.send("hello")
        await client.expect_nothing()
        await server.clock.advance(1.9)
        await client.expect_nothing()
        await server.clock.advance(0.1)
        await client.expect_text("hello")
        response = server.get("/slow")
        await server.clock.advance(2)
        assert (await response).text == "done"
        with pytest.raises(ExpectationError, match="the server does not answer"):
            await server.get("/slow")


async def test_an_on_upgrade_that_takes_too_long_is_answered_for(no_task_left):
    async with serve(Slow) as server:
        connecting = server.connect("/?seconds=2")
        await server.clock.advance(2)
        assert (await connecting).is_open
        connecting = server.connect("/?seconds=4")
        await server.clock.advance(3)
        with pytest.raises(Refused, match="503"):
            await connecting


async def test_time_that_is_not_awaited_is_waited_for_by_who_expects(no_task_left):
    async with serve(Slow) as server:
        client = await server.connect()
        await client.send("one")
        server.clock.advance(1)
        server.clock.advance(1)
        await client.expect_text("one")


@quiet()
class Ticker:
    """Says the time every second."""

    def __init__(self) -> None:
        self.ticks = 0

    @ws.on_start
    async def tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.ticks += 1
            ws.broadcast_text(f"tick {self.ticks}")


async def test_background_work_runs_as_often_as_it_is_due(no_task_left):
    service = Ticker()
    async with serve(service) as server:
        client = await server.connect()
        await server.clock.advance(0.5)
        await client.expect_nothing()
        for _ in range(20):
            await server.clock.advance(1)
        assert service.ticks == 20
        await server.clock.advance(1000.5)
        assert service.ticks == 1021
        assert client.received == [f"tick {number}" for number in range(1, 1022)]


async def test_what_is_due_runs_in_order_each_when_it_is_due(no_task_left):
    seen = []

    @quiet(idle_timeout=2.5)
    class Orderly:
        @ws.on_idle_timeout
        def idle(self) -> None:
            seen.append("idle")

        @ws.on_start
        async def work(self) -> None:
            for number in range(4):
                loop = asyncio.get_running_loop()
                began = loop.time()
                await asyncio.sleep(1)
                seen.append(number)
                assert loop.time() - began == pytest.approx(1, abs=1e-3)

    async with serve(Orderly) as server:
        await server.connect()
        began = server.clock.time()
        await server.clock.advance(4)
        assert seen == [0, 1, "idle", 2, 3]
        assert server.clock.time() - began == pytest.approx(4, abs=1e-3)


async def test_the_time_of_the_test_itself_goes_on(no_task_left):
    async with serve(Ticker) as server:
        loop = asyncio.get_running_loop()
        began, stood = loop.time(), server.clock.time()
        await asyncio.wait_for(asyncio.sleep(0.001), 10)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        assert loop.time() > began
        assert server.clock.time() == stood
    assert not {"time", "call_later", "call_at", "call_soon", "call_soon_threadsafe"} & vars(loop).keys()


async def test_what_outlives_the_server_goes_on_in_real_time(no_task_left):
    tasks = []

    @quiet()
    class Loose:
        @ws.on_text_message
        def said(self) -> None:
            tasks.append(asyncio.create_task(asyncio.sleep(0.01, "done")))

    async with serve(Loose) as server:
        client = await server.connect()
        await client.send("go")
    assert await tasks[0] == "done"


async def test_a_drain_closes_one_after_the_other(no_task_left):
    async with serve(Echo, close_timeout=5.0) as server:
        clients = [await server.connect() for _ in range(20)]
        draining = server.drain(100)
        await server.clock.advance(5.5)
        with pytest.raises(Refused) as refused:
            await server.connect()
        assert refused.value.status == 503
        await server.clock.advance(45)
        gone = sum(client.close_code == 1012 for client in clients)
        assert 5 <= gone <= 14
        assert not draining.done()
        await draining
        assert draining.done()
        assert {client.close_code for client in clients} == {1012}


async def test_the_end_takes_no_time_whoever_does_not_answer(no_task_left):
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with serve(Slow, close_timeout=30.0) as server:
        clients = [await server.connect() for _ in range(3)]
        clients[0].stall()
        clients[1].cut()
        await clients[2].send("hello")
    assert loop.time() - began < 5
    assert clients[2].close_code == 1001


async def test_a_cancelled_timer_is_never_run(no_task_left):
    async with serve(Slow) as server:
        client = await server.connect()
        await client.send("hello")
        client.reset()
        await server.clock.advance(10)
        assert client.received == []
