"""Clients that join, push, take names and leave at random, and write down all that they say and hear."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from .history import SERVICE, Answered, Asked, History, Message, Session, Target

CLIENTS = 10
PAUSE = 0.2  # seconds between two things that a client does, on average
DIAL = 3.0  # seconds for a node to let a client in
PADS = [*[0] * 20, 2_000, 2_000, 2_000, 100_000, 1_500_000]  # bytes; the last is more than a message of NATS may have
GROUPS = [f"g{number}" for number in range(6)]
FICKLE_GROUPS = [f"fickle-{number}" for number in range(4)]
FICKLE_NAMES = [f"wanted-{number}" for number in range(4)]
FICKLE: set[Target] = {("group", name) for name in FICKLE_GROUPS} | {("connection", name) for name in FICKLE_NAMES}


class Talk:
    """One connection of a client, from `begin` on.

    Attributes:
        session: what is written down.
        pid: of the worker at the other end.
    """

    def __init__(self, socket: ClientConnection, session: Session, pid: int) -> None:
        self.socket = socket
        self.session = session
        self.pid = pid
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.reading = asyncio.ensure_future(self._read())

    @classmethod
    async def begin(cls, port: int, name: str, history: History) -> Talk:
        """Connect; OSError or WebSocketException: there is nobody."""
        socket = await asyncio.wait_for(
            connect(f"ws://127.0.0.1:{port}/", ping_interval=None, max_size=None, compression=None, proxy=None), DIAL
        )
        hello = json.loads(await asyncio.wait_for(socket.recv(), DIAL))
        session = Session(name, hello["node"], time.monotonic())
        history.sessions.append(session)
        return cls(socket, session, hello["pid"])

    async def ask(self, verb: str, target: Target = SERVICE, **more: object) -> Any:
        """Have something done; returns what came of it, and EOFError if the connection ends before."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        asked = {"do": verb, "number": number, "by": self.session.id, "name": target[1], "to": target, **more}
        if self.reading.done():
            raise EOFError
        if verb != "push":
            self.session.events.append(Asked(time.monotonic(), number, verb, target))
        with contextlib.suppress(WebSocketException):
            await self.socket.send(json.dumps(asked))
        return await answer

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                self._take(json.loads(text))
        except (OSError, WebSocketException):
            pass
        finally:
            self.session.closed = self.session.closed or time.monotonic()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(EOFError())
                    answer.exception()

    def _take(self, told: dict[str, Any]) -> None:
        now = time.monotonic()
        if "answer" in told:
            answer = self._answers.pop(told["answer"])
            self.session.events.append(Answered(now, told["answer"], told["result"]))
            if not answer.done():
                answer.set_result(told["result"])
        else:
            (node, number), (kind, name) = told["from"], told["to"]
            self.session.events.append(Message(now, node, number, (kind, name), told["but"]))

    async def close(self) -> None:
        """Leave with a closing handshake."""
        self.session.closed = time.monotonic()
        await self.socket.close()
        await self.reading

    def reset(self) -> None:
        """Leave without a word."""
        self.session.closed = self.session.closed or time.monotonic()
        self.socket.transport.abort()


class Client:
    """Somebody who comes again wherever he is let in.

    Args:
        number: of the client.
        seed: of what it does.
        ports: of the nodes.
        crowd: all of them.
    """

    def __init__(self, number: int, seed: int, ports: list[int], crowd: Crowd) -> None:
        self.number = number
        self.chance = random.Random(seed)
        self.ports = ports
        self.crowd = crowd
        self.talk: Talk | None = None
        self._talks = itertools.count(1)

    async def live(self) -> None:
        """Connect, talk, and connect again, until all shall be quiet."""
        while not self.crowd.quiet.is_set():
            with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError, WebSocketException):
                name = f"c{self.number}.{next(self._talks)}"
                self.talk = await Talk.begin(self.chance.choice(self.ports), name, self.crowd.history)
                await self._talk(self.talk)
            await asyncio.sleep(self.chance.uniform(0.1, 0.5))

    async def _talk(self, talk: Talk) -> None:
        await talk.ask("store", ("connection", talk.session.id))
        for name in self.chance.sample(GROUPS, 3):
            await talk.ask("join", ("group", name))
        while not self.crowd.quiet.is_set():
            await asyncio.sleep(self.chance.expovariate(1 / PAUSE))
            act, weight = zip(*self._acts(), strict=True)
            await self.chance.choices(act, weight)[0](talk)

    def _acts(self) -> list[tuple[Callable[[Talk], Any], int]]:
        return [
            (self._push, 60),
            (self._join_or_leave, 12),
            (self._take_name, 8),
            (self._change_fickle_group, 6),
            (self._move, 1),
        ]

    async def _push(self, talk: Talk) -> None:
        target = self.chance.choice([SERVICE, *self._groups(), *self._groups(), *self._names()])
        pad = self.chance.choice(PADS) if target[0] != "service" else 0
        await talk.ask("push", target, pad=pad, but=target[0] != "connection" and self.chance.random() < 0.3)

    def _groups(self) -> list[Target]:
        return [("group", self.chance.choice([*GROUPS, *FICKLE_GROUPS])), ("group", self.chance.choice(GROUPS))]

    def _names(self) -> list[Target]:
        names = [session.id for session in self.crowd.history.sessions if session.closed is None] + FICKLE_NAMES
        return [("connection", self.chance.choice(names))]

    async def _join_or_leave(self, talk: Talk) -> None:
        await talk.ask(self.chance.choice(["join", "leave"]), ("group", self.chance.choice(GROUPS)))

    async def _take_name(self, talk: Talk) -> None:
        verb = self.chance.choices(["store", "forget"], [4, 1])[0]
        await talk.ask(verb, ("connection", self.chance.choice(FICKLE_NAMES)))

    async def _change_fickle_group(self, talk: Talk) -> None:
        verb = self.chance.choices(["join", "leave", "remove", "create"], [6, 1, 1, 1])[0]
        await talk.ask(verb, ("group", self.chance.choice(FICKLE_GROUPS)))

    async def _move(self, talk: Talk) -> None:
        """Go to another node, as often as not without a word."""
        if self.chance.random() < 0.5:
            talk.reset()
        else:
            await talk.close()
        raise EOFError


class Crowd:
    """All clients of a schedule.

    Attributes:
        quiet: set when they shall ask for nothing any more; they listen on.
    """

    def __init__(self, seed: int, ports: list[int], history: History) -> None:
        self.history = history
        self.quiet = asyncio.Event()
        chance = random.Random(seed)
        self.clients = [Client(number, chance.randrange(1 << 32), ports, self) for number in range(CLIENTS)]
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Have all of them live."""
        self._tasks = [asyncio.ensure_future(client.live()) for client in self.clients]

    async def be_quiet(self) -> None:
        """Wait until what was asked for is answered."""
        self.quiet.set()
        await asyncio.gather(*self._tasks)

    async def end(self) -> None:
        """Disconnect all."""
        self.quiet.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self.clients:
            if client.talk is not None:
                client.talk.reset()
                await client.talk.reading
