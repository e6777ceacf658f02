"""A session, with servers that do as a test wants, in a protocol of lines that is as small as can be."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from fastws.backplane import session
from fastws.backplane.address import Server
from fastws.backplane.session import ConversationError, Session

from ..kit.client import turns, until, within
from ..kit.engines import free_port

pytestmark = [
    pytest.mark.plain("an engine is spoken to, and no server of ours runs"),
    pytest.mark.usefixtures("no_task_left"),
]


class ToyServer:
    """Says HELLO and answers each PING, unless it is told otherwise.

    Attributes:
        lines: what it got, PINGs left out.
        answering: whether PINGs are answered.
        greeting: whether HELLO is said.
    """

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.answering = self.greeting = True
        self.connections: list[asyncio.StreamWriter] = []
        self.place = Server("127.0.0.1", free_port())

    async def __aenter__(self):
        await self.listen()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.refuse()
        self.cut()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.place.host, self.place.port)

    def refuse(self) -> None:
        self._server.close()

    def cut(self) -> None:
        for writer in self.connections:
            writer.transport.abort()

    def say(self, line: bytes) -> None:
        self.connections[-1].write(line + b"\n")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        if self.greeting:
            self.say(b"HELLO")
        with contextlib.suppress(OSError):
            async for line in reader:
                if line != b"PING\n":
                    self.lines.append(line.rstrip(b"\n"))
                elif self.answering:
                    writer.write(b"PONG\n")
        writer.close()


class Toy:
    """An engine of that protocol, and the conversation on its present connection."""

    def __init__(self, *servers: ToyServer, subjects: tuple[bytes, ...] = ()) -> None:
        self.places = [server.place for server in servers]
        self.wanted = dict.fromkeys(subjects)
        self.told: list[str] = []
        self.heard: list[bytes] = []
        self.adopted: list[Server] = []
        self.session = Session(self, "toy")

    async def __aenter__(self):
        await self.session.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await within(self.session.close())

    @property
    def is_up(self) -> bool:
        return self.told[-1:] == ["up"]

    def subscribe(self, subject: bytes) -> None:
        self.wanted[subject] = None
        self.session.changed(subject)
        self.session.send(b"SUB %b\n" % subject)

    # As a speaker

    async def servers(self):
        return self.places

    def converse(self, wire):
        return ToyTalk(self, wire)

    def subscriptions(self):
        return list(self.wanted)

    def adopt(self, conversation):
        self.adopted.append(conversation.wire.server)

    def up(self):
        self.told.append("up")

    def down(self, reason):
        self.told.append(reason)


class ToyTalk:
    def __init__(self, toy: Toy, wire) -> None:
        self.toy = toy
        self.wire = wire
        self.rest = b""
        self.hello = asyncio.Event()

    def feed(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line == b"PONG":
                self.wire.answered()
            elif line == b"HELLO":
                self.hello.set()
            elif line == b"LEAVING":
                self.wire.leave()
            elif line == b"WRONG":
                raise ConversationError("wrong")
            elif line == b"BUG":
                raise LookupError("of ours")
            else:
                self.toy.heard.append(line)

    async def greet(self):
        await self.hello.wait()

    def ping(self):
        return b"PING\n"

    def subscribing(self, subjects):
        return b"".join(
            b"%b %b\n" % (b"SUB" if subject in self.toy.wanted else b"UNSUB", subject) for subject in subjects
        )


# --- In the making


async def test_it_is_up_when_the_server_has_every_subscription(monkeypatch):
    monkeypatch.setattr(session, "SLICE", 2)
    subjects = (b"a", b"b", b"c", b"d", b"e")
    async with ToyServer() as server, Toy(server, subjects=subjects) as toy:
        assert toy.told == ["up"]
        assert server.lines == [b"SUB " + subject for subject in subjects]
        assert toy.adopted == [server.place]


async def test_small_pieces_leave_at_once():
    async with ToyServer() as server, Toy(server) as toy:
        sock = toy.session._wire._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_what_changes_meanwhile_comes_last():
    async with ToyServer() as server:
        server.answering = False
        toy = Toy(server, subjects=(b"a", b"b"))
        opening = asyncio.ensure_future(toy.session.open())
        await until(lambda: len(server.lines) == 2)
        toy.subscribe(b"c")
        del toy.wanted[b"a"]
        toy.session.changed(b"a")
        assert toy.session.room == 0
        server.answering = True
        server.say(b"PONG")
        await opening
        await until(lambda: len(server.lines) == 4)
        assert server.lines == [b"SUB a", b"SUB b", b"SUB c", b"UNSUB a"]
        await toy.session.close()


async def test_a_greeting_that_does_not_come_in_time_is_given_up(hasty):
    async with ToyServer() as server:
        server.greeting = False
        async with Toy(server) as toy:
            assert toy.told == ["no answer in time"]
            server.greeting = True
            await until(lambda: toy.is_up)


@pytest.mark.parametrize("stage", ["dialling", "greeting", "subscribing"])
async def test_it_can_be_closed_while_it_is_in_the_making(stage):
    async with ToyServer() as server:
        server.greeting = stage == "subscribing"
        server.answering = False
        toy = Toy(server, subjects=(b"a",))
        opening = asyncio.ensure_future(toy.session.open())
        if stage != "dialling":
            await until(lambda: server.lines if stage == "subscribing" else server.connections)
        await turns(1)
        await within(toy.session.close())
        opening.cancel()
        await turns()
        assert toy.told == []


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        (OSError(2, "x"), "no such file or directory"),
        (ConversationError("no master"), "no master"),
        (None, "no server is known"),
    ],
)
async def test_where_to_go_may_not_be_known(failing, reason):
    async with ToyServer() as server:
        toy = Toy(server)

        async def servers():
            if failing is None:
                return []
            raise failing

        toy.servers, known = servers, toy.servers
        async with toy:
            assert toy.told == [reason]
            toy.servers = known
            await until(lambda: toy.is_up)


# --- From one server to the next


async def test_where_it_was_last_it_goes_last(hasty):
    async with ToyServer() as one, ToyServer() as two, Toy(one, two) as toy:
        assert toy.adopted == [one.place]
        one.cut()
        await until(lambda: toy.told == ["up", "the server closed the connection", "up"])
        two.refuse()
        two.cut()
        await until(lambda: len(toy.adopted) == 3)
        assert toy.adopted == [one.place, two.place, one.place]


async def test_a_reason_is_told_once_until_there_is_another(hasty):
    async with ToyServer() as server, Toy(server) as toy:
        server.refuse()
        server.cut()
        await until(lambda: len(toy.told) == 3)
        await asyncio.sleep(0.5)
        assert toy.told == ["up", "the server closed the connection", "connection refused"]


@pytest.fixture
def waits(monkeypatch):
    """How long a session waited before it tried again, jitter left out; here it does not."""
    seconds = []
    original = asyncio.sleep

    async def sleep(delay, result=None):
        if 0 < delay < session.PING_INTERVAL:
            seconds.append(round(delay - 0.05, 2))
            delay = 0
        await original(delay)

    monkeypatch.setattr(session.asyncio, "sleep", sleep)
    monkeypatch.setattr(session.random, "random", lambda: 0.5)
    monkeypatch.setattr(session, "PING_INTERVAL", 1000)
    return seconds


async def test_it_backs_off_from_a_server_that_always_refuses(waits):
    async with Toy() as toy:
        while len(waits) < 7:
            await turns(1)
    assert toy.told == ["no server is known"]
    assert waits[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2]


async def test_it_comes_again_at_once_after_it_was_up(waits):
    async with ToyServer() as server, Toy() as toy:
        toy.places.append(server.place)
        while not toy.is_up:
            await turns(1)
        assert waits[0] == 0.1
        waits.clear()
        server.cut()
        while toy.told.count("up") < 2:
            await turns(1)
        assert waits == [0]


async def test_what_changes_is_not_remembered_while_nothing_is_in_the_making(hasty):
    async with ToyServer() as server:
        server.answering = False
        toy = Toy(server, subjects=(b"a",))
        opening = asyncio.ensure_future(toy.session.open())
        await until(lambda: server.lines)
        server.refuse()
        server.cut()
        await opening
        toy.session.changed(b"b")
        assert toy.session._changed is None
        await toy.session.close()


# --- What comes


async def test_what_cannot_be_read_is_a_reconnect():
    async with ToyServer() as server, Toy(server) as toy:
        server.say(b"WRONG")
        await until(lambda: toy.told == ["up", "wrong", "up"])


async def test_an_error_of_our_own_is_logged_and_a_reconnect(failures):
    async with ToyServer() as server, Toy(server) as toy:
        server.say(b"BUG")
        await until(lambda: toy.told == ["up", "an error of our own", "up"])
    assert failures.messages() == [f"what came from {server.place} cannot be handled"]


async def test_an_error_of_the_engine_is_no_end(failures):
    async with ToyServer() as server:
        toy = Toy(server)
        toy.up, up = lambda: 1 / 0, toy.up
        toy.down, down = lambda reason: 1 / 0, toy.down
        async with toy:
            assert toy.session.room == 0
            await until(lambda: len(server.connections) > 1)
            assert server.connections[0].is_closing()
            toy.up, toy.down = up, down
            await until(lambda: toy.is_up)
    assert set(failures.messages()) == {"the backplane failed"}


# --- A server that says nothing any more


async def test_a_server_that_sends_much_may_answer_late(hasty):
    async with ToyServer() as server, Toy(server) as toy:
        server.answering = False
        for _ in range(10):
            server.say(b"message")
            await asyncio.sleep(session.LAST_PATIENCE * 0.9)
        for _ in range(10):
            server.say(b"PONG")
        server.answering = True
        await asyncio.sleep(session.PING_INTERVAL * 2)
        assert toy.told == ["up"]


async def test_a_server_that_sends_much_and_never_answers_does_not_hear_us(hasty):
    async with ToyServer() as server, Toy(server) as toy:
        server.answering = False
        while toy.is_up:
            server.say(b"message")
            await asyncio.sleep(0.01)
        assert toy.told[1] == "the server does not answer"


async def test_subscriptions_that_a_server_does_not_take_end_in_a_reconnect(monkeypatch):
    monkeypatch.setattr(session, "MAX_WAITING", 1 << 20)
    async with ToyServer() as server, Toy(server) as toy:
        wire = toy.session._wire
        server.connections[0].transport.pause_reading()
        while toy.is_up:
            toy.session.send(b"SUB %b\n" % (b"x" * 60000))
            await asyncio.sleep(0)
        assert toy.told[1] == "too much waits to be sent"
        assert wire.unsent == 0


# --- A server that is leaving


async def test_it_goes_to_another_server_before_it_is_cut_off(hasty, monkeypatch):
    monkeypatch.setattr(session, "HANDOVER_TIME", 0.2)
    async with ToyServer() as old, ToyServer() as new, Toy(old, new, subjects=(b"a",)) as toy:
        toy.session.send(b"1\n")
        old.say(b"LEAVING")
        await until(lambda: len(toy.adopted) == 2)
        toy.session.send(b"2\n")
        toy.subscribe(b"b")
        old.say(b"late")
        new.say(b"early")
        await until(lambda: len(new.lines) == 3)
        assert old.lines == [b"SUB a", b"1"]
        assert new.lines == [b"SUB a", b"2", b"SUB b"]
        await until(lambda: sorted(toy.heard) == [b"early", b"late"])
        await until(lambda: old.connections[0].is_closing())
        assert toy.told == ["up"]


async def test_what_is_published_waits_until_the_old_server_has_what_came_before(hasty):
    async with ToyServer() as old, ToyServer() as new, Toy(old, new) as toy:
        old.answering = False
        old.say(b"LEAVING")
        await until(lambda: len(toy.adopted) == 2)
        toy.session.send(b"1\n")
        assert toy.session.room == session.MAX_UNSENT - 2
        await asyncio.sleep(0.02)
        assert new.lines == []
        old.say(b"PONG")
        old.say(b"PONG")
        await until(lambda: new.lines == [b"1"])


async def test_an_old_server_that_hangs_is_not_waited_for_long(hasty, monkeypatch):
    monkeypatch.setattr(session, "CLOSE_TIMEOUT", 0.1)
    async with ToyServer() as old, ToyServer() as new, Toy(old, new) as toy:
        old.answering = False
        old.say(b"LEAVING")
        await until(lambda: len(toy.adopted) == 2)
        toy.session.send(b"1\n")
        await until(lambda: new.lines == [b"1"])
        assert toy.told == ["up"]


async def test_the_only_server_is_used_until_it_has_left(hasty):
    async with ToyServer() as server, Toy(server) as toy:
        server.refuse()
        server.say(b"LEAVING")
        await asyncio.sleep(0.3)
        toy.session.send(b"1\n")
        await until(lambda: server.lines == [b"1"])
        server.cut()
        await until(lambda: not toy.is_up)
        await server.listen()
        await until(lambda: toy.is_up)


async def test_a_server_that_leaves_and_is_gone_is_a_loss(hasty):
    async with ToyServer() as old, ToyServer() as new, Toy(old, new) as toy:
        new.greeting = False
        old.say(b"LEAVING")
        await until(lambda: new.connections)
        old.refuse()
        old.cut()
        await until(lambda: not toy.is_up)
        new.greeting = True
        await until(lambda: toy.is_up)
        assert toy.adopted == [old.place, new.place]
