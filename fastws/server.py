"""Serve services: listen, hand each WebSocket over to the core, and drain at shutdown."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from . import forking, kernel_backlog
from . import service as services
from ._speedups import Connection, Group, Members, check_close_code, hub_of_thread, service_context
from .announcement import announce
from .arguments import is_awaitable
from .calls import Calls
from .census import Census
from .deadlines import Deadlines
from .endpoint import make_endpoint
from .errors import ConfigurationError, NotServingError, StartError, WrongThreadError
from .forwarded import TrustedProxies
from .heads import error_response
from .http import Headers, Query
from .http1 import HttpLimits, HttpProtocol
from .listening import Listener
from .loading import refuse_while_importing
from .logs import UNUSED_RESULT, Log, show_logs
from .options import read_options
from .redaction import Redaction
from .refusal import Refusals
from .signals import ENDING, Signals, is_unhandled
from .slowness import SlowHandlers
from .sockets import ListeningSockets, address_of, keep_standard_descriptors
from .store import Registry
from .tls import Files, Tls
from .turns import Turns

if TYPE_CHECKING:
    import os

    from typing_extensions import Self, Unpack

    from ._speedups import Endpoint, Hub
    from .handshake import Accepted
    from .http import Request
    from .options import Options, ServeOptions
    from .service import Handler, Resource, Service

__all__ = ["Server", "run", "serve"]

logger = Log("fastws")

_LOST_COROUTINE: Final = (
    "call_from_thread(%s) got a coroutine, which nobody awaits: give it a plain function, or let "
    "asyncio.run_coroutine_threadsafe run the coroutine on server.loop"
)

_P = ParamSpec("_P")
_T = TypeVar("_T")

GRACE: Final = 5.0  # seconds that shutdown waits beyond what its deadlines add up to


def _take_note(closing: asyncio.Task[None]) -> None:
    """Take note of how it ended, which an exit keeps from those who wait: shield() does so before CPython 3.14 only."""
    if not closing.cancelled():
        closing.exception()


class Server:
    """Services at an address; made by `serve`, used as an async context manager, once.

    Attributes:
        services: what is served.
        addresses: where it listens: `(host, port)`, and more for IPv6; of a Unix socket its path. Empty before it does.
        loop: the event loop that serves; set on entering.
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
        self.redaction = Redaction(self._options.redacted_parameters)
        self._kernel_backlog = kernel_backlog.bytes_for_all(self.services, self._options.kernel_backlog)
        self.slow_handlers = SlowHandlers(self._options.slow_handler_time)
        self.proxies = _trusted_proxies(self._options)
        self.addresses: list[Any] = []
        self.closing = False
        self.http_connections: set[HttpProtocol] = set()
        self.loop: asyncio.AbstractEventLoop
        self._thread = 0
        self._hub: Hub | None = None  # from entering on
        self._listener: Listener
        self._listens = False  # or did
        self._endpoints: dict[Service, Endpoint] = {}
        self._calls = Calls()
        self._lost_coroutines: set[str] = set()  # of these functions that was said
        self._started: list[Service] = []  # those whose on_stop is due
        self._background: set[asyncio.Future[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._left: asyncio.Future[None] | None = None  # while it drains: done when the last connection has ended
        self._hurried = False

    # --- What it shows.

    @property
    def groups(self) -> Registry[Group]:
        """Connection groups by name."""
        return Registry(self._entered("server.groups").groups)

    @property
    def stored(self) -> Registry[Connection]:
        """Stored connections by name."""
        return Registry(self._entered("server.stored").stored)

    def _entered(self, what: str) -> Hub:
        if self._hub is None:
            raise NotServingError(what)
        self._hub.check_process(what)
        return self._hub

    def connections(self, target: object) -> Members:
        """All open connections of a service, given as the class or the instance that is served."""
        self._entered("server.connections")
        for service in self.services:
            if (target is service.cls or target is service.instance) and service in self._endpoints:
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

        Nothing is awaited: ``asyncio.run_coroutine_threadsafe(function(), server.loop)`` is for `async` functions.

        Raises:
            NotServingError: the server was not entered yet, or it has ended, even while the function waits.
        """
        if self._hub is not None:
            self._hub.check_process("server.call_from_thread")
        context = contextvars.copy_context()
        call = functools.partial(context.run, function, *args, **kwargs)
        is_here = threading.get_ident() == self._thread and not self._ended.is_set()
        result = call() if is_here else self._calls.run(call)
        if asyncio.iscoroutine(result):
            self._tell_of_coroutine(getattr(function, "__qualname__", repr(function)))
        return result

    def _tell_of_coroutine(self, name: str) -> None:
        if name not in self._lost_coroutines:
            self._lost_coroutines.add(name)
            logger.warning(_LOST_COROUTINE, name)

    # --- Its life.

    async def __aenter__(self) -> Self:
        """Start to listen, then run `on_start`, service by service.

        When an `on_start` raises nothing is served: `on_stop` runs for the services before that one, and the error is
        raised here.

        Raises:
            StartError: it was entered already; a server serves once, and another one is made with `serve`.
            OSError: it cannot listen there. It may be entered again.
        """
        refuse_while_importing()
        if self._hub is not None:
            raise StartError("a server is entered once; make another one with fastws.serve(...)")
        keep_standard_descriptors()
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._hub = hub = hub_of_thread(self.loop, _headers_of, Query)
        hub.attach(self._lose_loop)
        try:
            self._prepare(hub)
            await self._listen(hub)
        except BaseException:
            hub.detach(self._endpoints.values(), self._lose_loop)
            self._hub = None
            raise
        try:
            for service in self.services:
                self._start_service(service)
        except BaseException:
            await self.close()
            raise
        return self

    def _prepare(self, hub: Hub) -> None:
        hub.limit_backlog(self._options.max_total_backlog)
        hub.help_fanouts(self._options.fanout_threads)
        for service in self.services:
            if service.upgrade:
                options = self._options
                most = kernel_backlog.bytes_for(service, options.kernel_backlog)
                inherits = most == self._kernel_backlog
                endpoint = make_endpoint(hub, service, options.close_timeout, options.slow_handler_time, most, inherits)
                endpoint.on_empty = self._note_end
                self._endpoints[service] = endpoint
        self.deadlines = Deadlines(self.loop)
        self.turns = Turns(self.loop)
        self._refusals = Refusals(self.deadlines, self._note_end)

    async def _listen(self, hub: Hub) -> None:
        self._sockets = await ListeningSockets.open(self.loop, self._options)
        for sock in self._sockets.sockets:
            kernel_backlog.limit(sock, self._kernel_backlog)
        if self.closing:
            self._sockets.close()
            raise StartError("the server was closed before it could listen")
        make_protocol = functools.partial(HttpProtocol, self)
        make_transport = hub.make_transport if hub.has_transports else None
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
            _do_all((self._listener.stop, self._sockets.close))
            raise
        self._listens = True
        self._calls.begin(self.loop)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, as `close` does; a child of a fork has nothing to close."""
        if self._hub is not None and self._hub.orphaned:
            if isinstance(error, SystemExit):
                forking.end()
            return
        await self.close()

    async def close(self, code: int = 1001, reason: str = "going away") -> None:
        """Stop: close every connection, wait for the closing handshakes, run `on_close` and `on_stop`.

        Clients have `close_timeout` seconds to answer, and so have HTTP resources that still run; then connections are
        aborted, and resources are cancelled and answered for with 503. WebSocket handlers that still run are cancelled
        as long after the end of their connection. `on_stop` comes after all of them, unless one ignores its end.
        All callers wait for the same end; cancelling one of them does not stop it. A server that was not entered has
        nothing to close.

        Raises:
            ValueError: the code may not be sent; nothing is closed.
            WrongThreadError: called from another thread than the server's.
        """
        check_close_code(code)
        if self._hub is None or self._ended.is_set():
            return
        self._hub.check_process("server.close")
        if threading.get_ident() != self._thread:
            raise WrongThreadError("server.close")
        self.closing = True
        if not self._listens:
            return  # it is about to listen, and will see that it shall not
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(code, reason))
            self._closing.add_done_callback(_take_note)
        await asyncio.shield(self._closing)

    async def _close(self, code: int, reason: str) -> None:
        timeout = self._options.close_timeout
        try:
            _do_all(self._goodbyes(code, reason))
            await self._wait(self._listener.give_up(), timeout)
            await self._drain(timeout)
            _do_all(protocol.give_up for protocol in list(self.http_connections))
            await self._drain(timeout + GRACE)
            if self._hurried:
                await self._drain(GRACE)
            if not self._is_empty():
                logger.warning("the server stops, but %d connections have handlers that run", self._connection_count())
            if not await self._wait(self._background, timeout):
                logger.warning("the server stops, but %d tasks of on_start run", len(self._background))
            await self._stop_services(timeout)
        finally:
            await self._detach()

    def _goodbyes(self, code: int, reason: str) -> Iterator[Callable[[], object]]:
        """What a shutdown begins with; each has to be done whatever becomes of the others."""
        yield self._listener.stop
        yield self._sockets.close
        for refused in self._refusals:
            yield refused.on_deadline
        for task in list(self._background):
            yield task.cancel
        for protocol in list(self.http_connections):
            yield protocol.shutdown
        for endpoint in self._endpoints.values():
            for connection in endpoint.members:
                yield functools.partial(connection.close, code, reason)

    def hurry(self) -> None:
        """Wait for nobody any longer, when it closes: abort what is open, cancel what still runs."""
        self._hurried = True
        _do_all(endpoint.hurry for endpoint in self._endpoints.values())
        _do_all(protocol.give_up for protocol in list(self.http_connections))
        self._wake()

    async def _drain(self, seconds: float) -> None:
        """Wait until every connection has ended, for so many seconds at most, or until somebody is in a hurry."""
        if not self._is_empty():
            self._left = self.loop.create_future()
            await self._wait([self._left], min(seconds, GRACE) if self._hurried else seconds)

    def _is_empty(self) -> bool:
        return not self._connection_count() and not self._refusals

    def _note_end(self) -> None:
        """Go on when the last connection of the last kind has ended."""
        if self._left is not None and self._is_empty():
            self._wake()

    def _wake(self) -> None:
        if self._left is not None and not self._left.done():
            self._left.set_result(None)

    async def _wait(self, futures: Collection[asyncio.Future[Any]], seconds: float) -> bool:
        """Wait until all are done, and tell whether they are.

        Who cancels us meanwhile, as a loop does that ends, wants no end of what is left, but an end in a hurry.
        """
        end = self.loop.time() + seconds
        while (left := [future for future in futures if not future.done()]) and self.loop.time() < end:
            if not await self._wait_once(left, end - self.loop.time()):
                end = min(end, self.loop.time() + GRACE)
        return not left

    async def _wait_once(self, futures: Collection[asyncio.Future[Any]], seconds: float) -> bool:
        try:
            await asyncio.wait(futures, timeout=seconds)
        except asyncio.CancelledError:
            self.hurry()
            return False
        return True

    async def serve_forever(self) -> None:
        """Serve until this is cancelled, or the server closed.

        In the main thread SIGTERM and SIGINT end it, too, where the program leaves them their default: SIGTERM raises
        SystemExit here and SIGINT KeyboardInterrupt, so that the program ends as it does at `sys.exit`, and the server
        is closed on the way out of its ``async with``. A signal that has a handler is left to that.

        Raises:
            NotServingError: the server was not entered yet.
        """
        self._entered("server.serve_forever")
        interrupted: asyncio.Future[int] = self.loop.create_future()
        with Signals(self.loop, filter(is_unhandled, ENDING), functools.partial(_note, interrupted)):
            await self._until(interrupted)
        if interrupted.done():
            raise SystemExit if interrupted.result() == signal.SIGTERM else KeyboardInterrupt

    async def _until(self, interrupted: asyncio.Future[int]) -> None:
        """Wait for the end of the server, or for a signal."""
        ended = self.loop.create_task(self._ended.wait())
        waiting: list[asyncio.Future[Any]] = [ended, interrupted]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()

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

    def left(self, protocol: HttpProtocol) -> None:
        """Forget an HTTP connection that has ended or is a WebSocket now."""
        self.http_connections.discard(protocol)
        self._note_end()

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

    def _call(self, service: Service, handler: Handler) -> asyncio.Future[Any] | None:
        """Call `on_start` or `on_stop`; what it awaits becomes a task that broadcasts to its own service."""
        context = self._context(service)
        arguments = dict.fromkeys(handler.keywords, self)
        result = context.run(handler.function, *(self for _ in handler.positional), **arguments)
        if is_awaitable(result):
            task: asyncio.Future[Any] = context.run(asyncio.ensure_future, result)
            return task
        if result is not None:
            logger.warning(UNUSED_RESULT, handler.label, type(result).__name__)
        return None

    def _start_service(self, service: Service) -> None:
        handler = service.handlers.get("on_start")
        task = None if handler is None else self._call(service, handler)
        self._started.append(service)
        if handler is not None and task is not None:
            self._background.add(task)
            task.add_done_callback(functools.partial(_log_failure, handler.label))
            task.add_done_callback(self._background.discard)

    async def _stop_services(self, timeout: float) -> None:
        """Run every `on_stop` that is due; what shall end the program does so when all have run."""
        last: BaseException | None = None
        for service in self._started:
            handler = service.handlers.get("on_stop")
            if handler is not None:
                try:
                    await self._stop_service(service, handler, timeout)
                except (KeyboardInterrupt, SystemExit) as error:
                    last = error
        if last is not None:
            raise last

    async def _stop_service(self, service: Service, handler: Handler, timeout: float) -> None:
        try:
            task = self._call(service, handler)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a CancelledError, too, is the affair of this service alone
            logger.exception("%s failed", handler.label)
            return
        if task is None:
            return
        if not await self._wait([task], timeout):
            logger.error("%s took longer than %s seconds (close_timeout) and is cancelled", handler.label, timeout)
            task.cancel()
            await self._wait([task], GRACE)
        elif task.cancelled():
            logger.error("%s was cancelled, and did not run to its end", handler.label)
        else:
            _log_failure(handler.label, task)

    async def _detach(self) -> None:
        """Let go of what all servers on the loop share."""
        self.deadlines.close()
        parked = self._entered("server.close").detach(self._endpoints.values(), self._lose_loop)
        if parked is not None:
            await self._wait([parked], GRACE)
        self._calls.end()
        self._ended.set()

    def _lose_loop(self) -> None:
        """Give back what it holds of the system: the loop is closed under it, and nobody can be told."""
        if self._listens:
            _do_all((self._listener.stop, self._sockets.close))
        self.deadlines.close()
        self._calls.end()
        self._ended.set()


def _do_all(steps: Iterable[Callable[[], object]]) -> None:
    """Take every step, whatever becomes of the others."""
    for step in steps:
        _do(step)


def _do(step: Callable[[], object]) -> None:
    try:
        step()
    except Exception:
        logger.exception("a step of the shutdown failed: %s", repr(step))  # a record may be kept, and would keep it


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


def _log_failure(label: str, task: asyncio.Future[Any]) -> None:
    # What ends the program is no failure, and told by the loop
    if not task.cancelled() and isinstance(task.exception(), Exception):
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
        access_log: log each HTTP response and each upgrade, to the logger "fastws.access". The value of a query
            parameter whose last word is token, key, secret, password, code or the like (``apiKey``) is left out.
        redacted_parameters: further names of query parameters whose values no log shall have, as a list or between
            commas.
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
        max_total_backlog: bytes of memory that what waits for all slow clients together may take, each frame counted
            once however many it waits for, and with all that is needed to hold it. Beyond them those are closed, with
            their service's `overflow_code`, for whom most waits. All servers on a loop share the smallest of their
            limits.
        kernel_backlog: bytes that may lie unsent in the kernel for each client of a service that says nothing of it.
            What lies there no policy sees: it is neither replaced nor dropped. None leaves it to the kernel, which
            takes up to 4 MB on Linux. ``"auto"`` is 16384 where `overflow` is ``"drop_old"`` or ``"conflate"``, and
            1048576 where it is another. It is for TCP; a Unix socket takes what ``net.core.wmem_default`` says.
        fanout_threads: threads, 15 at most, that help the loop's own to send a message to hundreds of clients or more.
            They do nothing else, and know nothing of Python; each needs an idle core to be of use. All servers on a
            loop share the largest of their numbers.
        handshake_timeout: seconds for the PROXY header and TLS, for the head of a request, and again for its body.
        keep_alive_timeout: seconds that an HTTP connection may idle between two requests.
        slow_handler_time: seconds that a handler may hold up the loop, and with it everybody else, until a line in the
            log names it, once; None allows any time. It is judged by the read, at no cost per message.
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

    It says where it listens, and shows its logs on stderr where the program has not set up logging.

    The first of these signals closes the server, as `Server.close` does. A second one waits for nobody any longer: what
    is open is aborted and what runs is cancelled, and `on_stop` still runs. A third one kills. In another thread than
    the main one there are no signals; there, and everywhere, it also returns when somebody closed the server:
    ``asyncio.run_coroutine_threadsafe(server.close(), server.loop)``.

    It raises the limit of open files to what the system allows. If it was given `certfile`, SIGHUP has it read the
    certificate again, as `Server.reload_certificate` does.

    Args:
        services: as for `serve`, as are all options.
        on_listening: called with the server once it listens, instead of printing what is served where.

    Raises:
        ConfigurationError: likewise; also if `fastws run` imports what calls this, which it would serve twice.
        StartError: an event loop runs in this thread already.
    """
    refuse_while_importing()
    if asyncio._get_running_loop() is not None:
        raise StartError(
            "fastws.run starts an event loop, and one runs here already, as it does in Jupyter and in async functions; "
            "serve on that one: async with fastws.serve(...)"
        )
    server = Server(*services, **options)
    keep_standard_descriptors()
    show_logs(access=server.access_log)
    _raise_file_limit()
    _runner()(_serve_until_signal(server, on_listening))


async def _serve_until_signal(server: Server, on_listening: Callable[[Server], None] | None) -> None:
    loop = asyncio.get_running_loop()
    interrupted: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if not interrupted.done():
            interrupted.set_result(number)
        else:
            signals.let_kill()
            server.hurry()

    hang_up = [signal.SIGHUP] if server.has_certificate_files else []
    with Signals(loop, ENDING, end) as signals, Signals(loop, hang_up, lambda _: _reload_certificate(server)):
        async with server:
            (on_listening or announce)(server)
            await server._until(interrupted)


def _note(interrupted: asyncio.Future[int], number: int) -> None:
    if not interrupted.done():
        interrupted.set_result(number)


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
        if sys.platform != "win32":  # where there is none
            logger.warning("uvloop is not installed: asyncio's own event loop serves, and everything takes longer")
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
