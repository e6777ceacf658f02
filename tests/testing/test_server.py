"""Services in memory: what their clients see, what comes in which order, and what fails a test."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest
import uvloop

import fastws
from fastws import http, testing, ws
from fastws.testing import ExpectationError, Refused

from ..kit.services import AsyncEcho, Echo, at


@pytest.mark.parametrize("service", [Echo, AsyncEcho])
async def test_messages_go_there_and_back(no_task_left, service):
    async with testing.serve(service) as server:
        client = await server.connect("/")
        await client.send("hello ☃")
        assert await client.expect_text("hello ☃") == "hello ☃"
        for length in (0, 125, 126, 65535, 65536, 300_000):
            await client.send("x" * length)
            await client.expect_text("x" * length)
        assert server.delivered == 7
        await client.expect_nothing()
        await client.close(4000, "enough")
        assert (client.close_code, client.was_clean, client.is_open) == (4000, True, False)


@at("/rooms/{room}", subprotocols=["chat.v2"])
class Room:
    """Says what it knows of its clients."""

    def __init__(self) -> None:
        self.log: list[object] = []

    @ws.on_open
    def opened(self, connection: ws.Connection, room: str) -> None:
        connection.join(room)
        connection.push_text(f"{room} {connection.subprotocol} {connection.query.get('q')} {connection.headers['x-a']}")

    @ws.on_text_message
    def said(self, text: str, room: str) -> None:
        ws.push_text_to_group(room, text)

    @ws.on_close
    def closed(self, code: int, reason: str) -> None:
        self.log.append((code, reason))


async def test_a_client_says_who_it_is_and_sees_what_the_server_answers(no_task_left):
    async with testing.serve(Room) as server:
        client = await server.connect("/rooms/tea?q=1", headers={"X-A": "b"}, subprotocols=["chat.v1", "chat.v2"])
        assert client.subprotocol == "chat.v2"
        assert client.headers["upgrade"] == "websocket"
        assert client.connection.remote_address == client.address
        await client.expect_text("tea chat.v2 1 b")
        assert len(server.groups["tea"]) == len(server.connections(server.server.services[0].cls)) == 1


async def test_a_push_from_the_test_itself_reaches_clients(no_task_left):
    async with testing.serve(Echo) as server:
        client = await server.connect()
        assert ws.broadcast_text("hello", to=Echo).matched == 1
        client.connection.push_binary(b"\x00")
        await client.expect_text("hello")
        await client.expect_binary(b"\x00")


async def test_two_servers_have_nothing_in_common(no_task_left):
    async with testing.serve(Room) as one, testing.serve(Room) as other:
        clients = [await server.connect("/rooms/tea", headers={"x-a": ""}) for server in (one, other)]
        for client in clients:
            await client.expect_text()
        await clients[0].send("mine")
        await clients[0].expect_text("mine")
        await clients[1].expect_nothing()
        assert other.call(ws.push_text_to_group, "tea", "yours").matched == 1
        await clients[1].expect_text("yours")
        await clients[0].expect_nothing()


# ---------------------------------------------------------------------------------------------------------------------
# What is expected


@at()
class Script:
    """Pushes what its client asks for, between bars."""

    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> None:
        for message in text.split("|"):
            connection.push_text(message)

    @ws.on_binary_message
    def end(self, connection: ws.Connection) -> None:
        connection.close(4001, "over")


async def test_a_text_is_expected_as_a_string_a_pattern_or_a_predicate(no_task_left):
    async with testing.serve(Script) as server:
        client = await server.connect()
        await client.send('a|number 7|long enough|anything|{"a": [1]}|2|null')
        await client.expect_text("a")
        await client.expect_text(re.compile(r"\d"))
        await client.expect_text(lambda text: len(text) > 4)
        assert await client.expect_text() == "anything"
        assert await client.expect_json({"a": [1]}) == {"a": [1]}
        assert await client.expect_json(lambda value: value > 1) == 2
        assert await client.expect_json(None) is None
        await client.send(b"")
        await client.expect_close(4001, re.compile("^over$"))


MISMATCHES = [
    ("one|two", lambda client: client.expect_text("two"), "expected text 'two', but got text 'one'"),
    ("one|two", lambda client: client.expect_binary(), "expected binary, but got text 'one'"),
    ("one|two", lambda client: client.expect_close(1000), "expected close 1000, but got text 'one'"),
    ("one|two", lambda client: client.expect_nothing(), "expected nothing, but got text 'one'"),
    ("one|two", lambda client: client.expect_json(), "expected JSON, but got text 'one'"),
    ("[1]", lambda client: client.expect_json([2]), "expected json [2], but got text '[1]'"),
]


@pytest.mark.parametrize(("said", "expects", "words"), MISMATCHES)
async def test_a_mismatch_says_what_came_in_order(no_task_left, said, expects, words):
    async with testing.serve(Script) as server:
        client = await server.connect()
        await client.send(f"zero|{said}")
        await client.expect_text("zero")
        with pytest.raises(ExpectationError) as raised:
            await expects(client)
        lines = str(raised.value).splitlines()
        assert lines[:2] == [words, "  expected before: text 'zero'"]
        assert lines[2:] == [f"  came:            text {text!r}" for text in said.split("|")]
        assert isinstance(raised.value, AssertionError)


async def test_what_does_not_come_is_not_waited_for(no_task_left):
    async with testing.serve(Script) as server:
        client = await server.connect()
        with pytest.raises(ExpectationError, match="expected text 'more', but nothing came, and nothing is under way"):
            await client.expect_text("more")
        await client.send(b"")
        with pytest.raises(ExpectationError, match="expected text, but got close 4001 'over'"):
            await client.expect_text()


@at()
class Elsewhere:
    """Answers when a thread has."""

    @ws.on_text_message
    async def said(self, text: str) -> str:
        return await asyncio.to_thread(str.upper, text)


async def test_what_a_thread_does_is_waited_for(no_task_left):
    async with testing.serve(Elsewhere) as server:
        client = await server.connect()
        await client.send("hello")
        await client.expect_text("HELLO")


async def test_what_never_comes_from_outside_is_waited_for_no_longer_than_said(no_task_left):
    service = Waits()
    async with testing.serve(service, patience=0.01) as server:
        client = await server.connect()
        await client.send("hello")
        with pytest.raises(ExpectationError, match="nothing came"):
            await client.expect_text()
        await client.expect_nothing()
        service.go_on.set()
        await client.expect_text("went on")


@at()
class Waits:
    """Waits for the test."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    @ws.on_text_message
    async def said(self) -> str:
        await self.go_on.wait()
        return "went on"


