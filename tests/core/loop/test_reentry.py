"""What others may do while the core is in the middle of something: handlers, transports, finalizers.

They push to the connection that is just being sent to, or to one whose turn is still to come. Nothing is lost or
doubled, no stream is damaged, and a turn of the loop ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import socket

import pytest

from fastws import ws
from fastws._speedups import Connection, Endpoint, hub_of_thread
from fastws.handshake.deflate import Deflate
from fastws.options import ServerOptions
from fastws.service.compile import compile as compile_service

from ...kit.client import BINARY, CLOSE, take_frames, turns
from ...kit.deflated import Inflating
from ...kit.services import Watch, at
from ...kit.wires import MemoryWire, StreamWire, blocked, wired

LONG = b"." * 40_000  # is not joined to what others hold
LIMIT = 100_000  # bytes


class Interrupted(MemoryWire):
    """Runs something of a test's within the next write to the transport, and when that is done."""

    def __init__(self) -> None:
        super().__init__()
        self.within = self.behind = None
        self._write, self.near.write = self.near.write, self.write

    def write(self, data) -> None:
        (within, behind), self.within, self.behind = (self.within, self.behind), None, None
        if within is not None:
            within()
        self._write(data)
        if behind is not None:
            behind()


@at(max_backlog=1 << 30)
class Patient(Watch):
    pass


# ---------------------------------------------------------------------------------------------------------------------
# A turn ends, whatever handlers do


async def test_on_backlog_that_answers_with_what_crosses_the_mark_again_leaves_the_loop_alive(narrow):
    @at(overflow="conflate", high_water=200_000, compression=None)
    class Picture(Watch):
        told = 0

        @ws.on_backlog
        def lags(self, connection: ws.Connection, high: bool) -> None:
            # Little detail while it lags, all of it when it does not
            self.told += 1
            connection.push_binary(b"y" * (10 if high else 300_000), key="picture")

    service = Picture()
    _clients, (connection,) = await narrow(service)
    await blocked(connection)
    connection.push_binary(b"y" * 300_000, key="picture")
    before = service.told
    await turns(20)
    assert 5 <= service.told - before <= 21


def test_what_ends_the_loop_in_one_handler_keeps_nobody_from_being_ended(failures):
    class Enough(SystemExit):
        pass

    @at(max_backlog=LIMIT)
    class Strict(Watch):
        @ws.on_close
        def closed(self, code: int) -> None:
            self.saw(code)
            raise Enough

    async def too_slow() -> list[int]:
        service = Strict()
        async with wired(service, StreamWire, 3) as (connections, wires):
            for connection in connections:
                while connection.push_binary(LONG).queued:
                    pass
            codes = [await service.next() for _ in connections]
            for wire in wires:
                wire.close()
        return codes

    def run() -> bool:
        try:
            loop.run_until_complete(task)
        except Enough as error:
            error.__traceback__ = None  # its frames know the hub
        return task.done()

    loop = asyncio.new_event_loop()
    task = loop.create_task(too_slow())
    ends = 0
    while not run():
        ends += 1
    loop.close()
    assert (ends, task.result()) == (3, [(1013,)] * 3)


# ---------------------------------------------------------------------------------------------------------------------
# While a transport is written to


@pytest.mark.parametrize("length", [10, 1000, len(LONG), 300_000])
async def test_what_is_pushed_while_the_transport_is_written_to_follows(length):
    async with wired(Patient(), Interrupted, 1) as ((connection,), (wire,)):
        pushed = [b"%d" % number + b"x" * length for number in range(6)]

        def push(payloads) -> None:
            for payload in payloads:
                assert connection.push_binary(payload).queued

        wire.within, wire.behind = lambda: push(pushed[2:4]), lambda: push(pushed[4:])
        push(pushed[:1])
        push(pushed[1:2])
        received = b""
        while connection.buffered or not received:
            received += wire.receive()
            await turns()
        order = [pushed.index(payload) for _, payload in take_frames(received)]
        # The second may not have got as far as the queue when the transport was written to
        assert order in ([0, 1, 2, 3, 4, 5], [0, 2, 3, 4, 5, 1])


