"""Test services in memory, in the loop of the test: no socket, no waiting, and whatever clients and networks may do.

::

    async with fastws.testing.serve(Chat) as server:
        alice, bob = await server.connect("/chat"), await server.connect("/chat")
        await alice.send("hello")
        await bob.expect_text("hello")

A door, as `ws` and `http` are; nobody else in fastws imports it. `memory` has the transports, `pair` two services
against each other, `server` and `client` the kit, `served` and `dialing` what is within and between them. `exchange`
has HTTP, `clock` the time, `cluster` several nodes.
"""

from __future__ import annotations

from .client import ExpectationError, MemoryClient
from .clock import Clock
from .cluster import Cluster, cluster
from .exchange import Refused, Response
from .memory import MemoryTransport
from .pair import connected_pair
from .server import Ending, MemoryServer, serve

__all__ = [
    "Clock",
    "Cluster",
    "Ending",
    "ExpectationError",
    "MemoryClient",
    "MemoryServer",
    "MemoryTransport",
    "Refused",
    "Response",
    "cluster",
    "connected_pair",
    "serve",
]
