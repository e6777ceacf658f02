"""`connect`: from a URL to an open connection, to be awaited or to be called."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import ssl as ssllib
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from urllib.parse import unquote

from .._speedups import ClientConnection, Connection, hub_of_thread
from ..errors import ConfigurationError, ConnectError, InvalidStatus, OpenTimeoutError, RedirectError
from ..handshake.client import ask
from ..handshake.mappings import Query, headers_of
from ..net import forking
from ..options import ClientOptions, ConnectOptions, authorization, takes
from .dialing import dial
from .endpoints import endpoint_for, forget_if_unused, listening_of
from .opening import Opening
from .redirects import REDIRECTS, headers_for, redirected
from .url import parse

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator
    from types import TracebackType

    from typing_extensions import Unpack

    from .._speedups import Hub
    from ..handshake.client import Agreed
    from .endpoints import Listening
    from .opening import Fields
    from .url import Target

__all__ = ["Connecting", "connect", "unchecked_context"]

_C = TypeVar("_C", ClientConnection, Connection)
_Header = tuple[str, str]


class Connecting(Generic[_C]):
    """A connection that is to be opened, by ``await`` or by ``async with``; made by `fastws.connect`."""

    def __init__(self, target: Target, options: ClientOptions, listening: Listening | None) -> None:
        self._target = target
        self._options = options
        self._listening = listening
        self._transport: asyncio.Transport | None = None
        self._connection: _C | None = None

    def __await__(self) -> Generator[Any, None, _C]:
        return self._open().__await__()

    async def __aenter__(self) -> _C:
        self._connection = await self._open()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        try:
            if isinstance(connection, ClientConnection):
                await connection.close()
            else:
                connection.close()
                await connection.wait_closed()
        except asyncio.CancelledError:
            self._abort()
            raise

    # --- Opening, within a time.

    async def _open(self) -> _C:
        seconds = self._options.open_timeout
        opening = asyncio.ensure_future(self._follow())
        try:
            await asyncio.wait({opening}, timeout=seconds)
        except asyncio.CancelledError:
            await self._give_up(opening)
            raise
        if not opening.done():
            await self._give_up(opening)
            raise OpenTimeoutError(seconds)
        try:
            connection = opening.result()
        finally:
            del opening  # an error that is raised knows this frame, and the task the error
        if isinstance(connection, ClientConnection):
            # Not before: what is broken behind the first messages would come before anybody could answer those
            connection.start_reading()
        return connection

    async def _give_up(self, opening: asyncio.Task[_C]) -> None:
        opening.cancel()
        try:
            await asyncio.wait({opening})
        finally:
            if not opening.cancelled():
                opening.exception()  # nobody asks any more
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _follow(self) -> _C:
        """Open, wherever the server sends us."""
        target, headers, options = self._target, list(self._options.headers), self._options
        follows = options.max_redirects if options.sock is None and options.unix is None else 0
        for left in range(follows, -1, -1):
            try:
                return await self._try(target, headers)
            except InvalidStatus as answer:
                if answer.status not in REDIRECTS or not follows:
                    raise
                location = answer.headers.get("location")
                if not left:
                    reason = f"{follows} were followed already (max_redirects)"
                    raise RedirectError(str(target), answer.status, location or "", reason) from None
                there = redirected(target, answer.status, location)
            headers = headers_for(headers, target, there)
            target = there
        raise AssertionError("the last attempt returns or raises")

    async def _try(self, target: Target, headers: list[_Header]) -> _C:
        options = self._options
        sock = await dial(
            target, proxy=options.proxy, unix=options.unix, local_addr=options.local_addr, sock=options.sock
        )
        hub = hub_of_thread(asyncio.get_running_loop(), headers_of, Query)
        # What is about to open shares the hub with whatever else opens or ends meanwhile
        hub.attach(client=True)
        try:
            return await self._shake_hands(hub, sock, target, headers)
        finally:
            hub.detach(client=True)

    async def _shake_hands(self, hub: Hub, sock: socket.socket, target: Target, headers: list[_Header]) -> _C:
        if target.auth is not None and not any(name.lower() == "authorization" for name, _ in headers):
            headers = [*headers, authorization(target.auth)]
        asked = ask(target.resource, target.host_field, headers, self._options)
        opening = Opening(asked, functools.partial(self._start, hub, target))
        try:
            await self._plug(hub, sock, target, opening)
            connection: _C = await opening.opened
        except BaseException:
            opening.give_up()
            raise
        return connection

    async def _plug(self, hub: Hub, sock: socket.socket, target: Target, opening: Opening) -> None:
        """Give a socket a transport: the core's where it can have one."""
        if not target.secure and hub.has_transports:
            self._transport = _core_transport(hub, sock, opening)
            return
        forking.note(sock)
        loop = asyncio.get_running_loop()
        secure: dict[str, Any] = {}
        if target.secure:
            context = self._options.ssl or default_context()
            secure = {"ssl": context, "server_hostname": self._options.server_hostname or target.tls_name}
        try:
            self._transport, _ = await loop.create_connection(lambda: opening, sock=sock, **secure)
        except OSError as error:
            sock.close()
            raise ConnectError(f"no TLS with {target.host_field}: {error}") from error
        except BaseException:
            sock.close()
            raise

    def _start(
        self, hub: Hub, target: Target, transport: asyncio.Transport, agreed: Agreed, fields: Fields, rest: bytes
    ) -> ClientConnection | Connection:
        """Hand a transport over to the core."""
        endpoint = endpoint_for(hub, self._options, self._listening)
        path, _, query = target.resource.partition("?")
        try:
            connection = Connection(endpoint, client=True)
            face = ClientConnection(connection) if self._listening is None else connection
            connection.start(
                transport,
                b"",
                rest,
                path=unquote(path),
                query=query,
                head=b"\n".join(itertools.chain.from_iterable(fields)),
                subprotocol=agreed.subprotocol,
                extension=agreed.extension,
                secure=target.secure,
            )
        finally:
            forget_if_unused(endpoint)
        return face


