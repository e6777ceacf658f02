"""One episode: a server, clients over real sockets, and others who push, join, leave and close in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import socket
import threading
import time

import fastws
from fastws import GroupRemovedError, WrongThreadError, _speedups, http, ws
from tests.kit import certificates
from tests.kit.client import CLOSE, PING, REQUEST, TEXT, frame

from .books import Books, frames
from .meddlers import meddling

STEPS = 100
ACTS = 500  # in an episode, at most
DEPTH = 3  # of acts within acts
LENGTHS = (0, 1, 100, 125, 126, 300, 3000, 9000, 33_000, 70_000, 300_000)
PATIENCE = 60  # seconds, until it is an error
GROUPS = ("red", "green", "blue")
EXTENSION = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"

logger = logging.getLogger("fastws")
SILENT = logging.NullHandler()


class Far(asyncio.Protocol):
    """A client, which keeps every byte that it gets."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.opened = asyncio.Event()
        self.lost = asyncio.Event()
        self.said_close = False
        self.asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.opened.is_set() and b"\r\n\r\n" in self.received:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.received = bytearray(rest)
            self.opened.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()

    def read(self, wanted: bool) -> None:
        with contextlib.suppress(AttributeError):  # CPython 3.10: TLS is gone, and the protocol not told yet
            self.transport.resume_reading() if wanted else self.transport.pause_reading()

    def say(self, opcode: int, data: bytes) -> None:
        if not self.transport.is_closing() and not self.said_close:
            self.said_close = opcode == CLOSE
            self.transport.write(frame(opcode, data))


