"""The plugin of pytest: with every other plugin that runs coroutines, and without anybody who does."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from importlib.metadata import distributions

import pytest

from fastws import ws
from fastws.testing import serve

from ..kit.services import at

SERVICES = """
import asyncio
import pytest
from fastws import http, ws

@http.base_path("/")
@ws.upgrade_path("/")
class Echo:
    @ws.on_text_message
    async def said(self, text: str) -> str:
        await asyncio.sleep(0)
        return text

    @ws.on_binary_message
    def fail(self) -> None:
        raise ZeroDivisionError("in a handler")
"""

TESTS = """
{mark}
async def test_of_a_server(fastws_server):
    server = await fastws_server(Echo, close_timeout=1)
    client = await server.connect()
    await client.send("hello")
    await client.expect_text("hello")

{mark}
async def test_of_clients(fastws_client):
    clients = [await fastws_client(Echo), await fastws_client(Echo, "/", headers={"X-A": "b"})]
    ws.broadcast_text("to both", to=Echo)
    for client in clients:
        await client.expect_text("to both")

class TestMethods:
    {mark}
    async def test_in_a_class(self, fastws_client):
        client = await fastws_client(Echo)
        await client.close()

{mark}
async def test_that_fails(fastws_client):
    client = await fastws_client(Echo)
    await client.send(b"")
    await client.expect_close(1011)
"""

RUNNERS = {
    "strict": (["pytest_asyncio.plugin"], ["-o", "asyncio_mode=strict"], "@pytest.mark.asyncio"),
    "auto": (["pytest_asyncio.plugin"], ["-o", "asyncio_mode=auto"], ""),
    "anyio": (["anyio.pytest_plugin"], [], "@pytest.mark.anyio"),
}
ANYIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def run_pytest(path, plugins, *arguments):
    """Run pytest in a process of its own, with these plugins and no other."""
    chosen = [argument for plugin in ["pytest_fastws", *plugins] for argument in ("-p", plugin)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, *arguments, str(path)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=path.parent)


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_fixtures_work_with_whoever_runs_coroutines(tmp_path, runner):
    plugins, arguments, mark = RUNNERS[runner]
    path = tmp_path / "test_it.py"
    tests = TESTS.replace("{mark}", mark)
    path.write_text(SERVICES + (ANYIO if runner == "anyio" else "") + tests)
    done = run_pytest(path, plugins, *arguments)
    assert "1 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_it.py::test_that_fails - ZeroDivisionError: in a handler" in done.stdout


def test_a_test_that_is_no_coroutine_is_told_so(tmp_path):
    path = tmp_path / "test_it.py"
    path.write_text("def test_nothing(fastws_server): pass")
    done = run_pytest(path, [])
    assert "fastws_server and fastws_client are for async tests, and test_nothing is none" in done.stdout


def test_the_plugin_imports_nothing_when_it_is_not_used():
    script = (
        "import sys, pytest; before = set(sys.modules); import pytest_fastws; "
        "print(sorted(set(sys.modules) - before - {'pytest_fastws'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_pytest_finds_the_plugin():
    entries = [entry for found in distributions(name="fastws") for entry in found.entry_points]
    found = {entry.value for entry in entries if entry.group == "pytest11"}
    assert found == {"pytest_fastws"}, "install fastws once more: its entry points have changed"


class InUnittest(unittest.IsolatedAsyncioTestCase):
    """The kit in the tests of the standard library, entered in the set-up or in the test itself."""

    async def asyncSetUp(self) -> None:
        self.server = serve(Chat)
        await self.server.__aenter__()
        self.client = await self.server.connect()

    async def asyncTearDown(self) -> None:
        await self.server.__aexit__(None, None, None)
        del self.server, self.client  # what runs the tests keeps us

    async def test_messages_come(self) -> None:
        await self.client.send("hello")
        await self.client.expect_text("hello")
        await self.server.clock.advance(20)
        assert self.client.pings == [b""]

    async def test_another_server_within(self) -> None:
        async with serve(Chat) as server:
            client = await server.connect()
            await client.send("hello")
            await client.expect_text("hello")
            await self.client.expect_nothing()


@at()
class Chat:
    """Says everything to all."""

    @ws.on_text_message
    def said(self, text: str) -> None:
        ws.broadcast_text(text)
