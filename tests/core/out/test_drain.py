"""await connection.drain(): a sender that waits for its client."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from ...kit.client import BINARY, TEXT, turns, within
from ...kit.services import AsyncCommanded, Patient, Watch, at
from ...kit.wires import SMALL, blocked, narrow_socket

LIMIT = 100_000  # bytes
LONG = 100.0  # seconds; longer than any test


@at(max_backlog=LIMIT)
class Bounded(Watch):
    """Waits for its clients a little."""


async def test_drain_returns_at_once_when_nothing_waits(opened):
    _, client, connection = await opened(Watch())
    connection.push_text("hello")
    await within(connection.drain())
    assert await client.text() == "hello"


@pytest.mark.plain("what waits below TLS is not told")
async def test_drain_waits_until_the_client_reads(narrow):
    (client,), (connection,) = await narrow(Patient())
    payloads = await blocked(connection)
    draining = [asyncio.ensure_future(connection.drain()) for _ in range(3)]
    await turns(20)
    assert not any(task.done() for task in draining)
    client.transport.resume_reading()
    assert [await client.receive() for _ in payloads] == [(BINARY, payload) for payload in payloads]
    await within(asyncio.gather(*draining))
    assert connection.buffered == 0


async def test_drain_ends_with_the_connection(narrow):
    (client,), (connection,) = await narrow(Patient())
    await blocked(connection)
    draining = asyncio.ensure_future(connection.drain())
    await turns()
    client.reset()
    await within(draining)
    await within(connection.drain())


async def test_drain_ends_when_the_service_is_told_although_the_socket_lives_on(narrow):
    (client,), (connection,) = await narrow(Bounded(), close_timeout=LONG)
    await blocked(connection)
    draining = [asyncio.ensure_future(connection.drain()) for _ in range(2)]
    await turns()
    while connection.is_open:
        connection.push_binary(bytes(LIMIT))
        await turns()
    assert connection.close_code == 1013
    await within(asyncio.gather(*draining))
    await within(connection.drain())
    client.reset()


@pytest.mark.plain("TLS has no direction that ends alone")
async def test_drain_ends_when_the_client_has_hung_up(narrow):
    (client,), (connection,) = await narrow(Patient(), close_timeout=LONG)
    await blocked(connection)
    draining = asyncio.ensure_future(connection.drain())
    await turns()
    client.end_stream()
    await within(draining)
    client.reset()


def futures() -> int:
    gc.collect()
    return sum(isinstance(each, asyncio.Future) for each in gc.get_objects())


async def test_a_drain_that_is_given_up_leaves_nothing_behind(narrow):
    (client,), (connection,) = await narrow(Patient())
    await blocked(connection)
    before = futures()
    for _ in range(50):
        draining = asyncio.ensure_future(connection.drain())
        await turns(2)
        draining.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await draining
    del draining
    assert futures() < before + 25, "but for those of others"
    client.reset()


async def test_a_drain_that_is_cancelled_harms_nobody(narrow):
    (client,), (connection,) = await narrow(Patient())
    payloads = await blocked(connection)
    first, second = [asyncio.ensure_future(connection.drain()) for _ in range(2)]
    await turns()
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    client.transport.resume_reading()
    for _ in payloads:
        await client.receive()
    await within(second)


async def test_a_handler_that_drains_sends_any_amount_within_the_backlog(serve, connect):
    most = 0

    async def flood() -> str:
        nonlocal most
        (connection,) = service.connections
        for number in range(2000):
            connection.push_binary(b"%d " % number * 1000)
            await connection.drain()
            most = max(most, connection.buffered)
        return "done"

    @at(max_backlog=LIMIT)
    class Flooding(AsyncCommanded):
        pass

    service = Flooding(flood=flood)
    server = await serve(service, sock=narrow_socket(), port=None)
    client = await connect(server, receive_buffer=SMALL)
    client.send("flood")
    for number in range(2000):
        assert await client.receive() == (BINARY, b"%d " % number * 1000)
    assert await client.receive() == (TEXT, b"done")
    assert most < LIMIT
