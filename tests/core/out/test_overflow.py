"""What happens to what does not fit: the policies of `overflow=`, keys, budgets, and what a service is told."""

from __future__ import annotations

import asyncio
import os
import random
import resource
from pathlib import Path

import pytest

from fastws import errors, ws
from fastws._speedups import hub_of_thread
from fastws.handshake.deflate import Deflate
from fastws.service.compile import compile

from ...kit import reference
from ...kit.client import BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame, turns, until
from ...kit.deflated import Inflating
from ...kit.services import Patient, Watch, at
from ...kit.slow import slow
from ...kit.wires import MemoryWire, StreamWire, blocked, fill, wired

LIMIT = 100_000  # bytes
PIECE = 5000  # bytes; too long to be joined to others when nobody waits
SHARED, DEDICATED = Deflate(b"", 15, 15, False, False), Deflate(b"", 15, 15, True, True)


@at(max_backlog=LIMIT)
class Bounded(Watch):
    """Waits for its clients a little."""


def numbered(count: int) -> list[bytes]:
    return [b"%d " % number + b"." * PIECE for number in range(count)]


async def everything(client, connection) -> list[tuple[int, bytes]]:
    """What the client gets once it reads, up to a last word."""

    async def say_the_last_word() -> None:
        await until(lambda: connection.buffered == 0)
        connection.push_text("the end")

    client.transport.resume_reading()
    speaking = asyncio.ensure_future(say_the_last_word())
    frames = []
    while (TEXT, b"the end") not in frames:
        frames.append(await client.receive())
    await speaking
    return frames[:-1]


# ---------------------------------------------------------------------------------------------------------------------
# The policies


async def test_drop_new_drops_what_does_not_fit_and_nothing_else(narrow):
    (client,), (connection,) = await narrow(Bounded())
    first = await blocked(connection)
    pushed = numbered(50)
    deliveries = [connection.push_binary(payload, overflow="drop_new") for payload in pushed]
    assert {(each.matched, each.queued, each.dropped) for each in deliveries} == {(1, 1, 0), (1, 0, 1)}
    queued = [payload for payload, delivery in zip(pushed, deliveries, strict=True) if delivery.queued]
    assert connection.dropped == len(pushed) - len(queued) > 10
    assert connection.buffered <= LIMIT
    assert await everything(client, connection) == [(BINARY, payload) for payload in first + queued]


async def test_drop_old_drops_the_oldest_that_wait(narrow):
    (client,), (connection,) = await narrow(Bounded())
    await blocked(connection)
    pushed = numbered(50)
    assert all(connection.push_binary(payload, overflow="drop_old").queued for payload in pushed)
    assert connection.buffered <= LIMIT
    dropped = connection.dropped
    assert dropped > 10
    received = [payload for _, payload in await everything(client, connection)]
    kept = [payload for payload in received if payload in pushed]
    assert kept == pushed[-len(kept) :]
    assert 10 < len(kept) < 20


@pytest.mark.plain("TLS takes a message as a whole")
async def test_whole_messages_are_dropped_and_none_that_is_half_sent(narrow):
    (client,), (connection,) = await narrow(Bounded())
    large = bytes(range(256)) * 2000
    connection.push_binary(large)
    assert connection.buffered > LIMIT
    assert connection.push_binary(b"x" * 70_000, overflow="drop_old") == ws.Delivery(1, 0, 1)
    assert connection.push_binary(b"x" * 70_000, overflow="drop_new") == ws.Delivery(1, 0, 1)
    assert connection.dropped == 2
    assert await everything(client, connection) == [(BINARY, large)]


async def test_a_message_larger_than_the_backlog_drops_nothing_in_vain(narrow):
    (client,), (connection,) = await narrow(Bounded())
    first = await blocked(connection)
    assert connection.push_text("small", overflow="drop_old")
    assert connection.push_binary(bytes(2 * LIMIT), overflow="drop_old") == ws.Delivery(1, 0, 1)
    assert connection.dropped == 1
    assert await everything(client, connection) == [*((BINARY, payload) for payload in first), (TEXT, b"small")]


