"""run() in a process of its own: signals, the exit, and an interpreter that ends with connections still open."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import pytest

from ..kit.client import Client, within

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])  # which makes no difference to other processes

PROGRAM = """
import asyncio, sys, fastws
from fastws import http, ws

def say(*words):
    print(*words, flush=True)

@http.base_path("/")
@ws.upgrade_path("/")
class Chatty:
    @ws.on_start
    def start(self):
        say("start", type(asyncio.get_running_loop()).__module__)

    @ws.on_text_message
    async def said(self, text):
        if text == "wait":
            say("waits")
            await asyncio.Event().wait()
        return text

    @ws.on_close
    def closed(self, code):
        say("closed", code)

    @ws.on_stop
    def stop(self):
        say("stop")

def listening(server):
    say("port", server.addresses[0][1])
"""

RUN = "fastws.run(Chatty, port=0, close_timeout=0.5, on_listening=listening)\nsay('returned')"

NAMED = RUN.replace("Chatty", "'__main__:Chatty'")

# A server that nobody closes, in a loop that nobody closes
ABANDON = """
async def main():
    server = await fastws.serve(Chatty, port=0).__aenter__()
    listening(server)
    while len(server.connections(Chatty)) < 3:
        await asyncio.sleep(0.001)
    for connection in server.connections(Chatty):
        connection.push_text("pending")
        connection.push_text("pending too")
    kept.append(server)

kept = []
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""


class Process:
    """A program and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self) -> str:
        return (await within(self.process.stdout.readline())).decode().rstrip()

    async def hears(self, start: str) -> str:
        """Wait for a line that starts so; returns the rest of it."""
        line = await self.says()
        assert line.startswith(start), line
        return line[len(start) :].strip()

    async def end(self) -> tuple[list[str], str, int]:
        """The rest of its output, its errors and its status."""
        output, errors = await within(self.process.communicate())
        return output.decode().split("\n")[:-1], errors.decode(), self.process.returncode


@pytest.fixture
async def start():
    """Start a program that listens: `process, port = await start(RUN)`."""
    processes = []

    async def start(program: str) -> tuple[Process, int]:
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", PROGRAM + program]
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        processes.append(process)
        heard = Process(process)
        await heard.hears("start")
        return heard, int(await heard.hears("port"))

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await within(process.wait())


@pytest.mark.parametrize(
    ("number", "program"),
    [
        (signal.SIGINT, RUN),
        pytest.param(signal.SIGTERM, RUN, marks=pytest.mark.slow),
        (signal.SIGTERM, NAMED),
    ],
)
async def test_a_signal_ends_run_with_1001_for_everybody(start, number, program):
    process, port = await start(program)
    polite, rude = await Client.connect(port, "/"), await Client.connect(port, "/")
    assert await polite.asks("hello") == "hello"
    process.process.send_signal(number)
    for client in (polite, rude):
        assert await client.close_frame() == (1001, "going away")
    polite.send_close(1001)
    assert [await polite.rest(), await rude.rest()] == [[], []]
    assert await process.end() == (["closed 1001", "closed 1001", "stop", "returned"], "", 0)


async def test_a_signal_ends_handlers_that_are_suspended(start):
    process, port = await start(RUN)
    client = await Client.connect(port, "/")
    client.send("wait")
    await process.hears("waits")
    process.process.send_signal(signal.SIGTERM)
    assert await client.close_frame() == (1001, "going away")
    assert await client.rest() == []
    assert await process.end() == (["closed 1001", "stop", "returned"], "", 0)


async def test_an_interpreter_may_end_with_open_connections(start):
    process, port = await start(ABANDON)
    clients = [await Client.connect(port, "/") for _ in range(3)]
    output, errors, status = await process.end()
    assert (status, "Fatal" in errors, "Traceback" in errors) == (0, False, False), errors
    assert output == []
    for client in clients:
        assert len(await client.rest()) <= 2
