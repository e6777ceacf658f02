"""Time: pings, the deadlines of pings, idle clients and closing handshakes. Nothing here may come early."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import pytest

from fastws import ws
from fastws._speedups import Connection, Endpoint, hub_of_thread
from fastws.options import ServerOptions
from fastws.service.compile import compile

from ...kit.client import CLOSE, PING, PONG, TEXT, close_payload, frame, turns, until, within
from ...kit.services import Echo, Log, Watch, at
from ...kit.wires import SMALL, PacketWire, StreamWire, TcpWire

SHORT = 0.05  # seconds
LONG = 100.0  # seconds; longer than any test


@at(ping_interval=SHORT, ping_timeout=LONG)
class Pinging(Echo):
    pass


@at(ping_interval=SHORT, ping_timeout=SHORT)
class Strict(Watch):
    pass


@at(idle_timeout=SHORT, ping_interval=None)
class Impatient(Echo):
    pass


@at(idle_timeout=SHORT, ping_interval=None)
class Asking(Log):
    @ws.on_idle_timeout
    def idle(self, connection: ws.Connection) -> None:
        connection.push_text("still there?")

    @ws.on_text_message
    def text(self, text: str) -> str:
        return text


class Took:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


async def test_a_silent_client_is_pinged_again_and_again(opened):
    _, client, _ = await opened(Pinging())
    took = Took()
    for _ in range(5):
        assert await client.receive() == (PING, b"")
        client.write(frame(PONG))
    assert took.seconds < 40 * SHORT, "an answered ping puts the next one off by the interval, not by the timeout"
    assert await client.asks("still here") == "still here"


async def test_a_ping_does_not_come_before_its_interval(opened):
    took = Took()
    _, client, _ = await opened(Pinging())
    await client.receive()
    # What the core knows of the time is as old as its last tick
    assert took.seconds > SHORT / 2


async def test_a_client_that_does_not_answer_pings_is_given_up(opened):
    service = Strict()
    _, client, connection = await opened(service)
    assert await client.receive() == (PING, b"")
    assert await service.next() == ("closed", 1011, "ping timeout")
    assert (await client.rest())[-1:] in ([(CLOSE, close_payload(1011, "ping timeout"))], [])
    assert not connection.is_open


@pytest.mark.parametrize("sign", [frame(PONG), frame(PONG, b"unasked"), frame(PING), frame(0x1, b"text"), b"\x81"])
async def test_any_byte_is_a_sign_of_life(opened, sign):
    service = Pinging()
    _, client, connection = await opened(service)
    # There is no next ping before the one before was answered
    for piece in (sign, b"\xfe\x7f\xff\0\0\0\0" if sign == b"\x81" else sign, b"x" if sign == b"\x81" else sign):
        while (await client.receive())[0] != PING:
            pass
        client.write(piece)
    assert connection.is_open
    assert service.events.empty()


def holding(**options) -> tuple[Watch, asyncio.Event]:
    """A service whose handler holds up all messages of its client, and what lets them go on."""

    @at(**options)
    class Holding(Watch):
        @ws.on_text_message
        async def text(self) -> None:
            await done.wait()

    done = asyncio.Event()
    return Holding(), done


async def test_a_client_that_waits_to_be_read_is_not_given_up(serve, connect):
    service, done = holding(ping_interval=SHORT, ping_timeout=SHORT, max_queue=1)
    server = await serve(service)
    client = await connect(server)
    client.send("handled", "queued", "not read")
    assert await client.receive() == (PING, b"")
    client.write(frame(PONG))
    await connect(server)
    assert await service.next() == ("closed", 1011, "ping timeout")
    assert service.connections[0].is_open
    client.reset()
    done.set()


async def test_without_a_ping_timeout_a_client_may_stay_silent(opened):
    @at(ping_interval=SHORT, ping_timeout=None)
    class Lenient(Watch):
        pass

    _, client, connection = await opened(Lenient())
    for _ in range(4):
        assert await client.receive() == (PING, b"")
    assert connection.is_open


async def test_pings_may_be_turned_off(opened):
    @at(ping_interval=None, idle_timeout=SHORT)
    class Quiet(Watch):
        pass

    _, client, _ = await opened(Quiet())
    assert await client.receive() == (CLOSE, close_payload(1001, "idle timeout"))


async def test_an_idle_client_is_closed_with_1001(opened):
    service = Impatient()
    _, client, _ = await opened(service)
    took = Took()
    assert await client.close_frame() == (1001, "idle timeout")
    assert took.seconds < LONG
    client.send_close(1001)
    assert await client.rest() == []
    assert await service.next() == ("closed", 1001, "")


async def test_on_idle_timeout_is_called_instead_and_again(opened):
    _, client, connection = await opened(Asking())
    assert await client.texts(3) == ["still there?"] * 3
    assert connection.is_open
    client.send("yes")
    while await client.text() != "yes":
        pass


async def test_messages_put_the_idle_timeout_off_and_pings_do_not(opened):
    service = Impatient()
    _, client, _ = await opened(service)
    end = time.monotonic() + 4 * SHORT
    while time.monotonic() < end:
        assert await client.asks("busy") == "busy"
    while True:
        client.write(frame(PING))
        opcode, payload = await client.receive()
        if opcode != PONG:
            break
    assert (opcode, payload) == (CLOSE, close_payload(1001, "idle timeout"))


async def test_a_handler_that_is_suspended_is_not_idle(opened):
    @at(idle_timeout=SHORT)
    class Working(Log):
        ticks = 0

        @ws.on_text_message
        async def work(self) -> str:
            await asyncio.sleep(4 * SHORT)
            return "worked"

        @ws.on_idle_timeout
        def idle(self) -> None:
            ws.push_text("idle")

    _, client, _ = await opened(Working())
    client.send("work")
    texts = await client.texts(2)
    assert "worked" in texts
    assert texts[0] in {"idle", "worked"}


async def test_a_close_without_an_answer_ends_at_its_deadline(opened):
    service = Watch()
    took = Took()
    _, client, connection = await opened(service, close_timeout=SHORT)
    connection.close(4000, "bye")
    assert await client.close_frame() == (4000, "bye")
    assert await service.next() == ("closed", 4000, "bye")
    assert SHORT / 2 < took.seconds < LONG
    assert await client.rest() == []


async def test_a_client_that_answers_and_does_not_hang_up_is_hung_up_on(opened):
    service = Watch()
    server, client, _ = await opened(service, close_timeout=SHORT)
    client.send_close()
    assert await service.next() == ("closed", 1000, "")
    # Another than rest(), which hangs up as soon as it sees the end
    assert await within(client.reader.read()) == b"\x88\x02\x03\xe8"
    await until(lambda: all(endpoint.live == 0 for endpoint in server._site.endpoints.values()))


async def test_a_handler_that_never_ends_is_cancelled_after_the_close(serve, connect):
    cancelled = []

    @at()
    class Endless(Watch):
        @ws.on_text_message
        async def wait(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

    service = Endless()
    server = await serve(service, close_timeout=SHORT)
    client = await connect(server)
    client.send("go")
    client.send_close()
    assert await client.close_frame() == (1000, "")
    assert await service.next() == ("closed", 1000, "")
    assert cancelled == [True]


async def test_timers_of_many_connections_do_not_mix(serve, connect):
    @at("/impatient", idle_timeout=SHORT, ping_interval=None)
    class Second(Watch):
        pass

    echo, second = Echo(), Second()
    server = await serve(echo, second)
    stay = [await connect(server) for _ in range(10)]
    go = [await connect(server, "/impatient") for _ in range(10)]
    for client in go:
        assert await client.close_frame() == (1001, "idle timeout")
    for client in stay:
        assert await client.asks("here") == "here"


async def test_an_ended_connection_has_no_timers_left(serve, connect):
    @at(ping_interval=SHORT / 4, ping_timeout=SHORT / 4, idle_timeout=SHORT / 4)
    class Hasty(Log):
        @ws.on_idle_timeout
        def idle(self, connection: ws.Connection) -> None:
            self.saw(connection.is_open)

        @ws.on_close
        def closed(self) -> None:
            self.saw("closed")

    service = Hasty()
    server = await serve(service, close_timeout=SHORT)
    clients = [await connect(server) for _ in range(5)]
    for client in clients:
        client.reset()
    closed = 0
    while closed < 5:
        (event,) = await service.next()
        assert event in {True, "closed"}
        closed += event == "closed"
    await asyncio.sleep(2 * SHORT)
    assert service.events.empty()


async def test_a_message_just_before_a_tick_counts_from_when_it_came(clocked):
    wire = PacketWire()
    connection, pass_time = await clocked(wire, Idling())
    for _ in range(5):
        for _ in range(4):
            await pass_time(1.0)
        assert connection.is_open
        wire.send(frame(TEXT, b"3.1 seconds after the last one"))
        assert connection.is_open
    for _ in range(6):
        await pass_time(1.0)
    assert not connection.is_open


@at(idle_timeout=4.0, ping_interval=None)
class Idling(Watch):
    """Its hub ticks once a second, and its clients may be silent for four."""


# ---------------------------------------------------------------------------------------------------------------------
# A loop that is held up


@at(idle_timeout=6 * SHORT, ping_interval=6 * SHORT, ping_timeout=6 * SHORT)
class Blocking(Watch):
    """Its handler holds up the loop for much longer than any timeout, and lets other clients speak meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.speakers = []

    @ws.on_text_message
    def block(self, text: str) -> None:
        self.saw(text)
        if text == "block":
            for _ in range(15):
                for speaker in self.speakers:
                    os.write(speaker, frame(TEXT, b"here"))
                time.sleep(SHORT)


