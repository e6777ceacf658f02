"""Every program in examples/ does what it says; the chat's page has a test of its own."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from datetime import datetime

import pytest

from .kit.client import tls_at, until, url, within
from .kit.examples import EXAMPLES, example


async def http(server, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and body of a request."""

    def ask() -> tuple[int, bytes]:
        where = url(server, path, "http")
        try:
            asking = urllib.request.Request(where, body, method=method)
            with urllib.request.urlopen(asking, context=tls_at(where)) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:  # it is the response, too, and holds its socket
                return error.code, error.read()

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_each_example_says_how_to_run_it(path):
    assert f"    fastws run examples/{path.name}\n" in path.read_text()


async def test_the_command_serves_them_all():
    """The way of the README, with every file at once; the listing ends with the last service of the last file."""
    files = sorted(map(str, EXAMPLES.glob("*.py")))
    command = [sys.executable, "-m", "fastws", "run", *files, "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        listing = await within(process.stdout.readuntil(b"/ticker/"))
        listing += await within(process.stdout.readline())
    finally:
        process.terminate()
        rest, _ = await within(process.communicate())
    assert (process.returncode, rest) == (0, b"")
    assert [line.split()[1] for line in listing.decode().splitlines() if line.startswith("ws://")] == [
        "Members", "Chat", "Echo", "Limits", "Inbox", "Sum", "Ticker"
    ]  # fmt: skip


async def test_echo_replies_with_text_and_binary(serve, connect):
    client = await connect(await serve(example("echo").Echo))
    client.send("grüße", b"\x00\xff")
    assert [await client.receive(), await client.receive()] == [(1, "grüße".encode()), (2, b"\x00\xff")]


async def test_ticker_tells_everybody_the_same_time(serve, connect):
    server = await serve(example("ticker").Ticker(seconds=0.01))
    one, other = await connect(server), await connect(server)
    heard = await other.texts(3)
    assert heard == sorted(heard)
    assert datetime.fromisoformat(heard[0]).tzinfo is not None
    while await one.text() != heard[-1]:
        pass


def rest_push():
    module = example("rest_push")
    return module.Inbox, module.Push


class TestRestPush:
    async def test_a_post_reaches_the_named_one(self, serve, connect):
        server = await serve(*rest_push())
        ada, bob = await connect(server, "/inbox/ada"), await connect(server, "/inbox/bob")
        assert await http(server, "POST", "/push/people/ada", b"tea is ready") == (200, b'{"pushed":1}')
        assert await http(server, "POST", "/push/people/bob", b"for bob") == (200, b'{"pushed":1}')
        assert [await ada.text(), await bob.text()] == ["tea is ready", "for bob"]

    async def test_a_post_to_nobody_is_not_found(self, serve):
        server = await serve(*rest_push())
        assert await http(server, "POST", "/push/people/eve", b"hello?") == (404, b"eve is not connected\n")

    async def test_a_post_to_a_topic_reaches_all_who_asked_for_it(self, serve, connect):
        server = await serve(*rest_push())
        ada = await connect(server, "/inbox/ada?topic=weather&topic=tea")
        bob = await connect(server, "/inbox/bob?topic=weather&topic=")
        assert await http(server, "POST", "/push/topics/weather", b"rain") == (200, b'{"pushed":2}')
        assert await http(server, "POST", "/push/topics/tea", b"green") == (200, b'{"pushed":1}')
        assert [await ada.texts(2), await bob.text()] == [["rain", "green"], "rain"]

    async def test_a_delete_closes_the_named_one(self, serve, connect):
        server = await serve(*rest_push())
        ada = await connect(server, "/inbox/ada")
        assert await http(server, "DELETE", "/push/people/ada") == (204, b"")
        assert await ada.close_frame() == (1000, "closed by the house")
        ada.send_close()


class TestSubprotocols:
    async def test_each_dialect_is_answered_in_kind(self, serve, connect):
        server = await serve(example("subprotocols").Sum)
        text = await connect(server, fields=b"Sec-WebSocket-Protocol: sum.xml, sum.text\r\n")
        assert await text.asks("1 2.5") == "3.5"
        json_ = await connect(server, fields=b"Sec-WebSocket-Protocol: sum.json\r\n")
        assert json.loads(await json_.asks("[1, 2]")) == {"sum": 3}

    async def test_who_speaks_neither_is_sent_away(self, serve, connect):
        server = await serve(example("subprotocols").Sum)
        client = await connect(server)
        assert await client.close_frame() == (1002, "speak sum.json or sum.text")
        client.send_close()

    @pytest.mark.parametrize("nonsense", ["one", "[" * 60_000, '["a"]', "{}[", "[1e400, 1%s]" % ("0" * 400)])
    async def test_what_is_no_number_closes(self, serve, connect, nonsense):
        server = await serve(example("subprotocols").Sum)
        client = await connect(server, fields=b"Sec-WebSocket-Protocol: sum.json\r\n")
        client.send(nonsense)
        assert await client.close_frame() == (1007, "these are no numbers")
        client.send_close()


class TestAuth:
    @pytest.mark.parametrize("fields", [b"Authorization: Bearer ada-7\r\n", b"Cookie: theme=dark; token=ada-7\r\n"])
    async def test_a_member_is_let_in_by_token_or_cookie(self, serve, connect, fields):
        client = await connect(await serve(example("auth").Members), fields=fields)
        assert await client.text() == "hello ada"
        assert await client.asks("good morning") == "ada: good morning"

    @pytest.mark.parametrize(
        "fields", [b"", b"Authorization: Bearer eve\r\n", b"Authorization: Basic ada-7\r\n", b"Cookie: token=\r\n"]
    )
    async def test_everybody_else_gets_401(self, serve, connect, fields):
        server = await serve(example("auth").Members)
        with pytest.raises(ConnectionError, match=r"(?s)401 Unauthorized\r\n.*\r\nWWW-Authenticate: Bearer\r\n"):
            await connect(server, fields=fields)

    async def test_a_page_logs_in_for_its_cookie(self, serve):
        server = await serve(example("auth").Members)
        assert await http(server, "POST", "/members/login", b"ada-7") == (204, b"")
        assert await http(server, "POST", "/members/login", b"\xff") == (403, b"no such token\n")


OURS = b"Origin: https://example.com\r\n"


class TestLimits:
    async def test_a_message_of_the_largest_size_is_answered(self, serve, connect):
        server = await serve(example("limits").Limits)
        client = await connect(server, fields=OURS)
        assert await client.asks("x" * 1024) == "1024 characters"

    async def test_a_larger_message_closes(self, serve, connect):
        server = await serve(example("limits").Limits)
        client = await connect(server, fields=OURS)
        client.send("x" * 1025)
        assert (await client.close_frame())[0] == 1009

    async def test_who_stays_silent_is_asked_once(self, serve, connect):
        server = await serve(example("limits").Limits)
        client = await connect(server, fields=OURS)
        (connection,) = server.connections(server.services[0].cls)
        idle = server.services[0].instance.idle
        idle(connection)
        assert await client.text() == "are you still there?"
        assert await client.asks("yes") == "3 characters"
        idle(connection)
        idle(connection)
        assert await client.text() == "are you still there?"
        assert await client.close_frame() == (1000, "you are asleep")
        client.send_close()


async def enter(connect, server, name: str):
    client = await connect(server)
    client.send(json.dumps({"do": "enter", "name": name}))
    assert json.loads(await client.text())["event"] == "welcome"
    return client


class TestChat:
    async def test_the_page_is_served_with_and_without_the_slash(self, serve):
        server = await serve(example("chat").Chat)
        page = (EXAMPLES / "chat.html").read_bytes()
        assert await http(server, "GET", "/chat/") == (200, page)
        assert await http(server, "GET", "/chat") == (200, page)

    async def test_a_whisper_to_nobody_is_told_to_the_whisperer(self, serve, connect):
        server = await serve(example("chat").Chat)
        ada = await enter(connect, server, "ada")
        assert json.loads(await ada.asks('{"do": "whisper", "to": "bob", "text": "psst"}')) == {
            "event": "nobody",
            "name": "bob",
        }

    async def test_text_that_utf_8_cannot_say_does_no_harm(self, serve, connect):
        server = await serve(example("chat").Chat)
        ada = await enter(connect, server, "ada")
        assert json.loads(await ada.asks(r'{"do": "shout", "text": "\ud800"}'))["text"] == "\ud800"

    async def test_a_name_is_free_again_when_its_holder_is_gone(self, serve, connect):
        server = await serve(example("chat").Chat)
        ada = await enter(connect, server, "ada")
        await ada.close()
        await until(lambda: "ada" not in server.stored)
        await enter(connect, server, "ada")

    @pytest.mark.parametrize(
        "nonsense",
        [
            "",
            "{",
            "[" * 4000,
            "7",
            '{"do": "enter", "name": ""}',
            r'{"do": "enter", "name": "\ud800"}',
            '{"do": "shout", "text": "x"}',
        ],
    )
    async def test_who_does_not_enter_is_sent_away(self, serve, connect, nonsense):
        server = await serve(example("chat").Chat)
        client = await connect(server)
        client.send(nonsense)
        assert await client.close_frame() == (1008, "enter with a name first")
        client.send_close()

    @pytest.mark.parametrize(
        "nonsense",
        [
            "no JSON",
            "null",
            '{"do": "say", "room": "elsewhere", "text": "x"}',
            '{"do": "join", "room": ""}',
            '{"do": "dance"}',
            '{"do": "whisper", "to": "", "text": ""}',
        ],
    )
    async def test_what_it_does_not_understand_closes(self, serve, connect, nonsense):
        server = await serve(example("chat").Chat)
        ada = await enter(connect, server, "ada")
        ada.send(nonsense)
        assert await ada.close_frame() == (1008, "not understood")
        ada.send_close()