async def test_conflate_keeps_the_newest_of_each_key_in_the_place_of_the_first(narrow):
    (client,), (connection,) = await narrow(Bounded())
    first = await blocked(connection)
    for number in range(200):
        for key in ("a", "b", "c"):
            assert connection.push_text(f"{key}{number}", key=key) == ws.Delivery(1, 1, 0)
        if number == 3:
            connection.push_text("between")
    assert connection.dropped == 3 * 199
    frames = await everything(client, connection)
    assert frames == [
        *((BINARY, payload) for payload in first),
        *((TEXT, text) for text in (b"a199", b"b199", b"c199", b"between")),
    ]


async def test_keys_of_every_kind_are_told_apart(narrow):
    (client,), (connection,) = await narrow(Bounded())
    await blocked(connection)
    for key in ("1", 1, b"1", 2, "1", 1):
        connection.push_text(repr(key), overflow="conflate", key=key)
    texts = [payload.decode() for opcode, payload in await everything(client, connection) if opcode == TEXT]
    assert texts == ["'1'", "1", "b'1'", "2"]


@pytest.mark.plain("TLS takes a message as a whole")
async def test_a_message_that_is_half_sent_is_not_replaced(narrow):
    (client,), (connection,) = await narrow(Patient())
    large = [bytes([number]) * 500_000 for number in range(3)]
    for payload in large:
        connection.push_binary(payload, key="frame")
    assert connection.dropped == 1
    assert await everything(client, connection) == [(BINARY, large[0]), (BINARY, large[2])]