@pytest.mark.plain("the speakers are sockets without TLS")
async def test_clients_that_speak_while_a_handler_holds_up_the_loop_are_not_idle(serve, connect):
    service = Blocking()
    server = await serve(service, close_timeout=SHORT)
    clients = [await connect(server) for _ in range(3)]
    for client in clients[1:]:
        service.speakers.append(client.transport.get_extra_info("socket").fileno())
    clients[0].send("block")
    assert await service.next() == ("block",)
    seen = [await service.next() for _ in range(30)]
    assert seen == [("here",)] * 30
    assert [(await service.next())[0] for _ in range(3)] == ["closed"] * 3, "in the end they are"


async def test_time_in_which_nobody_was_listened_to_does_not_count(held_up):
    connection, wire, pass_time = held_up
    for _ in range(3):
        await pass_time(LONG)
    assert connection.is_open
    assert wire.packets() == []
    await pass_time(1.0)
    assert wire.packets() == [b"\x89\x00"]
    for _ in range(3):
        await pass_time(LONG)
    assert connection.is_open
    for _ in range(2):
        await pass_time(1.0)
    assert not connection.is_open


async def test_what_came_while_the_loop_was_held_up_is_read_before_anybody_is_judged(held_up):
    connection, wire, pass_time = held_up
    for _ in range(4):
        await pass_time(1.0)
    assert wire.packets() == [b"\x89\x00"]
    for _ in range(3):
        await pass_time(1.0)
    wire.send(frame(PONG))
    await pass_time(LONG)
    assert connection.is_open
    for _ in range(8):
        await pass_time(1.0)
    assert not connection.is_open


