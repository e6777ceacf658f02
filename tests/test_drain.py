"""await connection.drain(): a sender that waits for its client."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from .client import BINARY, TEXT, turns, within
from .services import AsyncCommanded, Patient, Watch, at
from .wires import SMALL, blocked, narrow_socket

LIMIT = 100_000  # bytes


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
