"""A server from its start to its end: what it serves, its background work, and a shutdown that takes bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

import fastws
from fastws import ConfigurationError, NoCurrentConnectionError, http, ws

from ..kit.client import CLOSE, Client, close_payload, open_connection, turns, within
from ..kit.services import Commanded, Echo, Log, Watch, at
from ..kit.wires import blocked

GOING_AWAY = (CLOSE, close_payload(1001, "going away"))


@at("/other")
class Other(Echo):
    """At another path."""


async def answer(client: Client) -> None:
    """What a polite client does at a shutdown."""
    assert await client.close_frame() == (1001, "going away")
    client.send_close(1001)
    assert await client.rest() == []


# ---------------------------------------------------------------------------------------------------------------------
# Background work


@at()
class Phases(Log):
    """Notes the phases of its life."""

    @ws.on_start
    def start(self, server: fastws.Server) -> None:
        self.saw("start", server.addresses[0][1] > 0)

    @ws.on_close
    def closed(self, code: int) -> None:
        self.saw("closed", code)

    @ws.on_stop
    async def stop(self, server: fastws.Server) -> None:
        await asyncio.sleep(0)
        self.saw("stop", len(server.connections(self)))


async def test_on_start_comes_first_and_on_stop_last(serve, connect):
    phases = Phases()
    server = await serve(phases)
    client = await connect(server)
    stopping = asyncio.ensure_future(server.close())
    await answer(client)
    await within(stopping)
    seen = [await phases.next() for _ in range(3)]
    assert seen == [("start", True), ("closed", 1001), ("stop", 0)]
    assert phases.events.empty()


@at()
class Ticker(Log):
    """Broadcasts a count until it is cancelled."""

    @ws.on_start
    async def tick(self) -> None:
        number = 0
        try:
            while True:
                number += 1
                ws.broadcast_text(str(number))
                await asyncio.sleep(0.001)
        finally:
            self.saw("cancelled")

    @ws.on_stop
    def stop(self) -> None:
        self.saw("stop", ws.broadcast_text("nobody is left"))


async def test_a_ticker_broadcasts_to_its_service_until_the_server_stops(serve, connect):
    ticker = Ticker()
    server = await serve(ticker, Other())
    one, two, other = await connect(server), await connect(server), await connect(server, "/other")
    for client in (one, two):
        numbers = [int(text) for text in await client.texts(3)]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
    assert await other.asks("nothing before this") == "nothing before this"
    for client in (one, two, other):
        client.reset()
    await within(server.close())
    assert [await ticker.next(), await ticker.next()] == [("cancelled",), ("stop", ws.Delivery(0, 0, 0))]


async def test_background_work_has_no_current_connection(serve):
    @at()
    class Lost(Log):
        @ws.on_start
        async def start(self) -> None:
            for call in (ws.push_text, ws.store_connection, ws.add_connection_to_group):
                with pytest.raises(NoCurrentConnectionError):
                    call("?")
            self.saw("refused")

    lost = Lost()
    await serve(lost)
    assert await lost.next() == ("refused",)


async def test_a_failing_on_start_ends_the_start():
    @at()
    class Broken(Watch):
        @ws.on_start
        def start(self) -> None:
            raise LookupError("no database")

    server = fastws.serve(Broken, port=0)
    with pytest.raises(LookupError, match="no database"):
        await server.__aenter__()
    with pytest.raises(ConnectionError):
        await Client.connect(server.addresses[0][1], "/")


async def test_failing_background_work_is_logged_and_the_server_lives_on(serve, connect, failures):
    @at()
    class Broken(Echo):
        @ws.on_start
        async def start(self) -> None:
            await asyncio.sleep(0)
            raise LookupError("no database")

        @ws.on_stop
        def stop(self) -> None:
            raise LookupError("no file")

    server = await serve(Broken)
    client = await connect(server)
    assert await client.asks("hello") == "hello"
    client.reset()
    await within(server.close())
    assert failures.messages() == ["Broken.start failed", "Broken.stop failed"]


# ---------------------------------------------------------------------------------------------------------------------
# The end


async def test_clients_that_do_not_answer_bound_the_shutdown(serve, connect):
    watch = Watch()
    server = await serve(watch, close_timeout=0.1)
    clients = [await connect(server) for _ in range(5)]
    start = time.monotonic()
    await within(server.close())
    assert time.monotonic() - start < 5
    assert [await watch.next() for _ in clients] == [("closed", 1001, "going away")] * 5
    assert [await client.rest() for client in clients] == [[GOING_AWAY]] * 5


async def test_clients_that_do_not_even_read_bound_the_shutdown(narrow):
    watch = Watch()
    _, connections = await narrow(watch, 2, close_timeout=0.1)
    for connection in connections:
        await blocked(connection)
    # The end of the test closes the server


async def test_suspended_handlers_bound_the_shutdown(serve, connect):
    @at()
    class Endless(Watch):
        @ws.on_text_message
        async def wait(self) -> None:
            self.saw("waits")
            await asyncio.Event().wait()

    endless = Endless()
    server = await serve(endless, close_timeout=0.1)
    client = await connect(server)
    client.send("go")
    assert await endless.next() == ("waits",)
    stopping = asyncio.ensure_future(server.close())
    await answer(client)
    await within(stopping)
    assert await endless.next() == ("closed", 1001, "")


async def test_a_closed_server_takes_no_more_connections(serve, connect):
    server = await serve(Echo())
    port = server.addresses[0][1]
    client = await connect(server)
    stopping = asyncio.ensure_future(server.close())
    await answer(client)
    await within(stopping)
    await within(server.close())
    with pytest.raises(ConnectionError):
        await Client.connect(port, "/")


async def test_no_connection_opens_once_the_server_is_closing(serve, connect):
    echo = Echo()
    server = await serve(echo)
    port = server.addresses[0][1]
    client = await connect(server)
    reader, writer = await open_connection(port)
    writer.write(b"GET / HTTP/1.1\r\n")
    await turns(20)
    stopping = asyncio.ensure_future(server.close())
    await client.receive()
    writer.write(b"Host: localhost\r\n\r\n")
    client.reset()
    assert not (await within(reader.read())).startswith(b"HTTP/1.1 101")
    writer.close()
    await within(stopping)
    assert len(echo.connections) == 1


async def test_a_server_closes_when_its_block_fails():
    watch = Watch()
    with contextlib.suppress(KeyError):
        async with fastws.serve(watch, port=0, close_timeout=0.1) as server:
            client = await Client.connect(server.addresses[0][1], "/")
            raise KeyError
    assert await client.rest() == [GOING_AWAY]
    assert await watch.next() == ("closed", 1001, "going away")


async def test_serve_forever_serves_until_it_is_cancelled(serve, connect):
    server = await serve(Echo())
    serving = asyncio.ensure_future(server.serve_forever())
    client = await connect(server)
    assert await client.asks("hello") == "hello"
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


# ---------------------------------------------------------------------------------------------------------------------
# Several


async def test_a_service_is_made_once_for_a_server(serve, connect):
    made = []

    @at()
    class Counted(Commanded):
        def __init__(self) -> None:
            super().__init__(count=lambda: str(len(made)))
            made.append(self)

    server = await serve(Counted)
    clients = [await connect(server) for _ in range(3)]
    assert [await client.asks("count") for client in clients] == ["1"] * 3
    assert len(server.connections(Counted)) == 3
    assert server.connections(made[0]) is server.connections(Counted)


async def test_two_servers_on_one_loop_share_names_and_groups(serve, connect):
    first = await serve(Commanded(join=lambda: ws.add_connection_to_group("g") or "in"))
    second = await serve(Commanded(push=lambda: ws.push_text_to_group("g", "from the other") and None))
    here, there = await connect(first), await connect(second)
    assert await here.asks("join") == "in"
    there.send("push")
    assert await here.text() == "from the other"
    assert list(first.groups) == list(second.groups) == ["g"]
    stopping = asyncio.ensure_future(second.close())
    await answer(there)
    await within(stopping)
    assert await here.asks("join") == "in"
    assert list(first.groups) == ["g"]


async def test_a_server_may_follow_another_on_the_same_loop(serve, connect):
    for _ in range(3):
        server = await serve(Commanded(join=lambda: ws.add_connection_to_group("g") or "in"))
        assert len(server.groups) == 0
        client = await connect(server)
        assert await client.asks("join") == "in"
        client.reset()
        await within(server.close())


# ---------------------------------------------------------------------------------------------------------------------
# Where it listens


async def test_a_socket_that_is_given_is_listened_at(serve, connect):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await serve(Echo(), sock=sock)
    assert server.addresses == [sock.getsockname()]
    client = await connect(server)
    assert await client.asks("hello") == "hello"


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the system does not share ports")
async def test_servers_may_share_a_port(serve, connect):
    first = await serve(Echo(), reuse_port=True)
    port = first.addresses[0][1]
    second = await serve(Echo(), reuse_port=True, port=port)
    assert first.addresses == second.addresses
    client = await connect(second)
    assert await client.asks("hello") == "hello"


async def test_a_port_in_use_is_an_error_and_leaves_nothing(serve):
    server = await serve(Echo())
    with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
        await serve(Echo(), port=server.addresses[0][1])


async def test_a_path_that_is_not_served_is_404_before_any_upgrade(serve, connect):
    echo = Echo()
    server = await serve(echo)
    with pytest.raises(ConnectionError, match=r"HTTP/1\.1 404"):
        await connect(server, "/nowhere")
    assert echo.connections == []


async def test_a_service_without_websocket_has_no_connections(serve):
    @http.base_path("/rest")
    class Rest:
        @http.get("/")
        def get(self) -> str:
            return "here"

    server = await serve(Rest, Echo)
    with pytest.raises(ConfigurationError, match="is not served here with a WebSocket"):
        server.connections(Rest)
    assert len(server.connections(Echo)) == 0


@pytest.mark.parametrize("targets", [(), (object(),), (object,), (7,), ("module:Class",), (None,), (Echo, Watch)])
def test_what_cannot_be_served_is_refused_before_anything_listens(targets):
    with pytest.raises(ConfigurationError):
        fastws.serve(*targets)