@at(ping_interval=4.0, ping_timeout=4.0)
class Ticking(Watch):
    """Its hub ticks once a second."""


@pytest.fixture
async def clocked():
    """Connects a wire to a service whose clock stands still until the test lets it go on."""
    clock = Clock(1000.0)
    hub = hub_of_thread(clock, lambda head: {}, lambda query: {})
    hub.attach()
    wires = []

    async def pass_time(seconds: float) -> None:
        clock.now += seconds
        hub._tick()
        await turns()

    async def clocked(wire, target):
        wires.append(wire)
        endpoint = Endpoint(hub, compile(target), ServerOptions(close_timeout=4.0, slow_handler_time=None))
        connection = Connection(endpoint)
        connection.start(await wire.open(), b"", b"")
        clocked.endpoints.append(endpoint)
        return connection, pass_time

    clocked.endpoints = []
    yield clocked
    for wire in wires:
        wire.close()
    await until(lambda: all(endpoint.live == 0 for endpoint in clocked.endpoints))
    await turns()
    hub.detach()


@pytest.fixture
async def held_up(clocked):
    """A connection, its wire, and what lets time pass in one go, as it does when the loop is held up."""
    wire = PacketWire()
    connection, pass_time = await clocked(wire, Ticking())
    return connection, wire, pass_time


# ---------------------------------------------------------------------------------------------------------------------
# A slow reader is not a dead one


@at(ping_interval=4.0, ping_timeout=4.0, max_backlog=1 << 20, overflow="drop_old")
class Feed(Watch):
    """Sends more than its clients read."""


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what was acknowledged")
KINDS = [pytest.param(TcpWire, marks=linux), StreamWire]


async def read_slowly(wire: StreamWire) -> bytes:
    """Read a little, and let that be seen."""
    data = wire.receive(SMALL)
    await turns(10)
    return data


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_reads_slowly_stays_and_gets_its_ping(clocked, kind):
    wire = kind()
    connection, pass_time = await clocked(wire, Feed())
    connection.push_binary(bytes(300_000))
    data = b""
    for _ in range(40):
        connection.push_binary(bytes(SMALL))
        data += await read_slowly(wire)
        await pass_time(1.0)
        assert connection.is_open
    assert connection.buffered > 100_000
    while connection.buffered or b"\x89\0" not in data:
        data += wire.receive()
        await turns()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_stops_to_read_is_given_up(clocked, kind):
    service = Feed()
    wire = kind()
    connection, pass_time = await clocked(wire, service)
    connection.push_binary(bytes(300_000))
    for _ in range(10):
        await read_slowly(wire)
        await pass_time(1.0)
    assert connection.is_open
    for _ in range(12):
        await pass_time(1.0)
    assert await service.next() == ("closed", 1011, "ping timeout")


