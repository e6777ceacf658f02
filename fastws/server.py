"""Serve services: listen, hand each WebSocket over to the core, and drain at shutdown."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import itertools
import logging
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

from . import service as services
from ._speedups import Connection, Group, Members, check_close_code, hub_of_thread, service_context
from .deadlines import Deadlines
from .endpoint import make_endpoint
from .errors import ConfigurationError
from .forwarded import TrustedProxies
from .http import Headers, Query
from .http1 import HttpLimits, HttpProtocol
from .store import Registry

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .handshake import Accepted
    from .http import Request
    from .service import Handler, Resource, Service

__all__ = ["Server", "run", "serve"]

logger = logging.getLogger("fastws")

_T = TypeVar("_T")

GRACE: Final = 5.0  # seconds that shutdown waits beyond what its deadlines add up to
DRAIN_POLL: Final = 0.01  # seconds


class ServeOptions(TypedDict, total=False):
    """The options of `serve` and `run`."""

    host: str | None
    port: int
    sock: socket.socket | None
    reuse_port: bool
    backlog: int
    access_log: bool
    proxy_headers: bool | str | Iterable[str] | None
    handshake_timeout: float
    keep_alive_timeout: float
    close_timeout: float
    max_head_size: int
    max_head_fields: int
    max_body_size: int


class Server:
    """Services at an address; made by `serve`, used as an async context manager.

    Attributes:
        services: what is served.
        addresses: where it listens: `(host, port)`, and more for IPv6.
        groups: connection groups by name, of all services on this event loop.
        stored: stored connections by name, likewise.
    """

    def __init__(
        self,
        *targets: object,
        host: str | None = "127.0.0.1",
        port: int = 9090,
        sock: socket.socket | None = None,
        reuse_port: bool = False,
        backlog: int = 4096,
        access_log: bool = False,
        proxy_headers: bool | str | Iterable[str] | None = None,
        handshake_timeout: float = 10.0,
        keep_alive_timeout: float = 75.0,
        close_timeout: float = 10.0,
        max_head_size: int = 16384,
        max_head_fields: int = 128,
        max_body_size: int = 1 << 20,
    ) -> None:
        if not targets:
            raise ConfigurationError("there is nothing to serve: give at least one service")
        self.services: tuple[Service, ...] = tuple(services.compile(target) for target in targets)
        self.router = services.Router(self.services)
        self._owners = {id(owner): service for service in self.services for owner in (service, *service.resources)}
        self.limits = HttpLimits(max_head_size, max_head_fields, max_body_size, handshake_timeout, keep_alive_timeout)
        self.access_log = access_log
        self.proxies = TrustedProxies(proxy_headers) if proxy_headers else None
        self.closing = False
        self._closing: asyncio.Task[None] | None = None
        self.http_connections: set[HttpProtocol] = set()
        self._close_timeout = close_timeout
        self._listen: dict[str, Any] = {"backlog": backlog}
        if sock is not None:
            self._listen["sock"] = sock
        else:
            self._listen.update(host=host, port=port, reuse_port=reuse_port or None)
        self._background: list[asyncio.Task[Any]] = []

    # --- What it shows.

    @property
    def groups(self) -> Registry[Group]:
        """Connection groups by name."""
        return Registry(self._hub.groups)

    @property
    def stored(self) -> Registry[Connection]:
        """Stored connections by name."""
        return Registry(self._hub.stored)

    def connections(self, target: object) -> Members:
        """All open connections of a service, given as the class or the instance that is served."""
        for service in self.services:
            if target in (service.cls, service.instance) and service in self._endpoints:
                return self._endpoints[service].members
        raise ConfigurationError(f"{target!r} is not served here with a WebSocket")

    def call_from_thread(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a function on the thread of the server's loop, wait for it and return its result.

        For threads other than the loop's, where every function of `ws` raises `WrongThreadError`. The current
        connection, if there is one, is current for the function too. What the function raises is raised here.
        """
        context = contextvars.copy_context()
        if threading.get_ident() == self._thread:
            return context.run(function, *args)
        result: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def call() -> None:
            try:
                result.set_result(context.run(function, *args))
            except BaseException as error:
                result.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return result.result()

    # --- Its life.

    async def __aenter__(self) -> Self:
        """Start to listen, then run `on_start`."""
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._hub = hub_of_thread(self.loop, _headers_of, Query)
        self._hub.attach()
        upgrades = [service for service in self.services if service.upgrade]
        self._endpoints = {service: make_endpoint(self._hub, service, self._close_timeout) for service in upgrades}
        self.deadlines = Deadlines(self.loop)
        try:
            self._server = await self.loop.create_server(functools.partial(HttpProtocol, self), **self._listen)
        except BaseException:
            self._hub.detach()
            raise
        self.addresses = [listening.getsockname() for listening in self._server.sockets]
        try:
            for service in self.services:
                self._start_service(service)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, as `close` does."""
        await self.close()

    async def close(self, code: int = 1001, reason: str = "going away") -> None:
        """Stop: close every connection, wait for the closing handshakes, run `on_close` and `on_stop`.

        Clients have `close_timeout` seconds to answer, and so have handlers that still run, before they are cancelled.
        All callers wait for the same end; cancelling one of them does not stop it.

        Raises:
            ValueError: the code may not be sent; nothing is closed.
        """
        check_close_code(code)
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(code, reason))
        await asyncio.shield(self._closing)

    async def _close(self, code: int, reason: str) -> None:
        self.closing = True
        self._server.close()
        for task in self._background:
            task.cancel()
        for protocol in list(self.http_connections):
            protocol.shutdown()
        for endpoint in self._endpoints.values():
            for connection in endpoint.members:
                connection.close(code, reason)
        await self._drain(2 * self._close_timeout + GRACE)
        if self._background:
            await asyncio.wait(self._background, timeout=self._close_timeout)
        for service in self.services:
            await self._stop_service(service)
        self.deadlines.close()
        parked = self._hub.detach()
        if parked is not None:
            await asyncio.wait([parked])

    async def serve_forever(self) -> None:
        """Serve until this is cancelled."""
        await self._server.serve_forever()

    async def _drain(self, seconds: float) -> None:
        """Wait until every connection has ended; each has deadlines of its own, `seconds` only bounds their sum."""
        end = self.loop.time() + seconds
        while any(endpoint.live for endpoint in self._endpoints.values()) or self.http_connections:
            if self.loop.time() > end:
                break
            await asyncio.sleep(DRAIN_POLL)

    def open_websocket(
        self, transport: asyncio.Transport, service: Service, request: Request, accepted: Accepted, rest: bytes
    ) -> None:
        """Hand a transport whose opening handshake is accepted over to the core; `rest` was read behind the head."""
        template = service.upgrade_path
        assert template is not None
        path = request.path
        Connection(self._endpoints[service]).start(
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
            address=request.remote_address,
            attributes=accepted.attributes,
        )

    # --- Services.

    def context_of(self, owner: Service | Resource) -> contextvars.Context:
        """Make the context that a resource or `on_upgrade` runs in: broadcasts go to the clients of its own service."""
        return self._context(self._owners[id(owner)])

    def _context(self, service: Service) -> contextvars.Context:
        endpoint = self._endpoints.get(service)
        return contextvars.copy_context() if endpoint is None else service_context(endpoint)

    def _call(self, service: Service, handler: Handler) -> Any:
        """Call `on_start` or `on_stop`; a coroutine becomes a task that broadcasts to its own service."""
        context = self._context(service)
        arguments = dict.fromkeys(handler.keywords, self)
        result = context.run(handler.function, *(self for _ in handler.positional), **arguments)
        if handler.is_async:
            return context.run(self.loop.create_task, result)
        return None

    def _start_service(self, service: Service) -> None:
        handler = service.handlers.get("on_start")
        if handler is None:
            return
        task = self._call(service, handler)
        if task is not None:
            self._background.append(task)
            task.add_done_callback(functools.partial(_log_failure, handler.label))

    async def _stop_service(self, service: Service) -> None:
        handler = service.handlers.get("on_stop")
        if handler is None:
            return
        try:
            task = self._call(service, handler)
            if task is not None:
                await asyncio.wait_for(task, self._close_timeout)
        except Exception:
            logger.exception("%s failed", handler.label)


def _log_failure(label: str, task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s failed", label, exc_info=task.exception())


def _headers_of(head: bytes) -> Headers:
    """Read back what `open_websocket` made of the header fields."""
    parts = head.split(b"\n")
    return Headers(list(zip(parts[::2], parts[1::2], strict=True)))


def serve(*services: object, **options: Unpack[ServeOptions]) -> Server:
    """Serve annotated classes; an async context manager that listens while it is entered.

    ::

        async with fastws.serve(Chat, port=9090) as server:
            await server.serve_forever()

    Args:
        services: classes, each made once here without arguments, or instances.
        host: an address or a name to listen at; None is all interfaces.
        port: 0 lets the system choose; `server.addresses` tells.
        sock: a socket that is bound already, instead of host and port.
        reuse_port: let other processes listen at the same port and share its connections.
        backlog: connections that the kernel holds until they are accepted.
        access_log: log each HTTP response and each upgrade, to the logger "fastws.access".
        proxy_headers: the proxies that are believed when they tell the client's address in `Forwarded` (RFC 7239) or
            `X-Forwarded-For`: addresses and networks such as `"10.0.0.0/8"`, and `"unix"` for Unix sockets, as a list
            or between commas. True is this machine, loopback and Unix sockets; None believes nobody. A request whose
            two fields lead to different clients gets a 400.
        handshake_timeout: seconds for the head of a request, and again for its body.
        keep_alive_timeout: seconds that an HTTP connection may idle between two requests.
        close_timeout: seconds to wait for the peer's close frame, and for handlers after their connection ended.
        max_head_size: bytes of a request's head; beyond them the answer is 431.
        max_head_fields: header fields of a request; likewise.
        max_body_size: bytes of a request's body; beyond them the answer is 413.

    Raises:
        ConfigurationError: a service is wrong; the message names the class, the method and the remedy.
        OSError: on entering, it cannot listen there.
    """
    return Server(*services, **options)


def run(
    *services: object, on_listening: Callable[[Server], None] | None = None, **options: Unpack[ServeOptions]
) -> None:
    """Serve until SIGINT or SIGTERM, on uvloop where it exists; blocks.

    It raises the limit of open files to what the system allows.

    Args:
        services: as for `serve`, as are all options.
        on_listening: called with the server once it listens.
    """
    server = Server(*services, **options)
    _raise_file_limit()
    _runner()(_serve_until_signal(server, on_listening))


async def _serve_until_signal(server: Server, on_listening: Callable[[Server], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with server:
        if on_listening is not None:
            on_listening(server)
        await stop.wait()


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def _raise_file_limit() -> None:
    """Allow as many open connections as the system lets us: the soft limit is often a thousand."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        logger.debug("the limit of open files stays as it is")
