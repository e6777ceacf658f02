"""The server within a server in memory: it listens nowhere, and has a hub and a time of its own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from .._speedups import Hub
from ..handshake.mappings import Query, headers_of
from ..net.sockets import ListeningSockets
from ..server.server import Server
from .clock import Clock, ExactDeadlines

if TYPE_CHECKING:
    import asyncio
    import contextvars
    import socket

    from ..net.listening import Listener

__all__ = ["Served"]


class _NoListener:
    """Accepts nothing; stands for `net.listening.Listener`."""

    has_openings = False
    openings = 0

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def give_up(self) -> list[asyncio.Task[None]]:
        return []


class Served(Server):
    """A server that listens nowhere, with a hub and a time of its own."""

    def __init__(self, *targets: object, **options: Any) -> None:
        super().__init__(*targets, **options)
        self.hub: Hub
        self.inherit(ListeningSockets([]), None)

    def live_by(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> contextvars.Context:
        """Have a hub whose time is that of a clock; returns the context of all that runs for it."""
        self.hub = Hub(loop, headers_of, Query)
        clock.govern(self.hub)
        self._site.make_deadlines = functools.partial(ExactDeadlines, clock)
        return self.hub.stand_apart()

    def make_hub(self, loop: asyncio.AbstractEventLoop) -> Hub:
        """Return the one that stands apart."""
        return self.hub

    def make_listener(self, hub: Hub, sockets: list[socket.socket]) -> Listener:
        """Return one that accepts nothing."""
        return _NoListener()  # type: ignore[return-value]

    def waits_for_others(self) -> bool:
        """Tell whether anything waits for what is outside of it, or for the clock, or for a client to read."""
        busy = (connection.is_busy for endpoint in self._site.endpoints.values() for connection in endpoint.members)
        return bool(self.http_connections) or bool(self._lifecycle.background) or any(busy)
