"""Signals: what ends a program that serves, how fast, and whose affair it is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fastws
from fastws.server.signals import Signals, is_unhandled

from ..kit.client import Client, within
from ..kit.services import Echo

# Which makes no difference to other processes
once = pytest.mark.asyncio(loop_factories=["uvloop"])

SERVICE = """
import asyncio, signal, sys, uvloop, fastws
from fastws import http, ws

def say(*words):
    print(*words, flush=True)

@http.base_path("/")
@ws.upgrade_path("/")
class Chatty:
    @ws.on_text_message
    async def said(self, text):
        say("handles")
        try:
            await asyncio.Event().wait()
        finally:
            say("cancelled")

    @ws.on_close
    def closed(self, code):
        say("closed", code)

    @ws.on_stop
    def stop(self):
        say("stop")

def listening(server):
    say("port", server.addresses[0][1])
"""

FOREVER = """
async def main():
    async with fastws.serve(Chatty, port=0, close_timeout=0.2) as server:
        listening(server)
        await server.serve_forever()
try:
    {run}(main())
except BaseException as error:
    say(type(error).__name__)
    raise
finally:
    say("unwound")
"""

BESIDE = """
async def work():
    try:
        await asyncio.sleep(3600)
    finally:
        say("work ended")

async def main():
    async with fastws.serve(Chatty, port=0, close_timeout=0.2) as server:
        listening(server)
        await asyncio.gather(server.serve_forever(), work())
uvloop.run(main())
"""

HANDLED = """
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with fastws.serve(Chatty, port=0, close_timeout=0.2) as server:
        listening(server)
        serving = asyncio.ensure_future(server.serve_forever())
        await stop.wait()
        say("handled", serving.done())
        serving.cancel()
    say("went on")
