"""Services at an address: the server that a user holds, and `serve`, which makes one."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from .._speedups import Connection, Group, Members, check_close_code, hub_of_thread
from ..backplane.relay import Relay, relay_of
from ..errors import ConfigurationError, NotServingError, StartError, WrongThreadError
from ..handshake.mappings import Query, headers_of
from ..http1.connection import HttpProtocol
from ..http1.site import HttpConnection, Site
from ..logs import Log
from ..net import forking, kernel_backlog
from ..net.listening import Listener
from ..net.sockets import ListeningSockets, address_of, keep_standard_descriptors
from ..net.tls import Files, Tls
from ..options import ServeOptions, ServerOptions, takes
from ..service.compile import compile
from .calls import Calls
from .drain import DRAIN_CODE, DRAIN_TIME, Drain
from .lifecycle import Lifecycle
from .loading import refuse_while_importing
from .patience import Patience, closing_time
from .registry import Registry
from .shutdown import Shutdown, do_all
from .signals import ENDING, Signals, is_unhandled

if TYPE_CHECKING:
    import os
    import socket

    from typing_extensions import Self, Unpack

    from .._speedups import Hub
    from ..net.share import Share

__all__ = ["Server", "serve"]

logger = Log("fastws")

_LOST_COROUTINE: Final = (
    "call_from_thread(%s) got a coroutine, which nobody awaits: give it a plain function, or let "
    "asyncio.run_coroutine_threadsafe run the coroutine on server.loop"
)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Server:
    """Services at an address; made by `serve`, used as an async context manager, once.

    Attributes:
        services: what is served.
        addresses: where it listens: `(host, port)`, and more for IPv6; of a Unix socket its path. Empty before it does.
    """

    def __init__(self, *targets: object, **options: Unpack[ServeOptions]) -> None:
        if not targets:
            raise ConfigurationError("there is nothing to serve: give at least one service")
        self._options = ServerOptions(**options)
        self._tls = Tls.from_options(self._options)
        self.services = tuple(compile(target) for target in targets)
        self._site = Site(self.services, self._options)
        self.addresses: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._hub: Hub | None = None  # from entering on
        self._relay: Relay | None = None  # likewise, if there are other nodes
        self._shutdown: Shutdown | None = None  # from listening on
        self._patience = Patience(self._end_connections)
        self._lifecycle = Lifecycle(self, self._site, self._patience)
        self._calls = Calls()
        self._lost_coroutines: set[str] = set()  # of these functions that was said
        self._drain: Drain | None = None
        self._draining: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._inherited: ListeningSockets | None = None
        self._share: Share | None = None

    # --- What it shows.

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that serves.

        Raises:
            NotServingError: the server was not entered yet.
        """
        if self._loop is None:
            raise NotServingError("server.loop")
        return self._loop

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
        for service, endpoint in self._site.endpoints.items():
            if target is service.cls or target is service.instance:
                return endpoint.members
        raise ConfigurationError(f"{target!r} is not served here with a WebSocket")

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._tls is not None

    @property
    def closing(self) -> bool:
        """Whether it shuts down, or has."""
        return self._site.closing

    @property
    def drain_time(self) -> float | None:
        """Seconds over which it is drained at SIGTERM; None is not at all."""
        drain: float | None = self._options.drain
        return drain

    @property
    def closing_time(self) -> float:
        """Seconds that `close` may take: for closing handshakes and handlers, and what comes on top."""
        return closing_time(self._options.close_timeout)

    @property
    def access_log(self) -> bool:
        """Whether it logs each response and each upgrade."""
        return bool(self._options.access_log)

    @property
    def http_connections(self) -> set[HttpConnection]:
        """All connections that speak HTTP now, and are no WebSocket or not yet."""
        return self._site.http_connections

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
        await self._begin(asyncio.get_running_loop())
        try:
            self._lifecycle.start()
        except BaseException:
            await self.close()
            raise
        if self._relay is None:
            self._lifecycle.lead(True)
        else:
            self._relay.listen(self._lifecycle.tell, self._lifecycle.lead)
        return self

    def make_hub(self, loop: asyncio.AbstractEventLoop) -> Hub:
        """Return the hub of its connections, which all servers on the loop share; the test kit's is another one."""
        return hub_of_thread(loop, headers_of, Query)

    def take(self, transport: asyncio.Transport, *, secure: bool = False) -> None:
        """Serve whoever is at the other end of a transport, from which nothing was read; for those that accept.

        Args:
            transport: its "peername" is the address of the client.
            secure: whether the client speaks TLS, with whoever has accepted.
        """
        protocol = HttpProtocol(self._site, None, secure)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def inherit(self, sockets: ListeningSockets, share: Share | None) -> None:
        """Have a worker listen at sockets that its supervisor has opened, instead of where the options say.

        Args:
            sockets: bound; they are closed at the end.
            share: of the connections that come there, None if no other worker accepts them.
        """
        self._inherited = sockets
        self._share = share

    async def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._hub = hub = self.make_hub(loop)
        hub.attach(self._lose_loop)
        try:
            hub.limit_backlog(self._options.max_total_backlog)
            hub.help_fanouts(self._options.fanout_threads)
            self._site.open(loop, hub)
            await self._join(hub)
            await self._listen(hub, loop)
        except BaseException:
            await self._part()
            hub.detach(self._site.endpoints.values(), self._lose_loop)
            self._hub = None
            raise

    async def _join(self, hub: Hub) -> None:
        """Be one of several nodes, if that is wanted, before the first client comes."""
        if self._options.backplane is not None:
            self._relay = relay_of(hub, self._options.backplane, self._options.cluster)
            await self._relay.open()

    async def _part(self) -> None:
        if self._relay is not None:
            relay, self._relay = self._relay, None
            relay.ignore(self._lifecycle.tell, self._lifecycle.lead)
            await relay.close()

    async def _listen(self, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        site = self._site
        sockets = await self._open_sockets(loop)
        for sock in sockets.sockets:
            kernel_backlog.limit(sock, site.kernel_backlog)
        if site.closing:
            sockets.close()
            raise StartError("the server was closed before it could listen")
        listener = self.make_listener(hub, sockets.sockets)
        site.on_connected = listener.connected if listener.has_openings else None
        shutdown = Shutdown(site, listener, sockets, self._lifecycle, self._patience)
        try:
            self.addresses = [address_of(sock) for sock in sockets.sockets]
            listener.start()
        except BaseException:
            shutdown.stop_listening()
            raise
        self._shutdown = shutdown
        self._calls.begin(loop)

    def make_listener(self, hub: Hub, sockets: list[socket.socket]) -> Listener:
        """Return what accepts at sockets."""
        site, share = self._site, self._share
        make_protocol = functools.partial(HttpProtocol, site)
        make_transport = hub.make_transport if hub.has_transports else None
        listener = Listener(
            sockets, self._options, make_protocol, make_transport, self._tls, site.limits, site.deadlines, share
        )
        if share is not None:
            site.on_count = share.refresh
            share.begin(lambda: site.connection_count() + listener.openings)
        return listener

    async def _open_sockets(self, loop: asyncio.AbstractEventLoop) -> ListeningSockets:
        if self._inherited is None:
            return await ListeningSockets.open(loop, self._options)
        self._inherited.listen(self._options.backlog)
        return self._inherited

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close, as `close` does; a child of a fork has nothing to close."""
        if self._hub is not None and self._hub.orphaned:
            if isinstance(error, SystemExit):
                forking.end()
            return
        await self.close()

    async def drain(self, over: float | None = None, *, elsewhere: bool | None = None) -> None:
        """Close, and take time for it, so that clients do not come back all at once.

        First `/readyz` says 503, and for a tenth of the time, 5 seconds at most, nothing else changes: balancers take
        notice. Then upgrades are refused with 503 and ``Retry-After``, and WebSockets are closed with 1012, in random
        order and evenly over the time. Who is in the middle of a handler or of a message is closed later, at the end of
        the time at the latest. It ends as `close` does, which also ends it early. HTTP resources answer until then.

        The reason of each close frame says when to come back, as in ``reconnect in 3500 ms``: within a second where
        clients are served elsewhere, else some seconds after the end of the time.

        All callers wait for the same end; cancelling one of them does not stop it.

        Args:
            over: seconds; None is what the option `drain` says, and 60 where that says nothing.
            elsewhere: whether others serve the clients meanwhile. None is True with the option `health`, for a
                balancer has others to ask, and where the backplane knows other nodes.

        Raises:
            ConfigurationError: `over` is no number of seconds.
            WrongThreadError: called from another thread than the server's.
        """
        seconds = ServerOptions(drain=over).drain or self._options.drain or DRAIN_TIME
        if not self._is_ours("server.drain"):
            return
        if elsewhere is not None and self._drain is not None:
            self._drain.elsewhere = elsewhere
        others_accept = self._share is not None and self._share.leave()
        if others_accept:
            self._stop_listening()
        if elsewhere is None:
            elsewhere = self._is_served_elsewhere()
        await self._drain_over(seconds, elsewhere, accepts=not others_accept)

    async def yield_to(self, over: float) -> None:
        """Drain in favour of a process that accepts at the same sockets: nobody has to notice, and all go there."""
        if self._is_ours("server.yield_to"):
            self._stop_listening()
            await self._drain_over(over, elsewhere=True, accepts=False)

    def _is_served_elsewhere(self) -> bool:
        return bool(self._options.health or (self._relay is not None and self._relay.members.nodes))

    async def _drain_over(self, seconds: float, elsewhere: bool, accepts: bool) -> None:
        if self._shutdown is None or (self._site.closing and self._draining is None):
            await self.close()
            return
        if self._draining is None:
            logger.info("draining over %g seconds: %d connections", seconds, self._site.connection_count())
            self._drain = Drain(self._site, seconds, accepts=accepts, elsewhere=elsewhere)
            self._draining = self.loop.create_task(self._close_after(self._drain))
            self._draining.add_done_callback(_take_note)
        await asyncio.shield(self._draining)

    async def _close_after(self, drain: Drain) -> None:
        await drain.run()
        await self.close(DRAIN_CODE, drain.hint())

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
        if not self._is_ours("server.close"):
            return
        self._site.close()
        if self._drain is not None:
            self._drain.hurry()
        if self._relay is not None:
            self._relay.ignore(self._lifecycle.tell, self._lifecycle.lead)
        if self._shutdown is None:
            return  # it is about to listen, and will see that it shall not
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(self._shutdown, code, reason))
            self._closing.add_done_callback(_take_note)
        await asyncio.shield(self._closing)

    def _is_ours(self, what: str) -> bool:
        """Tell whether it can be ended, from here."""
        if self._hub is None or self._ended.is_set():
            return False
        self._hub.check_process(what)
        if threading.get_ident() != self._thread:
            raise WrongThreadError(what)
        return True

    async def _close(self, shutdown: Shutdown, code: int, reason: str) -> None:
        try:
            await shutdown.run(code, reason)
        finally:
            try:
                await self._part()
            finally:
                await self._detach()

    def hurry(self) -> None:
        """Wait for nobody any longer, when it closes: abort what is open, cancel what still runs."""
        self._patience.lose()

    def _end_connections(self) -> None:
        site = self._site
        do_all(endpoint.hurry for endpoint in site.endpoints.values())
        do_all(connection.give_up for connection in list(site.http_connections))
        site.stop_waiting()

    def _stop_listening(self) -> None:
        if self._shutdown is not None:
            self._shutdown.stop_listening()

    async def _detach(self) -> None:
        """Let go of what all servers on the loop share."""
        self._site.deadlines.close()
        parked = self._entered("server.close").detach(self._site.endpoints.values(), self._lose_loop)
        if parked is not None:
            await self._patience.wait([parked], self._patience.grace)
        self._calls.end()
        self._ended.set()

    def _lose_loop(self) -> None:
        """Give back what it holds of the system: the loop is closed under it, and nobody can be told."""
        self._stop_listening()
        self._site.deadlines.close()
        self._calls.end()
        self._ended.set()

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
            await self.until(interrupted)
        if interrupted.done():
            raise SystemExit if interrupted.result() == signal.SIGTERM else KeyboardInterrupt

    async def until(self, interrupted: asyncio.Future[int]) -> None:
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


def _take_note(closing: asyncio.Task[None]) -> None:
    """Take note of how it ended, which an exit keeps from those who wait: shield() does so before CPython 3.14 only."""
    if not closing.cancelled():
        closing.exception()


def _note(interrupted: asyncio.Future[int], number: int) -> None:
    if not interrupted.done():
        interrupted.set_result(number)


@takes(ServeOptions)
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
        reuse_port: let other processes listen at the same port; the system chooses who gets a connection. With workers
            each listens at a socket of its own.
        backplane: the URL of an engine that carries pushes to groups, names and services between nodes: NATS
            (``nats://host:4222``, ``tls://``) or Redis (``redis://host:6379``, ``rediss://``), of which
            docs/scaling.md tells more. All servers on an event loop share one. None is a node that is alone.
        cluster: which nodes hear each other among all that use the engine: 1 to 64 letters A to Z, digits, _ and -.
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
        max_connections: open connections in all, HTTP and WebSocket; one more gets a 503 with ``Retry-After``. With
            workers this is for each of them, as is every limit below.
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
        drain: seconds over which `run` and the command close clients at SIGTERM, as `Server.drain` does; None closes
            them all at once.
        health: answer ``GET /healthz``, with 200 as long as the event loop runs, and ``GET /readyz``, with 503 from the
            moment on at which a drain or the end begins.
        max_head_size: bytes of a request's head; beyond them the answer is 431.
        max_head_fields: header fields of a request; likewise.
        max_body_size: bytes of a request's body; beyond them the answer is 413.

    Raises:
        ConfigurationError: a service or an option is wrong; the message names the class, the method and the remedy, or
            the option.
        OSError: on entering, it cannot listen there.
    """
    return Server(*services, **options)
