"""Nodes in memory, real servers of engines, and sessions that lose patience sooner."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest

from fastws.backplane import relay, session
from fastws.backplane.base import Backplane
from fastws.backplane.engines import engine_of
from fastws.backplane.redis import scout

from ..kit.cluster import Exchange, Node, Talker, meshes
from ..kit.engines import ENGINES, EngineServer, NatsServer, RedisServer, ValkeyServer

FOLDER = Path(__file__).parent
numbers = itertools.count(1)
REAL = {"nats": NatsServer, "redis": RedisServer}


@pytest.hookimpl(tryfirst=True)  # before they are chosen by their marks
def pytest_collection_modifyitems(items):
    """What a server of an engine does it does on one loop as on the other."""
    for item in items:
        if item.path.parent == FOLDER and "asyncio" in item.name and is_real(item):
            item.add_marker(pytest.mark.slow)


def is_real(item) -> bool:
    return "server_of" in item.fixturenames or any(f"-{kind}" in item.name for kind in REAL)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nodes in memory say at once what they know."""
    monkeypatch.setattr(relay, "SETTLE", 0.05)


class Cluster:
    """Some nodes, the engine that they share, and clients of them.

    Attributes:
        exchange: the engine, where that is one in memory.
        nodes: those that were begun.
    """

    def __init__(self, kind: str, url: str | None = None) -> None:
        self.kind = kind
        self.exchange = Exchange() if kind == "exchange" else None
        self.url = url
        self.name = f"test-{next(numbers)}"
        self.nodes: list[Node] = []
        self.clients: list[Talker] = []

    async def begin(self, count: int, **options) -> list[Node]:
        for engine in meshes(count) if self.kind == "mesh" else [self.part() for _ in range(count)]:
            self.nodes.append(Node(engine, cluster=self.name, **options))
        for node in self.nodes:
            await node.begun()
        return self.nodes

    def part(self) -> Backplane:
        return self.exchange.part() if self.exchange is not None else engine_of(self.url)

    async def serve(self, count: int, **options) -> tuple[list[Node], list[Talker]]:
        """Some nodes, and a client of each."""
        nodes = await self.begin(count, **options)
        return nodes, await self.clients_of(*nodes)

    async def clients_of(self, *nodes: Node) -> list[Talker]:
        clients = [await node.client() for node in nodes]
        self.clients += clients
        return clients

    async def end(self) -> None:
        for client in self.clients:
            client.transport.abort()
        for node in self.nodes:
            await node.end()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """A server of an engine, for all tests that leave it as it is."""
    started: dict[type[EngineServer], EngineServer] = {}

    def shared_server(kind: type[EngineServer]) -> EngineServer:
        if why := kind.missing():
            pytest.skip(why)
        if kind not in started:
            started[kind] = kind(tmp_path_factory.mktemp("engine"))
            asyncio.run(started[kind].start())
        return started[kind]

    yield shared_server
    for server in started.values():
        server.kill()


def make_cluster(kind: str, shared_server) -> Cluster:
    return Cluster(kind, shared_server(REAL[kind]).url() if kind in REAL else None)


@pytest.fixture(params=["mesh", "exchange", *REAL])
def empty_cluster(request, shared_server):
    """Before any loop runs: to start a server takes one."""
    return make_cluster(request.param, shared_server)


@pytest.fixture
async def cluster(empty_cluster):
    """Nodes: over Unix sockets as workers have them, over an engine in memory, or over real ones."""
    cluster = empty_cluster
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(cluster.end)
        yield cluster


@pytest.fixture
async def exchanging():
    """Nodes over an engine in memory, which fails when told."""
    cluster = Cluster("exchange")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(cluster.end)
        yield cluster


# --- Real servers.


@pytest.fixture
def server_of(tmp_path):
    """Make servers, which are ended with the test: `server = server_of(NatsServer, "--user", "u")`."""
    with contextlib.ExitStack() as stack:

        def server_of(kind: type[EngineServer], *options: str, **more) -> EngineServer:
            if why := kind.missing():
                pytest.skip(why)
            server = kind(tmp_path, *options, **more)
            stack.callback(server.kill)
            return server

        yield server_of


@pytest.fixture(
    params=[
        # What Redis does tells most of what Valkey does
        pytest.param(kind, id=kind.__name__, marks=[pytest.mark.slow] if kind is ValkeyServer else [])
        for kind in ENGINES
    ]
)
async def engine(request, server_of, no_task_left) -> EngineServer:
    """A server of each engine, in which nobody else is."""
    server = server_of(request.param)
    await server.start()
    return server


@pytest.fixture
def hasty(monkeypatch):
    """Have sessions find out within 0.5 s what takes them 5 otherwise."""
    for name in ("GREETING_TIMEOUT", "PING_INTERVAL", "LAST_PATIENCE", "MAX_BACK_OFF"):
        monkeypatch.setattr(session, name, getattr(session, name) / 10)
    monkeypatch.setattr(scout, "ASK_TIMEOUT", scout.ASK_TIMEOUT / 10)
