"""Nodes in memory."""

from __future__ import annotations

import contextlib

import pytest

from fastws.backplane import relay

from ..kit.cluster import Exchange, Node, Talker, meshes


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
