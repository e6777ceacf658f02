"""Where schedules are played: an engine, three nodes, what is between them, and all that can be done to those."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

from ..kit.client import until
from ..kit.engines import EngineServer, NatsServer, RedisServer, join_cluster
from ..kit.proxy import Proxy
from ..kit.redis import MASTER, Sentinels, ask
from .checker import Rules
from .nodes import Node

NODES = 3
WORKERS = 2
TICK = 0.05  # seconds
SHORT = (0.2, 3.0)  # seconds
LONG = (3.0, 10.0)

Fault = Callable[[random.Random], Awaitable[None]]


async def a_while(chance: random.Random) -> None:
    await asyncio.sleep(chance.uniform(*chance.choice([SHORT, LONG])))


class Stage:
    """Nodes over no engine: the workers of one.

    Attributes:
        nodes: that there are.
        faults: what can be done, and how often in proportion; each does it, waits for a while and mends it.
    """

    servers: ClassVar[type[EngineServer] | None] = None
    rules: ClassVar = Rules()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = [Node(folder, NODES * WORKERS - 2, "")]
        self.busy: set[object] = set()

    @property
    def faults(self) -> list[tuple[int, Fault]]:
        return [(3, self.kill_worker), (3, self.freeze_worker)]

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be played here."""
        if not Path("/proc/self/task").exists():
            return "needs /proc"
        return cls.servers.missing() if cls.servers is not None else None

    async def __aenter__(self):
        try:
            await self.open()
            await asyncio.gather(*(node.begin() for node in self.nodes))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        for node in self.nodes:
            node.kill()
        await self.close()

    async def open(self) -> None:
        """Start the engine."""

    async def close(self) -> None:
        """End it."""

    # --- What is done to nodes.

    @contextlib.asynccontextmanager
    async def chosen(self, chance: random.Random, things: list):
        """One of several to which nothing is done at the moment; waits until there is one."""
        while not (idle := [thing for thing in things if thing not in self.busy]):
            await asyncio.sleep(TICK)
        thing = chance.choice(idle)
        self.busy.add(thing)
        try:
            yield thing
        finally:
            self.busy.discard(thing)

    async def kill_and_start(self, chance: random.Random, things: list) -> None:
        async with self.chosen(chance, things) as thing:
            thing.kill()
            await a_while(chance)
            await thing.start()

    async def kill_node(self, chance: random.Random) -> None:
        await self.kill_and_start(chance, self.nodes)

    async def stop_node(self, chance: random.Random) -> None:
        async with self.chosen(chance, self.nodes) as node:
            await node.stop()
            await asyncio.sleep(chance.uniform(*SHORT))
            await node.start()

    async def freeze_node(self, chance: random.Random) -> None:
        async with self.chosen(chance, self.nodes) as node:
            node.signal(signal.SIGSTOP)
            try:
                await a_while(chance)
            finally:
                node.signal(signal.SIGCONT)

    async def kill_worker(self, chance: random.Random) -> None:
        async with self.chosen(chance, self.nodes) as node:
            pid = chance.choice(node.pids())
            _signal(pid, signal.SIGKILL)
            await until(lambda: pid not in node.pids())
            await node.serves()

    async def freeze_worker(self, chance: random.Random) -> None:
        async with self.chosen(chance, self.nodes) as node:
            pid = chance.choice(node.pids())
            _signal(pid, signal.SIGSTOP)
            try:
                await a_while(chance)
            finally:
                _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Behind(Stage):
    """Nodes over servers, with a proxy between each node and each server."""

    count = 1

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.engine = [self.servers(folder) for _ in range(self.count)]
        self.proxies = [[Proxy(server.port) for server in self.engine] for _ in range(NODES)]

    @property
    def faults(self) -> list[tuple[int, Fault]]:
        nodes: list[tuple[int, Fault]] = [(3, self.kill_node), (1, self.stop_node), (3, self.freeze_node)]
        links: list[tuple[int, Fault]] = [(3, self.cut), (2, self.delay), (3, self.swallow), (2, self.stall)]
        engine: list[tuple[int, Fault]] = [(3, self.restart_server), (3, self.freeze_server)]
        return [*super().faults, *nodes, *links, *engine]

    async def open(self) -> None:
        for server in self.engine:
            await server.start()
        for proxies in self.proxies:
            for proxy in proxies:
                await proxy.__aenter__()
        self.nodes = [Node(self.folder, WORKERS, self.url(number)) for number in range(NODES)]

    async def close(self) -> None:
        for proxies in self.proxies:
            for proxy in proxies:
                if hasattr(proxy, "port"):
                    await proxy.__aexit__()
        for server in self.engine:
            server.kill()

    def url(self, number: int) -> str:
        """The URL for a node, which begins with another server for each."""
        proxies = self.proxies[number]
        first = number % len(proxies)
        places = ",".join(f"127.0.0.1:{proxy.port}" for proxy in [*proxies[first:], *proxies[:first]])
        return f"{self.servers.scheme}://{places}"

    # --- What is done to what is between.

    async def cut(self, chance: random.Random) -> None:
        for proxy in chance.choice(self.proxies):
            proxy.cut()

    async def delay(self, chance: random.Random) -> None:
        async with self.chosen(chance, [*range(NODES)]) as number:
            for proxy in self.proxies[number]:
                proxy.delay = chance.uniform(0.02, 0.5)
            await asyncio.sleep(chance.uniform(*SHORT))
            for proxy in self.proxies[number]:
                proxy.delay = 0.0

    async def swallow(self, chance: random.Random) -> None:
        async with self.chosen(chance, [*range(NODES)]) as number:
            for proxy in self.proxies[number]:
                proxy.swallow()
            await a_while(chance)
            for proxy in self.proxies[number]:
                proxy.cut()  # what was swallowed is missing: no stream goes on after that
                proxy.mend()

    async def stall(self, chance: random.Random) -> None:
        async with self.chosen(chance, [*range(NODES)]) as number:
            for proxy in self.proxies[number]:
                proxy.stall()
            await a_while(chance)
            for proxy in self.proxies[number]:
                proxy.mend()

    # --- What is done to the engine.

    async def restart_server(self, chance: random.Random) -> None:
        await self.kill_and_start(chance, self.engine)

    async def freeze_server(self, chance: random.Random) -> None:
        async with self.chosen(chance, self.engine) as server:
            server.freeze()
            try:
                await a_while(chance)
            finally:
                server.thaw()


