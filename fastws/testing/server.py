"""Services served in memory: the server of `fastws.serve`, but for its sockets and its time, in the loop of a test.

What comes before HTTP is left out: a client of a test has a pair of transports in memory with a connection of the
server's at the other end. From there on all is real. The server is a process of its own: it has a hub that stands
apart, so that two of them in one test share neither groups nor names, unless a cluster links them.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json as jsonlib
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from .._speedups import Connection, Group, Members
from ..errors import ConfigurationError, NotServingError
from ..logs import FAILED
from ..options import ServeOptions, takes
from ..server.registry import Registry
from .client import ExpectationError
from .clock import Clock
from .dialing import Dialing, opening_handshake
from .exchange import Refused, Response, encode_request, fields_of
from .memory import memory_transports
from .served import Served

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
    from types import TracebackType

    from typing_extensions import ParamSpec, Self, Unpack

    from ..http1.response import HeadersInput
    from ..server.server import Server
    from .client import MemoryClient
    from .dialing import RequestOptions

    _P = ParamSpec("_P")

__all__ = ["Ending", "MemoryServer", "serve"]

_T = TypeVar("_T")

PATIENCE: Final = 1.0  # seconds, by default
FIRST_PORT: Final = 49152  # of the clients' addresses
_ELSEWHERE: Final = (
    "host", "port", "sock", "unix", "unix_mode", "reuse_port", "backlog", "proxy_protocol", "ssl", "certfile",
    "keyfile", "keyfile_password", "client_ca",
)  # fmt: skip


class Ending(Generic[_T]):
    """Something that takes time, such as a drain: it has begun; await it to have the time move on up to its end."""

    def __init__(self, server: MemoryServer, future: asyncio.Future[_T]) -> None:
        self._server = server
        self._future = future

    def done(self) -> bool:
        """Tell whether it has come to its end."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, _T]:
        """Move the time on until it is done."""
        return self._server.drive(self._future).__await__()


