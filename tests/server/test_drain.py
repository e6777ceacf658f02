"""Going away slowly: who is told what and when, who comes last, and what hurries it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import types

import pytest

import fastws
from fastws import ConfigurationError, WrongThreadError, testing, ws
from fastws.server import drain
from fastws.server.drain import Drain

from ..kit.client import REQUEST, TEXT, Client, frame, open_connection, until, within
from ..kit.services import AsyncCommanded, Echo, Watch, at

FAR = 600.0  # seconds: a test that waited for the end of them would fail


async def get(server: fastws.Server, path: str) -> bytes:
    """The response to a request on a connection of its own, which has ended then."""
    reader, writer = await open_connection(server.addresses[0][1])
    writer.write(b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
    try:
        return await within(reader.read())
    finally:
        writer.close()


def delay_of(reason: str) -> float:
    """Seconds after which to come back."""
    found = re.fullmatch(r"reconnect in (\d+) ms", reason)
    assert found is not None, reason
    return int(found[1]) / 1000


async def says_goodbye(client: Client) -> float:
    """Wait for the end of a client, and return after which time it shall come back."""
    code, reason = await client.close_frame()
    assert code == 1012
    client.send_close(1012)
    assert await client.rest() == []
    return delay_of(reason)


def hint_of(client: testing.MemoryClient) -> float:
    """The same of a client in memory that is gone."""
    assert client.close_code == 1012
    return delay_of(client.close_reason)


@pytest.fixture
async def draining():
    """Begin to drain a server: `task = await draining(server, over=1.0)`, which is over when the test is."""
    tasks = []

    async def begin(server: fastws.Server, *, refusing: bool = True, **options) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(server.drain(**options)))
        if refusing:
            await until(lambda: server._site.refuses_upgrades)
        else:
            await until(lambda: not server._site.is_ready)
        return tasks[-1]

    yield begin
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await within(task)


@pytest.fixture
def no_grace(monkeypatch):
    monkeypatch.setattr(drain, "LONGEST_GRACE", 0.0)


# ---------------------------------------------------------------------------------------------------------------------
# What balancers and newcomers see


async def test_health_is_told_to_who_asks(serve):
    server = await serve(Echo(), health=True)
    assert (await get(server, "/healthz")).startswith(b"HTTP/1.1 200 OK\r\n")
    response = await get(server, "/readyz")
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert response.endswith(b"\r\n\r\nready\n")


async def test_health_is_not_told_unasked(serve):
    server = await serve(Echo())
    assert (await get(server, "/healthz")).startswith(b"HTTP/1.1 404 ")


async def test_a_server_that_is_full_is_alive_and_not_ready(serve, connect):
    server = await serve(Echo(), health=True, max_connections=1)
    client = await connect(server)
    assert (await get(server, "/healthz")).startswith(b"HTTP/1.1 200 ")
    assert (await get(server, "/readyz")).startswith(b"HTTP/1.1 503 ")
    assert await client.asks("hello") == "hello"


async def test_balancers_notice_before_newcomers_do(serve, connect, draining):
    server = await serve(Echo(), health=True)
    await draining(server, over=FAR, refusing=False)
    assert (await get(server, "/readyz")).startswith(b"HTTP/1.1 503 ")
    assert (await get(server, "/healthz")).startswith(b"HTTP/1.1 200 ")
    client = await connect(server)
    assert await client.asks("hello") == "hello"
    await asyncio.gather(server.close(), says_goodbye(client))


async def test_newcomers_are_told_when_to_try_again(serve, connect, draining, no_grace):
    server = await serve(Echo(), health=True)
    staying = await connect(server)
    await draining(server, over=FAR, elsewhere=False)
    with pytest.raises(ConnectionError, match=r"^HTTP/1.1 503 (.|\n)*\r\nRetry-After: [67]\d\d\r\n"):
        await connect(server)
    assert (await get(server, "/healthz")).startswith(b"HTTP/1.1 200 ")
    assert await staying.asks("hello") == "hello"
    await asyncio.gather(server.close(), says_goodbye(staying))


async def test_a_connection_that_is_kept_alive_ends_with_its_next_response(serve, dial, draining):
    server = await serve(Echo(), health=True)
    kept = await dial(server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Connection: close" not in await within(kept.reader.readuntil(b"ok\n"))
    await draining(server, over=FAR, refusing=False)
    kept.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in await within(kept.reader.read())
    await server.close()


async def test_who_asks_to_upgrade_while_the_server_closes_is_told_to_try_again(serve, dial):
    server = await serve(Echo())
    request = REQUEST % (b"/", b"")
    newcomer = await dial(server, request[:20])
    await until(lambda: server.http_connections)
    server._site.close()
    newcomer.write(request[20:])
    assert b"\r\nRetry-After: 10\r\n" in await within(newcomer.reader.read())


# ---------------------------------------------------------------------------------------------------------------------
# Those who are there


async def test_everybody_is_told_to_come_back_and_then_the_server_ends(no_task_left):
    async with testing.serve(service := Watch()) as server:
        clients = [await server.connect() for _ in range(20)]
        draining = server.drain(60)
        await server.clock.advance(drain.LONGEST_GRACE - 0.1)
        assert all(client.is_open for client in clients)
        await server.clock.advance(30)
        assert 5 <= sum(client.is_open for client in clients) <= 15
        assert not draining.done()
        await draining
        delays = [hint_of(client) for client in clients]
        # Nobody else serves them: not before it is there again, and not all at once
        assert min(delays) >= drain.RESTART_TIME
        assert max(delays) <= drain.RESTART_TIME + 60 * (1 + drain.RETURN_PART)
        assert len(set(delays)) > 10
        assert service.events.qsize() == 20
        assert server.server.closing


async def test_where_a_server_was_drained_nobody_listens(serve, connect):
    server = await serve(Watch())
    await server.drain(0.001)
    with pytest.raises(ConnectionRefusedError):
        await connect(server)


@pytest.mark.parametrize("options", [{"health": True}, {}])
async def test_who_is_served_elsewhere_is_to_come_back_at_once(no_task_left, options):
    async with testing.serve(Watch(), **options) as server:
        clients = [await server.connect() for _ in range(5)]
        await server.drain(60, **({} if options else {"elsewhere": True}))
        for client in clients:
            assert hint_of(client) <= drain.JITTER


@pytest.mark.parametrize("count", [1, 7, 1000])
async def test_the_moments_are_spread_evenly(count):
    loop = asyncio.get_running_loop()
    site = types.SimpleNamespace(loop=types.SimpleNamespace(time=lambda: 50.0, create_future=loop.create_future))
    moments = Drain(site, 10.0, accepts=False, elsewhere=True)._schedule([None] * count)
    span = 10.0 * drain.PACED_PART / count
    for number, (moment, _, _) in enumerate(moments):
        assert span * number <= moment - 50.0 <= span * (number + 1)


async def test_one_whose_handler_is_suspended_comes_later(serve, connect, draining, no_grace):
    released = asyncio.Event()

    async def wait() -> str:
        await released.wait()
        return "done"

    server = await serve(AsyncCommanded(wait=wait))
    busy, *idle = [await connect(server) for _ in range(4)]
    busy.send("wait")
    await until(lambda: any(one.is_busy for one in server.connections(AsyncCommanded)))
    drains = Drain(server._site, FAR, accepts=False, elsewhere=True)
    waiting = [(0.0, number, one) for number, one in enumerate(server.connections(AsyncCommanded))]
    for _ in range(len(waiting)):
        drains._close_next(waiting)
    await asyncio.gather(*map(says_goodbye, idle))
    assert len(waiting) == 1
    released.set()
    assert await busy.text() == "done"
    drains._close_next(waiting)
    await says_goodbye(busy)


async def test_one_who_comes_in_the_middle_is_closed_too(no_task_left):
    async with testing.serve(Watch()) as server:
        first = await server.connect()
        # As a worker does whose successor accepts already
        drains = server.call(Drain, server.server._site, 60.0, accepts=False, elsewhere=True)
        draining = server.call(asyncio.ensure_future, drains.run())
        await server.settle()
        assert not server.server._site.is_ready
        second = await server.connect()
        await server.clock.advance(60)
        assert draining.done()
        assert max(hint_of(first), hint_of(second)) <= drain.JITTER


async def test_one_that_stays_busy_is_closed_at_the_end(no_task_left):
    async with testing.serve(AsyncCommanded(wait=asyncio.Event().wait)) as server:
        client = await server.connect()
        await client.send("wait")
        draining = server.drain(60)
        await server.clock.advance(59.9)
        assert client.is_open
        await server.clock.advance(0.1)
        hint_of(client)
        await draining


async def test_what_is_half_done_is_busy(opened):
    _, client, connection = await opened(Echo())
    assert not connection.is_busy
    whole = frame(TEXT, b"x" * 1000)
    client.write(whole[:500])
    await until(lambda: connection.is_busy)
    client.write(whole[500:])
    assert await client.text() == "x" * 1000
    assert not connection.is_busy


@pytest.mark.plain("the kernel's buffers are known without TLS only")
async def test_what_waits_to_be_sent_is_half_done_too(narrow):
    _, (connection,) = await narrow(Watch(), 1)
    assert not connection.is_busy
    connection.push_binary(bytes(1 << 19))
    await until(lambda: connection.is_busy)


# ---------------------------------------------------------------------------------------------------------------------
# What hurries it


async def test_a_close_ends_it_at_once_and_everybody_is_told_the_same(serve, connect, draining, no_grace):
    server = await serve(Watch())
    clients = [await connect(server) for _ in range(5)]
    task = await draining(server, over=FAR, elsewhere=True)
    closing = asyncio.create_task(server.close())
    await asyncio.gather(*map(says_goodbye, clients))
    await within(asyncio.gather(closing, task))


async def test_all_who_drain_wait_for_the_same_end(no_task_left):
    async with testing.serve(Watch()) as server:
        client = await server.connect()
        first, second = [server.call(asyncio.ensure_future, server.server.drain(over)) for over in (60.0, FAR)]
        await server.settle()
        first.cancel()
        await server.clock.advance(60)
        hint_of(client)
        assert second.done()
        await server.drain()
        assert first.cancelled()


async def test_drain_of_a_server_that_closes_waits_for_that(serve, connect):
    server = await serve(Watch())
    client = await connect(server)
    closing = asyncio.create_task(server.close())
    assert await client.close_frame() == (1001, "going away")
    draining = asyncio.create_task(server.drain(FAR))
    client.send_close(1001)
    assert await client.rest() == []
    await within(asyncio.gather(closing, draining))


async def test_a_server_that_was_not_entered_has_nobody_to_drain():
    await fastws.serve(Watch, port=0).drain(FAR)


@pytest.mark.parametrize("over", [0, -1, "60", float("inf"), True])
async def test_a_wrong_time_is_refused(serve, over):
    server = await serve(Watch())
    with pytest.raises(ConfigurationError, match="give seconds, a number above 0"):
        await server.drain(over)
    with pytest.raises(ConfigurationError, match="give seconds, a number above 0"):
        fastws.serve(Watch, drain=over)


async def test_another_thread_cannot_drain(serve):
    server = await serve(Watch())
    caught = []

    def drain() -> None:
        try:
            asyncio.run(server.drain())
        except WrongThreadError as error:
            caught.append(error)

    thread = threading.Thread(target=drain)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(caught) == 1


def test_who_serves_the_same_path_is_told():
    @at("/socket")
    class Own:
        @fastws.http.get("/readyz")
        def ready(self) -> str:
            return "ready"

    with pytest.raises(ConfigurationError, match="both answer GET /readyz"):
        fastws.serve(Own, health=True)


async def test_on_close_sees_the_code(no_task_left):
    seen = []

    @at()
    class Closing:
        @ws.on_close
        def closed(self, code: int, sent_code: int) -> None:
            seen.append((code, sent_code))

    async with testing.serve(Closing) as server:
        await server.connect()
        await server.drain(60)
        assert seen == [(1012, 1012)]
