"""`--reload` has two processes, and none of them outlives the other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..kit.client import Client, until, within

SERVICE = """
from pathlib import Path
from fastws import http, ws

@http.base_path("/")
@ws.upgrade_path("/")
class Chat:
    @ws.on_stop
    def stop(self):
        Path("stopped").write_text("")
"""

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # which makes no difference to other processes
]


class Reloading:
    """The command with ``--reload``, in a process group of its own, as at a terminal."""

    def __init__(self, folder: Path) -> None:
        (folder / "chat.py").write_text(SERVICE)
        self.stopped = folder / "stopped"
        self.clients: list[Client] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastws", "run", "chat.py", "--port", "0", "--reload"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    async def connect(self) -> Client:
        assert self.process.stdout is not None
        line = await within(asyncio.to_thread(self.process.stdout.readline))
        self.clients.append(await Client.connect(int(line.split(b":")[2].split(b"/")[0]), "/"))
        return self.clients[-1]

    @property
    def child(self) -> int:
        number = self.process.pid
        return int(Path(f"/proc/{number}/task/{number}/children").read_text())

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    async def end(self) -> tuple[int, bytes]:
        _, errors = await within(asyncio.to_thread(self.process.communicate))
        return self.process.returncode, errors


def is_alive(number: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
async def reloading(tmp_path):
    reloading = Reloading(tmp_path)
    yield reloading
    for client in reloading.clients:
        client.transport.abort()
    reloading.process.kill()
    reloading.process.communicate()


async def test_ctrl_c_closes_the_server_once_although_both_processes_get_it(reloading):
    client = await reloading.connect()
    child = reloading.child
    reloading.ctrl_c()
    assert await client.close_frame() == (1001, "going away")
    client.send_close(1001)
    assert await client.rest() == []
    assert await reloading.end() == (0, b"")
    assert reloading.stopped.exists()
    assert not is_alive(child)


async def test_a_second_ctrl_c_ends_both_at_once(reloading):
    client = await reloading.connect()
    child = reloading.child
    reloading.ctrl_c()
    # It does not answer: the child would wait for it
    assert await client.close_frame() == (1001, "going away")
    reloading.ctrl_c()
    assert await reloading.end() == (0, b"")
    assert not is_alive(child)


async def test_a_parent_that_is_killed_takes_its_child_along(reloading):
    client = await reloading.connect()
    child = reloading.child
    reloading.process.kill()
    assert await client.close_frame() == (1001, "going away")
    client.send_close(1001)
    assert await client.rest() == []
    await until(lambda: not is_alive(child))
    assert reloading.stopped.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
async def test_a_signal_for_the_parent_alone_ends_both(reloading, number):
    client = await reloading.connect()
    child = reloading.child
    reloading.process.send_signal(number)
    assert await client.close_frame() == (1001, "going away")
    client.send_close(1001)
    assert await client.rest() == []
    assert await reloading.end() == (0, b"")
    assert not is_alive(child)