async def test_a_handler_that_waits_for_ever_does_not_keep_the_server_from_ending(no_task_left):
    async with testing.serve(Waits, patience=0.01) as server:
        client = await server.connect()
        await client.send("hello")
    assert client.close_code == 1001


async def test_a_handler_that_never_waits_fails_the_test(no_task_left, monkeypatch):
    monkeypatch.setattr("fastws.testing.clock.MOST_TURNS", 100)
    ended = asyncio.Event()

    @at()
    class Busy:
        @ws.on_text_message
        async def said(self) -> None:
            while not ended.is_set():
                await asyncio.sleep(0)

    async with testing.serve(Busy) as server:
        client = await server.connect()
        with pytest.raises(RuntimeError, match="never waits for anything"):
            await client.send("hello")
        ended.set()


# ---------------------------------------------------------------------------------------------------------------------
# What fails


@http.base_path("/")
@ws.upgrade_path("/")
class Fails:
    """Divides by zero, wherever it is asked to."""

    @ws.on_text_message
    def now(self, text: str) -> None:
        raise ZeroDivisionError(text)

    @ws.on_binary_message
    async def later(self) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    @http.get("/boom")
    def boom(self) -> None:
        raise ZeroDivisionError


async def test_a_handler_s_exception_fails_the_test_at_its_end(no_task_left, failures):
    async def test() -> None:
        async with testing.serve(Fails) as server:
            client = await server.connect()
            await client.send("here")
            await client.expect_close(1011)

    with pytest.raises(ZeroDivisionError) as raised:
        await test()
    assert [entry.name for entry in raised.traceback][-1] == "now"


