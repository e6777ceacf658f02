"""A client that is ended because it is too slow, and reads again: whole frames, then the close frame."""

from __future__ import annotations

import asyncio
import os

import pytest

from fastws import ws
from fastws._speedups import hub_of_thread

from ...kit.client import BINARY, CLOSE, TEXT, close_payload, turns, until
from ...kit.services import Patient, Watch, at
from ...kit.wires import MemoryWire, StreamWire, blocked, fill, wired

LIMIT = 100_000  # bytes
TOO_SLOW = (CLOSE, close_payload(1013, "too slow"))


@at(max_backlog=LIMIT)
class Bounded(Watch):
    """Waits for its clients a little."""


@pytest.fixture(params=["", "loop"], ids=["own", "loop"])
def transport(request, monkeypatch):
    """With transports of the core's, where there are any, and with those of the loop."""
    monkeypatch.setenv("FASTWS_TRANSPORT", request.param)


def numbered(number: int, length: int) -> bytes:
    return (b"%d " % number + b"." * length)[:length]


def is_beginning(received: list, pushed: list[bytes]) -> bool:
    payloads = [payload for opcode, payload in received if opcode == BINARY]
    return payloads == pushed[: len(payloads)] and len(payloads) == len(received)


@pytest.mark.parametrize("length", [100, 1000, 5000, 60_000, 300_000])
async def test_who_overflows_and_reads_again_gets_whole_frames_and_the_close_frame(transport, narrow, length):
    service = Bounded()
    (client,), (connection,) = await narrow(service)
    pushed = []
    while True:
        pushed.append(numbered(len(pushed), length))
        if not connection.broadcast_binary(pushed[-1]).queued:
            break
        if len(pushed) % 7 == 0:
            await asyncio.sleep(0)
    assert await service.next() == ("closed", 1013, "too slow")
    client.transport.resume_reading()
    *received, last = await client.rest()
    assert last == TOO_SLOW
    assert is_beginning(received, pushed)


async def test_so_does_who_is_ended_for_the_budget_of_all(transport, narrow):
    service = Patient()
    clients, connections = await narrow(service, 4, max_total_backlog=LIMIT)
    pushed = [numbered(number, 3000) for number in range(400)]
    for payload in pushed:
        connections[0].broadcast_binary(payload)
        await asyncio.sleep(0)
    await until(lambda: not any(connection.is_open for connection in connections))
    for client in clients:
        client.transport.resume_reading()
        *received, last = await client.rest()
        assert last == TOO_SLOW
        assert is_beginning(received, pushed)


async def test_a_close_frame_that_waits_is_not_dropped_for_the_one_of_an_overflow(transport, narrow):
    service = Patient()
    (client,), (connection,) = await narrow(service, max_total_backlog=LIMIT)
    await blocked(connection)
    connection.push_binary(bytes(LIMIT))
    connection.close(4000, "done")
    assert await service.next() == ("closed", 4000, "done")
    client.transport.resume_reading()
    assert (await client.rest())[-1] == (CLOSE, close_payload(4000, "done"))


@pytest.mark.parametrize("kind", [StreamWire, MemoryWire])
async def test_what_was_dropped_and_what_is_left_is_counted(kind):
    service = Bounded()
    async with wired(service, kind, 1) as ((connection,), (wire,)):
        hub = hub_of_thread(asyncio.get_running_loop(), dict, dict)
        fill(connection)
        for _ in range(100):
            connection.push_text("x" * 5000)
        await turns()
        assert await service.next() == ("closed", 1013, "too slow")
        while connection.buffered:
            wire.receive()
            await turns(1)
        assert hub.backlog_len == 0


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.plain("with TLS nothing is half sent by us")
@pytest.mark.skipif(os.environ.get("FASTWS_TRANSPORT") == "loop", reason="its transports hold what is not counted")
async def test_a_half_sent_message_that_is_over_the_budget_of_all_ends_at_once(narrow):
    """What is half sent may be larger than all that may wait; nobody else pays for it."""
    service = Patient()
    (client, other), (large, small) = await narrow(service, 2, max_total_backlog=10 * LIMIT)
    await blocked(small)
    large.push_binary(bytes(20 * LIMIT))
    assert await service.next() == ("closed", 1013, "too slow")
    small.push_text("still here")
    await turns()
    assert small.is_open
    client.transport.resume_reading()
    assert await client.rest() == []
    assert 0 < len(client.received) < 20 * LIMIT
    other.transport.resume_reading()
    while await other.receive() != (TEXT, b"still here"):
        pass


async def test_the_last_key_and_the_last_message_are_whole_whatever_was_sent_in_part(transport, narrow):
    """Frames of a turn that were sent in part leave a rest, which is no message to be replaced or dropped."""
    (client,), (connection,) = await narrow(Patient())
    pushed = []
    while not connection.buffered:
        for _ in range(3):
            pushed.append(numbered(len(pushed), 900))
            connection.broadcast_binary(pushed[-1], key="k")
        await asyncio.sleep(0)
    for _ in range(5):
        assert connection.push_text("later", overflow="drop_old").queued
        assert connection.push_text("newest", key="k").queued
    assert connection.push_text("the end") == ws.Delivery(1, 1, 0)
    client.transport.resume_reading()
    received = []
    while (TEXT, b"the end") not in received:
        received.append(await client.receive())
    binary = [payload for opcode, payload in received if opcode == BINARY]
    assert binary == [payload for payload in pushed if payload in set(binary)]
    assert [payload for opcode, payload in received if opcode == TEXT].count(b"newest") == 1
