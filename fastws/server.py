"""Serve services: listen, hand each WebSocket over to the core, and drain at shutdown."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import itertools
import logging
import signal
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from . import service as services
from ._speedups import Connection, Group, Members, check_close_code, hub_of_thread, service_context
from .census import Census
from .deadlines import Deadlines
from .endpoint import make_endpoint
from .errors import ConfigurationError
from .forwarded import TrustedProxies
from .heads import error_response
from .http import Headers, Query
from .http1 import HttpLimits, HttpProtocol
from .listening import Listener
from .options import read_options
from .refusal import Refusals
from .sockets import ListeningSockets, address_of
from .store import Registry
from .tls import Files, Tls
from .turns import Turns

if TYPE_CHECKING:
    import os

    from typing_extensions import Self, Unpack

    from .handshake import Accepted
    from .http import Request
    from .options import Options, ServeOptions
    from .service import Handler, Resource, Service

__all__ = ["Server", "run", "serve"]

logger = logging.getLogger("fastws")

_P = ParamSpec("_P")
_T = TypeVar("_T")

GRACE: Final = 5.0  # seconds that shutdown waits beyond what its deadlines add up to
DRAIN_POLL: Final = 0.01  # seconds


class Server:
    """Services at an address; made by `serve`, used as an async context manager.

    Attributes:
        services: what is served.
        addresses: where it listens: `(host, port)`, and more for IPv6; of a Unix socket its path.
        groups: connection groups by name, of all services on this event loop.
        stored: stored connections by name, likewise.
    """

    def __init__(self, *targets: object, **options: Unpack[ServeOptions]) -> None:
        if not targets:
            raise ConfigurationError("there is nothing to serve: give at least one service")
        self._options = read_options(**options)
        self._tls = Tls.from_options(self._options)
        self.services: tuple[Service, ...] = tuple(services.compile(target) for target in targets)
        self.router = services.Router(self.services)
        self._owners = {id(owner): service for service in self.services for owner in (service, *service.resources)}
        self.limits = _http_limits(self._options)
        self.census = Census(self._options.max_handshakes, self._options.max_connections_per_address)
        self.access_log = self._options.access_log
        self.proxies = _trusted_proxies(self._options)
        self.closing = False
        self._closing: asyncio.Task[None] | None = None
        self.http_connections: set[HttpProtocol] = set()
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

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._tls is not None

    @property
    def has_certificate_files(self) -> bool:
        """Whether `reload_certificate` knows by itself what to read."""
        return self._tls is not None and self._tls.can_reload

    def call_from_thread(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a function on the thread of the server's loop, wait for it and return its result.

        For threads other than the loop's, where every function of `ws` raises `WrongThreadError`. The current
        connection, if there is one, is current for the function too; where there is none the function names its target,
        as in ``server.call_from_thread(ws.broadcast_text, "hello", to=Chat)``. What it raises is raised here.
        """
        context = contextvars.copy_context()
        if threading.get_ident() == self._thread:
            return context.run(function, *args, **kwargs)
        result: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def call() -> None:
            try:
                result.set_result(context.run(function, *args, **kwargs))
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
        self._hub.limit_backlog(self._options.max_total_backlog)
        self._hub.help_fanouts(self._options.fanout_threads)
        upgrades = [service for service in self.services if service.upgrade]
        self._endpoints = {
            service: make_endpoint(self._hub, service, self._options.close_timeout) for service in upgrades
        }
        self.deadlines = Deadlines(self.loop)
        self.turns = Turns(self.loop)
        self._refusals = Refusals(self.deadlines)
        self._ended = asyncio.Event()
        try:
            await self._listen()
        except BaseException:
            self._hub.detach(self._endpoints.values())
            raise
        try:
            for service in self.services:
                self._start_service(service)
        except BaseException:
            await self.close()
            raise
        return self

    async def _listen(self) -> None:
        self._sockets = await ListeningSockets.open(self.loop, self._options)
        make_protocol = functools.partial(HttpProtocol, self)
        make_transport = self._hub.make_transport if self._hub.has_transports else None
        self._listener = Listener(
            self._sockets.sockets,
            self._options,
            make_protocol,
            make_transport,
            self._tls,
            self.census,
            self.deadlines,
        )
        try:
            self.addresses = [address_of(sock) for sock in self._sockets.sockets]
            self._listener.start()
        except BaseException:
            self._sockets.close()
            raise

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
        self._listener.stop()
        self._sockets.close()
        for task in self._background:
            task.cancel()
        for protocol in list(self.http_connections):
            protocol.shutdown()
        for endpoint in self._endpoints.values():
            for connection in endpoint.members:
                connection.close(code, reason)
        await self._listener.give_up()
        self._refusals.close()
        await self._drain(2 * self._options.close_timeout + GRACE)
        if self._background:
            await asyncio.wait(self._background, timeout=self._options.close_timeout)
        for service in self.services:
            await self._stop_service(service)
        self.deadlines.close()
        parked = self._hub.detach(self._endpoints.values())
        if parked is not None:
            await asyncio.wait([parked])
        self._ended.set()

    async def serve_forever(self) -> None:
        """Serve until this is cancelled, or the server closed."""
        await self._ended.wait()

    def reload_certificate(
        self,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        password: str | None = None,
    ) -> None:
        """Take a renewed certificate for all connections to come; those that are open stay as they are.

        Args:
            certfile: as for `serve`; None reads the files again that `serve` was given.
            keyfile: as for `serve`.
            password: of the private key, if that is encrypted.

        Raises:
            ConfigurationError: it cannot be loaded, and the old one stays in use; or the server speaks no TLS.
        """
        if self._tls is None:
            raise ConfigurationError("reload_certificate: the server speaks no TLS; serve it with certfile")
        self._tls.reload(Files(certfile, keyfile, password) if certfile is not None else None)

    async def _drain(self, seconds: float) -> None:
        """Wait until every connection has ended; each has deadlines of its own, `seconds` only bounds their sum."""
        end = self.loop.time() + seconds
        while self._connection_count() or self._refusals:
            if self.loop.time() > end:
                break
            await asyncio.sleep(DRAIN_POLL)

    # --- Its connections.

    def admit(self, transport: asyncio.Transport, address: tuple[str, int] | None) -> Callable[[], None] | None:
        """Give a new connection a place.

        Args:
            transport: nothing was read or written yet.
            address: of the client, where the PROXY protocol told it.

        Returns:
            What gives the place back, to be called once; None when there is none, and the client is being turned away.
        """
        self._listener.connected(transport)
        if self._connection_count() >= self._options.max_connections:
            self._refusals.refuse(transport, error_response(503, temporary=True))
            return None
        release = self.census.enter(self._counted_host(transport, address))
        if release is None:
            self._refusals.refuse(transport, error_response(429, temporary=True))
        return release

    def _counted_host(self, transport: asyncio.Transport, address: tuple[str, int] | None) -> str | None:
        """Return whose connection it is, if connections are counted per address and it is not that of a proxy."""
        if self.census.max_per_address is None:
            return None
        if address is None:
            peer = transport.get_extra_info("peername")
            address = (peer[0], peer[1]) if isinstance(peer, tuple) else None
        # Whom a trusted proxy speaks for is told in each request, and counted then
        if address is None or (self.proxies is not None and self.proxies.trusts(address)):
            return None
        return address[0]

    def _connection_count(self) -> int:
        count = len(self.http_connections)
        for endpoint in self._endpoints.values():
            count += endpoint.live
        return count

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
        """Hand a transport over to the core.

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
            address=address,
            secure=request.scheme == "https",
            attributes=accepted.attributes,
            on_release=on_release,
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
                await asyncio.wait_for(task, self._options.close_timeout)
        except Exception:
            logger.exception("%s failed", handler.label)


def _trusted_proxies(options: Options) -> TrustedProxies | None:
    return TrustedProxies(options.proxy_headers, options.forwarded_field) if options.proxy_headers else None


def _http_limits(options: Options) -> HttpLimits:
    return HttpLimits(
        options.max_head_size,
        options.max_head_fields,
        options.max_body_size,
        options.handshake_timeout,
        options.keep_alive_timeout,
    )


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
        sock: a stream socket that is bound already, instead of host and port. The server closes it.
        unix: the path of a Unix socket, instead of host and port. One that nobody listens at any more is replaced, and
            ours is removed at the end.
        unix_mode: who may connect to that: 0o600 is processes of the same user.
        reuse_port: let other processes listen at the same port and share its connections.
        backlog: connections that the kernel holds until they are accepted.
        proxy_protocol: expect a header of the PROXY protocol, version 1 or 2, before everything else, TLS included, and
            take the client's address from it. Connections without one are closed, and whoever can connect can
            claim any address: only the proxy may be able to.
        ssl: a context to speak TLS with.
        certfile: instead of `ssl` a PEM file with the certificate of the server and those that vouch for it; TLS 1.2
            or later is spoken.
        keyfile: a PEM file with its private key, where that is not in the same file.
        keyfile_password: of the private key, where that is encrypted.
        client_ca: a PEM file with authorities; who has no certificate of one of them cannot connect.
        access_log: log each HTTP response and each upgrade, to the logger "fastws.access".
        proxy_headers: the proxies that are believed when they tell the client's address and scheme in `Forwarded` (RFC
            7239), or in `X-Forwarded-For` and `X-Forwarded-Proto`: addresses and networks such as `"10.0.0.0/8"`, and
            `"unix"` for Unix sockets, as a list or between commas. True is this machine, loopback and Unix sockets;
            None believes nobody.
        forwarded_field: the one field that these proxies set for the address: `"Forwarded"`, `"X-Forwarded-For"`, or
            another one of a proxy's own that is such a list, as `"X-Real-IP"`. What else a client writes is ignored
            then, which is right for proxies that pass on a `Forwarded` of the client's. With None, the default, all are
            read, and a request whose fields tell of different clients gets a 400.
        max_connections: open connections in all, HTTP and WebSocket; one more gets a 503 with ``Retry-After``.
        max_connections_per_address: connections of one address, of IPv6 of the same first 64 bits; one more gets a 429.
            Behind a proxy that is believed (`proxy_protocol`, `proxy_headers`) the address is that of its client, whose
            WebSockets are counted. None, the default, is any number: behind NAT many share an address.
        max_handshakes: connections that have not completed the head of their first request, TLS included. One more
            ends the one that has been at it longest.
        max_total_backlog: bytes that may wait for all slow clients together, each frame counted once however many it
            waits for. Beyond them those are closed, with their service's `overflow_code`, for whom most waits. All
            servers on a loop share the smallest of their limits.
        fanout_threads: threads, 15 at most, that help the loop's own to send a message to hundreds of clients or more.
            They do nothing else, and know nothing of Python; each needs an idle core to be of use. All servers on a
            loop share the largest of their numbers.
        handshake_timeout: seconds for the PROXY header and TLS, for the head of a request, and again for its body.
        keep_alive_timeout: seconds that an HTTP connection may idle between two requests.
        close_timeout: seconds to wait for the peer's close frame, for the end of TLS, and for handlers after their
            connection ended.
        max_head_size: bytes of a request's head; beyond them the answer is 431.
        max_head_fields: header fields of a request; likewise.
        max_body_size: bytes of a request's body; beyond them the answer is 413.

    Raises:
        ConfigurationError: a service or an option is wrong; the message names the class, the method and the remedy, or
            the option.
        OSError: on entering, it cannot listen there.
    """
    return Server(*services, **options)


def run(
    *services: object, on_listening: Callable[[Server], None] | None = None, **options: Unpack[ServeOptions]
) -> None:
    """Serve until SIGINT or SIGTERM, on uvloop where it exists; blocks.

    It raises the limit of open files to what the system allows. If it was given `certfile`, SIGHUP has it read the
    certificate again, as `Server.reload_certificate` does.

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
    if server.has_certificate_files:
        loop.add_signal_handler(signal.SIGHUP, _reload_certificate, server)
    async with server:
        if on_listening is not None:
            on_listening(server)
        await stop.wait()


def _reload_certificate(server: Server) -> None:
    try:
        server.reload_certificate()
    except ConfigurationError as error:
        logger.error("the certificate stays as it is: %s", error)
    else:
        logger.info("the certificate was read again")


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