async def test_a_close_while_the_transport_is_written_to_comes_behind_that():
    async with wired(Patient(), Interrupted, 1) as ((connection,), (wire,)):
        wire.within = connection.close
        connection.push_binary(LONG)
        await turns()
        received = wire.receive()
        await turns()
        assert [opcode for opcode, _ in take_frames(received + wire.receive())] == [BINARY, CLOSE]
        assert not connection.push_binary(LONG).queued


async def test_who_drains_while_the_transport_is_written_to_goes_on():
    async with wired(Patient(), Interrupted, 1) as ((connection,), (wire,)):
        waiting = []

        def drain() -> None:
            coroutine = connection.drain()
            waiting.append(asyncio.ensure_future(coroutine))

        wire.near.let_go()
        wire.within = drain
        connection.push_binary(LONG)
        await turns()
        await asyncio.wait_for(waiting[0], 20)


async def test_an_error_of_the_transport_ends_the_stream_where_it_stands(failures):
    async with wired(Patient(), Interrupted, 1) as ((connection,), (wire,)):

        def fail() -> None:
            wire.near.get_protocol().push_text("behind")
            raise ValueError("from within")

        wire.within = fail
        connection.push_binary(LONG)
        await turns()
        assert wire.receive() == b""
        assert connection.push_text("more").queued == 0
        assert connection.buffered == 0
    assert len(failures.records) == 1
    wire.near.set_protocol(None)  # the traceback knows the wire


# ---------------------------------------------------------------------------------------------------------------------
# In the middle of a turn's sends


@pytest.mark.parametrize("length", [10, len(LONG), 200_000])
async def test_who_is_pushed_to_before_the_rest_of_what_was_sent_is_dealt_with_gets_both(length):
    first = bytes(range(256)) * 4000
    second = b"y" * length
    kinds = iter((Interrupted, StreamWire))
    async with wired(Patient(), lambda: next(kinds)(), 2) as ((one, two), (interrupted, wire)):
        interrupted.within = lambda: two.push_binary(second)
        one.broadcast_binary(first)
        received = b""
        while two.buffered or not received:
            received += wire.receive()
            await turns()
        assert take_frames(received + wire.receive()) == [(BINARY, first), (BINARY, second)]


# ---------------------------------------------------------------------------------------------------------------------
# In the middle of a push


@contextlib.contextmanager
def at_each_collection(then):
    """Call a function whenever the collector begins: before Python 3.12 with nearly any object that is made."""

    def called(phase: str, _info: object) -> None:
        nonlocal within
        if phase == "start" and not within:
            within = True
            then()
            within = False

    within = False
    thresholds = gc.get_threshold()
    gc.callbacks.append(called)
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(called)


def deflate(bits: int, *, takeover: bool = False) -> Deflate:
    return Deflate(b"", bits, 15, takeover, takeover)


@pytest.mark.parametrize("kind", [MemoryWire, StreamWire])
async def test_who_joins_and_leaves_while_a_broadcast_is_compressed_harms_nobody(kind):
    extensions = [None, *[deflate(bits) for bits in range(9, 16)]]
    async with wired(Patient(), kind, len(extensions), extensions=extensions) as (connections, wires):
        changes = itertools.count()

        def change() -> None:
            number = next(changes)
            connection = connections[number % len(connections)]
            connection.leave("g") if number % 3 else connection.join("g")
            connection.push_text(f"in between {number}")

        for connection in connections[:3]:
            connection.join("g")
        streams = [b""] * len(wires)
        for _ in range(20):
            with at_each_collection(change):
                ws.push_text_to_group("g", "to all of them " * 100, exclude=connections[0])
                connections[1].broadcast_text("to everybody " * 100, exclude=[connections[2]])
            await turns()
            streams = [stream + wire.receive() for stream, wire in zip(streams, wires, strict=True)]
        while any(connection.buffered for connection in connections):
            await turns()
            streams = [stream + wire.receive() for stream, wire in zip(streams, wires, strict=True)]
        for stream, wire, extension, number in zip(streams, wires, extensions, range(8), strict=True):
            texts = [payload for _, payload in Inflating(extension).frames(stream + wire.receive())]
            assert texts.count(b"to everybody " * 100) == (0 if number == 2 else 20)
            assert number or b"to all of them " * 100 not in texts


