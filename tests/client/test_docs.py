"""Every example of docs/client.md does what the page says, with a server of ours in the place of example.com."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap

import pytest

import fastws
from fastws import http, ws

from ..conftest import ROOT
from ..kit.client import tls_at, url, within
from ..kit.services import Echo, at

PAGE = ROOT / "docs" / "client.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
PRINTED = [["hello"], ["17", "18"], [r"[\d.]+ ms"], ["hello", "closed 1000"], ["401 Who are you\\?\n"], ["chat.v2 .*"]]


@at("/prices")
class Prices:
    @ws.on_text_message
    def subscribed(self, connection: ws.Connection, text: str) -> None:
        connection.push_text("17")
        connection.push_text("18")
        connection.close(1000, "the market is closed")


@at("/members")
class Members:
    @ws.on_upgrade
    def admit(self) -> None:
        raise http.Refuse(401, "Who are you?\n")


def services():
    chat = at("/chat", subprotocols=["chat.v1", "chat.v2"])(type("Chat", (Echo,), {}))
    return at("/echo")(type("Echoes", (Echo,), {}))(), Prices(), Members(), chat()


async def run(source: str, server, monkeypatch) -> None:
    """Run an example, which may await at its top."""

    def connect(where: str, *listener: object, **options: object):
        where = where.replace("wss://example.com", url(server))
        options.pop("ssl", None)
        if server.secure:
            options |= {"ssl": tls_at(where), "server_hostname": "localhost"}
        return original(where.replace("//", "/").replace(":/", "://"), *listener, **options)

    original = fastws.connect
    monkeypatch.setattr(fastws, "connect", connect)
    source = source.replace("asyncio.run(main())", "await main()")
    code = compile(source, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    found = eval(code, {"fastws": fastws, "__name__": "__example__"})
    if inspect.isawaitable(found):
        await within(found)


def test_each_example_has_what_it_prints():
    assert len(EXAMPLES) == len(PRINTED)


@pytest.mark.parametrize("number", range(len(PRINTED)))
async def test_an_example_prints_what_the_page_says(serve, monkeypatch, capsys, number):
    server = await serve(*services())
    await run(textwrap.dedent(EXAMPLES[number]), server, monkeypatch)
    await asyncio.sleep(0)
    printed = capsys.readouterr().out
    assert re.fullmatch("\n".join(PRINTED[number]) + "\n", printed), printed
