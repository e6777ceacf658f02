"""Standard streams that are closed, replaced or full: whoever cannot be told is served all the same."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastws.process import cli
from fastws.process.saying import say

from ..kit.client import Client, within

# Which makes no difference to other processes
once = pytest.mark.asyncio(loop_factories=["uvloop"])

SERVICE = """
import sys
from pathlib import Path
from fastws import http, ws

@http.base_path("/")
@ws.upgrade_path("/")
class Chat:
    @ws.on_open
    def opened(self):
        print("somebody came", file=sys.stderr)

    @ws.on_text_message
    def said(self, text: str) -> str:
        print("to nobody")
        return text

    @ws.on_stop
    def stop(self):
        Path("stopped").write_text("")
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


async def connected(port: int) -> Client:
    last = time.monotonic() + 20
    while not is_listening(port):
        assert time.monotonic() < last
        await asyncio.sleep(0.05)
    return await Client.connect(port, "/")


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def visit_and_end(process: subprocess.Popen[bytes], port: int) -> None:
    """Talk to a server, end it with SIGTERM, and see that it ends well."""
    client = None
    try:
        client = await connected(port)
        assert await client.asks("hello") == "hello"
        process.send_signal(signal.SIGTERM)
        assert await client.close_frame() == (1001, "going away")
        client.send_close(1001)
        assert await client.rest() == []
        status = await within(asyncio.to_thread(process.wait))
    finally:
        if client is not None:
            client.transport.abort()
        end(process)
    assert status == 0


@once
@pytest.mark.parametrize(
    ("streams", "loop"),
    [
        ("<&- >&- 2>&-", "uvloop"),
        ("<&- >&- 2>&-", "asyncio"),
        ("<&-", "uvloop"),
        (">&-", "uvloop"),
        ("2>&-", "uvloop"),
        pytest.param("<&-", "asyncio", marks=pytest.mark.slow),
        pytest.param(">&-", "asyncio", marks=pytest.mark.slow),
        pytest.param("2>&-", "asyncio", marks=pytest.mark.slow),
    ],
)
async def test_a_server_serves_and_ends_whatever_its_standard_streams_are(tmp_path: Path, streams, loop):
    (tmp_path / "chat.py").write_text(SERVICE)
    if loop == "asyncio":
        (tmp_path / "uvloop.py").write_text("raise ImportError\n")
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    script = f"exec {sys.executable} -m fastws run chat.py --port {port} --log-level debug {streams}"
    process = subprocess.Popen(["sh", "-c", script], cwd=tmp_path, env=environment)
    await visit_and_end(process, port)
    assert (tmp_path / "stopped").exists()


OWN = """
import asyncio, sys
from pathlib import Path
import fastws
from chat import Chat

async def main():
    async with fastws.serve(Chat, port=int(sys.argv[1])) as server:
        await server.serve_forever()

{run}(main())
"""


@once
@pytest.mark.parametrize("run", ["asyncio.run", "__import__('uvloop').run"])
async def test_so_does_a_program_of_one_s_own(tmp_path: Path, run):
    (tmp_path / "chat.py").write_text(SERVICE)
    (tmp_path / "own.py").write_text(OWN.format(run=run))
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = f"exec {sys.executable} own.py {port} <&- >&- 2>&-"
    process = subprocess.Popen(["sh", "-c", script], cwd=tmp_path, env=environment)
    await visit_and_end(process, port)
    assert (tmp_path / "stopped").exists()


class Broken(io.StringIO):
    """Stands in for a stream and fails."""

    def write(self, text: str) -> int:
        raise RuntimeError(text)


@pytest.mark.parametrize("stream", [None, Broken(), object()], ids=["none", "broken", "no stream"])
def test_nobody_to_tell_is_no_failure(stream, monkeypatch):
    say("hello", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    assert cli.main(["run", "there/is/no.py"]) == 2


def test_a_pipe_whose_reader_has_gone_breaks_neither_now_nor_at_the_end(tmp_path: Path):
    script = "import sys; from fastws.process.saying import say\nfor _ in range(3): say('x' * 9999, sys.stdout)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@once
@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_listening_socket_may_have_the_number_of_a_standard_stream(tmp_path: Path, number):
    (tmp_path / "chat.py").write_text(SERVICE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with socket.create_server(("127.0.0.1", 0)) as sock:
        streams = [subprocess.DEVNULL] * 3
        streams[number] = sock.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "fastws", "run", "chat.py", "--fd", str(number)],
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            cwd=tmp_path,
            env=environment,
        )
        port = int(sock.getsockname()[1])
    clients: list[Client] = []
    try:
        for _ in range(3):
            clients.append(await connected(port))
            assert await clients[-1].asks("hello") == "hello"
        process.send_signal(signal.SIGTERM)
        for client in clients:
            assert await client.close_frame() == (1001, "going away")
            client.send_close(1001)
            assert await client.rest() == []
        assert await within(asyncio.to_thread(process.wait)) == 0
    finally:
        for client in clients:
            client.transport.abort()
        end(process)
    assert (tmp_path / "stopped").exists()