uvloop.run(main())
"""

RUN = """
fastws.run(Chatty, port=0, close_timeout=60, on_listening=listening)
say("returned")
"""


class Program:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self) -> str:
        assert self.process.stdout is not None
        return (await within(self.process.stdout.readline())).decode().strip()

    async def end(self) -> tuple[list[str], int]:
        output, errors = await within(self.process.communicate())
        assert b"Traceback" not in errors or b"KeyboardInterrupt" in errors, errors
        assert self.process.returncode is not None
        return output.decode().split("\n")[:-1], self.process.returncode


@pytest.fixture
async def start(tmp_path):
    """Start a program that serves, and connect a client: `program, client = await start(RUN)`."""
    programs, clients = [], []

    async def start(text: str) -> tuple[Program, Client]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVICE + text, stdout=-1, stderr=-1, cwd=tmp_path, env=environment
        )
        programs.append(process)
        program = Program(process)
        port = (await program.says()).removeprefix("port ")
        clients.append(await Client.connect(int(port), "/"))
        return program, clients[-1]

    yield start
    for client in clients:
        client.transport.abort()
    for process in programs:
        if process.returncode is None:
            process.kill()
        await within(process.wait())


@once
@pytest.mark.parametrize("runner", ["asyncio.run", "uvloop.run", "asyncio.new_event_loop().run_until_complete"])
@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, "SystemExit"), (signal.SIGINT, "KeyboardInterrupt")])
async def test_a_program_that_serves_for_ever_ends_well_at_a_signal(start, runner, number, error):
    program, client = await start(FOREVER.format(run=runner))
    program.process.send_signal(number)
    assert await client.close_frame() == (1001, "going away")
    client.send_close(1001)
    status = 0 if number == signal.SIGTERM else -signal.SIGINT
    assert await program.end() == (["closed 1001", "stop", error, "unwound"], status)


@once
async def test_what_runs_beside_the_server_ends_with_it(start):
    program, client = await start(BESIDE)
    program.process.send_signal(signal.SIGTERM)
    assert await client.close_frame() == (1001, "going away")
    client.send_close(1001)
    output, status = await program.end()
    assert (sorted(output), status) == (["closed 1001", "stop", "work ended"], 0)


@once
async def test_a_signal_that_the_program_handles_is_left_to_it(start):
    program, client = await start(HANDLED)
    program.process.send_signal(signal.SIGTERM)
    assert await client.close_frame() == (1001, "going away")
    client.send_close(1001)
    assert await program.end() == (["handled False", "closed 1001", "stop", "went on"], 0)


@once
async def test_a_second_signal_hurries_and_a_third_one_kills(start):
    program, client = await start(RUN)
    client.send("hello")
    assert await program.says() == "handles"
    program.process.send_signal(signal.SIGINT)
    assert await client.close_frame() == (1001, "going away")
    program.process.send_signal(signal.SIGTERM)
    output, status = await program.end()
    assert (output, status) == (["cancelled", "closed 1001", "stop", "returned"], 0)


@once
async def test_a_third_signal_kills(start):
    stuck = RUN.replace("fastws.run", "Chatty.stop = ws.on_stop(lambda self: signal.pause())\nfastws.run")
    program, client = await start(stuck.replace("signal.pause()", "[say('stops'), __import__('time').sleep(60)]"))
    program.process.send_signal(signal.SIGTERM)
    assert await client.close_frame() == (1001, "going away")
    program.process.send_signal(signal.SIGTERM)
    assert [await program.says(), await program.says()] == ["closed 1001", "stops"]
    program.process.send_signal(signal.SIGINT)
    assert await program.end() == ([], -signal.SIGINT)


# ---------------------------------------------------------------------------------------------------------------------
# Whose affair they are


async def test_signals_go_back_to_whom_they_belonged():
    loop = asyncio.get_running_loop()
    seen: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    with Signals(loop, [signal.SIGUSR1], seen.append) as first:
        assert is_unhandled(signal.SIGUSR1)
        with Signals(loop, [signal.SIGUSR1], lambda number: seen.append(-number)):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0)
        assert seen == [-signal.SIGUSR1, signal.SIGUSR1]
        signal.signal(signal.SIGUSR1, mine := lambda number, frame: None)
        assert not is_unhandled(signal.SIGUSR1)
        first.let_kill()
    assert signal.getsignal(signal.SIGUSR1) is mine
    signal.signal(signal.SIGUSR1, before)


async def test_the_order_in_which_they_leave_does_not_matter():
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append("theirs"))
    seen: list[object] = []
    first, second = (Signals(loop, [signal.SIGUSR1], seen.append) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    signal.raise_signal(signal.SIGUSR1)
    await asyncio.sleep(0)
    assert seen == ["theirs"]
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork")
def test_a_forked_child_dies_of_a_signal_and_its_parent_hears_nothing(tmp_path: Path):
    script = """
import asyncio, os, signal, sys, time
from fastws.server.signals import Signals
async def main():
    seen = []
    with Signals(asyncio.get_running_loop(), [signal.SIGTERM], seen.append):
        ready, said = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(said, b".")
            time.sleep(60)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        await asyncio.sleep(0.01)
        print(status, seen)
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.stdout, done.stderr) == ("-15 []\n", "")


# ---------------------------------------------------------------------------------------------------------------------
# Where there are none


def test_in_another_thread_it_serves_until_it_is_closed():
    def serve() -> None:
        fastws.run(Echo(), port=0, on_listening=listening)
        returned.set()

    def listening(server: fastws.Server) -> None:
        servers.append(server)
        listens.set()

    servers: list[fastws.Server] = []
    listens, returned = threading.Event(), threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    assert listens.wait(10)
    (server,) = servers
    asyncio.run_coroutine_threadsafe(server.close(), server.loop)
    assert returned.wait(10)
    thread.join()


async def test_where_a_loop_runs_it_shows_the_way():
    with pytest.raises(fastws.StartError, match=r"async with fastws\.serve"):
        fastws.run(Echo(), port=0)