class Episode:
    """What is served, what is done to it, and what came of it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.books = Books()
        self.connections: list[ws.Connection] = []  # the number of one is its place
        self.clients: list[Far] = []
        self.errors: list[BaseException] = []
        self.tasks: set[asyncio.Task] = set()
        self.last_words: dict[int, list[bytes]] = {}
        self.group_changes = 0
        self.thread = threading.get_ident()
        self.acts_left = ACTS
        self.depth = 0
        self.closes_left = self.dice.choice((0, 0, 2))
        self.loop_name = self.dice.choice(("asyncio", "uvloop"))
        self.transport = self.dice.choice(("loop", "own"))
        self.tls = self.dice.random() < 0.4
        self.takeover = self.dice.random() < 0.5
        self.options = {
            "compression": self.dice.choice((None, "shared", "dedicated")),
            "overflow": self.dice.choice(("close", "drop_new", "drop_old", "conflate")),
            "max_backlog": self.dice.choice((50_000, 1 << 20, 1 << 30)),
            "high_water": self.dice.choice((1000, 40_000)),
        }
        self.told = "nothing yet"

    # --- What others do

    def act(self) -> None:
        """Do anything that users may do, wherever this is called from."""
        if threading.get_ident() != self.thread:
            with contextlib.suppress(WrongThreadError, IndexError):
                self.connections[0].push_text("never")
                self.errors.append(AssertionError("a push in a wrong thread"))
            return
        if self.depth >= DEPTH or not self.acts_left or not self.connections:
            return
        self.depth += 1
        self.acts_left -= 1
        try:
            self.dice.choice(self.ACTS)(self)
        except GroupRemovedError:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.depth -= 1

    def chosen(self) -> int:
        return self.dice.randrange(len(self.connections))

    def manner(self) -> dict[str, str]:
        key = self.dice.choice(("a", "b"))
        return self.dice.choice(({}, {}, {"overflow": "drop_new"}, {"overflow": "drop_old"}, {"key": key}))

    def push(self) -> None:
        number, manner = self.chosen(), self.manner()
        push, data = self.books.begin(self.dice.choice(LENGTHS), manner.get("key"))
        push.recipients = frozenset((number,))
        connection = self.connections[number]
        taken = connection.is_open
        if self.dice.random() < 0.5:
            connection.push_binary(data, **manner)
        else:
            connection.push_text(data.decode(), **manner)
        self.books.end(push, {number} if taken else frozenset())

    def open_ones(self) -> set[int]:
        return {number for number, connection in enumerate(self.connections) if connection.is_open}

    def broadcast(self) -> None:
        manner, excluded = self.manner(), [self.connections[self.chosen()] for _ in range(self.dice.choice((0, 0, 2)))]
        push, data = self.books.begin(self.dice.choice(LENGTHS), manner.get("key"))
        push.recipients = frozenset(range(len(self.connections)))

        def exclude():
            for each in excluded:
                self.act()
                yield each

        due = self.open_ones() - {self.connections.index(each) for each in excluded}
        push.recipients = frozenset(due)
        self.connections[self.chosen()].broadcast_binary(data, exclude=exclude() if excluded else None, **manner)
        self.books.end(push, due)

    def push_to_group(self) -> None:
        name, manner = self.dice.choice(GROUPS), self.manner()
        push, data = self.books.begin(self.dice.choice(LENGTHS), manner.get("key"))
        push.recipients = frozenset(range(len(self.connections)))
        before, members = self.group_changes, self.members(name) & self.open_ones()
        try:
            ws.push_binary_to_group(name, data, **manner)
        except GroupRemovedError:
            self.books.end(push, frozenset())
            raise
        if self.group_changes != before:
            # Who was in when it came to them nobody knows
            self.books.uncounted |= set(range(len(self.connections)))
            self.books.end(push, push.recipients)
        else:
            self.books.end(push, members)

    def members(self, name: str) -> set[int]:
        group = self.server.groups.get(name)
        before = self.group_changes
        found = [] if group is None else list(group)
        agreed = [each in group and each in group.members for each in found]
        assert all(agreed) or self.group_changes != before
        return {self.connections.index(each) for each in found}

    def join(self) -> None:
        self.group_changes += 1
        self.connections[self.chosen()].join(self.dice.choice(GROUPS))

    def leave(self) -> None:
        self.group_changes += 1
        self.connections[self.chosen()].leave(self.dice.choice(GROUPS))

    def remove_group(self) -> None:
        self.group_changes += 1
        name = self.dice.choice(GROUPS)
        ws.remove_connection_group(name)
        ws.create_connection_group(name)

    def name(self) -> None:
        self.connections[self.chosen()].store(self.dice.choice("xyz"))
        ws.remove_stored_connection(self.dice.choice("xyz"))

    def close(self) -> None:
        if self.closes_left:
            self.closes_left -= 1
            self.connections[self.chosen()].close(4000, "enough")

    def drain(self) -> None:
        connection = self.connections[self.chosen()]
        self.tasks.add(asyncio.get_running_loop().create_task(asyncio.wait_for(connection.drain(), PATIENCE)))

    def log(self) -> None:
        logger.warning("nothing in particular")

    def make_garbage(self) -> None:
        for _ in range(50):
            nothing: list = []
            nothing.append(nothing)

    ACTS = (push, push, push, broadcast, broadcast, push_to_group, join, leave, remove_group, name, close, drain, log)
    ACTS += (make_garbage,)

    # --- What the loop does meanwhile

    def service(self) -> type:
        episode = self

        @http.base_path("/")
        @ws.upgrade_path("/", compression_threshold=100, **self.options)
        class Served:
            @ws.on_open
            def opened(self, connection: ws.Connection) -> None:
                episode.connections.append(connection)
                connection.join(episode.dice.choice(GROUPS))

            @ws.on_text_message
            def text(self, connection: ws.Connection, text: str) -> str:
                number = episode.connections.index(connection)
                last = text == "last"
                push, data = episode.books.begin(1 if last else episode.dice.choice(LENGTHS[:8]))
                if last:
                    episode.last_words.setdefault(number, []).append(b"\x81%c" % len(data) + data)
                push.recipients = frozenset((number,))
                episode.act()
                if not connection.is_open:
                    push.recipients = frozenset()
                return data.decode()

            @ws.on_binary_message
            async def binary(self, data: bytes) -> None:
                await asyncio.sleep(0)
                episode.act()

            @ws.on_backlog
            @ws.on_close
            @ws.on_ping
            def others(self) -> None:
                episode.act()

        return Served

    def let_clients_act(self) -> None:
        client = self.dice.choice(self.clients)
        if client.lost.is_set() or client.transport.is_closing():
            return
        what = self.dice.randrange(7)
        if what == 0:
            client.read(False)
        elif what <= 2:
            client.read(True)
        elif what == 3:
            client.say(PING, b"ping")
        elif what == 4 and self.closes_left:
            self.closes_left -= 1
            client.say(CLOSE, b"\x03\xe8") if self.dice.random() < 0.5 else client.transport.abort()
        else:
            client.say(self.dice.choice((1, 2)), b"x" * self.dice.choice((1, 1000)))

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        await loop.sock_connect(sock, self.listening.getsockname())
        options = {"ssl": certificates.client_context(), "server_hostname": "localhost"} if self.tls else {}
        _, client = await loop.create_connection(Far, sock=sock, **options)
        client.transport.write(REQUEST % (b"/", EXTENSION))
        await asyncio.wait_for(client.opened.wait(), PATIENCE)
        self.clients.append(client)

    async def run(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self.failed)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        context = certificates.server_context() if self.tls else None
        async with fastws.serve(self.service(), sock=self.listening, ssl=context, close_timeout=5) as self.server:
            for _ in range(self.dice.randint(2, 6)):
                await self.connect()
            with meddling(self.act, self.dice) as meddlers:
                kind = f"{self.loop_name}, {self.transport} transports, tls={self.tls}"
                self.told = f"{kind}, {self.options}, {', '.join(meddlers)}"
                for _ in range(STEPS):
                    self.act()
                    self.let_clients_act()
                    if self.dice.random() < 0.7:
                        await asyncio.sleep(0)
            self.acts_left = 0
            await self.come_to_rest()
            self.check()
            for client in self.clients:
                client.transport.abort()  # they would answer no close frame

    def failed(self, _loop: object, context: dict) -> None:
        self.errors.append(context.get("exception") or AssertionError(context["message"]))

    async def come_to_rest(self) -> None:
        """Have everybody read all, and those leave who were closed."""
        for client in self.clients:
            if not client.lost.is_set():
                client.read(True)
        end = time.monotonic() + PATIENCE
        while any(each.buffered for each in self.connections) or self.still_coming():
            assert time.monotonic() < end, self.state()
            await asyncio.sleep(0.001)
        if self.tasks:
            for task in (await asyncio.wait(self.tasks))[0]:
                task.result()

    def state(self) -> str:
        """What everybody is waiting for, for who looks for the reason."""
        lines = [
            f"{connection}, buffered {connection.buffered}, the client {'lost' if client.lost.is_set() else 'there'} "
            f"with {len(client.received)} bytes, which end in {bytes(client.received[-40:])!r}"
            for connection, client in zip(self.connections, self.clients, strict=True)
        ]
        return "\n".join([*lines, f"last words: {self.last_words}", *map(repr, self.errors)])

    def still_coming(self) -> bool:
        """Whether a client misses something still: what it has ends in the middle, or the last word is not there."""
        return any(
            connection.is_open and not self.has_last_word(number, connection)
            for number, connection in enumerate(self.connections)
        )

    def has_last_word(self, number: int, connection: ws.Connection) -> bool:
        """Whether the client was answered; what it said before was answered before, or dropped."""
        client = self.clients[number]
        if any(word in client.received for word in self.last_words.get(number, ())):
            return True
        if not connection.buffered and time.monotonic() > client.asked + 0.1:
            client.asked = time.monotonic()
            client.say(TEXT, b"last")
        return False

    # --- What came of it

    def check(self) -> None:
        takeover = self.options["compression"] == "dedicated"
        for number, (client, connection) in enumerate(zip(self.clients, self.connections, strict=True)):
            received, rest = frames(bytes(client.received), takeover=takeover)
            got = self.books.check(number, received)
            if connection.is_open:
                assert not rest, f"{number} got a part of a frame: {rest[:60]!r}"
                self.books.check_count(number, got, connection.dropped)
        for error in self.errors:
            raise error


def play(seed: int) -> str:
    """Run the episode of a seed; returns what it was."""
    episode = Episode(seed)
    logging.getLogger().addHandler(SILENT)
    os.environ["FASTWS_TRANSPORT"] = episode.transport
    if episode.loop_name == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(episode.run())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    told = episode.told
    del episode, loop
    for _ in range(3):
        gc.collect()  # what a finalizer makes is found by the next one
    left = _speedups.live_objects()
    assert not any(left.values()), f"left over: {left}"
    return told