@pytest.mark.parametrize("message", ["here", b"there"])
async def test_a_handler_s_exception_is_why_an_expectation_fails(no_task_left, failures, message):
    async with testing.serve(Fails) as server:
        client = await server.connect()
        await client.send(message)
        with pytest.raises(ZeroDivisionError) as raised:
            await client.expect_text()
        assert "expected text, but got close 1011" in str(raised.value.__cause__)


async def test_a_handler_s_exception_may_be_expected(no_task_left, failures):
    async with testing.serve(Fails) as server:
        client = await server.connect()
        await client.send("here")
        assert str(await server.expect_error(ZeroDivisionError)) == "here"
        await client.expect_close(1011)
        with pytest.raises(ExpectationError, match="expected Exception in a handler"):
            await server.expect_error()


async def test_a_resource_s_exception_fails_the_test(no_task_left, failures):
    async def test() -> None:
        async with testing.serve(Fails) as server:
            assert (await server.get("/boom")).status == 500

    with pytest.raises(ZeroDivisionError):
        await test()


async def test_an_on_start_s_exception_is_raised_at_the_beginning(no_task_left):
    @at()
    class Lame:
        @ws.on_start
        def start(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await testing.serve(Lame).__aenter__()
    assert "call_soon" not in vars(asyncio.get_running_loop())


async def test_what_the_test_raises_itself_goes_before_what_a_handler_does(no_task_left, failures):
    async def test() -> None:
        async with testing.serve(Fails) as server:
            client = await server.connect()
            await client.send("here")
            raise KeyError

    with pytest.raises(KeyError) as raised:
        await test()
    if sys.version_info >= (3, 11):
        assert raised.value.__notes__ == ["a handler has failed, too: ZeroDivisionError('here')"]


# ---------------------------------------------------------------------------------------------------------------------
# Beside others on the loop


async def test_a_server_at_a_socket_is_another_one(serve, connect):
    """The fixtures are those of servers at sockets; what is in memory is found by what runs there alone."""
    real = await serve(Room())
    async with testing.serve(Room()) as server:
        outside = await connect(real, "/rooms/tea", fields=b"X-A: b\r\n")
        inside = await server.connect("/rooms/tea", headers={"X-A": "b"})
        assert (await outside.text()).startswith("tea")
        await inside.expect_text()
        await inside.send("inside")
        await inside.expect_text("inside")
        assert await outside.asks("outside") == "outside"
        await inside.expect_nothing()
        ws.push_text_to_group("tea", "from the test")
        assert await outside.text() == "from the test"
        await inside.expect_nothing()
    assert await outside.asks("still there") == "still there"


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_closed_under_nodes_lets_go_of_them(factory):
    async def begin() -> list[testing.MemoryClient]:
        nodes = await testing.cluster(2, Echo).__aenter__()
        return [await node.connect() for node in nodes]

    loop = factory()
    clients = loop.run_until_complete(begin())
    assert all(client.connection.is_open for client in clients)
    loop.close()
    assert not any(client.connection.is_open for client in clients)
    with pytest.raises(fastws.NotServingError):
        ws.broadcast_text("?", to=Echo)


# ---------------------------------------------------------------------------------------------------------------------
# HTTP


@http.base_path("/notes")
class Notes:
    """Keeps notes, and says what it was asked."""

    def __init__(self) -> None:
        self.notes = {"1": "milk"}

    @http.get("/{name}")
    def read(self, name: str) -> http.Response:
        if name not in self.notes:
            raise http.Refuse(404, "no such note")
        return http.Response(self.notes[name], headers={"X-Name": name})

    @http.put("/{name}")
    def write(self, name: str, body: bytes) -> None:
        self.notes[name] = body.decode()

    @http.post("/")
    async def post(self, json: dict, request: http.Request) -> dict:
        await asyncio.sleep(0)
        return {**json, "type": request.headers["content-type"], "from": request.remote_address[0]}

    @http.delete("/{name}")
    def delete(self, request: http.Request, name: str) -> str:
        del self.notes[name]
        return request.scheme


async def test_resources_answer_every_method(no_task_left):
    async with testing.serve(Notes, Echo) as server:
        response = await server.get("/notes/1")
        assert (response.status, response.text, response.headers["X-Name"]) == (200, "milk", "1")
        assert (await server.get("/notes/2")).status == 404
        assert (await server.put("/notes/2", body="bread ☃")).status == 204
        assert (await server.get("/notes/2")).text == "bread ☃"
        answer = await server.post("/notes/", json={"a": 1}, address=("10.0.0.1", 1))
        assert answer.json() == {"a": 1, "type": "application/json", "from": "10.0.0.1"}
        assert (await server.delete("/notes/1", secure=True)).body == b"https"
        head = await server.head("/notes/2")
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "9")
        assert (await server.patch("/notes/2")).status == 405
        assert (await server.options("/nowhere")).status == 404
        assert repr(response) == "<Response 200, 4 bytes>"