async def test_a_larger_message_takes_the_place_of_a_smaller_only_within_the_budget(narrow):
    service = Bounded()
    (_client,), (connection,) = await narrow(service)
    await blocked(connection)
    assert connection.push_binary(b"small", key=1).queued
    assert connection.push_binary(bytes(LIMIT // 4), key=1).queued
    assert connection.push_binary(bytes(LIMIT // 4), key=2).queued
    assert connection.dropped == 1
    assert connection.push_binary(bytes(LIMIT), key=1) == ws.Delivery(1, 0, 1)
    assert await service.next() == ("closed", 1013, "too slow")


async def test_a_key_may_be_used_again_once_its_message_has_left(narrow):
    (client,), (connection,) = await narrow(Bounded())
    for number in range(5):
        await blocked(connection)
        connection.push_text(f"first {number}", key="k")
        connection.push_text(f"second {number}", key="k")
        frames = await everything(client, connection)
        assert [payload for opcode, payload in frames if opcode == TEXT] == [b"second %d" % number]
        client.transport.pause_reading()


async def test_drop_old_and_keys_together_lose_no_place(narrow):
    (client,), (connection,) = await narrow(Bounded())
    await blocked(connection)
    for number in range(300):
        connection.push_binary(b"%d " % number + b"." * PIECE, overflow="drop_old")
        if number % 3 == 0:
            connection.push_text(f"k{number % 2} {number}", key=number % 2)
    frames = await everything(client, connection)
    texts = [payload for opcode, payload in frames if opcode == TEXT]
    assert texts[-1] == b"k1 297"
    assert len({text[:2] for text in texts}) == len(texts)
    binaries = [int(payload.split()[0]) for opcode, payload in frames if opcode == BINARY and payload.endswith(b"..")]
    assert binaries == list(range(300 - len(binaries), 300))


@pytest.mark.parametrize("overflow", ["close", "drop_new", "drop_old", "conflate"])
async def test_a_service_has_a_policy_for_what_says_nothing_else(narrow, overflow):
    @at(max_backlog=LIMIT, overflow=overflow)
    class Bounded(Watch):
        pass

    service = Bounded()
    (client,), (connection,) = await narrow(service)
    await blocked(connection)
    deliveries = [connection.push_binary(payload) for payload in numbered(50)]
    if overflow in ("close", "conflate"):
        assert await service.next() == ("closed", 1013, "too slow")
    else:
        await turns()
        assert connection.is_open
        assert all(each.queued for each in deliveries) == (overflow == "drop_old")
        await everything(client, connection)


@pytest.mark.parametrize("code", [1001, 3000, 4999])
@pytest.mark.parametrize("overflow", ["close", "conflate"])
async def test_a_service_chooses_the_close_code_of_an_overflow(narrow, overflow, code):
    @at(max_backlog=LIMIT, overflow=overflow, overflow_code=code)
    class Bounded(Watch):
        pass

    service = Bounded()
    _, (connection,) = await narrow(service)
    await blocked(connection)
    for payload in numbered(50):
        connection.push_binary(payload)
    assert await service.next() == ("closed", code, "too slow")
    assert connection.sent_code == code


async def test_a_push_may_be_stricter_than_its_service(narrow):
    @at(max_backlog=LIMIT, overflow="drop_old")
    class Loose(Watch):
        pass

    service = Loose()
    (_client,), (connection,) = await narrow(service)
    await blocked(connection)
    while connection.push_binary(bytes(PIECE), overflow="close").queued:
        pass
    assert await service.next() == ("closed", 1013, "too slow")


async def test_each_member_of_a_broadcast_has_its_own_fate(narrow):
    (reader, *_), connections = await narrow(Bounded(), 3)
    reader.transport.resume_reading()
    for connection in connections[1:]:
        await blocked(connection)
    dropped = 0
    for payload in numbered(60):
        delivery = connections[0].broadcast_binary(payload, overflow="drop_new")
        assert (delivery.matched, delivery.queued) == (3, 3 - delivery.dropped)
        dropped += delivery.dropped
        assert await reader.receive() == (BINARY, payload)
    assert [connection.dropped > 0 for connection in connections] == [False, True, True]
    assert sum(connection.dropped for connection in connections) == dropped


async def test_control_frames_and_the_close_frame_always_go(narrow):
    @at(max_backlog=LIMIT, overflow="drop_old", ping_interval=0.02, ping_timeout=None)
    class Bounded(Watch):
        pass

    (client,), (connection,) = await narrow(Bounded())
    await blocked(connection)
    client.write(frame(PING, b"are you there?"))
    for payload in numbered(100):
        connection.push_binary(payload)
        await turns(1)
    connection.close(4000, "done")
    client.transport.resume_reading()
    client.send_close(4000)
    assert (await client.rest())[-1] == (CLOSE, close_payload(4000, "done"))


# ---------------------------------------------------------------------------------------------------------------------
# Short messages


async def test_what_waits_is_measured_in_the_same_way_everywhere(narrow):
    """Also of messages of 10 bytes: a service is told at `high_water`, and a client is ended at `max_backlog`."""
    service = Told()
    (_client,), (connection,) = await narrow(service)
    await blocked(connection)
    most = 0
    while connection.push_text("0123456789").queued:
        most = max(most, connection.buffered)
        await asyncio.sleep(0)
    assert LIMIT - 12 < most <= LIMIT
    assert await service.next() == (connection, True, True)
    assert await service.next() == ("closed", 1013, "too slow")


@pytest.mark.parametrize("alone", [True, False], ids=["pushed", "broadcast"])
@pytest.mark.parametrize("length", [6, 31, *slow([30, 128, 129])])
async def test_the_oldest_short_messages_are_dropped_one_by_one(narrow, alone, length):
    (client,), (connection,) = await narrow(Bounded())
    first = await blocked(connection)
    push = connection.push_text if alone else connection.broadcast_text
    waiting = LIMIT - connection.buffered
    pushed = [f"{number:06}".ljust(length, ".") for number in range(2 * waiting // (length + 2))]
    assert all(push(text, overflow="drop_old").queued for text in pushed)
    assert LIMIT - length - 4 <= connection.buffered <= LIMIT
    dropped = connection.dropped
    received = await everything(client, connection)
    texts = [payload.decode() for opcode, payload in received if opcode == TEXT]
    assert texts == pushed[-len(texts) :]
    binaries = [payload for opcode, payload in received if opcode == BINARY]
    assert len(binaries) + len(texts) + dropped == len(first) + len(pushed)


@pytest.mark.parametrize("seed", [0, *slow(range(1, 8))])
@pytest.mark.parametrize("kind", [MemoryWire, StreamWire])
@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
async def test_short_and_long_messages_arrive_or_are_counted_as_dropped(kind, client, seed):
    dice = random.Random(seed)
    service = at(max_backlog=4000, overflow="drop_old", ping_interval=None)(type("Narrow", (Watch,), {}))
    async with wired(service, kind, 1, client=client) as ((connection,), (wire,)):
        stream, pushed = b"", []
        filled = fill(connection)
        for number in range(600):
            text = str(number).ljust(dice.choice((4, 20, 100, 128, 140, 900)), ".")
            how = dice.choice(({}, {"overflow": "drop_new"}, {"overflow": "drop_old"}))
            if connection.push_text(text, **how).queued:
                pushed.append(text)
            if dice.random() < 0.05:
                stream += wire.receive()
                await turns(2)
        dropped = connection.dropped
        while connection.buffered:
            stream += wire.receive()
            await turns(1)
        stream += wire.receive()
        frames = reference.decode(stream, client=not client).events
        texts = [payload for opcode, payload in frames if opcode == TEXT]
        order = iter(pushed)
        assert all(text in order for text in texts)
        assert len(frames) + dropped == len(filled) + 600


# ---------------------------------------------------------------------------------------------------------------------
# Wrong arguments


async def test_what_does_not_go_together_is_refused(opened):
    _, _, connection = await opened(Watch())
    wrong = [
        (ValueError, {"overflow": "drop"}),
        (ValueError, {"overflow": "conflate"}),
        (ValueError, {"overflow": "drop_old", "key": "k"}),
        (TypeError, {"key": 1.5}),
        (TypeError, {"key": ("a", 1)}),
    ]
    for error, arguments in wrong:
        for push in (connection.push_text, connection.broadcast_text):
            with pytest.raises(error):
                push("text", **arguments)
        for push in (connection.push_binary, connection.broadcast_binary):
            with pytest.raises(error):
                push(b"data", **arguments)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"overflow": "drop"}, "overflow='drop': give one of close, drop_new, drop_old, conflate"),
        ({"overflow": None}, "overflow=None"),
        ({"high_water": 0}, "high_water=0"),
        ({"high_water": 11, "max_backlog": 10}, "high_water=11: give no more than max_backlog, 10"),
    ],
)
def test_wrong_options_are_named(options, told):
    with pytest.raises(errors.ConfigurationError, match=told):
        ws.upgrade_path("/", **options)


# ---------------------------------------------------------------------------------------------------------------------
# Compressed


@pytest.mark.parametrize("extension", [SHARED, DEDICATED, None], ids=["shared", "dedicated", "plain"])
@pytest.mark.parametrize("kind", [MemoryWire, StreamWire])
@pytest.mark.parametrize("seed", [0, *slow(range(1, 4))])
async def test_whatever_is_dropped_the_rest_can_be_read(kind, extension, seed):
    dice = random.Random(seed)
    service = at(max_backlog=LIMIT // 4, overflow="drop_old")(type("Bounded", (Watch,), {}))
    async with wired(service, kind, 2, extensions=(extension, SHARED)) as ((connection, other), (wire, drain)):
        stream, pushed = b"", 0
        for number in range(400):
            text = f"{number} " + "".join(dice.choices("abc", k=dice.choice((10, 500, 5000))))
            how = dice.choice(({}, {"overflow": "drop_new"}, {"key": number % 3}, {"overflow": "drop_old"}))
            push = dice.choice((connection.push_text, connection.broadcast_text, other.broadcast_text))
            if not connection.is_open:
                break
            push(text, **how)
            pushed += 1
            if dice.random() < 0.1:
                stream += wire.receive()
                await turns(3)
            if dice.random() < 0.5:
                drain.receive()
                await turns(1)
        for _ in range(50):
            stream += wire.receive()
            drain.receive()
            await turns(3)
        texts = [payload.decode() for opcode, payload in Inflating(extension).frames(stream) if opcode == TEXT]
        numbers = [int(text.split()[0]) for text in texts]
        assert len(set(numbers)) == len(numbers)
        if connection.is_open:
            assert len(texts) + connection.dropped == pushed


# ---------------------------------------------------------------------------------------------------------------------
# The budget of all


async def test_a_frame_that_waits_for_many_is_held_once():
    async with wired(Patient(), StreamWire, 5) as (connections, wires):
        hub = hub_of_thread(asyncio.get_running_loop(), dict, dict)
        for connection in connections:
            await blocked(connection)
        before, waiting = hub.backlog_len, [connection.buffered for connection in connections]
        for _ in range(10):
            connections[0].broadcast_binary(bytes(30_000))
        assert [connection.buffered - was for connection, was in zip(connections, waiting, strict=True)] == [
            300_040
        ] * 5
        # The bytes once; besides them what holds them, and a place in each ring
        assert 300_040 <= hub.backlog_len - before < 300_040 + 10 * 128 + 5 * 320
        while any(connection.buffered for connection in connections):
            for wire in wires:
                wire.receive()
            await turns(1)
        assert hub.backlog_len == 0


async def test_the_slowest_are_closed_when_too_much_waits_for_all():
    service = Patient()
    async with wired(service, StreamWire, 3) as (connections, _):
        hub = hub_of_thread(asyncio.get_running_loop(), dict, dict)
        for connection in connections:
            await blocked(connection)
        hub.limit_backlog(hub.backlog_len + 4 * LIMIT)
        for connection, length in zip(connections, (LIMIT, 2 * LIMIT, LIMIT // 2), strict=True):
            connection.push_binary(bytes(length))
        await turns()
        assert all(connection.is_open for connection in connections)
        connections[2].push_binary(bytes(LIMIT))
        await turns()
        assert [connection.is_open for connection in connections] == [True, False, True]
        assert await service.next() == ("closed", 1013, "too slow")
        assert hub.backlog_len <= 4 * LIMIT


@pytest.mark.parametrize("code", [1013, 3000])
async def test_the_budget_of_all_is_an_option_of_the_server(narrow, code):
    @at(max_backlog=1 << 30, overflow_code=code)
    class Watchful(Watch):
        pass

    service = Watchful()
    _, (connection,) = await narrow(service, max_total_backlog=LIMIT)
    await blocked(connection)
    for _ in range(3):
        connection.push_binary(bytes(LIMIT))
    assert await service.next() == ("closed", code, "too slow")


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nobody tells what memory this process has")
@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="the sanitizer keeps what is freed")
@pytest.mark.parametrize("length", [6, 60, 600])
@pytest.mark.parametrize("form", ["broadcast", "push", "keys"])
async def test_the_memory_that_stalled_clients_take_is_within_the_budget_of_all(length, form):
    """Whatever a message needs besides its own bytes."""
    budget, count = 8 << 20, 200
    async with wired(Patient(), StreamWire, count) as (connections, _):
        hub = hub_of_thread(asyncio.get_running_loop(), dict, dict)
        for connection in connections:
            await blocked(connection)
        before = resident()
        hub.limit_backlog(budget)
        number = most = 0
        while all(connection.is_open for connection in connections):
            text = f"{number:06}".ljust(length, ".")
            if form == "push":
                for connection in connections:
                    connection.push_text(text)
            else:
                connections[0].broadcast_text(text, key=number if form == "keys" else None)
            number += 1
            await turns(1)
            if number % 16 == 0:
                most = max(most, resident())
        assert most - before < 1.3 * budget + (1 << 20)
        connections.clear()


# ---------------------------------------------------------------------------------------------------------------------
# What a service is told


@at(max_backlog=LIMIT, high_water=LIMIT // 2)
class Told(Watch):
    """Notes what waits for its clients."""

    @ws.on_backlog
    def backlog(self, connection: ws.Connection, buffered: int, high: bool) -> None:
        self.saw(connection, buffered > LIMIT // 2, high)


async def test_a_service_is_told_when_much_waits_and_when_little_does_again(narrow):
    service = Told()
    (client,), (connection,) = await narrow(service)
    await blocked(connection)
    while connection.buffered <= LIMIT // 2:
        connection.push_binary(bytes(1000))
        assert service.events.empty()
    assert await service.next() == (connection, True, True)
    connection.push_binary(bytes(1000))
    await turns()
    assert service.events.empty()
    client.transport.resume_reading()
    assert await service.next() == (connection, False, False)
    assert service.events.empty()


async def test_nothing_is_told_of_a_backlog_that_comes_and_goes_within_a_turn():
    service = Told()
    async with wired(service, StreamWire, 1) as ((connection,), _):
        await blocked(connection)
        connection.push_binary(bytes(60_000), key=1)
        assert connection.buffered > LIMIT // 2
        connection.push_binary(b"small", key=1)
        assert connection.buffered < LIMIT // 8
        await turns()
        assert service.events.empty()
        assert connection.is_open


async def test_an_async_on_backlog_may_wait_for_the_client(narrow):
    @at(max_backlog=LIMIT, high_water=LIMIT // 2)
    class Waiting(Watch):
        @ws.on_backlog
        async def backlog(self, connection: ws.Connection, high: bool) -> None:
            if high:
                await connection.drain()
                self.saw("drained", connection.buffered)

    service = Waiting()
    (client,), (connection,) = await narrow(service)
    await blocked(connection)
    while connection.buffered <= LIMIT // 2:
        connection.push_binary(bytes(1000))
    await turns()
    client.transport.resume_reading()
    assert await service.next() == ("drained", 0)


@at(max_backlog=LIMIT, high_water=LIMIT // 2, overflow="drop_new", max_queue=3)
class Feeding(Told):
    """Is told of its backlog, and has a handler that lasts as long as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.done = asyncio.Event()

    @ws.on_text_message
    async def feed(self, text: str) -> None:
        if text == "wait":
            await self.done.wait()
        self.saw(text)


async def stalls_and_reads(connection, client) -> None:
    """Have much wait for the client, then nothing."""
    client.transport.pause_reading()
    await blocked(connection)
    while connection.buffered <= LIMIT // 2:
        connection.push_binary(bytes(1000))
    await turns()
    client.transport.resume_reading()
    while connection.buffered:
        await client.receive()


async def test_a_backlog_that_comes_and_goes_takes_no_room_from_what_the_client_says(narrow):
    service = Feeding()
    (client,), (connection,) = await narrow(service)
    client.send("wait")
    for _ in range(5):
        await stalls_and_reads(connection, client)
    client.send("first", "second")
    client.write(frame(PING, b"alive?"))
    client.send_close()
    while await client.receive() != (PONG, b"alive?"):
        pass
    while await client.receive() != (CLOSE, close_payload(1000)):
        pass
    service.done.set()
    seen = [await service.next() for _ in range(4)]
    assert seen == [("wait",), ("first",), ("second",), ("closed", 1000, "")]


async def test_a_service_is_told_of_its_backlog_when_the_suspended_handler_is_done(narrow):
    service = Feeding()
    (client,), (connection,) = await narrow(service)
    client.send("wait")
    await stalls_and_reads(connection, client)
    client.transport.pause_reading()
    await blocked(connection)
    while connection.buffered <= LIMIT // 2:
        connection.push_binary(bytes(1000))
    await turns()
    assert service.events.empty()
    service.done.set()
    assert [await service.next(), await service.next()] == [("wait",), (connection, True, True)]
    client.reset()


def test_on_backlog_takes_what_it_names():
    @at()
    class Wrong:
        @ws.on_backlog
        def backlog(self, text: str) -> None:
            pass

    with pytest.raises(errors.ConfigurationError, match="text"):
        compile(Wrong)
