"""The way out of a connection whose client is slow: what waits, in which order, how much of it and for how long."""

from __future__ import annotations

import asyncio
import gc
import os
import socket

import pytest

from fastws import _speedups, ws

from ...kit.client import BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame, take_frames, turns, until
from ...kit.services import Echo, Patient, Watch, at
from ...kit.wires import MemoryWire, PacketWire, StreamWire, blocked, wired

LIMIT = 100_000  # bytes


@at(max_backlog=LIMIT)
class Bounded(Watch):
    pass


# ---------------------------------------------------------------------------------------------------------------------
# Order


@pytest.mark.parametrize("length", [10, 1000, 9000, 33000, 200_000])
async def test_a_slow_client_gets_everything_in_order(narrow, length):
    (client,), (connection,) = await narrow(Patient())
    payloads = [b"%d " % number + b"." * length for number in range(2_000_000 // (length + 100))]
    for number, payload in enumerate(payloads):
        assert connection.push_binary(payload) == ws.Delivery(1, 1, 0)
        if number % 7 == 0:
            await asyncio.sleep(0)
    assert connection.buffered > 0
    client.transport.resume_reading()
    assert [await client.receive() for _ in payloads] == [(BINARY, payload) for payload in payloads]
    await until(lambda: connection.buffered == 0)
    connection.push_text("and at once again")
    assert await client.text() == "and at once again"


LENGTHS = [10, 8192, 8193, 20_000, 126, 32_769, 8193, 8193, 5, 30_000]  # copied, and sent from where they lie


@at(max_backlog=1 << 30)
class Verbose(Watch):
    """Answers with much of all lengths."""

    @ws.on_binary_message
    def binary(self, connection: ws.Connection, data: bytes) -> None:
        for number in range(60):
            connection.push_binary(b"%c" % number * LENGTHS[number % len(LENGTHS)])


@pytest.mark.parametrize("kind", [MemoryWire, StreamWire])
async def test_replies_that_are_copied_and_such_that_are_not_keep_their_order(kind):
    before = _speedups.live_objects()["chunks"]
    async with wired(Verbose(), kind, 1) as ([connection], [wire]):
        wire.send(frame(BINARY, b"go"))
        received = b""
        expected = [(BINARY, b"%c" % number * LENGTHS[number % len(LENGTHS)]) for number in range(60)]
        total = sum(len(payload) + (2 if len(payload) < 126 else 4) for _, payload in expected)
        while len(received) < total:
            await turns()
            received += wire.receive()
        assert take_frames(received) == expected
        await until(lambda: connection.buffered == 0)
    gc.collect()
    assert _speedups.live_objects()["chunks"] <= before + 1, "all but the one that is kept for replies"


async def test_pushes_while_the_backlog_is_sent_do_not_overtake_it(narrow):
    (client,), (connection,) = await narrow(Patient())
    expected = []

    async def push() -> None:
        for number in range(600):
            expected.append(b"%d " % number * (number % 50 * 40 + 1))
            connection.push_binary(expected[-1])
            connection.broadcast_binary(b"b" + expected[-1])
            expected.append(b"b" + expected[-1])
            if number % 3 == 0:
                await asyncio.sleep(0)

    pushing = asyncio.ensure_future(push())
    client.transport.resume_reading()
    received = [(await client.receive())[1] for _ in range(1200)]
    await pushing
    assert received == expected


async def test_what_the_kernel_takes_in_part_is_not_repeated(narrow):
    (client,), (connection,) = await narrow(Patient())
    payload = bytes(range(256)) * 4000
    connection.push_binary(payload)
    connection.push_binary(b"behind")
    client.transport.resume_reading()
    assert await client.receive() == (BINARY, payload)
    assert await client.receive() == (BINARY, b"behind")


async def test_the_close_frame_comes_behind_all_that_waits(narrow):
    (client,), (connection,) = await narrow(Patient())
    payloads = await blocked(connection)
    connection.close(4000, "done")
    client.transport.resume_reading()
    client.send_close(4000)
    assert await client.rest() == [*((BINARY, payload) for payload in payloads), (CLOSE, close_payload(4000, "done"))]


# ---------------------------------------------------------------------------------------------------------------------
# Bounds


async def test_a_client_that_does_not_read_is_closed_with_1013(narrow):
    service = Bounded()
    (client,), (connection,) = await narrow(service)
    pushed = []
    most = 0
    while connection.push_binary(b"%d " % len(pushed) * 1000).queued:
        pushed.append(b"%d " % len(pushed) * 1000)
        most = max(most, connection.buffered)
        await asyncio.sleep(0)
    assert LIMIT / 2 < most <= LIMIT
    assert connection.push_text("?") == ws.Delivery(1, 0, 1)
    assert await service.next() == ("closed", 1013, "too slow")
    assert connection.buffered <= most
    client.transport.resume_reading()
    received = await client.rest()
    messages = [payload for opcode, payload in received if opcode == BINARY]
    assert messages == pushed[: len(messages)]
    assert received[len(messages) :] == [(CLOSE, close_payload(1013, "too slow"))]


async def test_one_message_larger_than_the_backlog_is_taken_when_nothing_waits(narrow):
    service = Bounded()
    (client,), (connection,) = await narrow(service)
    payload = b"x" * (20 * LIMIT)
    assert connection.push_binary(payload) == ws.Delivery(1, 1, 0)
    client.transport.resume_reading()
    assert await client.receive() == (BINARY, payload)
    assert connection.is_open


async def test_many_empty_messages_count_too(narrow):
    service = Bounded()
    (_client,), (connection,) = await narrow(service)
    await blocked(connection)
    count = 0
    while connection.push_text("").queued:
        count += 1
        assert count < LIMIT
    assert await service.next() == ("closed", 1013, "too slow")


async def test_a_slow_client_does_not_harm_the_others(narrow):
    service = Bounded()
    clients, connections = await narrow(service, 4)
    slow, *healthy = clients
    for client in healthy:
        client.transport.resume_reading()
    payloads = [b"%d " % number * 2000 for number in range(300)]

    async def receive(client) -> list[bytes]:
        return [(await client.receive())[1] for _ in payloads]

    receiving = [asyncio.ensure_future(receive(client)) for client in healthy]
    for payload in payloads:
        connections[1].broadcast_binary(payload)
        await until(lambda: all(connection.buffered == 0 for connection in connections[1:]))
    assert await asyncio.gather(*receiving) == [payloads] * 3
    assert await service.next() == ("closed", 1013, "too slow")
    assert service.events.empty()
    assert not slow.transport.is_closing()


@pytest.mark.plain("what waits below TLS is not told, and is kept by each")
async def test_what_many_wait_for_is_kept_once(narrow):
    _, connections = await narrow(Patient(), 10)
    for connection in connections:
        await blocked(connection)
    gc.collect()
    before = _speedups.live_objects()["chunks"]
    for _ in range(50):
        connections[0].broadcast_text("x" * 10_000)
    assert _speedups.live_objects()["chunks"] == before + 50
    assert all(connection.buffered > 500_000 for connection in connections)


async def test_a_reset_with_a_backlog_leaves_nothing(narrow):
    service = Patient()
    (client,), (connection,) = await narrow(service)
    await blocked(connection)
    client.reset()
    assert await service.next() == ("closed", 1006, "")
    assert connection.buffered == 0


async def test_a_client_that_never_reads_again_is_let_go_after_close_timeout(narrow):
    service = Patient()
    (_client,), (connection,) = await narrow(service, close_timeout=0.05)
    await blocked(connection)
    connection.close(4000)
    assert await service.next() == ("closed", 4000, "")
    await until(lambda: connection.buffered == 0)


# ---------------------------------------------------------------------------------------------------------------------
# Control frames


async def test_the_last_ping_is_answered_when_the_client_reads_again(narrow):
    (client,), (connection,) = await narrow(Patient())
    payloads = await blocked(connection)
    for number in range(100):
        client.write(frame(PING, b"%d" % number))
    await turns(20)
    client.transport.resume_reading()
    received = [await client.receive() for _ in payloads]
    assert [payload for opcode, payload in received if opcode == BINARY][:5] == payloads[:5]
    pongs = [payload for opcode, payload in received if opcode == PONG]
    while pongs[-1:] != [b"99"]:
        opcode, payload = await client.receive()
        if opcode == PONG:
            pongs.append(payload)
    assert pongs == sorted(pongs, key=int)


# ---------------------------------------------------------------------------------------------------------------------
# Descriptors


@pytest.mark.parametrize("pending", [0, 3])
async def test_an_ended_connection_never_writes_to_its_descriptor_again(pending):
    newer, far = socket.socketpair()
    far.setblocking(False)
    async with wired(Watch(), PacketWire, 2) as (connections, wires):
        for _ in range(pending):
            connections[0].broadcast_text("pending")
        wires[0].connection_lost()
        os.dup2(newer.fileno(), wires[0].descriptor)
        assert connections[0].push_text("late") == ws.Delivery(1, 0, 1)
        connections[0].close()
        connections[1].broadcast_text("others")
        await turns()
        with pytest.raises(BlockingIOError):
            far.recv(1)
        assert take_frames(b"".join(wires[1].packets())) == [(TEXT, b"pending")] * pending + [(TEXT, b"others")]
    newer.close()
    far.close()


async def test_a_descriptor_that_is_used_again_gets_nothing_of_its_former_owner(serve, connect):
    service = Echo()
    server = await serve(service)
    for number in range(60):
        client = await connect(server)
        await until(lambda number=number: len(service.connections) > number)
        for former in service.connections[:-1]:
            assert former.push_text("for somebody else") == ws.Delivery(1, 0, 1)
        connection = service.connections[-1]
        if number % 3 == 0:
            connection.push_text("not to be lost")
            connection.push_text("pending when the client leaves")
            client.reset()
        elif number % 3 == 1:
            connection.close()
            connection.push_text("too late")
            client.send_close()
            assert await client.rest() == [(CLOSE, b"\x03\xe8")]
        else:
            assert await client.asks("mine") == "mine"
            client.transport.close()


async def test_a_transport_that_is_aborted_with_pending_frames_sends_nothing_more(serve, connect):
    service = Watch()
    server = await serve(service)
    client, other = await connect(server), await connect(server)
    await until(lambda: len(service.connections) == 2)
    connection = service.connections[0]
    for number in range(3):
        connection.push_text(str(number))
        connection.broadcast_text("all")
    client.reset()
    await asyncio.sleep(0)
    late = await connect(server)
    service.connections[1].broadcast_text("late")
    await until(lambda: not connection.is_open)
    assert connection.push_text("?") == ws.Delivery(1, 0, 1)
    await until(lambda: len(service.connections) == 3)
    service.connections[2].push_text("mine")
    assert (await late.text()) in {"late", "mine"}
    assert await other.texts(4) == ["all", "all", "all", "late"]


# ---------------------------------------------------------------------------------------------------------------------
# Without a socket, as with TLS


async def test_frames_go_through_the_transport_where_it_is_the_only_way():
    async with wired(Patient(), MemoryWire, 2) as (connections, wires):
        for number in range(10):
            connections[0].broadcast_text(str(number))
            connections[1].push_text("own")
            await turns()
        assert connections[0].buffered == 30
        assert connections[1].buffered == 30 + 50
        seen = b""
        while len(seen) < 80:
            seen += wires[1].receive()
            await turns()
        assert seen == b"".join(b"\x81\x01%d\x81\x03own" % number for number in range(10))
        await turns()
        assert [connection.buffered for connection in connections] == [30, 0]