class MemoryServer:
    """Services in memory; made by `serve`, used as an async context manager, once.

    Attributes:
        clients: all clients that have connected, those that have left, too.
    """

    def __init__(self, *services: object, patience: float = PATIENCE, **options: Any) -> None:
        for name in _ELSEWHERE:
            if name in options:
                raise ConfigurationError(f"{name}: a server in memory listens nowhere and has no network")
        if isinstance(options.get("backplane"), str):
            raise ConfigurationError("backplane: a server in memory has no network; fastws.testing.cluster makes nodes")
        self._server = Served(*services, **options)
        self._patience = patience
        self._clock: Clock | None = None
        self._context: contextvars.Context
        self._loop: asyncio.AbstractEventLoop
        self._ports = itertools.count(FIRST_PORT)
        self._arrivals: list[asyncio.Future[None]] = []
        self._failures: list[BaseException] = []
        self.clients: list[MemoryClient] = []

    # --- Its life.

    async def __aenter__(self) -> Self:
        """Begin, as `fastws.serve` does: `on_start` runs, service by service.

        Raises:
            Exception: an `on_start` has failed.
        """
        self._loop = asyncio.get_running_loop()
        clock = Clock.acquire(self._loop)
        try:
            context = clock.context()
            context.run(FAILED.set, self._failures.append)
            self._context = context.run(self._server.live_by, clock, self._loop)
            self._clock = clock
            await self.drive(self._begin(self._server.__aenter__()))
        except BaseException:
            self._let_go(clock)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the server, as `close` does, and raise what a handler has raised that the test did not expect.

        What the test itself has raised goes before that, with a note of the other.
        """
        try:
            await self.close()
        finally:
            self._let_go(self.clock)
        if error is None:
            self._raise_failure()
        elif hasattr(error, "add_note"):  # since Python 3.11
            for failure in self._failures:
                error.add_note(f"a handler has failed, too: {failure!r}")

    def _let_go(self, clock: Clock) -> None:
        clock.forget(self._server.hub)
        clock.release()

    def _begin(self, awaitable: Awaitable[_T]) -> asyncio.Future[_T]:
        """Have the server do something, in its own time."""
        future: asyncio.Future[_T] = self._context.copy().run(asyncio.ensure_future, awaitable)
        return future

    async def drive(self, future: asyncio.Future[_T]) -> _T:
        """Move the time on as far as something needs that the server does.

        Raises:
            ExpectationError: it does not end, whatever the time.
        """
        if not await self.clock.drive(future, self._patience):
            self._server.hurry()
            if not await self.clock.drive(future, self._patience):
                raise self.blame(
                    ExpectationError("the server does not come to an end: a handler waits for something else")
                )
        return future.result()

    def close(self, code: int = 1001, reason: str = "going away") -> Ending[None]:
        """Begin to close, as `fastws.Server.close` does; await it to have the time move on up to the end of it."""
        return Ending(self, self._begin(self._server.close(code, reason)))

    def drain(self, over: float | None = None, *, elsewhere: bool | None = None) -> Ending[None]:
        """Begin to drain, as `fastws.Server.drain` does.

        Move the clock to see what happens meanwhile; await it to have the time move on up to the end of it.
        """
        return Ending(self, self._begin(self._server.drain(over, elsewhere=elsewhere)))

    # --- What it shows.

    @property
    def clock(self) -> Clock:
        """The time of all servers in memory on this loop.

        Raises:
            NotServingError: the server was not entered yet.
        """
        if self._clock is None:
            raise NotServingError("server.clock")
        return self._clock

    @property
    def server(self) -> Server:
        """The server within, which `on_start` is given; what it waits for in the test is waited for in real time."""
        return self._server

    @property
    def instances(self) -> tuple[object, ...]:
        """The objects that are served, in the order in which the services were given."""
        return tuple(service.instance for service in self._server.services)

    @property
    def groups(self) -> Registry[Group]:
        """Connection groups by name."""
        return self._server.groups

    @property
    def stored(self) -> Registry[Connection]:
        """Stored connections by name."""
        return self._server.stored

    def connections(self, target: object) -> Members:
        """All open connections of a service, given as the class or the instance that is served."""
        return self._server.connections(target)

    def call(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function for this server, where there are several: ``node.call(ws.push_text_to_group, "a", "hi")``."""
        return self._context.copy().run(function, *args, **kwargs)

    @property
    def delivered(self) -> int:
        """Messages that clients have read, all of them together."""
        return sum(len(client.received) for client in self.clients)

    @property
    def dropped(self) -> int:
        """Messages that clients did not get since too much waited for them, as `Connection.dropped` counts them."""
        return sum(client.connection.dropped for client in self.clients)

    @property
    def conflated(self) -> int:
        """Of these, messages that a later one with the same key has replaced."""
        return sum(client.connection.conflated for client in self.clients)

    @property
    def buffered(self) -> int:
        """Bytes that wait for clients to read, as `Connection.buffered` counts them."""
        return sum(client.connection.buffered for client in self.clients)

    # --- What fails.

    async def expect_error(self, kind: type[BaseException] = Exception) -> BaseException:
        """Expect that a handler has failed, and return its exception, which fails the test no longer.

        Raises:
            ExpectationError: none has failed, or with another exception.
        """
        await self.settle()
        for error in self._failures:
            if isinstance(error, kind):
                self._failures.remove(error)
                return error
        raise self.blame(ExpectationError(f"expected {kind.__name__} in a handler, but none has failed with it"))

    def blame(self, error: ExpectationError) -> BaseException:
        """Return what a test fails with: what a handler has raised, if that may be why."""
        if not self._failures:
            return error
        failure = _as_exception(self._failures.pop(0))
        failure.__cause__ = failure.__cause__ or error
        return failure

    def _raise_failure(self) -> None:
        if self._failures:
            failures, self._failures[:] = list(self._failures), []
            raise _as_exception(failures[0])

    # --- Waiting.

    async def settle(self) -> None:
        """Run everything that is under way, and what follows from it.

        Handlers that wait for the clock, or for something outside of the server, are not waited for.
        """
        await self.clock.settle()

    async def until(self, condition: Callable[[], object]) -> bool:
        """Run everything that is under way; then wait as long as something may still come that the kit cannot see.

        Returns:
            Whether the condition holds.
        """
        await self.settle()
        end = self._loop.time() + self._patience
        while not condition():
            left = end - self._loop.time()
            if left <= 0 or not self._server.waits_for_others():
                return False
            self._arrivals.append(self._loop.create_future())
            await asyncio.wait(self._arrivals[-1:], timeout=left)
            await self.settle()
        return True

    def note_arrival(self) -> None:
        """Note that something came for a client."""
        arrivals, self._arrivals = self._arrivals, []
        for arrival in arrivals:
            if not arrival.done():
                arrival.set_result(None)

    # --- Clients.

    def connect(
        self,
        path: str | None = None,
        *,
        headers: HeadersInput | None = None,
        subprotocols: Iterable[str] = (),
        origin: str | None = None,
        cookies: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        compression: str | None = None,
        address: tuple[str, int] | None = None,
        secure: bool = False,
        answers: bool = True,
    ) -> asyncio.Future[MemoryClient]:
        """Connect a client: await it to have the WebSocket open, and all that follows from that done.

        It has begun when this returns, so that the clock may be moved before it is awaited.

        Args:
            path: of the WebSocket, with a query; None is the path of the first service, if that names no segments.
            headers: further header fields of the opening handshake.
            subprotocols: those that the client offers, the best first (RFC 6455 section 1.9).
            origin: where the page comes from that connects (RFC 6454).
            cookies: to send, by name.
            auth: user and password (RFC 7617).
            compression: ``"shared"`` or ``"dedicated"`` offers permessage-deflate (RFC 7692), without or with a
                history; the client sends uncompressed messages, and reads both.
            address: host and port that the server sees; None is a port of its own on 127.0.0.1.
            secure: whether the server takes it for TLS.
            answers: whether the client answers pings and close frames by itself.

        Raises:
            Refused: the server refuses it, with an HTTP response.
            ExpectationError: the server does not answer.
            ConfigurationError: an argument is wrong.
        """
        path = self._path() if path is None else path
        asked = opening_handshake(path, headers, subprotocols, origin, cookies, auth, compression)
        dialing = self._dial("GET", address, secure, answers)
        dialing.far.write(asked.request)
        return asyncio.ensure_future(self._open(dialing, asked.accept))

    async def _open(self, dialing: Dialing, accept: bytes) -> MemoryClient:
        response = await self._response(dialing)
        if dialing.client is None:
            dialing.far.close()
            raise Refused(response.status, response.headers, response.body)
        if response.headers.get("sec-websocket-accept") != accept.decode():
            raise ExpectationError("the response to the opening handshake has a wrong Sec-WebSocket-Accept")
        return dialing.client

    def _path(self) -> str:
        for service in self._server.services:
            if service.upgrade_path is not None:
                if service.upgrade_path.names:
                    raise ConfigurationError(f"the path of {service.name} names segments: connect(path) says which")
                return service.upgrade_path.text
        raise ConfigurationError("no service has a WebSocket")

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: HeadersInput | None = None,
        body: bytes | str = b"",
        json: object = None,
        address: tuple[str, int] | None = None,
        secure: bool = False,
    ) -> asyncio.Future[Response]:
        """Make an HTTP request on a connection of its own: await it to have the response.

        It has begun when this returns, so that the clock may be moved before it is awaited.

        Args:
            method: such as ``"GET"``.
            path: with a query.
            headers: the header fields.
            body: `str` is sent as UTF-8.
            json: sent as JSON in place of a body, unless it is None.
            address: host and port that the server sees; None is a port of its own on 127.0.0.1.
            secure: whether the server takes it for TLS.

        Raises:
            ExpectationError: the server does not answer.
        """
        fields = fields_of(headers)
        if json is not None:
            body = jsonlib.dumps(json)
            fields.append(("Content-Type", "application/json"))
        data = body.encode() if isinstance(body, str) else bytes(body)
        dialing = self._dial(method, address, secure)
        dialing.far.write(encode_request(method, path, fields, data))
        return asyncio.ensure_future(self._answer(dialing))

    def get(self, path: str, **options: Unpack[RequestOptions]) -> asyncio.Future[Response]:
        """Make a GET request; see `request`."""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Unpack[RequestOptions]) -> asyncio.Future[Response]:
        """Make a HEAD request; see `request`."""
        return self.request("HEAD", path, **options)

    def post(self, path: str, **options: Unpack[RequestOptions]) -> asyncio.Future[Response]:
        """Make a POST request; see `request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Unpack[RequestOptions]) -> asyncio.Future[Response]:
        """Make a PUT request; see `request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[RequestOptions]) -> asyncio.Future[Response]:
        """Make a PATCH request; see `request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Unpack[RequestOptions]) -> asyncio.Future[Response]:
        """Make a DELETE request; see `request`."""
        return self.request("DELETE", path, **options)

    def options(self, path: str, **options: Unpack[RequestOptions]) -> asyncio.Future[Response]:
        """Make a OPTIONS request; see `request`."""
        return self.request("OPTIONS", path, **options)

    async def _answer(self, dialing: Dialing) -> Response:
        response = await self._response(dialing)
        dialing.far.close()
        await self.settle()
        return response

    async def _response(self, dialing: Dialing) -> Response:
        if not await self.until(lambda: dialing.exchange.is_complete or dialing.has_ended):
            raise self.blame(ExpectationError("the server does not answer, and nothing is under way"))
        if not dialing.exchange.is_complete:
            raise self.blame(ExpectationError("the server has closed the connection without a response"))
        return dialing.exchange.response

    def _dial(self, method: str, address: tuple[str, int] | None, secure: bool, answers: bool = True) -> Dialing:
        """Connect in memory, as far as HTTP."""
        if self._clock is None or self._server.closing:
            raise NotServingError("server.connect")
        extra = {"peername": address or ("127.0.0.1", next(self._ports)), "sockname": ("127.0.0.1", 80)}
        near, far = memory_transports(self._loop, (extra, None), self._context)
        self._loop.call_soon(functools.partial(self._server.take, near, secure=secure), context=self._context)
        return Dialing(self, method, near, far, answers)

    def __repr__(self) -> str:
        names = ", ".join(service.name for service in self._server.services)
        return f"<MemoryServer of {names}, {len(self.clients)} clients>"


