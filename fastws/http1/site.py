"""The site that all connections of a server share: its paths, its limits, its clocks, and the way to a WebSocket."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from .._speedups import Connection, Endpoint, service_context
from ..net import kernel_backlog
from ..net.deadlines import Deadlines
from ..net.limits import Limits, uncounted
from ..net.turns import Turns
from ..service.routing import Router
from ..service.slowness import SlowHandlers
from .forwarded import TrustedProxies
from .heads import RETRY_AFTER, error_response
from .health import LIVENESS, health_service
from .redaction import Redaction
from .refusal import Refusals
from .response import Response

if TYPE_CHECKING:
    from .._speedups import Hub
    from ..handshake.server import Accepted
    from ..options import ServerOptions, UpgradeOptions
    from ..service.model import Resource, Service
    from .request import Request

__all__ = ["HttpConnection", "Site"]


class HttpConnection(Protocol):
    """A connection that speaks HTTP, as the server ends it."""

    def shutdown(self) -> None:
        """End after the response that is due."""

    def give_up(self) -> None:
        """End now."""

    def on_deadline(self) -> None:
        """End for being too slow."""


class Site:
    """Services and options as connections meet them; `open` sets the clocks going.

    Args:
        services: what is served.
        options: of the server.

    Attributes:
        loop: the event loop of all connections; from `open` on, as are `deadlines`, `turns` and `refusals`.
        router: what is served where.
        options: of the server.
        limits: the count of handshakes, and of the connections of each address.
        deadlines: the deadlines of the loop.
        turns: what a turn of the loop does for all connections together.
        refusals: the connections that are being turned away.
        redaction: takes secrets out of request targets.
        slow_handlers: calls handlers, and says which of them keep the loop for long.
        proxies: those whose word is taken for whom they speak for; None if there are none.
        is_ready: whether clients are welcome; if not, responses are the last ones of their connections.
        refuses_upgrades: whether no WebSocket is opened any more.
        retry_after: tells after how many seconds a client that is refused may try again.
        kernel_backlog: bytes that may lie unsent in the kernel for whoever connects; 0 is any number.
        http_connections: all connections that speak HTTP now; each adds itself.
        endpoints: what the connections of each service share.
        on_connected: told of each transport that has come as far as HTTP, where something comes before that.
        make_deadlines: makes the deadlines of the loop; those of the test kit's clock are exact.
        on_count: called when connections have come or gone, where somebody wants to know how many there are.
    """

    loop: asyncio.AbstractEventLoop
    deadlines: Deadlines
    turns: Turns
    refusals: Refusals

    def __init__(self, services: tuple[Service, ...], options: ServerOptions) -> None:
        if options.health:
            services = (*services, health_service(lambda: self.is_ready))
        self.options = options
        self.services = services
        self.router = Router(services)
        self.limits = Limits(options.max_handshakes, options.max_connections_per_address)
        self.redaction = Redaction(options.redacted_parameters)
        self.slow_handlers = SlowHandlers(options.slow_handler_time)
        self.proxies = TrustedProxies(options.proxy_headers, options.forwarded_field) if options.proxy_headers else None
        self.kernel_backlog = kernel_backlog.bytes_for_all(_upgrades(services), options.kernel_backlog)
        self._closing = False
        self.is_ready = True
        self.refuses_upgrades = False
        self.retry_after: Callable[[], int] = lambda: RETRY_AFTER
        self.http_connections: set[HttpConnection] = set()
        self.endpoints: dict[Service, Endpoint] = {}
        self._owners = {id(owner): service for service in services for owner in (service, *service.resources)}
        self.on_connected: Callable[[asyncio.BaseTransport], None] | None = None
        self.make_deadlines: Callable[[asyncio.AbstractEventLoop], Deadlines] = Deadlines
        self.on_count: Callable[[], None] | None = None
        self._emptied: asyncio.Future[None] | None = None  # while somebody waits for it

    def open(self, loop: asyncio.AbstractEventLoop, hub: Hub) -> None:
        """Begin on an event loop, whose hub the WebSockets will belong to."""
        self.loop = loop
        self.deadlines = self.make_deadlines(loop)
        self.turns = Turns(loop)
        exceptions = {LIVENESS: Response("ok\n")} if self.options.health else {}
        self.refusals = Refusals(self.deadlines, self._note_end, exceptions)
        for service in self.services:
            if service.upgrade is not None:
                most = kernel_backlog.bytes_for(service.upgrade, self.options.kernel_backlog)
                endpoint = Endpoint(hub, service, self.options, most, most == self.kernel_backlog)
                endpoint.on_empty = self._note_end
                self.endpoints[service] = endpoint

    def context_of(self, owner: Service | Resource) -> contextvars.Context:
        """Make the context that a handler runs in: `ws.broadcast_text` goes to the clients of its own service."""
        endpoint = self.endpoints.get(self._owners[id(owner)])
        return contextvars.copy_context() if endpoint is None else service_context(endpoint)

    @property
    def closing(self) -> bool:
        """Whether the server shuts down."""
        return self._closing

    def close(self) -> None:
        """Shut down: responses are the last ones of their connections, and no WebSocket is opened."""
        self._closing = True
        self.is_ready = False
        self.refuses_upgrades = True

    # --- Connections come.

    def admit(self, transport: asyncio.Transport, address: tuple[str, int] | None) -> Callable[[], None] | None:
        """Give a new connection a place.

        Args:
            transport: nothing was read or written yet.
            address: of the client, where the PROXY protocol told it.

        Returns:
            What gives the place back, to be called once; None when there is none, and the client is being turned away.
        """
        if self.on_connected is not None:
            self.on_connected(transport)
        if self.connection_count() >= self.options.max_connections:
            self.refusals.refuse(transport, error_response(503, retry_after=self.retry_after()))
            return None
        release = self.limits.enter(self._counted_host(transport, address))
        if release is None:
            self.refusals.refuse(transport, error_response(429, retry_after=RETRY_AFTER))
        return release

    def _counted_host(self, transport: asyncio.Transport, address: tuple[str, int] | None) -> str | None:
        """Return whose connection it is, if connections are counted per address and it is not that of a proxy."""
        if self.limits.max_per_address is None:
            return None
        if address is None:
            peer = transport.get_extra_info("peername")
            address = (peer[0], peer[1]) if isinstance(peer, tuple) else None
        # Whom a trusted proxy speaks for is told in each request, and counted then
        if address is None or (self.proxies is not None and self.proxies.trusts(address)):
            return None
        return address[0]

    def open_websocket(
        self,
        transport: asyncio.Transport,
        service: Service,
        request: Request,
        accepted: Accepted,
        rest: bytes,
        *,
        address: tuple[str, int] | None,
        on_release: Callable[[], None],
    ) -> None:
        """Hand a transport over to the core, which sends the response.

        Args:
            transport: its opening handshake is accepted, and not answered.
            service: whose WebSocket it is.
            request: the opening handshake.
            accepted: its answer.
            rest: what was read behind the request.
            address: of the client where the transport does not know it.
            on_release: gives back the place that `admit` gave.
        """
        template = service.upgrade_path
        assert template is not None
        path = request.path
        Connection(self.endpoints[service]).start(
            transport,
            accepted.response,
            rest,
            # Most paths are the template itself: one str for all of them
            path=template.text if path == template.text else path,
            query=request.raw_query,
            head=b"\n".join(itertools.chain.from_iterable(request.raw_headers)),
            subprotocol=accepted.subprotocol,
            extension=accepted.extension,
            path_arguments=tuple(request.path_parameters.values()),
            address=address,
            secure=request.scheme == "https",
            attributes=accepted.attributes,
            on_release=on_release if self.on_count is None else self._with_count(on_release, self.on_count),
        )
        if self.on_count is not None:
            self.on_count()

    def _with_count(self, on_release: Callable[[], None], on_count: Callable[[], None]) -> Callable[[], None]:
        # Nearly always the same function for all: a connection that idles costs no object more
        return on_count if on_release is uncounted else functools.partial(_call_both, on_release, on_count)

    # --- Connections go.

    def left(self, connection: HttpConnection) -> None:
        """Forget an HTTP connection that has ended or is a WebSocket now."""
        self.http_connections.discard(connection)
        if self.on_count is not None:
            self.on_count()
        if self._emptied is not None:
            self._note_end()

    def connection_count(self) -> int:
        """How many connections there are, HTTP and WebSocket, without those that are being turned away."""
        count = len(self.http_connections)
        for endpoint in self.endpoints.values():
            count += endpoint.live
        return count

    def is_empty(self) -> bool:
        """Tell whether there is no connection of any kind."""
        return not self.connection_count() and not self.refusals

    def emptied(self) -> asyncio.Future[None]:
        """Return what is done when the last connection of the last kind has ended, or `stop_waiting` is called."""
        self._emptied = self.loop.create_future()
        self._note_end()
        return self._emptied

    def stop_waiting(self) -> None:
        """Let who waits for the end of all connections go on without it."""
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _note_end(self) -> None:
        if self._emptied is not None and self.is_empty():
            self.stop_waiting()


def _call_both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()


def _upgrades(services: tuple[Service, ...]) -> Iterator[UpgradeOptions]:
    return (service.upgrade for service in services if service.upgrade is not None)