class Nats(Behind):
    servers = NatsServer


class NatsCluster(Behind):
    """Three servers that carry each other's messages; what one has subscribed others know a moment later."""

    servers: ClassVar = NatsServer
    count = 3
    rules = Rules(settled=2.0, after_up=2.0)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        join_cluster(self.engine)
        for server in self.engine:
            server.options.append("--no_advertise")  # or nodes would go past the proxies

    @property
    def faults(self) -> list[tuple[int, Fault]]:
        return [*super().faults, (3, self.leave_server)]

    async def leave_server(self, chance: random.Random) -> None:
        """Have a server go as it does before an update: it says so, and ends ten seconds later."""
        async with self.chosen(chance, self.engine) as server:
            server.leave()
            await until(lambda: server.process.poll() is not None)
            server.kill()
            await server.start()


class Redis(Behind):
    servers = RedisServer


class Sentinel(Behind):
    """A master, its replica and three Sentinels, which tell where the master is: there is nothing between."""

    servers = RedisServer
    rules = Rules(calm=20.0, told=20.0)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sentinels = Sentinels(folder)
        self.engine = [self.sentinels.master, self.sentinels.replica]
        self.proxies = []

    @property
    def faults(self) -> list[tuple[int, Fault]]:
        none = (self.cut, self.delay, self.swallow, self.stall)
        return [*(fault for fault in super().faults if fault[1] not in none), (3, self.fail_over)]

    async def open(self) -> None:
        await self.sentinels.__aenter__()
        self.nodes = [Node(self.folder, WORKERS, self.url(number)) for number in range(NODES)]

    async def close(self) -> None:
        await self.sentinels.__aexit__()

    def url(self, number: int) -> str:
        return self.sentinels.url

    async def fail_over(self, chance: random.Random) -> None:
        """Have the replica be the master."""
        ask(chance.choice(self.sentinels.sentinels), "SENTINEL", "FAILOVER", MASTER)
        await asyncio.sleep(1)


STAGES: dict[str, type[Stage]] = {
    "workers": Stage,
    "nats": Nats,
    "nats-cluster": NatsCluster,
    "redis": Redis,
    "sentinel": Sentinel,
}