async def test_a_refusal_has_status_headers_and_body(no_task_left):
    @at("/", allowed_origins=["https://example.com"])
    class Guarded:
        @ws.on_upgrade
        def check(self, request: http.Request) -> None:
            if request.cookies.get("token") != "secret" or "authorization" not in request.headers:
                raise http.Refuse(401, "who are you?", headers={"WWW-Authenticate": "Basic"})

    async with testing.serve(Guarded) as server:
        with pytest.raises(Refused) as refused:
            await server.connect("/", origin="https://example.com")
        assert (refused.value.status, refused.value.body) == (401, b"who are you?")
        assert refused.value.headers["www-authenticate"] == "Basic"
        assert str(refused.value) == "the opening handshake is refused with 401: who are you?"
        with pytest.raises(Refused, match="403"):
            await server.connect("/", origin="https://example.org")
        with pytest.raises(Refused, match="404"):
            await server.connect("/elsewhere")
        client = await server.connect(
            origin="https://example.com", cookies={"token": "secret"}, auth=("alice", "password")
        )
        assert client.is_open


@pytest.mark.parametrize("compression", ["shared", "dedicated"])
async def test_compressed_messages_are_read(no_task_left, compression):
    @at(compression=compression, compression_threshold=0)
    class Deflated:
        @ws.on_text_message
        def said(self, text: str) -> str:
            return text

    async with testing.serve(Deflated) as server:
        client = await server.connect(compression=compression)
        assert "permessage-deflate" in client.headers["sec-websocket-extensions"]
        assert client.connection.compression == compression
        for _ in range(3):
            await client.send("hello " * 100)
            await client.expect_text("hello " * 100)


# ---------------------------------------------------------------------------------------------------------------------
# What has no meaning in memory, and mistakes


@pytest.mark.parametrize("options", [{"port": 0}, {"host": None}, {"unix": "/tmp/x"}, {"backplane": "nats://x"}])
def test_options_of_the_network_are_refused(options):
    with pytest.raises(TypeError, match="in memory"):
        testing.serve(Echo, **options)


async def test_mistakes_are_told(no_task_left):
    server = testing.serve(Room)
    with pytest.raises(RuntimeError, match=r"server\.clock"):
        _ = server.clock
    with pytest.raises(RuntimeError, match=r"server\.connect"):
        await server.get("/")
    async with server:
        with pytest.raises(TypeError, match="names segments"):
            await server.connect()
        with pytest.raises(TypeError, match="compression"):
            await server.connect("/rooms/a", compression="much")
        with pytest.raises(TypeError, match="line break"):
            await server.connect("/rooms/a", headers={"X-A": "1\r\nX-B: 2"})
        client = await server.connect("/rooms/a", headers={"x-a": ""})
        for wrong in (client.fragment, client.byte_by_byte):
            with pytest.raises(TypeError, match="1 or more"):
                wrong(0)
        with pytest.raises(TypeError, match="0 or more"):
            server.clock.advance(-1)
    async with testing.serve(Notes) as server:
        with pytest.raises(TypeError, match="no service has a WebSocket"):
            await server.connect()
    with pytest.raises(RuntimeError, match="entered once"):
        await server.__aenter__()