@pytest.mark.parametrize("kind", [MemoryWire, StreamWire])
async def test_what_a_push_within_a_push_does_to_a_history_its_peer_can_read(kind):
    extension = deflate(15, takeover=True)
    async with wired(Patient(), kind, 1, extensions=[extension]) as ((connection,), (wire,)):
        pushed: list[str] = []

        def push(much: int) -> None:
            pushed.append(f"{len(pushed)} " + "the same over and over " * much)
            text = pushed[-1]
            connection.push_text(text) if much % 2 else connection.broadcast_text(text)

        stream = b""
        for number in range(300):
            with at_each_collection(lambda number=number: push(number % 7)):
                push(2000 if number % 10 == 0 else number % 100)
            if number % 3 == 0:
                await turns()
                stream += wire.receive()
        while connection.buffered:
            stream += wire.receive()
            await turns()
        texts = [payload.decode() for _, payload in Inflating(extension).frames(stream + wire.receive())]
        assert sorted(texts) == sorted(pushed)


async def test_what_overtakes_a_message_that_needs_room_is_not_missing_in_its_history():
    extension = deflate(15, takeover=True)
    noise = [random.Random(number).randbytes(200_000) for number in range(2)]  # together more than is joined
    async with wired(Patient(), Interrupted, 1, extensions=[extension]) as ((connection,), (wire,)):
        wire.within = lambda: connection.push_binary(b"history " * 1000)
        for data in noise:
            connection.push_binary(b"history " * 100 + data)
        stream = b""
        while connection.buffered or not stream:
            stream += wire.receive()
            await turns()
        connection.push_binary(b"history " * 500)
        await turns()
        received = [payload for _, payload in Inflating(extension).frames(stream + wire.receive())]
        expected = [b"history " * 1000, *[b"history " * 100 + data for data in noise], b"history " * 500]
        assert sorted(received) == sorted(expected)


# ---------------------------------------------------------------------------------------------------------------------
# When a loop is closed under its connections


def test_what_dies_with_the_loop_may_push_to_what_dies_next():
    """Who is to be sent something goes with the list of that, and what its user hung on it pushes."""
    uvloop = pytest.importorskip("uvloop")

    class Dying:
        def __init__(self, others) -> None:
            self.others = others

        def __del__(self) -> None:
            said.extend(other.push_binary(LONG).queued for other in self.others)

    async def leave_open() -> None:
        hub = hub_of_thread(loop, dict, dict)
        endpoint = Endpoint(hub, compile_service(Watch()), ServerOptions(close_timeout=1.0))
        connections = []
        for near, _ in pairs:
            connection = Connection(endpoint)
            transport = hub.make_transport(near.detach(), asyncio.Protocol())
            connection.start(transport, b"", b"")
            connections.append(connection)
        for number, connection in enumerate(connections):
            connection.attributes["dying"] = Dying(connections[number + 1 :])
        connections[0].broadcast_text("never sent")

    said: list[int] = []
    pairs = [socket.socketpair() for _ in range(4)]
    loop = uvloop.new_event_loop()
    loop.run_until_complete(leave_open())
    loop.close()
    gc.collect()
    assert said
    for _, far in pairs:
        far.close()
