"""Loops: several in one thread, and one that is closed under those whom it serves."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading

import pytest
import uvloop

import fastws
from fastws import NotServingError, _speedups, ws

from ...kit.client import Client, within
from ...kit.services import Log, at

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS.values(), ids=LOOPS)
def new_loop(request):
    """Make loops, and close those that are open still."""
    loops: list[asyncio.AbstractEventLoop] = []

    def new_loop() -> asyncio.AbstractEventLoop:
        loops.append(request.param())
        return loops[-1]

    yield new_loop
    for loop in loops:
        loop.close()


@at()
class Named(Log):
    """Stores who comes, and waits in its handler when asked to."""

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        super().opened(connection)
        connection.store("me")
        connection.join("all")

    @ws.on_text_message
    async def text(self, text: str) -> str:
        if text == "wait":
            self.saw("waits")
            await asyncio.Event().wait()
        return text


async def begin() -> tuple[fastws.Server, Client]:
    server = await fastws.serve(Named(), port=0, close_timeout=0.1).__aenter__()
    return server, await Client.connect(server.addresses[0][1], "/")


async def end(server: fastws.Server, client: Client) -> None:
    client.transport.abort()
    await within(server.close())
    await asyncio.sleep(0)


def test_functions_find_the_server_of_the_loop_that_runs_in_this_thread(new_loop):
    async def push(client: Client, text: str) -> str:
        assert ws.push_text_to_group("all", text).matched == 1
        return await client.text()

    wide, narrow = new_loop(), new_loop()
    wide_server, wide_client = wide.run_until_complete(begin())
    assert ws.push_text_to_group("all", "no loop runs, and there is one only").matched == 1
    wide.run_until_complete(within(wide_client.text()))

    narrow_server, narrow_client = narrow.run_until_complete(begin())
    assert wide.run_until_complete(push(wide_client, "wide")) == "wide"
    assert narrow.run_until_complete(push(narrow_client, "narrow")) == "narrow"
    with pytest.raises(NotServingError):
        ws.push_text_to_group("all", "which of the two?")

    narrow.run_until_complete(end(narrow_server, narrow_client))
    assert wide.run_until_complete(push(wide_client, "still here")) == "still here"
    wide.run_until_complete(end(wide_server, wide_client))
    with pytest.raises(NotServingError):
        ws.push_text_to_group("all", "nobody")


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # what asyncio says of such a program
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_is_closed_under_live_connections_leaves_nothing(new_loop, count, caplog):
    async def main() -> tuple[fastws.Server, list[ws.Connection]]:
        server = await fastws.serve(Named(), port=0).__aenter__()
        clients = [await Client.connect(server.addresses[0][1], "/") for _ in range(count)]
        if clients:
            clients[0].send("wait")
            clients[1].send("now")
            assert await clients[1].text() == "now"
            ws.push_text_to_group("all", "pending")
        connections = list(server.connections(server.services[0].instance))
        kept.append(clients)
        return server, connections

    kept: list[list[Client]] = []
    before = _speedups.live_objects()
    loop = new_loop()
    server, connections = loop.run_until_complete(main())
    assert len(connections) == count
    loop.close()
    assert [connection.is_open for connection in connections] == [False] * count
    assert not any(connection.push_text("late").queued for connection in connections)
    late = functools.partial(server.call_from_thread, int)
    for call in (lambda: ws.push_text_to_group("all", "late"), late):
        with pytest.raises(NotServingError):
            call()
    assert len(server.stored) == len(server.groups) == 0
    assert server.addresses
    kept.clear()
    del connections, server, late, call
    gc.collect()
    assert _speedups.live_objects() == before


def test_a_later_thread_of_the_same_number_knows_no_server_of_a_closed_loop(new_loop):
    def abandon() -> int:
        loop = new_loop()
        loop.run_until_complete(fastws.serve(Named(), port=0).__aenter__())
        loop.close()
        return threading.get_ident()

    def ask() -> tuple[int, bool]:
        try:
            ws.push_text_to_group("all", "?")
        except NotServingError:
            return threading.get_ident(), True
        return threading.get_ident(), False

    def in_thread(function):
        results = []
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
        thread.join()
        return results[0]

    number = in_thread(abandon)
    answers = [in_thread(ask) for _ in range(10)]
    assert (number, False) not in answers
    assert all(refused for _, refused in answers)


def test_a_loop_closes_as_before_when_its_servers_have_ended(new_loop):
    loop = new_loop()
    server, client = loop.run_until_complete(begin())
    with pytest.raises(RuntimeError, match="running"):
        loop.run_until_complete(asyncio.wait_for(_close(loop), 1))
    loop.run_until_complete(end(server, client))
    assert "close" not in loop.__dict__
    loop.close()
    assert loop.is_closed()


async def _close(loop: asyncio.AbstractEventLoop) -> None:
    loop.close()
