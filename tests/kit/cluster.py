"""Several nodes in this process, each with a loop in a thread of its own, and an engine that fails when told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import fastws
from fastws import http, ws
from fastws._speedups import counted
from fastws.backplane.base import Backplane, Receiver
from fastws.backplane.nats import Nats
from fastws.backplane.redis import Redis
from fastws.backplane.workers import Mesh

from .client import TIMEOUT, Client, until

PATH = "/chat/ws"


@http.base_path("/chat")
@ws.upgrade_path("/ws")
class Chat:
    """Does what its clients say, and answers with what came of it.

    Attributes:
        states: what it was told of the backplane.
        alone: how many of its `on_start(once=True)` run.
    """

    def __init__(self) -> None:
        self.states: list[tuple[str, str | None, tuple[str, str] | None, int]] = []
        self.alone = 0
        self.connections: list[ws.Connection] = []

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        self.connections.append(connection)

    @ws.on_text_message
    async def said(self, connection: ws.Connection, text: str) -> str:
        verb, *rest = text.split(" ", 2)
        result = getattr(self, verb)(connection, *rest)
        if asyncio.iscoroutine(result):
            result = await result
        return f"> {result!r}"

    async def join(self, connection, group):
        connection.join(group)
        await settled()

    def leave(self, connection, group):
        return connection.leave(group)

    async def store(self, connection, name):
        connection.store(name)
        await settled()

    def forget(self, _, name):
        return ws.remove_stored_connection(name)

    def group(self, connection, group, text):
        return ws.push_text_to_group(group, text, exclude=connection).published

    def binary(self, _, group, text):
        return ws.push_binary_to_group(group, text.encode()).published

    def name(self, _, name, text):
        return ws.push_text_to_connection(name, text).published

    def all(self, connection, text):
        return ws.broadcast_text(text, exclude=connection).published

    def remove(self, _, group):
        return ws.remove_connection_group(group)

    def create(self, _, group):
        ws.create_connection_group(group)

    def close_name(self, _, name):
        return ws.close_stored_connection(name, 4001, "by name")

    def close_group(self, _, group):
        return ws.close_connection_group(group, 4002, "by group")

    async def count(self, _, group=None):
        return await ws.count(group)

    async def locate(self, _, name):
        return await ws.locate(name)

    @ws.on_start(once=True)
    async def alone_here(self) -> None:
        self.alone += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.alone -= 1

    @ws.on_backplane
    def told(self, state: str, node: str | None, target: tuple[str, str] | None, missing: int) -> None:
        self.states.append((state, node, target, missing))


async def settled() -> None:
    """Wait until a server has seen what is wanted here: between machines that takes a moment, of which nobody tells."""
    node = counted("any", None)[0]
    node.flush()
    engine = node.engine
    if isinstance(engine, Nats):
        await engine._session._wire.barrier()
    elif isinstance(engine, Redis):
        await asyncio.gather(*(node.settled() for node in engine._nodes.values()))


class Node:
    """A server with a loop in a thread.

    Args:
        engine: of its own.
        options: of `serve`.

    Attributes:
        service: what it serves.
        server: once it has begun.
    """

    def __init__(self, engine: Backplane, **options: Any) -> None:
        self.service = Chat()
        self.engine = engine
        self.server: fastws.Server
        self._options = {"port": 0, "close_timeout": 2.0, "backplane": engine, **options}
        self._new_loop = type(asyncio.get_running_loop())
        self._begun = threading.Event()
        self._end: Callable[[], None] = lambda: None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    async def begun(self) -> None:
        await until(self._begun.is_set)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        loop = self._new_loop()
        try:
            loop.run_until_complete(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._begun.set()
            loop.close()

    async def _serve(self) -> None:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._end = lambda: loop.call_soon_threadsafe(end.set)
        async with fastws.serve(self.service, **self._options) as self.server:
            self._begun.set()
            await end.wait()

    @property
    def relay(self) -> Any:
        return self.server._relay

    @property
    def id(self) -> str:
        return self.relay.id

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function in the thread of the node, and wait for it."""
        return self.server.call_from_thread(function, *args)

    async def end(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has
            self._end()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, TIMEOUT)

    async def client(self) -> Talker:
        return await Talker.connect(self.server.addresses[0][1], PATH)


class Talker(Client):
    """A client that asks for something and hears the answer; what comes in between it keeps."""

    kept: list[str]

    async def ask(self, text: str) -> str:
        self.kept = getattr(self, "kept", [])
        self.send(text)
        while not (answer := await self.text()).startswith("> "):
            self.kept.append(answer)
        return answer[2:]

    async def hears(self) -> str:
        """The next message that is no answer."""
        return self.kept.pop(0) if getattr(self, "kept", []) else await self.text()


class Exchange:
    """An engine in memory, with a part for each node, which may be in any thread.

    Attributes:
        copies: how many of each message come.
        drops: tells of a subject whether its messages get lost.
    """

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.copies = 1
        self.drops: Callable[[bytes], bool] = lambda _: False
        self.lock = threading.Lock()

    def part(self) -> Part:
        self.parts.append(Part(self))
        return self.parts[-1]


class Part(Backplane):
    """A node's part of an Exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.subjects: set[bytes] = set()
        self.published: list[tuple[bytes, bytes]] = []
        self.is_cut = False
        self.full = False
        self.receiver: Receiver
        self.loop: asyncio.AbstractEventLoop | None = None

    async def open(self, receiver: Receiver) -> None:
        self.receiver, self.loop = receiver, asyncio.get_running_loop()
        if not self.is_cut:
            self.subjects.update(receiver.subscriptions())
            receiver.up()

    async def close(self) -> None:
        self.loop = None

    def subscribe(self, subject: bytes) -> None:
        if not self.is_cut:
            self.subjects.add(subject)

    def unsubscribe(self, subject: bytes) -> None:
        self.subjects.discard(subject)

    def has_room(self) -> bool:
        return not self.full

    def publish(self, subject: bytes, payload: bytes) -> bool:
        if self.is_cut or self.full:
            return False
        self.published.append((subject, payload))
        if not self.exchange.drops(subject):
            with self.exchange.lock:
                for part in self.exchange.parts:
                    if part is not self and subject in part.subjects and not part.is_cut and part.loop is not None:
                        for _ in range(self.exchange.copies):
                            part.loop.call_soon_threadsafe(part.receiver.received, subject, payload)
        return True

    def flush(self) -> None:
        pass

    # For tests, in the thread of the node

    def cut(self) -> None:
        self.is_cut = True
        self.subjects.clear()
        self.receiver.down("it was cut")

    def heal(self) -> None:
        self.is_cut = False
        self.subjects.update(self.receiver.subscriptions())
        self.receiver.up()


def meshes(count: int) -> list[Mesh]:
    """So many meshes, each with a link to each other."""
    made = [Mesh() for _ in range(count)]
    for one, other in pairs(made):
        link(one, other)
    return made


def link(one: Mesh, other: Mesh) -> None:
    ends = socket.socketpair()
    one.connect(ends[0])
    other.connect(ends[1])


def pairs(made: list[Mesh]) -> Iterator[tuple[Mesh, Mesh]]:
    return ((made[i], made[j]) for i in range(len(made)) for j in range(i))