@linux
async def test_what_the_kernel_holds_before_a_ping_may_take_its_time(clocked):
    wire = TcpWire(send_buffer=1 << 20)
    connection, pass_time = await clocked(wire, Feed())
    connection.push_binary(bytes(300_000))
    await turns()
    assert connection.buffered == 0
    for _ in range(30):
        await read_slowly(wire)
        await pass_time(1.0)
        assert connection.is_open
    while not wire.receive().endswith(b"\x89\0"):
        await turns()


@linux
async def test_a_client_whose_kernel_alone_takes_what_is_sent_is_given_up(clocked):
    service = Feed()
    wire = TcpWire()
    connection, pass_time = await clocked(wire, service)
    # Once more than a ping takes: what was under way when it was sent may be acknowledged later
    for _ in range(14):
        connection.push_binary(b"tick")
        await pass_time(1.0)
    assert not connection.is_open
    assert await service.next() == ("closed", 1011, "ping timeout")


async def test_only_one_ping_waits_for_a_client_that_speaks_and_does_not_read(clocked):
    wire = StreamWire()
    connection, pass_time = await clocked(wire, Feed())
    connection.push_binary(bytes(300_000))
    await turns(10)
    waiting = connection.buffered
    for _ in range(5):
        for _ in range(5):
            await pass_time(1.0)
        wire.send(frame(PONG))
        await turns()
    assert connection.is_open
    assert connection.buffered <= waiting + 2


async def test_a_client_to_whom_nothing_is_said_is_pinged_although_it_speaks(clocked):
    wire = PacketWire()
    _, pass_time = await clocked(wire, Ticking())
    for _ in range(20):
        wire.send(frame(TEXT, b"news"))
        await pass_time(1.0)
    assert wire.packets() == [b"\x89\0"] * 5


async def test_a_client_that_is_spoken_to_and_speaks_is_not_pinged(clocked):
    wire = PacketWire()
    connection, pass_time = await clocked(wire, Ticking())
    for _ in range(20):
        wire.send(frame(TEXT, b"news"))
        connection.push_text("thanks")
        await pass_time(1.0)
    assert wire.packets() == [b"\x81\x06thanks"] * 20


@linux
async def test_a_slow_reader_of_a_server_stays(narrow):
    @at(ping_interval=4 * SHORT, ping_timeout=4 * SHORT, overflow="drop_old", max_backlog=300_000)
    class Feeding(Watch):
        pass

    (client,), (connection,) = await narrow(Feeding())
    took = Took()
    for _ in range(60):
        connection.push_binary(bytes(SMALL))
    while took.seconds < 24 * SHORT and connection.is_open:
        connection.push_binary(bytes(SMALL))
        client.transport.resume_reading()
        if (await client.receive())[0] == PING:
            client.write(frame(PONG))
        client.transport.pause_reading()
        await asyncio.sleep(SHORT / 5)
    assert connection.is_open
    client.reset()


async def test_a_client_that_waits_to_be_read_is_not_idle(serve, connect):
    service, done = holding(idle_timeout=SHORT, ping_interval=None, max_queue=1)
    server = await serve(service)
    client = await connect(server)
    client.send("handled", "queued", "not read")
    other = await connect(server)
    for _ in range(3):
        assert await other.close_frame() == (1001, "idle timeout")
        other.send_close(1001)
        assert await other.rest() == []
        other = await connect(server)
    assert service.connections[0].is_open
    client.reset()
    done.set()


class Clock:
    """The running loop, but for its time."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.call_soon = asyncio.get_running_loop().call_soon

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback) -> Clock:
        return self

    def cancel(self) -> None:
        pass


async def test_a_client_is_pinged_although_times_are_rounded():
    opened_at, due_at = 8809.995, 8810.045
    assert due_at >= opened_at + 0.05
    assert due_at - opened_at < 0.05
    clock = Clock(opened_at)
    hub = hub_of_thread(clock, lambda head: {}, lambda query: {})
    hub.attach()
    wire = PacketWire()
    connection = Connection(Endpoint(hub, compile(Strict), ServerOptions(close_timeout=1.0, slow_handler_time=None)))
    connection.start(wire, b"", b"")
    for clock.now in (8810.01, 8810.03, due_at, 8810.05, 8810.07):
        hub._tick()
        for _ in range(64):
            hub._tick()
    assert wire.packets() == [b"\x89\x00"]
    wire.close()
    await until(lambda: not connection.is_open)
    await turns()
    hub.detach()