def _as_exception(error: BaseException) -> BaseException:
    """Return what fails a test: what would end it, or its loop, is told as the cause."""
    if isinstance(error, Exception):
        return error
    failure = ExpectationError(f"a handler has raised {type(error).__name__}")
    failure.__cause__ = error
    return failure


@takes(ServeOptions)
def serve(*services: object, patience: float = PATIENCE, **options: Unpack[ServeOptions]) -> MemoryServer:
    """Serve annotated classes in memory, in the loop of the test; an async context manager.

    ::

        async with fastws.testing.serve(Chat) as server:
            client = await server.connect("/chat")
            await client.send("hello")
            await client.expect_text("hello")

    Each server in memory is a process of its own: groups and names of two in one test have nothing in common. Time
    stands still for it, and for all that its handlers do, until the test moves it on: ``server.clock.advance(20)``.

    Args:
        services: classes, each made once here without arguments, or instances.
        patience: real seconds to wait for what handlers do outside of the server, in threads or with sockets of their
            own, before it counts as never coming.
        options: as for `fastws.serve`, but for those that say where to listen and how to speak TLS.

    Raises:
        ConfigurationError: a service or an option is wrong, or has no meaning in memory.
        Exception: at the end, what a handler has raised, unless the test expects it (`expect_error`).
    """
    return MemoryServer(*services, patience=patience, **options)
