"""Nodes in memory, real servers of engines, and sessions that lose patience sooner."""

from __future__ import annotations

import contextlib

import pytest

from fastws.backplane import relay, session
from fastws.backplane.redis import scout

from ..kit.cluster import Exchange, Node, Talker, meshes
from ..kit.engines import ENGINES, EngineServer


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

    def __init__(self, kind: str) -> None:
        self.exchange = Exchange() if kind == "exchange" else None
        self.nodes: list[Node] = []
        self.clients: list[Talker] = []

    async def begin(self, count: int, **options) -> list[Node]:
        engines = meshes(count) if self.exchange is None else [self.exchange.part() for _ in range(count)]
        for engine in engines:
            self.nodes.append(Node(engine, **options))
        for node in self.nodes:
            await node.begun()
        return self.nodes

    async def clients_of(self, *nodes: Node) -> list[Talker]:
        clients = [await node.client() for node in nodes]
        self.clients += clients
        return clients

    async def end(self) -> None:
        for client in self.clients:
            client.transport.abort()
        for node in self.nodes:
            await node.end()


@pytest.fixture(params=["mesh", "exchange"])
async def cluster(request):
    """Nodes: over Unix sockets as workers have them, or over an engine in memory."""
    cluster = Cluster(request.param)
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


@pytest.fixture(params=ENGINES, ids=[kind.__name__ for kind in ENGINES])
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