def _core_transport(hub: Hub, sock: socket.socket, opening: Opening) -> Any:
    try:
        transport = hub.make_transport(sock.fileno(), opening)
    except OSError as error:
        sock.close()
        raise ConnectError(f"the connection is lost already: {error}") from error
    sock.detach()
    transport.start()
    return transport


@functools.cache
def default_context() -> ssllib.SSLContext:
    """Return the context of all clients that bring none: it knows whom the system trusts."""
    context = ssllib.create_default_context()
    with contextlib.suppress(NotImplementedError):
        context.set_alpn_protocols(["http/1.1"])
    return context


def unchecked_context() -> ssllib.SSLContext:
    """Return a context that takes any certificate, for tools whose users ask for that."""
    context = ssllib.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssllib.CERT_NONE
    return context


@overload
def connect(url: str, /, **options: Unpack[ConnectOptions]) -> Connecting[ClientConnection]: ...
@overload
def connect(url: str, listener: object, /, **options: Unpack[ConnectOptions]) -> Connecting[Connection]: ...
@takes(ConnectOptions)
def connect(url: str, listener: object = None, /, **options: Unpack[ConnectOptions]) -> Any:
    """Connect to a WebSocket server.

    ::

        async with fastws.connect("wss://example.com/chat") as connection:
            await connection.send("hello")
            async for message in connection:
                ...

    ``async with`` closes the connection at its end, with 1000; ``await`` leaves that to the caller. With a `listener`
    nothing is awaited: its methods, annotated as those of a service (`ws.on_open`, `ws.on_text_message` and so on),
    are called straight from where bytes are read, and the connection is the one that a service knows.

    Args:
        url: of the scheme ``ws`` or ``wss``; a user and a password in it are `auth`.
        listener: an instance, which may be that of many connections.
        subprotocols: what the client speaks, the one that it prefers first.
        headers: further header fields, a mapping or pairs.
        origin: of the page that a browser would connect from.
        cookies: name and value, a mapping or pairs.
        auth: a user and a password (RFC 7617); not told to another server by a redirect.
        ssl: for ``wss``; None trusts whom the system trusts.
        server_hostname: for whom the certificate has to be; None is the host of the URL.
        proxy: the URL of a proxy for HTTP (CONNECT) or SOCKS; True asks the environment as other programs do, None
            goes without. Needs ``pip install fastws[proxy]``.
        max_redirects: that are followed; 0 follows none.
        unix: the path of a Unix socket to connect to; the URL still says what is asked for.
        local_addr: host and port to connect from; port 0 is any.
        sock: a connected socket, which then belongs to the connection.
        open_timeout: seconds until the connection has to be open; None waits forever.
        close_timeout: seconds that the server may take to end the connection once it closes.
        ping_interval: seconds without a byte from the server, or without one to it, until a ping is sent; None sends
            none.
        ping_timeout: seconds to wait for any sign of life after a ping until the connection fails with 1011; None waits
            forever.
        idle_timeout: seconds without a message from the server until the connection is closed with 1001, or
            `on_idle_timeout` called; None never does.
        max_message_size: bytes of a message; a larger one fails the connection with 1009 before it is buffered.
        max_fragments: frames that one message may come in; more fail the connection with 1008.
        max_queue: messages that may wait to be received until nothing more is read; `max_message_size` bounds them in
            sum, too. For a listener they wait for a suspended `async` handler.
        max_backlog: bytes of frames that may wait for a server that does not read.
        high_water: bytes that wait from which on `send` waits; None is half of `max_backlog`.
        overflow: what happens to a message that is pushed and does not fit; see `ws.upgrade_path`.
        compression: permessage-deflate (RFC 7692): ``"shared"`` keeps no history, ``"dedicated"`` one in each
            direction, None speaks none; see `ws.upgrade_path`.
        compression_threshold: bytes from which on a message is compressed, if that makes it smaller.
        compression_level: 1, the fastest, to 9, the smallest.
        compression_window_bits: 9 to 15, of the window of either direction, if the server keeps to it; None is 15 where
            windows are shared and 12 where they are dedicated.

    Raises:
        ConfigurationError: the URL, the listener or an option is wrong; at once, before anything is awaited.
        ConnectError: the connection does not come about: `InvalidStatus` where the server refuses, `InvalidHandshake`
            where it answers nonsense, `OpenTimeoutError`, `DialError`, `ProxyError`, `RedirectError`.
    """
    checked = ClientOptions(**options)
    target = parse(url)
    if checked.ssl is not None and not target.secure:
        raise ConfigurationError("connect: ssl is given, but the URL is one of ws; write wss")
    return Connecting[Any](target, checked, None if listener is None else listening_of(listener))
