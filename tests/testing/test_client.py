"""Clients by script: slow ones, rude ones, and those that leave without a word."""

from __future__ import annotations

import asyncio

import pytest

from fastws import ws
from fastws.testing import ExpectationError, serve

from ..kit.services import Echo, at


@at(max_backlog=1 << 20, overflow="close")
class Feed:
    """Pushes what the test tells it to, and notes what happens."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    @ws.on_text_message
    def said(self, text: str) -> None:
        self.events.append(("text", text))

    @ws.on_binary_message
    def sent(self, data: bytes) -> None:
        self.events.append(("binary", data))

    @ws.on_ping
    def pinged(self, data: bytes) -> None:
        self.events.append(("ping", data))

    @ws.on_close
    def closed(self, code: int, reason: str) -> None:
        self.events.append(("closed", code, reason))


@pytest.fixture
async def fed(no_task_left):
    service = Feed()
    async with serve(service) as server:
        yield service, server, await server.connect()


async def test_a_stalled_client_gets_nothing_until_it_reads(fed):
    _, server, client = fed
    client.stall()
    for number in range(5):
        client.connection.push_text(f"{number}" * 100)
    await client.expect_nothing()
    assert server.buffered == client.connection.buffered == 5 * 102
    client.read(102)
    await client.expect_text("0" * 100)
    client.read(101)
    await client.expect_nothing()
    client.read()
    for number in range(1, 5):
        await client.expect_text(f"{number}" * 100)
    await client.expect_nothing()
    assert server.buffered == 0
    assert server.delivered == 5


@at(overflow="conflate")
class Prices:
    """The last price of each name counts."""


async def test_what_is_conflated_and_dropped_is_counted(no_task_left):
    async with serve(Prices) as server:
        slow, fast = await server.connect(), await server.connect()
        slow.stall()
        for price in range(10):
            ws.broadcast_text(f"{price}", to=Prices, key="price")
            await server.settle()
        assert (server.delivered, server.conflated, server.dropped) == (10, 8, 8)
        slow.read()
        await slow.expect_text("0")  # it was under way
        await slow.expect_text("9")
        await slow.expect_nothing()
        assert fast.received == [f"{price}" for price in range(10)]
        assert server.delivered == 12


async def test_who_reads_too_slowly_is_closed(no_task_left):
    @at(max_backlog=1000, overflow_code=4008)
    class Small:
        pass

    async with serve(Small) as server:
        client = await server.connect()
        client.stall()
        for _ in range(30):
            ws.broadcast_text("x" * 100, to=Small)
            await server.settle()
        client.read()
        received = 0
        while client.close_code is None:
            await client.expect_text("x" * 100)
            received += 1
            if received == len(client.received):
                break
        await client.expect_close(4008)


async def test_a_fragmented_message_comes_whole(fed):
    service, _, client = fed
    client.fragment(3)
    await client.send("hello ☃")
    await client.send(b"")
    client.fragment(None)
    await client.send("whole")
    assert service.events == [("text", "hello ☃"), ("binary", b""), ("text", "whole")]


async def test_bytes_may_come_one_by_one(fed):
    service, _, client = fed
    reads = []
    transport = client._near
    receive = transport._receive
    transport._receive = lambda buffer, length: (reads.append(length), receive(buffer, length))
    client.byte_by_byte()
    await client.send("hello")
    assert service.events == [("text", "hello")]
    assert reads == [1] * 11
    client.byte_by_byte(None)
    await client.send("again")
    assert reads[11:] == [11]


async def test_raw_bytes_are_what_they_are(fed):
    service, _, client = fed
    client.send_raw(b"\x81\x05hello")  # a client that does not mask (RFC 6455 section 5.1)
    await client.expect_close(1002)
    assert service.events == [("closed", 1002, "protocol error")]


async def test_a_reset_and_a_cut_and_a_half_close_end_in_their_manner(no_task_left):
    service = Feed()
    async with serve(service, close_timeout=5.0) as server:
        client = await server.connect()
        client.reset()
        await server.settle()
        assert service.events.pop() == ("closed", 1006, "")
        await client.expect_close(1006)

        client = await server.connect()
        client.half_close()
        await server.settle()
        assert service.events.pop() == ("closed", 1006, "")

        client = await server.connect()
        client.cut()
        await client.send("lost")
        client.connection.push_text("lost, too")
        await client.expect_nothing()
        assert service.events == []
        client.connection.close(1000)
        await server.clock.advance(4.9)
        assert service.events == []
        await server.clock.advance(0.2)
        assert service.events == [("closed", 1000, "")]
    assert client.close_code is None


async def test_pings_are_answered_on_both_sides(fed):
    _, server, client = fed
    assert await client.ping() == 0.0
    assert await client.ping(b"hello") == 0.0
    assert client.pongs[1:] == [b"hello"]
    await server.clock.advance(20)
    assert client.pings == [b""]
    assert client.is_open


async def test_a_client_that_answers_nothing_is_given_up(no_task_left):
    async with serve(Echo, close_timeout=3.0) as server:
        client = await server.connect(answers=False)
        client.connection.close(4000)
        await client.expect_close(4000)
        assert not client.was_clean
        await server.clock.advance(3)
        assert client.connection.close_code == 4000
        assert len(server.clients) == 1


async def test_a_server_that_does_not_answer_a_close_frame_is_told_of(no_task_left):
    async with serve(Echo, patience=0.01) as server:
        client = await server.connect()
        client.cut()
        with pytest.raises(ExpectationError, match="the answer to a close frame"):
            await client.close()
        with pytest.raises(ExpectationError, match="a pong"):
            await client.ping()


async def test_a_client_says_how_it_is(fed):
    service, _, client = fed
    port = client.address[1]
    assert repr(client) == f"<MemoryClient {port}, open, 0 messages>"
    assert (client.close_code, client.close_reason, client.was_clean) == (None, None, False)
    await client.close(4000, "bye")
    assert repr(client) == f"<MemoryClient {port}, closed with 4000, 0 messages>"
    assert (client.close_code, client.close_reason, client.was_clean) == (4000, "", True)
    assert service.events == [("closed", 4000, "bye")]


async def test_a_message_and_its_end_come_in_order(fed):
    _, _, client = fed
    client.connection.push_text("last")
    client.connection.close(4000, "over")
    await client.expect_text("last")
    assert await client.expect_close(4000, "over") == 4000
    assert client.received == ["last"]
    await asyncio.sleep(0)
