"""What would go wrong without a word is said in the log: in one line, and once."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time

import pytest

import fastws
from fastws import http, ws
from fastws.server import server

from ...kit.client import TIMEOUT, frame, within
from ...kit.guarded import answer
from ...kit.services import Commanded, Log, Watch, at

BRIEFLY = 0.01  # seconds that are too long
LONG = 0.08  # seconds that are longer on the coarsest of clocks


@pytest.fixture
def lines(caplog):
    """The warnings so far: `lines()`."""
    caplog.set_level(logging.WARNING, "fastws")

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    return lines


# ---------------------------------------------------------------------------------------------------------------------
# Messages and results that go nowhere


@pytest.mark.parametrize(("wanted", "kind"), [("on_text_message", "text"), ("on_binary_message", "binary")])
async def test_messages_that_no_handler_wants_are_told_of_once_for_each_kind(serve, connect, lines, wanted, kind):
    @at()
    class Other(Watch):
        @(ws.on_binary_message if kind == "text" else ws.on_text_message)
        def received(self) -> None:
            self.saw("received")

    unwanted, marker = ("text", b"data") if kind == "text" else (b"data", "text")
    server = await serve(service := Other())
    for _ in range(2):
        client = await connect(server)
        client.send(unwanted, unwanted, marker)
        assert await service.next() == ("received",)
    [line] = lines()
    assert line.startswith(f"Other has no handler for {kind} messages")
    assert line.endswith(f"mark a method with @ws.{wanted}")


async def test_what_a_handler_returns_that_is_no_reply_is_told_of_once(serve, connect, lines):
    @at()
    class Talks(Log):
        @ws.on_open
        def opened(self, connection: ws.Connection) -> str:
            self.connections.append(connection)
            return "welcome"

        @ws.on_ping
        async def pinged(self) -> bytes:
            await asyncio.sleep(0)
            return b"pong"

        @ws.on_close
        def closed(self) -> int:
            self.saw("closed")
            return 1

        @ws.on_start
        def started(self) -> str:
            return "started"

    server = await serve(service := Talks())
    for _ in range(2):
        client = await connect(server)
        client.write(frame(9) * 2)
        client.send_close()
        assert [await client.receive() for _ in range(3)] == [(10, b""), (10, b""), (8, b"\x03\xe8")]
        assert await service.next() == ("closed",)
    told = [line.partition(", which is not used")[0] for line in lines()]
    assert told == [
        "Talks.started returned str",
        "Talks.opened returned str",
        "Talks.pinged returned bytes",
        "Talks.closed returned int",
    ]


async def test_a_coroutine_that_call_from_thread_gets_is_told_of_once(serve, lines):
    async def notify() -> str:
        return "notified"

    server = await serve(Watch())
    for _ in range(2):
        for call in (server.call_from_thread, lambda function: asyncio.to_thread(server.call_from_thread, function)):
            coroutine = call(notify)
            if call != server.call_from_thread:
                coroutine = await within(coroutine)
            assert await coroutine == "notified"
    [line] = lines()
    assert "notify) got a coroutine, which nobody awaits" in line


WITHOUT_UVLOOP = """
import os, signal, sys
sys.modules["uvloop"] = None
import fastws
from fastws import http, ws

@http.base_path("/")
@ws.upgrade_path("/")
class Nothing:
    pass

fastws.run(Nothing, port=0, on_listening=lambda server: os.kill(os.getpid(), signal.SIGTERM))
"""


def test_a_missing_uvloop_is_told_of(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WITHOUT_UVLOOP]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("uvloop is not installed") == 1


# ---------------------------------------------------------------------------------------------------------------------
# Handlers that hold up the loop


def slow() -> None:
    time.sleep(LONG)


def named(lines) -> list[str]:
    return [line.partition(" held up the event loop for ")[0] for line in lines()]


async def test_a_handler_that_holds_up_the_loop_is_named_once(serve, connect, lines):
    server = await serve(Commanded(slow=slow, end=lambda: "end"), slow_handler_time=BRIEFLY)
    client = await connect(server)
    client.send("slow")
    assert await client.asks("end") == "end"
    client.send("slow")
    assert await client.asks("end") == "end"
    [line] = lines()
    assert line.startswith("Commanded.obey held up the event loop for 0.")
    assert "slow_handler_time" in line


async def test_one_that_is_slow_among_many_of_one_read_is_named_and_the_others_are_not(serve, connect, lines):
    @at()
    class Mixed(Watch):
        @ws.on_text_message
        def text(self) -> None:
            pass

        @ws.on_binary_message
        def binary(self) -> None:
            slow()

        @ws.on_ping
        def pinged(self) -> None:
            self.saw("pinged")

    server = await serve(service := Mixed(), slow_handler_time=LONG / 2)
    client = await connect(server)
    client.write(frame(1, b"x") * 50 + frame(2, b"x") + frame(1, b"x") * 50 + frame(9))
    assert await service.next() == ("pinged",)
    assert named(lines) == ["Mixed.binary"]


async def test_every_kind_of_handler_is_named(serve, connect, lines):
    @at()
    class Slow(Log):
        @ws.on_upgrade
        def upgrade(self) -> None:
            slow()

        @ws.on_open
        def opened(self) -> None:
            slow()

        @ws.on_text_message
        async def first_step(self) -> None:
            slow()
            await asyncio.sleep(0)

        @ws.on_binary_message
        async def later_step(self) -> None:
            await asyncio.sleep(0)
            slow()

        @ws.on_close
        def closed(self) -> None:
            slow()
            self.saw("closed")

        @http.get("/plain")
        def resource(self) -> str:
            slow()
            return "done"

    server = await serve(service := Slow(), slow_handler_time=BRIEFLY)
    client = await connect(server)
    client.send("x", b"x")
    client.send_close()
    assert await service.next() == ("closed",)
    assert (await answer(server, b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).endswith(
        b"\r\n\r\ndone"
    )
    assert named(lines) == [
        f"Slow.{name}" for name in ("upgrade", "opened", "first_step", "later_step", "closed", "resource")
    ]


async def test_handlers_may_take_any_time_where_that_is_wanted(serve, connect, lines):
    server = await serve(Commanded(slow=slow, end=lambda: "end"), slow_handler_time=None)
    client = await connect(server)
    client.send("slow")
    assert await client.asks("end") == "end"
    assert lines() == []


@pytest.mark.parametrize("value", [0, -1, "0.1", float("inf"), False])
def test_a_slow_handler_time_that_is_none_is_refused(value):
    with pytest.raises(fastws.ConfigurationError, match="slow_handler_time"):
        server.Server(Watch, slow_handler_time=value)
