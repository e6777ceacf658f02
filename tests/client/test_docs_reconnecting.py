"""Every example of docs/reconnecting.md does what the page says, with a server of ours in the place of example.com."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import re

import pytest

import fastws
import fastws.sync
from fastws import http, ws

from ..conftest import ROOT
from ..kit.client import url, within
from ..kit.services import Echo, at

pytestmark = pytest.mark.plain("what the page says of TLS is in the other page")
PAGE = ROOT / "docs" / "reconnecting.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@at("/prices")
class Prices:
    @ws.on_text_message
    def subscribed(self, connection: ws.Connection, text: str) -> None:
        connection.push_text("17")
        connection.close(1012, "reconnect in 3500 ms")


@at("/full")
class Full:
    @ws.on_upgrade
    def admit(self) -> None:
        raise http.Refuse(503)


@pytest.fixture
async def example(serve, capsys):
    """Run an example of the page, which may await at its top; returns what it prints."""
    server = await serve(at("/echo")(type("Echoes", (Echo,), {})), Prices(), Full())

    async def example(number: int) -> str:
        source = EXAMPLES[number].replace("wss://example.com", url(server, ""))
        code = compile(source, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names = {"asyncio": asyncio, "contextlib": contextlib, "fastws": fastws, "__name__": "__example__"}
        run = asyncio.to_thread(eval, code, names) if "fastws.sync" in source else eval(code, names)
        if inspect.isawaitable(run):
            await within(run)
        return capsys.readouterr().out

    return example


def test_every_example_is_run():
    assert len(EXAMPLES) == 3


async def test_a_connection_is_followed_by_another(example):
    assert await example(0) == "17\n"


async def test_who_is_refused_is_told_and_gives_up(example):
    told = "the server answers with status 503 instead of 101"
    assert re.fullmatch(rf"attempt 2 in 0\.0 s, since {told}\ngiven up: {told}\n", await example(1))


async def test_a_script_blocks(example):
    assert await example(2) == "hello\n"


def test_the_exit_statuses_are_those_of_the_command():
    from fastws.process.command_line import _CONNECT_EPILOG
    from fastws.terminal import talk

    statuses = [talk.WELL, talk.NOT_CONNECTED, talk.MISUSED, talk.CLOSED, talk.LOST, talk.INTERRUPTED]
    page = PAGE.read_text(encoding="utf-8")
    assert [int(line) for line in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == statuses
    assert [int(line) for line in re.findall(r"^  (\d+)  ", _CONNECT_EPILOG, re.MULTILINE)] == statuses
