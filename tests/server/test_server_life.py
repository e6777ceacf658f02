"""The life of a server: it begins once, ends for everybody whatever one of them does, and keeps nobody waiting."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
import threading
import time

import pytest

import fastws
from fastws import NotServingError, StartError, WrongThreadError, http, ws
from fastws._speedups import live_objects
from fastws.net import sockets
from fastws.server import patience

from ..kit.certificates import client_context, server_context
from ..kit.client import CLOSE, REQUEST, Client, close_payload, open_connection, turns, until, within
from ..kit.services import Echo, Log, Watch, at

GOING_AWAY = (CLOSE, close_payload(1001, "going away"))


def service(path: str, notes: list[str], start=None, stop=None):
    """A service that notes its start and its stop, after doing what it is told."""

    @http.base_path(path)
    class Noting:
        @http.get("/")
        def get(self) -> str:
            return "here"

        @ws.on_start
        def start(self) -> object:
            if start is not None:
                start()
            notes.append(f"start {path}")

        @ws.on_stop
        async def stop(self) -> None:
            if stop is not None:
                await stop()
            notes.append(f"stop {path}")

    return Noting


# ---------------------------------------------------------------------------------------------------------------------
# It begins once


async def test_a_server_is_entered_once_and_says_how_to_go_on(serve, connect):
    server = await serve(Echo())
    client = await connect(server)
    with pytest.raises(StartError, match=r"make another one with fastws\.serve"):
        await server.__aenter__()
    assert await client.asks("still here") == "still here"
    client.reset()
    await within(server.close())
    with pytest.raises(StartError):
        await server.__aenter__()


async def test_of_two_that_enter_at_once_one_does(no_task_left):
    server = fastws.serve(Echo(), port=0)
    results = await asyncio.gather(server.__aenter__(), server.__aenter__(), return_exceptions=True)
    assert [type(result) for result in results] == [fastws.Server, StartError]
    client = await Client.connect(server.addresses[0][1], "/")
    assert await client.asks("hello") == "hello"
    client.reset()
    await within(server.close())


async def test_a_server_that_could_not_listen_may_try_again(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = fastws.serve(Echo(), host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            await server.__aenter__()
        await server.close()
    async with server:
        assert len(server.addresses) == 1


async def test_what_needs_a_running_server_says_so_before_it_runs():
    server = fastws.serve(Echo, port=0)
    assert server.addresses == []
    for ask in (lambda: server.groups, lambda: server.stored, lambda: server.connections(Echo)):
        with pytest.raises(NotServingError):
            ask()
    with pytest.raises(NotServingError):
        server.call_from_thread(int)
    with pytest.raises(NotServingError):
        await server.serve_forever()
    await server.close()


async def test_a_server_that_is_closed_while_it_begins_does_not_listen(monkeypatch, no_task_left):
    async def bind_later(loop, options):
        await closed.wait()  # as for a name that is looked up
        return await bind(loop, options)

    bind, closed = sockets._bind_addresses, asyncio.Event()
    monkeypatch.setattr(sockets, "_bind_addresses", bind_later)
    server = fastws.serve(Echo, port=0)
    entering = asyncio.ensure_future(server.__aenter__())
    await asyncio.sleep(0)
    await server.close()
    closed.set()
    with pytest.raises(StartError, match="closed"):
        await within(entering)
    assert server.addresses == []


async def test_a_hurry_before_the_beginning_holds_at_the_end(monkeypatch):
    monkeypatch.setattr(patience.Patience, "grace", 0.01)
    server = fastws.serve(Echo, port=0, close_timeout=3600.0)
    server.hurry()
    async with server:
        client = await Client.connect(server.addresses[0][1])
        client.transport.pause_reading()
    client.transport.abort()


async def test_a_service_that_cannot_be_served_leaves_nothing(no_task_left):
    names = [f"segment{number}" for number in range(17)]
    source = f"def opened(self, {', '.join(names)}): ..."
    namespace = {}
    exec(source, namespace)
    path = "/" + "/".join(f"{{{name}}}" for name in names)
    wide = at(path)(type("Wide", (), {"opened": ws.on_open(namespace["opened"])}))
    before = live_objects()
    with pytest.raises(fastws.ConfigurationError, match="takes 17 arguments"):
        await fastws.serve(wide, port=0).__aenter__()
    gc.collect()
    assert live_objects() == before


async def test_another_thread_cannot_close_a_server(serve):
    server = await serve(Echo())
    with pytest.raises(WrongThreadError):
        await asyncio.to_thread(asyncio.run, server.close())


# ---------------------------------------------------------------------------------------------------------------------
# on_start and on_stop


async def test_where_an_on_start_fails_only_what_began_is_stopped(no_task_left):
    def fail() -> None:
        raise LookupError("no database")

    notes: list[str] = []
    server = fastws.serve(service("/1", notes), service("/2", notes, fail), service("/3", notes), port=0)
    with pytest.raises(LookupError, match="no database"):
        await server.__aenter__()
    assert notes == ["start /1", "stop /1"]


async def cancelled_work() -> None:
    task = asyncio.ensure_future(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def fail_at_once() -> None:
    raise LookupError("no file")


@pytest.mark.parametrize("stop", [cancelled_work, fail_at_once])
async def test_every_on_stop_runs_whatever_one_of_them_raises(stop, failures):
    notes: list[str] = []
    async with fastws.serve(service("/1", notes, stop=stop), service("/2", notes), port=0):
        pass
    assert notes == ["start /1", "start /2", "stop /2"]
    assert [message.partition(" ")[0] for message in failures.messages()] == ["service.<locals>.Noting.stop"[-11:]]


@pytest.mark.parametrize("error", [asyncio.CancelledError, LookupError])
async def test_an_on_stop_that_is_no_coroutine_may_raise_as_well(error, failures):
    @http.base_path("/1")
    class Raises:
        @http.get("/")
        def get(self) -> str:
            return "here"

        @ws.on_stop
        def stop(self) -> None:
            raise error

    notes: list[str] = []
    async with fastws.serve(Raises, service("/2", notes), port=0):
        pass
    assert notes == ["start /2", "stop /2"]
    assert failures.messages() == ["Raises.stop failed"]


@pytest.mark.parametrize("is_async", [True, False])
def test_an_on_stop_that_ends_the_program_does_so_behind_the_others(is_async):
    async def stop() -> None:
        sys.exit(3)

    @http.base_path("/1")
    class Exits:
        @http.get("/")
        def get(self) -> str:
            return "here"

        @ws.on_stop
        def stop(self) -> object:
            return stop() if is_async else sys.exit(3)

    async def main() -> None:
        async with fastws.serve(Exits, service("/2", notes), port=0):
            pass

    notes: list[str] = []
    with pytest.raises(SystemExit, match="3"):
        asyncio.run(main())
    assert notes == ["start /2", "stop /2"]


async def test_an_on_stop_that_takes_too_long_is_cancelled_and_named(failures):
    notes: list[str] = []
    endless = service("/1", notes, stop=lambda: asyncio.sleep(60))
    async with fastws.serve(endless, service("/2", notes), port=0, close_timeout=0.05):
        pass
    assert notes == ["start /1", "start /2", "stop /2"]
    assert failures.messages() == ["Noting.stop took longer than 0.05 seconds (close_timeout) and is cancelled"]


# ---------------------------------------------------------------------------------------------------------------------
# The end: everybody is told, and nobody is waited for without end


@at()
class Polled(Watch):
    """Has a resource that waits until a test lets it go on, and an `on_stop`."""

    def __init__(self, ignores: bool = False) -> None:
        super().__init__()
        self.ignores = ignores
        self.go_on = asyncio.Event()

    @http.get("/poll")
    async def poll(self) -> str:
        self.saw("polled")
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.saw("cancelled")
            if not self.ignores:
                raise
            await self.go_on.wait()
        return "done"

    @ws.on_stop
    def stop(self) -> None:
        self.saw("stop")


POLL = b"GET /poll HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_resource_that_does_not_end_is_cancelled_and_answered_for_before_on_stop(serve, dial):
    polled = Polled()
    server = await serve(polled, close_timeout=0.1)
    client = await dial(server, POLL)
    assert await polled.next() == ("polled",)
    await within(server.close())
    assert [await polled.next(), await polled.next()] == [("cancelled",), ("stop",)]
    assert (await within(client.reader.read())).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


async def test_a_resource_that_ends_in_time_is_answered(serve, dial):
    polled = Polled()
    server = await serve(polled)
    client = await dial(server, POLL)
    assert await polled.next() == ("polled",)
    closing = asyncio.ensure_future(server.close())
    await turns()
    polled.go_on.set()
    await within(closing)
    assert (await within(client.reader.read())).endswith(b"done")
    assert await polled.next() == ("stop",)


async def test_a_resource_that_ignores_its_cancellation_holds_nobody_up_for_ever(serve, dial, monkeypatch, caplog):
    monkeypatch.setattr(patience.Patience, "grace", 0.1)
    polled = Polled(ignores=True)
    server = await serve(polled, close_timeout=0.1)
    client = await dial(server, POLL)
    assert await polled.next() == ("polled",)
    await within(server.close())
    assert [await polled.next(), await polled.next()] == [("cancelled",), ("stop",)]
    assert (await within(client.reader.read())).startswith(b"HTTP/1.1 503 ")
    assert "the server stops, but 1 connections have handlers that run" in caplog.messages
    polled.go_on.set()
    await until(lambda: not server.http_connections)


async def test_one_failing_step_ends_no_walk_over_all(serve, connect, dial, failures, monkeypatch):
    def shutdown(protocol) -> None:
        del protocols[:]
        monkeypatch.undo()
        raise LookupError("whatever it is")

    watch = Watch()
    server = await serve(watch, close_timeout=0.1)
    clients = [await connect(server) for _ in range(3)]
    await dial(server, b"GET / HTTP/1.1\r\n")
    await dial(server, b"GET / HTTP/1.1\r\n")
    await until(lambda: len(server.http_connections) == 2)
    protocols = list(server.http_connections)
    monkeypatch.setattr(type(protocols[0]), "shutdown", shutdown)
    await within(server.close())
    assert not protocols
    assert [await client.rest() for client in clients] == [[GOING_AWAY]] * 3
    assert [(await watch.next())[:2] for _ in clients] == [("closed", 1001)] * 3
    assert len(failures.messages()) == 1


async def test_a_socket_that_its_owner_has_closed_ends_no_shutdown(connect, serve):
    sock = socket.create_server(("127.0.0.1", 0))
    watch = Watch()
    server = await serve(watch, sock=sock, port=None, close_timeout=0.1)
    client = await connect(server)
    asyncio.get_running_loop().remove_reader(sock)
    sock.close()
    await within(server.close())
    assert await client.rest() == [GOING_AWAY]
    assert await watch.next() == ("closed", 1001, "going away")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has another TLS before CPython 3.11")
@pytest.mark.parametrize("count", range(5))
async def test_a_tls_client_that_leaves_in_the_turn_of_the_shutdown_harms_nobody(serve, count):
    def visit() -> ssl.SSLSocket:
        return client_context().wrap_socket(socket.create_connection(address[:2]), server_hostname="localhost")

    polled = Polled()
    server = await serve(polled, ssl=server_context(), close_timeout=0.1)
    address = server.addresses[0]
    leaving = await asyncio.to_thread(visit)
    staying = await asyncio.to_thread(visit)
    await asyncio.to_thread(lambda: (staying.sendall(REQUEST % (b"/", b"")), staying.recv(4096)))
    await until(lambda: polled.connections)
    leaving.close()
    time.sleep(0.01)  # its end is here, and the loop has not read it
    await turns(count)
    await within(server.close())
    assert await polled.next() == ("closed", 1001, "going away")
    assert await polled.next() == ("stop",)
    staying.close()


async def test_who_is_in_a_hurry_waits_for_nobody(serve, connect, dial):
    @at()
    class Endless(Polled):
        @ws.on_text_message
        async def wait(self) -> None:
            self.saw("waits")
            await asyncio.Event().wait()

    endless = Endless()
    server = await serve(endless, close_timeout=60)
    client, silent = await connect(server), await connect(server)
    client.send("go")
    assert await endless.next() == ("waits",)
    await dial(server, POLL)
    assert await endless.next() == ("polled",)
    closing = asyncio.ensure_future(server.close())
    await turns()
    server.hurry()
    await within(closing)
    seen = [(await endless.next())[:2] for _ in range(4)]
    assert sorted(seen[:3]) == [("cancelled",), ("closed", 1001), ("closed", 1001)]
    assert seen[3] == ("stop",)
    for one in (client, silent):
        with contextlib.suppress(ConnectionError):
            assert await one.rest() == [GOING_AWAY]


def test_a_program_that_ends_in_the_middle_of_close_runs_every_on_stop():
    async def main() -> None:
        server = fastws.serve(Polite, service("/2", notes), port=0, close_timeout=60)
        async with contextlib.AsyncExitStack() as clients, server:
            reader, writer = await open_connection(server.addresses[0][1])
            clients.callback(writer.close)
            writer.write(REQUEST % (b"/", b""))
            await within(reader.readuntil(b"\r\n\r\n"))
            asyncio.get_running_loop().call_later(0.05, sys.exit, 4)

    @at()
    class Polite(Log):
        @ws.on_close
        def closed(self, code: int) -> None:
            notes.append(f"closed {code}")

    notes: list[str] = []
    with pytest.raises(SystemExit, match="4"):
        asyncio.run(main())
    assert notes == ["start /2", "closed 1001", "stop /2"]


# ---------------------------------------------------------------------------------------------------------------------
# Calls from other threads


def ask_in_thread(server: fastws.Server) -> tuple[threading.Thread, list[object]]:
    def ask() -> None:
        try:
            answers.append(server.call_from_thread(int))
        except NotServingError as error:
            answers.append(type(error))

    answers: list[object] = []
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    return thread, answers


def test_a_thread_does_not_wait_for_a_server_that_has_ended():
    loop = asyncio.new_event_loop()
    server = fastws.serve(Echo(), port=0)
    loop.run_until_complete(server.__aenter__())
    # The loop does not run: it will have its turn when the server ends, or never
    waiting, waited = ask_in_thread(server)
    while not server._calls._waiting:
        time.sleep(0.001)
    loop.run_until_complete(server.close())
    late, refused = ask_in_thread(server)
    for thread in (waiting, late):
        thread.join(10)
        assert not thread.is_alive()
    assert (waited, refused) == ([0], [NotServingError])
    loop.close()


def test_a_thread_is_refused_when_the_server_ends_before_its_turn():
    async def main() -> list[object]:
        server = await fastws.serve(Echo(), port=0).__aenter__()
        await server.close()
        server._calls.begin(asyncio.get_running_loop())
        thread, answers = ask_in_thread(server)
        while not server._calls._waiting:
            time.sleep(0.001)
        server._calls.end()
        await asyncio.to_thread(thread.join)
        return answers

    assert asyncio.run(main()) == [NotServingError]


def test_a_thread_does_not_wait_for_a_loop_that_is_closed():
    loop = asyncio.new_event_loop()
    server = fastws.serve(Echo(), port=0)
    loop.run_until_complete(server.__aenter__())
    loop.run_until_complete(server.close())
    server._calls.begin(loop)
    loop.close()
    thread, answers = ask_in_thread(server)
    thread.join(10)
    assert answers == [NotServingError]
