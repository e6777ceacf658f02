"""Messages that are awaited: sent, received, iterated over, bounded; and the end."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref

import pytest
import uvloop

import fastws
from fastws import ws
from fastws.client import endpoints

from ..kit.client import tls_at, turns, until, url, within
from ..kit.raw_server import Peer, close_frame, raw_server, text_frame
from ..kit.services import Echo, Log, Watch, at


def connect(server, path="/", **options):
    where = url(server, path)
    if server.secure:
        options = {"ssl": tls_at(where), "server_hostname": "localhost", **options}
    return fastws.connect(where, **options)


async def all_of(connection) -> tuple[list, fastws.ConnectionClosed]:
    """All that can be iterated over, and the error at the end of it."""
    received = []
    try:
        while True:
            received.append(await within(connection.__anext__()))
    except fastws.ConnectionClosed as error:
        return received, error


@pytest.fixture
async def connected(serve):
    """Connect to one service: `service_side, connection = await connected(Watch())`."""
    connections = []

    async def connected(service: Log, **options):
        server = await serve(service)
        connections.append(await within(connect(server, **options)))
        await until(lambda: service.connections)
        return service.connections[-1], connections[-1]

    yield connected
    for connection in connections:
        await within(connection.close())


@pytest.mark.parametrize("compression", [None, "shared", "dedicated"])
async def test_texts_and_bytes_come_back_as_they_were_sent(serve, compression):
    server = await serve(at(compression=compression, max_message_size=1 << 24)(type("Echoes", (Echo,), {}))())
    async with connect(server, compression=compression, max_message_size=1 << 24) as connection:
        assert connection.compression == compression
        for message in ["", "hello", "grüß dich", b"", b"\x00\xff", "x" * 70_000, bytes(3_000_000)]:
            await within(connection.send(message))
            assert await within(connection.receive()) == message
        await connection.send(bytearray(b"abc"))
        assert await within(connection.receive()) == b"abc"
        await connection.send(memoryview(b"abcd")[1:])
        assert await within(connection.receive()) == b"bcd"


async def test_what_is_no_message_is_refused(connected):
    _, connection = await connected(Echo())
    with pytest.raises(TypeError, match="expected bytes, not int"):
        await connection.send(1)
    with pytest.raises(UnicodeEncodeError):
        await connection.send("\ud800")


async def test_the_face_of_a_connection_tells_what_was_agreed(serve):
    server = await serve(at("/chat", subprotocols=["b", "a"])(type("Chats", (Watch,), {}))())
    async with connect(server, "/chat?x=1", subprotocols=["a", "b"], compression=None) as connection:
        assert connection.subprotocol == "a"
        assert connection.headers["Upgrade"] == "websocket"
        assert connection.remote_address == server.addresses[0][:2]
        assert (connection.path, connection.secure, connection.compression) == ("/chat", server.secure, None)
        assert (connection.is_open, connection.buffered, connection.dropped) == (True, 0, 0)
        assert (connection.close_code, connection.close_reason, connection.was_clean) == (None, None, False)
        assert repr(connection).endswith("open>")
    assert (connection.close_code, connection.sent_code, connection.received_code) == (1000, 1000, 1000)
    assert connection.was_clean
    assert not connection.is_open


# ---------------------------------------------------------------------------------------------------------------------
# Receiving


async def test_messages_come_in_order_whenever_they_are_received(connected):
    there, connection = await connected(Echo())
    for number in range(10):
        there.push_text(str(number))
    await until(lambda: not there.buffered)
    await turns(20)
    for number in range(10):
        assert await within(connection.receive()) == str(number)


async def test_a_cancelled_receive_loses_no_message(connected):
    there, connection = await connected(Echo())
    received = []
    for number in range(100):
        receiving = asyncio.ensure_future(connection.receive())
        await turns(number % 4)
        there.push_text(str(number))
        await turns(number % 5)
        receiving.cancel()
        try:
            received.append(await receiving)
        except asyncio.CancelledError:
            received.append(await within(connection.receive()))
    assert received == [str(number) for number in range(100)]


async def test_a_receive_that_times_out_loses_no_message(connected):
    there, connection = await connected(Echo())
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(connection.receive(), 0.01)
    there.push_text("late")
    assert await within(connection.receive()) == "late"


async def test_two_tasks_that_receive_are_told_so(connected):
    there, connection = await connected(Echo())
    first = asyncio.ensure_future(connection.receive())
    await turns()
    with pytest.raises(fastws.ConcurrentReceiveError, match="another task receives"):
        await connection.receive()
    with pytest.raises(fastws.ConcurrentReceiveError):
        await connection.__anext__()
    there.push_text("for the first")
    assert await within(first) == "for the first"
    second = asyncio.ensure_future(connection.receive())
    there.push_text("for the second")
    assert await within(second) == "for the second"


async def test_a_task_that_waits_goes_on_in_its_own_context_as_itself(connected):
    there, connection = await connected(Echo())
    seen = []

    async def receive():
        task = asyncio.current_task()
        async for message in connection:
            seen.append((message, asyncio.current_task() is task))
            if message == "c":
                return

    receiving = asyncio.create_task(receive())
    await turns()
    there.push_text("a")
    there.push_text("b")
    await until(lambda: len(seen) == 2)
    there.push_text("c")
    await within(receiving)
    assert seen == [("a", True), ("b", True), ("c", True)]


async def test_what_a_receiving_task_raises_is_its_own(connected):
    there, connection = await connected(Echo())

    async def receive():
        await connection.receive()
        raise LookupError("its own")

    receiving = asyncio.create_task(receive())
    await turns()
    there.push_text("a")
    with pytest.raises(LookupError, match="its own"):
        await within(receiving)
    there.push_text("b")
    assert await within(connection.receive()) == "b"


async def test_a_receiving_task_may_close_inside_of_the_read_that_woke_it(connected):
    there, connection = await connected(Watch())
    service = there.attributes

    async def receive():
        assert await connection.receive() == "a"
        await connection.close(4001, "enough")
        return service

    receiving = asyncio.create_task(receive())
    await turns()
    there.push_text("a")
    there.push_text("b")
    await within(receiving)
    assert (connection.close_code, connection.close_reason) == (4001, "")


async def test_two_connections_may_await_each_other_in_one_task(serve):
    server = await serve(Echo())
    async with connect(server) as one, connect(server) as other:
        for number in range(50):
            await one.send(f"{number}")
            await other.send(await within(one.receive()))
            assert await within(other.receive()) == f"{number}"


# ---------------------------------------------------------------------------------------------------------------------
# What waits is bounded


@pytest.mark.parametrize(("size", "most"), [(10, 4), (1000, 3)])
async def test_who_does_not_receive_is_not_read_for(connected, size, most):
    service = at(max_backlog=1 << 26)(type("Pours", (Echo,), {}))()
    there, connection = await connected(service, max_queue=4, max_message_size=3000)
    count = 20_000_000 // size // 40
    for number in range(count):
        there.push_text(f"{number:{size}d}")
    await turns(200)
    waiting = gc.get_referents(connection)
    assert sum(type(thing).__name__ == "deque" for thing in waiting) == 1
    messages = next(thing for thing in waiting if type(thing).__name__ == "deque")
    await until(lambda: len(messages) == most)
    await turns(50)
    assert len(messages) == most
    for number in range(count):
        assert int(await within(connection.receive())) == number


async def test_a_close_frame_behind_messages_comes_after_them(serve):
    service = Watch()
    server = await serve(service)
    connection = await within(connect(server, max_queue=2))
    await until(lambda: service.connections)
    for number in range(50):
        service.connections[0].push_text(str(number))
    service.connections[0].close(4000, "enough")
    received, error = await all_of(connection)
    assert received == [str(number) for number in range(50)]
    assert str(error) == "the connection is closed with code 4000: enough"
    await within(connection.wait_closed())


async def test_closing_does_not_wait_behind_what_nobody_received(serve):
    service = Watch()
    server = await serve(service)
    connection = await within(connect(server, max_queue=1))
    await until(lambda: service.connections)
    for _ in range(1000):
        service.connections[0].push_text("unread")
    await turns(50)
    await within(connection.close())
    assert connection.was_clean


# ---------------------------------------------------------------------------------------------------------------------
# Sending


async def test_who_sends_more_than_the_server_reads_waits_and_loses_nothing(serve):
    gate = asyncio.Event()
    lengths = []

    @at(max_queue=1, max_message_size=1 << 20)
    class Slow:
        @ws.on_binary_message
        async def took(self, data: bytes) -> None:
            await gate.wait()
            lengths.append(len(data))

    server = await serve(Slow)
    async with connect(server, max_backlog=1 << 20, compression=None) as connection:
        sent = 0

        async def pour():
            nonlocal sent
            for _ in range(60):
                await connection.send(bytes(300_000))
                sent += 1

        pouring = asyncio.create_task(pour())
        await until(lambda: connection.buffered > 1 << 18)
        await turns(100)
        assert sent < 60
        assert connection.buffered <= 1 << 20
        assert connection.is_open
        gate.set()
        await within(pouring)
        await until(lambda: len(lengths) == 60)
    assert lengths == [300_000] * 60


async def test_a_send_that_is_cancelled_while_it_waits_sends_nothing(serve):
    gate = asyncio.Event()
    seen = []

    @at(max_queue=1)
    class Slow:
        @ws.on_text_message
        async def took(self, text: str) -> None:
            await gate.wait()
            seen.append(text[:1])

    server = await serve(Slow)
    async with connect(server, max_backlog=1 << 16, compression=None) as connection:
        sent = 0
        while connection.buffered < 1 << 15:
            await within(connection.send("a" * 20_000))
            sent += 1
        sending = asyncio.create_task(connection.send("b" * 20_000))
        await turns(20)
        assert not sending.done()
        sending.cancel()
        await asyncio.wait([sending])
        gate.set()
        await within(connection.drain())
        await connection.send("c")
        await until(lambda: seen[-1:] == ["c"])
    assert seen == ["a"] * sent + ["c"]


async def test_who_sends_without_end_lets_others_have_their_turn(connected):
    _, connection = await connected(Watch())
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    while not turned.is_set():
        await connection.send("x")


async def test_pushes_tell_what_became_of_them(connected):
    _, connection = await connected(Echo())
    assert connection.push_text("a", key="k").queued == 1
    assert connection.push_binary(b"b", overflow="drop_new").queued == 1
    assert [await within(connection.receive()) for _ in range(2)] == ["a", b"b"]


# ---------------------------------------------------------------------------------------------------------------------
# Pings


async def test_a_ping_tells_its_round_trip(connected):
    _, connection = await connected(Watch())
    trips = await within(asyncio.gather(*(connection.ping() for _ in range(3))))
    assert all(0 < seconds < 20 for seconds in trips)


async def test_a_pong_answers_the_pings_before_it_and_one_unasked_nothing():
    async def serve(peer: Peer) -> None:
        peer.send(peer.answer() + b"\x8a\x05stray")
        pings = [await peer.read_frame() for _ in range(3)]
        peer.send(b"\x8a\x08" + pings[1][1])
        await peer.reader.read()

    async with raw_server(serve) as where:
        connection = await within(fastws.connect(where, close_timeout=0.01))
        pings = [asyncio.ensure_future(connection.ping()) for _ in range(3)]
        await within(asyncio.wait(pings[:2]))
        assert not pings[2].done()
        pings[2].cancel()
        await asyncio.wait(pings)
        await connection.close()


async def test_a_server_that_answers_no_ping_fails_the_connection():
    async def serve(peer: Peer) -> None:
        peer.send(peer.answer())
        await peer.reader.read()

    async with raw_server(serve) as where:
        connection = await within(fastws.connect(where, ping_interval=0.04, ping_timeout=0.04, close_timeout=0.1))
        with pytest.raises(fastws.ConnectionClosed, match="1011: ping timeout"):
            await within(connection.receive())
        await within(connection.wait_closed())


async def test_a_server_that_says_nothing_is_left_after_the_idle_timeout(serve):
    server = await serve(Watch())
    async with connect(server, idle_timeout=0.05) as connection:
        assert [message async for message in connection] == []
    assert (connection.sent_code, connection.close_code) == (1001, 1001)


# ---------------------------------------------------------------------------------------------------------------------
# The end


@pytest.mark.parametrize("code", [1000, 1001])
async def test_iteration_ends_on_a_usual_end(connected, code):
    there, connection = await connected(Watch())
    there.push_text("last")
    there.close(code, "bye")
    assert [message async for message in connection] == ["last"]
    assert (connection.close_code, connection.close_reason) == (code, "bye")
    with pytest.raises(fastws.ConnectionClosed):
        await connection.receive()
    assert [message async for message in connection] == []


@pytest.mark.parametrize(("frame", "code"), [(b"\x88\x00", 1005), (close_frame(1011, "oh"), 1011), (b"", 1006)])
async def test_iteration_raises_on_any_other(frame, code):
    async def serve(peer: Peer) -> None:
        peer.send(peer.answer() + text_frame("last") + frame)
        if frame:
            await peer.read_frame()

    async with raw_server(serve) as where:
        connection = await within(fastws.connect(where))
        received, error = await all_of(connection)
        await connection.close()
    assert (received, error.code) == (["last"], code)


async def test_a_task_that_waits_is_told_of_the_end(connected):
    there, connection = await connected(Watch())
    receiving = asyncio.ensure_future(connection.receive())
    pinging = asyncio.ensure_future(connection.ping())
    await turns(1)
    there.close(4000, "bye")
    with pytest.raises(fastws.ConnectionClosed, match="4000: bye"):
        await within(receiving)
    await asyncio.wait([pinging])
    assert pinging.exception() is None or isinstance(pinging.exception(), fastws.ConnectionClosed)


async def test_one_task_may_close_under_another_that_receives(connected):
    _, connection = await connected(Watch())
    receiving = asyncio.ensure_future(connection.receive())
    await turns()
    await within(connection.close(4000))
    with pytest.raises(fastws.ConnectionClosed):
        await within(receiving)


async def test_closing_twice_and_after_the_end_does_nothing(connected):
    _, connection = await connected(Watch())
    await within(asyncio.gather(connection.close(4000), connection.close(4001)))
    await within(connection.close())
    assert connection.sent_code == 4000


async def test_a_code_that_may_not_be_sent_is_refused(connected):
    _, connection = await connected(Watch())
    with pytest.raises(ValueError, match="1005"):
        await connection.close(1005)
    assert connection.is_open


async def test_a_server_that_does_not_answer_the_close_is_waited_for_so_long():
    async def serve(peer: Peer) -> None:
        peer.send(peer.answer())
        await peer.reader.read()
        await asyncio.Event().wait()

    async with raw_server(serve) as where:
        connection = await within(fastws.connect(where, close_timeout=0.05))
        await within(connection.close())
        assert (connection.close_code, connection.was_clean) == (1000, False)


async def test_a_close_that_is_cancelled_goes_on(connected):
    _, connection = await connected(Watch())
    closing = asyncio.ensure_future(connection.close(4000))
    await turns(1)
    closing.cancel()
    await asyncio.wait([closing])
    await within(connection.wait_closed())
    assert connection.close_code == 4000


async def test_leaving_the_block_by_cancellation_ends_at_once():
    async def serve(peer: Peer) -> None:
        peer.send(peer.answer())
        await asyncio.Event().wait()

    async def use(where):
        async with fastws.connect(where) as connection:
            opened.set_result(connection)

    async with raw_server(serve) as where:
        opened = asyncio.get_running_loop().create_future()
        using = asyncio.create_task(use(where))
        connection = await within(opened)
        await turns()
        using.cancel()
        await within(asyncio.wait([using]))
        assert using.cancelled()
        await within(connection.wait_closed())


async def test_an_error_in_the_block_closes_the_connection_too(serve):
    server = await serve(Watch())
    with pytest.raises(LookupError):
        async with connect(server) as connection:
            raise LookupError
    assert connection.close_code == 1000


async def test_an_ended_connection_keeps_nothing_alive(serve):
    server = await serve(Watch())
    connection = await within(connect(server))
    await within(connection.close())
    alive = weakref.ref(connection)
    del connection
    gc.collect()
    assert alive() is None


async def test_another_thread_is_refused(connected):
    _, connection = await connected(Watch())

    def use():
        with pytest.raises(fastws.WrongThreadError):
            connection.push_text("x")
        for coroutine in (connection.send("x"), connection.receive(), connection.ping(), connection.close()):
            with pytest.raises(fastws.WrongThreadError):
                coroutine.send(None)

    await asyncio.to_thread(use)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # asyncio says it of its own transports
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_is_closed_under_clients_takes_them_along(make_loop):
    class Waits:
        @ws.on_open
        async def opened(self) -> None:
            await asyncio.sleep(0)

    def answer() -> None:
        for _ in range(2):
            sock, _ = listening.accept()
            kept.append(sock)
            peer = Peer(None, None, sock.recv(65536))
            sock.send(peer.answer())

    async def open_both():
        where = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
        answering = asyncio.to_thread(answer)
        opening = asyncio.gather(fastws.connect(where)._open(), fastws.connect(where, Waits())._open())
        await within(answering)
        return await within(opening)

    kept: list[socket.socket] = []
    loop = make_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connections = loop.run_until_complete(open_both())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        assert [connection.close_code for connection in connections] == [1006, 1006]
        for sock in kept:
            sock.close()
    assert endpoints._endpoints == {}
