"""The typed face of the compiled core, with the docstrings that users read."""

import asyncio
import contextvars
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NoReturn, Protocol, TypeAlias, final

from typing_extensions import Self, disjoint_base

_Data: TypeAlias = bytes | bytearray | memoryview
_Exclude: TypeAlias = Connection | Iterable[Connection] | None
_Overflow: TypeAlias = Literal["close", "drop_new", "drop_old", "conflate"] | None
_Key: TypeAlias = str | int | bytes | None

# --- What the layer above gives: each is read once.

# A handler, as `service.model.Handler`.
class _Handler(Protocol):
    @property
    def event(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def is_async(self) -> bool: ...
    @property
    def positional(self) -> tuple[str, ...]: ...
    @property
    def keywords(self) -> tuple[str, ...]: ...

# A path with named segments.
class _Path(Protocol):
    @property
    def names(self) -> tuple[str, ...]: ...

# A service with a WebSocket, as `service.model.Service`; `upgrade` has what `ws.upgrade_path` takes.
class _Service(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def cls(self) -> type: ...
    @property
    def instance(self) -> object: ...
    @property
    def upgrade(self) -> Any: ...
    @property
    def upgrade_path(self) -> _Path | None: ...
    @property
    def handlers(self) -> Mapping[str, _Handler]: ...

# What the core reads of `options.ServerOptions`; both are seconds.
class _ServerOptions(Protocol):
    @property
    def close_timeout(self) -> float: ...
    @property
    def slow_handler_time(self) -> float | None: ...

# permessage-deflate as it was negotiated, from our side: `handshake.deflate.Deflate`.
class _Deflate(Protocol):
    @property
    def send_window_bits(self) -> int: ...
    @property
    def receive_window_bits(self) -> int: ...
    @property
    def send_takeover(self) -> bool: ...
    @property
    def receive_takeover(self) -> bool: ...

# A test's clock, as `testing.Clock`.
class _Clock(Protocol):
    @property
    def time(self) -> Callable[[], float]: ...
    @property
    def call_later(self) -> Callable[..., Any]: ...

# Policies for a message that does not fit into a backlog.
OVERFLOWS: Final[tuple[str, ...]]

# --- What users hold.

@final
class Delivery:
    """The fate of a push; true when it matched anybody on this node.

    A frame counts as queued once it is on its way to the kernel: collected for the end of the turn, sent, or waiting
    within `max_backlog`. It is dropped for a connection that is closing, or that reads too slowly. What was queued may
    still be dropped later, in favour of newer messages (`overflow="drop_old"` and `"conflate"`): `Connection.dropped`
    counts it.
    """

    @property
    def matched(self) -> int:
        """Recipients that there were."""
    @property
    def queued(self) -> int:
        """Recipients that the frame is on its way to."""
    @property
    def dropped(self) -> int:
        """Recipients that will not get it."""
    @property
    def published(self) -> bool | None:
        """Whether it was handed over for the clients of other nodes, how many there may be.

        False: the backplane is away, too much waits for it, or the message is larger than it takes. None: there is no
        backplane, or the message was for a connection of this node alone. The other numbers are those of this node.
        """
    def __init__(self, matched: int = 0, queued: int = 0, dropped: int = 0, published: bool | None = None) -> None: ...
    def __bool__(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Connection:
    """One client of a service, from the opening handshake until its `on_close` has run.

    It belongs to the thread of the server's loop; from elsewhere its methods raise `WrongThreadError`. It is made by a
    server, and lives on as an object as long as somebody holds it: after the end pushes to it are dropped.
    """

    def __new__(cls, endpoint: Endpoint, *, client: bool = False) -> Connection: ...
    def start(
        self,
        transport: asyncio.Transport,
        response: bytes,
        rest: bytes,
        *,
        path: str = "/",
        query: str = "",
        head: bytes = b"",
        subprotocol: str | None = None,
        path_arguments: tuple[str, ...] = (),
        extension: _Deflate | None = None,
        address: tuple[str, int] | None = None,
        secure: bool = False,
        attributes: dict[str, Any] | None = None,
        on_release: Callable[[], None] | None = None,
    ) -> None:
        """Take over a transport whose opening handshake is accepted, and run `on_open`; for servers.

        Args:
            transport: with nothing of its handshake left to read.
            response: what is still to be sent before the first frame.
            rest: bytes that were read behind the handshake.
            path: what the client asked for, decoded.
            query: the query of its target.
            head: its header fields, as `hub_of_thread` was told to read them.
            subprotocol: the one in use.
            path_arguments: the values of the segments that the path of the service names.
            extension: the permessage-deflate that was negotiated.
            address: the client's address where the transport does not know it.
            secure: whether the client speaks TLS.
            attributes: the first content of `attributes`.
            on_release: called once when the transport is lost and the last handler is done; it may not raise.
        """
    @property
    def id(self) -> int:
        """A number that no other connection of this event loop has or had."""
    @property
    def path(self) -> str:
        """The path that the client asked for, decoded."""
    @property
    def query(self) -> Any:
        """The parameters of the query, an `http.Query`: a mapping to first values, with `get_all`."""
    @property
    def headers(self) -> Any:
        """The header fields of the opening handshake, an `http.Headers`: a case-insensitive mapping, with `get_all`."""
    @property
    def subprotocol(self) -> str | None:
        """The subprotocol in use, or None (RFC 6455 section 1.9)."""
    @property
    def compression(self) -> str | None:
        """How messages are compressed (RFC 7692): ``"shared"``, ``"dedicated"``, or None where they are not."""
    @property
    def remote_address(self) -> tuple[str, int] | None:
        """Host and port of the client, also after the end; None on a socket that has none, as `Request` has them."""
    @property
    def secure(self) -> bool:
        """Whether the client speaks TLS, with this server or with a proxy that it trusts and that says so."""
    @property
    def is_open(self) -> bool:
        """Whether messages can be pushed: from `on_open` until either side begins to close."""
    @property
    def is_busy(self) -> bool:
        """Whether something is half done: a handler is suspended, a message is coming, or one waits to be sent."""
    @property
    def groups(self) -> frozenset[str]:
        """The names of the groups that it is in."""
    @property
    def attributes(self) -> dict[str, Any]:
        """Anything that the service likes to remember of this client; fastws never looks at it."""
    @property
    def buffered(self) -> int:
        """Bytes of frames that the kernel has not taken yet: what `max_backlog` and `high_water` bound."""
    @property
    def dropped(self) -> int:
        """Messages to this client that were dropped because too much waited for it: new, old and replaced ones."""
    @property
    def conflated(self) -> int:
        """Of these, messages that a later one with the same key replaced."""
    @property
    def close_code(self) -> int | None:
        """The close code once it is closed: the peer's, else ours, else 1006 (RFC 6455 section 7.1.5); before, None."""
    @property
    def close_reason(self) -> str | None:
        """The reason that belongs to `close_code`."""
    @property
    def sent_code(self) -> int | None:
        """The code of the close frame that we sent, 1005 for one without a code; None while there is none.

        Whether it arrived only the peer's answer tells.
        """
    @property
    def received_code(self) -> int | None:
        """The code of the peer's close frame, 1005 for one without a code; None while there is none."""
    @property
    def was_clean(self) -> bool:
        """Whether both close frames were exchanged (RFC 6455 section 7.1.4)."""
    async def drain(self) -> None:
        """Wait until nothing is queued, or the connection ends.

        For producers that prefer waiting to being dropped. Returns at once while the client reads, and when the
        connection has ended; may be cancelled.
        """
    async def wait_closed(self) -> None:
        """Wait until the connection has ended, `on_close` has run and nothing is left of it; may be cancelled.

        Not for its own handlers, which it would wait for.
        """
    def push_text(self, text: str, *, overflow: _Overflow = None, key: _Key = None) -> Delivery:
        """Send a text message to this client.

        Never waits. The frame leaves at the end of the running handler, or of the loop's turn; a lone push from a task
        leaves at once.

        Args:
            text: the message.
            overflow: what happens when it does not fit into what may wait for the client (`max_backlog`). ``"close"``
                ends the connection with the service's `overflow_code`, ``"drop_new"`` drops this message,
                ``"drop_old"`` drops the oldest that wait until it fits. ``"conflate"`` takes a `key`. None is what
                `ws.upgrade_path` says.
            key: what the message is about: it takes the place of the message with the same key, should that still wait
                unsent. One that waits in no such place and does not fit ends the connection as ``"close"`` does,
                because of a state that is only told in part nobody would know. A key alone means ``"conflate"``.

        Raises:
            TypeError, ValueError: there is no such `overflow`, or it does not go with `key`.
            UnicodeEncodeError: the text has lone surrogates, which UTF-8 cannot carry.
            WrongThreadError: this is not the server's thread.
        """
    def push_binary(self, data: _Data, *, overflow: _Overflow = None, key: _Key = None) -> Delivery:
        """Send a binary message to this client, as `push_text` does; a mutable buffer is copied."""
    def broadcast_text(
        self, text: str, *, exclude: _Exclude = None, overflow: _Overflow = None, key: _Key = None
    ) -> Delivery:
        """Send a text message to every client of this connection's service.

        Args:
            text: the message.
            exclude: a connection, or several, that shall not get it.
            overflow: what happens where it does not fit; see `push_text`.
            key: what the message is about; see `push_text`.
        """
    def broadcast_binary(
        self, data: _Data, *, exclude: _Exclude = None, overflow: _Overflow = None, key: _Key = None
    ) -> Delivery:
        """Send a binary message to every client of this connection's service."""
    def store(self, name: str) -> None:
        """Keep this connection under a name, in place of an earlier holder, which stays open."""
    def join(self, group: str) -> None:
        """Join a group, which is made if there is none; joining twice changes nothing.

        Raises:
            GroupRemovedError: the group was removed and its name is retired.
        """
    def leave(self, group: str) -> bool:
        """Leave a group; False when it was not in."""
    def close(self, code: int = 1000, reason: str = "") -> bool:
        """Begin the closing handshake (RFC 6455 section 7.1.2); False when it has begun already.

        What was pushed before leaves first. The client has `close_timeout` seconds to answer.

        Args:
            code: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
            reason: for people; cut to 123 bytes of UTF-8 between two characters.

        Raises:
            ValueError: the code may not be sent.
        """
    # asyncio.BufferedProtocol, for the transport
    @property
    def get_buffer(self) -> Callable[[int], memoryview]: ...
    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

@final
class ClientConnection:
    """A connection to a server, made by `fastws.connect`: messages are sent and received with `await`.

    It belongs to the thread of its event loop; from elsewhere its methods raise `WrongThreadError`. One task at a time
    receives; any may send. ``async for message in connection`` ends when the connection is closed with 1000 or 1001, by
    whichever side, and raises `ConnectionClosed` with any other code.

    What came and nobody received yet is bounded: when `max_queue` messages wait, or `max_message_size` bytes in sum,
    nothing more is read, and the server has to wait. Pings are answered, and timeouts kept, whatever a program awaits.
    """

    def __new__(cls, connection: Connection) -> ClientConnection: ...
    def start_reading(self) -> None:
        """Read in the next turn of the loop, which nothing does before this is called; for `connect`."""
    async def send(self, message: str | _Data) -> None:
        """Send a message: a text if it is a `str`, else a binary one; a mutable buffer is copied.

        Returns as soon as the message is on its way or waits for the kernel to take it. While more than `high_water`
        bytes wait it waits for the server to read; one that is cancelled then sends nothing.

        Raises:
            ConnectionClosed: the connection is closed, or closes.
            TypeError: it is neither text nor bytes.
            UnicodeEncodeError: the text has lone surrogates, which UTF-8 cannot carry.
        """
    async def receive(self) -> str | bytes:
        """Receive the next message: `str` if it is a text, else `bytes`.

        What came before the end can be received after it. To cancel it loses no message.

        Raises:
            ConnectionClosed: the connection has ended and all is received.
            ConcurrentReceiveError: another task receives.
        """
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> str | bytes: ...
    async def ping(self) -> float:
        """Send a ping, and wait for its pong (RFC 6455 section 5.5.2).

        Returns:
            How long that took, in seconds.

        Raises:
            ConnectionClosed: the connection has ended, before or meanwhile.
        """
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection (RFC 6455 section 7.1.2), and wait until nothing is left of it.

        What was sent before leaves first. The server has `close_timeout` seconds to answer. What it sends meanwhile,
        and what nobody has received yet, is lost. Once the connection has ended it does nothing. To cancel it ends the
        waiting, and not the closing.

        Args:
            code: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
            reason: for people; cut to 123 bytes of UTF-8 between two characters.

        Raises:
            ValueError: the code may not be sent.
        """
    async def wait_closed(self) -> None:
        """Wait until the connection has ended and nothing is left of it."""
    async def drain(self) -> None:
        """Wait until the kernel has taken all that was sent, or the connection ends."""
    def push_text(self, text: str, *, overflow: _Overflow = None, key: _Key = None) -> Delivery:
        """Send a text message without waiting, as `Connection.push_text` does."""
    def push_binary(self, data: _Data, *, overflow: _Overflow = None, key: _Key = None) -> Delivery:
        """Send a binary message without waiting, as `Connection.push_text` does; a mutable buffer is copied."""
    @property
    def path(self) -> str:
        """The path that the server was asked for, decoded."""
    @property
    def headers(self) -> Any:
        """The header fields of the server's answer, an `http.Headers`: a case-insensitive mapping, with `get_all`."""
    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose, or None (RFC 6455 section 1.9)."""
    @property
    def compression(self) -> str | None:
        """How messages are compressed (RFC 7692): ``"shared"``, ``"dedicated"``, or None where they are not."""
    @property
    def remote_address(self) -> tuple[str, int] | None:
        """Host and port of the server, or of the proxy before it, also after the end; None on a Unix socket."""
    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
    @property
    def is_open(self) -> bool:
        """Whether messages can be sent: until either side begins to close."""
    @property
    def buffered(self) -> int:
        """Bytes of frames that the kernel has not taken yet: what `max_backlog` and `high_water` bound."""
    @property
    def dropped(self) -> int:
        """Messages that were pushed and dropped because too much waited: new, old and replaced ones."""
    @property
    def close_code(self) -> int | None:
        """The close code once it is closed: the server's, else ours, else 1006 (RFC 6455 7.1.5); before, None."""
    @property
    def close_reason(self) -> str | None:
        """The reason that belongs to `close_code`."""
    @property
    def sent_code(self) -> int | None:
        """The code of the close frame that we sent, 1005 for one without a code; None while there is none."""
    @property
    def received_code(self) -> int | None:
        """The code of the server's close frame, 1005 for one without a code; None while there is none."""
    @property
    def was_clean(self) -> bool:
        """Whether both close frames were exchanged (RFC 6455 section 7.1.4)."""

@final
class Members:
    """A live set of connections: `len` and `in` cost the same whatever its size; iterating goes over a snapshot."""

    def __new__(cls) -> Members: ...
    def __len__(self) -> int: ...
    def __contains__(self, connection: object, /) -> bool: ...
    def __iter__(self) -> Iterator[Connection]: ...

@final
class Group:
    """Connections under a common name; a live set like `Members`."""

    def __new__(cls, name: str) -> Group: ...
    @property
    def name(self) -> str:
        """The name of the group."""
    @property
    def members(self) -> Members:
        """The connections in it."""
    def __len__(self) -> int: ...
    def __contains__(self, connection: object, /) -> bool: ...
    def __iter__(self) -> Iterator[Connection]: ...

@final
class Connections:
    """The open connections of a service, a live set like `Members`; what `ws.connections` returns."""

    def __new__(cls, endpoints: list[Endpoint]) -> Connections: ...
    def __len__(self) -> int: ...
    def __contains__(self, connection: object, /) -> bool: ...
    def __iter__(self) -> Iterator[Connection]: ...

# --- Functions of fastws.ws.

def push_text(text: str, *, overflow: _Overflow = None, key: _Key = None) -> Delivery:
    """Send a text message to the client whose handler runs.

    Args:
        text: the message.
        overflow: what happens when it does not fit; see `Connection.push_text`, as for all functions here.
        key: what the message is about; likewise.

    Raises:
        NoCurrentConnectionError: no handler of a connection runs here.
        UnicodeEncodeError: the text has lone surrogates, which UTF-8 cannot carry.
        WrongThreadError: this is not the server's thread; so do all functions here.
    """

def push_binary(data: _Data, *, overflow: _Overflow = None, key: _Key = None) -> Delivery:
    """Send a binary message to the client whose handler runs; a mutable buffer is copied."""

def broadcast_text(
    text: str, *, to: object = None, exclude: _Exclude = None, overflow: _Overflow = None, key: _Key = None
) -> Delivery:
    """Send a text message to every client of a service, the sender included.

    Args:
        text: the message; its frame is built once for all.
        to: the service, as the class or the instance that is served; a class stands for all servers of this event loop
            that serve it. So a task, a route or a library of somebody else can broadcast, and a method of the service
            that anybody may call: ``to=self``. None is the service whose handler runs, and where none does the one in
            whose method this is called.
        exclude: a connection, or several, that shall not get it.
        overflow: what happens at clients for whom it does not fit; see `Connection.push_text`.
        key: what the message is about; see `Connection.push_text`.

    Raises:
        NoCurrentConnectionError: neither a handler nor another method of a service runs here, and `to` names none.
        NotServingError: what `to` names is not served here with a WebSocket.
        TypeError, ValueError: the message, `overflow` or `key` is wrong, whether or not there is a client.
    """

def broadcast_binary(
    data: _Data, *, to: object = None, exclude: _Exclude = None, overflow: _Overflow = None, key: _Key = None
) -> Delivery:
    """Send a binary message to every client of a service, the sender included; arguments as for `broadcast_text`."""

def connections(service: object) -> Connections:
    """Return the open connections of a service: a live set.

    Args:
        service: the class or the instance that is served; a class stands for all servers of this event loop that serve
            it.

    Raises:
        NotServingError: it is not served here with a WebSocket.
        WrongThreadError: this is not the server's thread.
    """

def store_connection(name: str) -> None:
    """Keep the current connection globally under a name; a later holder replaces an earlier, which stays open.

    On several nodes, too: of two that take it at once both agree on one.

    Raises:
        TypeError, ValueError: the name is no string, or empty; so for every name and group here.
    """

def remove_stored_connection(name: str) -> bool:
    """Forget a stored name, on all nodes; its connection stays open. False when none was known.

    An engine between machines does not tell who has a name elsewhere: then it is False, and the name forgotten there.
    """

def push_text_to_connection(name: str, text: str, *, overflow: _Overflow = None, key: _Key = None) -> Delivery:
    """Send a text message to a stored connection of any service, on any node.

    It matches nobody when the name is not stored here, and is handed over to other nodes then, if there are any.

    Raises:
        NotServingError: no server runs in this process.
    """

def push_binary_to_connection(name: str, data: _Data, *, overflow: _Overflow = None, key: _Key = None) -> Delivery:
    """Send a binary message to a stored connection of any service."""

def add_connection_to_group(group: str) -> None:
    """Have the current connection join a group, which is made if there is none; joining twice changes nothing.

    Raises:
        GroupRemovedError: the group was removed and its name is retired.
    """

def remove_connection_from_group(group: str) -> bool:
    """Have the current connection leave a group; False when it was not in."""

def push_text_to_group(
    group: str, text: str, *, exclude: _Exclude = None, overflow: _Overflow = None, key: _Key = None
) -> Delivery:
    """Send a text message to all members of a group, of any service and on all nodes, once to each.

    Raises:
        GroupRemovedError: the group was removed and its name is retired.
    """

def push_binary_to_group(
    group: str, data: _Data, *, exclude: _Exclude = None, overflow: _Overflow = None, key: _Key = None
) -> Delivery:
    """Send a binary message to all members of a group, of any service and on all nodes, once to each."""

def remove_connection_group(group: str) -> bool:
    """Dissolve a group and retire its name, on all nodes; its connections stay open and in their other groups.

    The last 100,000 retired names are remembered. False when there was no such group; where an engine between machines
    does not tell whether it has members elsewhere, the name is retired all the same, and it is True.
    """

def create_connection_group(group: str) -> None:
    """Make a group that stays on this node when its last member leaves; brings a retired name back, on all nodes."""

def check_close_code(code: int) -> int:
    """Return 0 for a close code that may be sent; raise ValueError for another."""

def close_connection(code: int = 1000, reason: str = "") -> bool:
    """Begin to close the current connection, as `Connection.close` does."""

def close_stored_connection(name: str, code: int = 1000, reason: str = "") -> bool:
    """Begin to close a stored connection, on whatever node, and forget the name at once.

    False when the name is not known to be stored, or the connection closes already.
    """

def close_connection_group(group: str, code: int = 1000, reason: str = "") -> int:
    """Begin to close all members of a group, on all nodes; returns how many there were on this one."""

# --- For the modules of fastws.

@final
class Hub:
    """The hub of an event loop, which all of its connections share."""

    def __new__(
        cls,
        loop: asyncio.AbstractEventLoop,
        make_headers: Callable[[bytes], Mapping[str, str]],
        make_query: Callable[[str], Mapping[str, str]],
    ) -> Hub: ...
    @property
    def groups(self) -> dict[str, Group]:
        """Groups by name."""
    @property
    def stored(self) -> dict[str, Connection]:
        """Stored connections by name."""
    @property
    def retired(self) -> dict[str, int]:
        """The stamps of removed groups by name; 0 where there is no other node."""
    node: Node | None
    """This process among others, if there are any."""
    @property
    def get_buffer(self) -> Callable[[int], memoryview]:
        """The `get_buffer` of all connections."""
    @property
    def backlog_len(self) -> int:
        """Bytes of memory that what waits for slow peers takes; a frame that waits for many counts once."""
    slice_sends: int
    """System calls that one turn of the loop makes in a row for a fan-out."""
    slice_usecs: int
    """Microseconds after which it makes no more."""
    @property
    def has_transports(self) -> bool:
        """Whether sockets can have a transport of the core's here: the loop is uvloop's."""
    def make_transport(self, fd: int, protocol: asyncio.Protocol) -> SocketTransport:
        """Make a transport for a connected stream socket; `start` begins.

        Args:
            fd: the socket; the transport closes it.
            protocol: of the connection.

        Raises:
            OSError: it cannot be watched; the socket stays the caller's.
            ValueError: this loop has no such transports.
        """
    @property
    def orphaned(self) -> bool:
        """Whether this process was forked from the one that has the loop."""
    def check_process(self, function: str) -> None:
        """Refuse a function, which the error names, in a process that was forked from the one that has the loop."""
    def keep_time(self, clock: _Clock) -> None:
        """Take the time from a test's clock, before the first connection: deadlines are exact from then on."""
    def tell_time(self, now: float) -> None:
        """Note that the test's clock has moved on."""
    def stand_apart(self) -> contextvars.Context:
        """Be one of several hubs on a loop, before it attaches.

        Functions that look for a hub find this one in the context that is returned, in copies of it, and in handlers.
        """
    def limit_backlog(self, most: int) -> None:
        """Let no more than so many bytes wait for all slow peers together; the least of all limits counts."""
    def help_fanouts(self, threads: int) -> None:
        """Let so many threads help to send large fan-outs, 15 at most; the most that anybody asks for counts."""
    def send_with(self, *, by_ring: bool = True, helpers: int = 0, always: bool = False) -> None:
        """Choose how fan-outs are sent, for tests and measuring.

        Args:
            by_ring: with io_uring, if the system lets us.
            helpers: threads that help.
            always: also where a fan-out is too small for that to pay.
        """
    @property
    def rings(self) -> int:
        """Rings of io_uring that are open: one for each thread that sends, from its first large fan-out on."""
    @property
    def helping(self) -> int:
        """Threads that help, from the first large fan-out on."""
    def attach(self, on_loop_closed: Callable[[], None] | None = None, *, client: bool = False) -> None:
        """Count one more server or client on this loop, to be called if the loop is closed before it detaches."""
    def detach(
        self,
        endpoints: Iterable[Endpoint] = (),
        on_loop_closed: Callable[[], None] | None = None,
        *,
        client: bool = False,
    ) -> asyncio.Task[None] | None:
        """Count one less, which served these and gave this to `attach`; the last server empties the registries.

        Returns the task to wait for.
        """

@final
class SocketTransport:
    """A transport for an accepted socket on a loop of uvloop's, as asyncio.Transport is one to a server's protocols.

    The differences: `pause_writing` is called whenever something waits, there are no write buffer limits, and of the
    extra information there is only "peername".
    """

    def __new__(cls, hub: Hub, fd: int, protocol: asyncio.Protocol) -> SocketTransport: ...
    def start(self) -> None:
        """Tell the protocol of the connection, and begin to read."""
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def get_protocol(self) -> asyncio.BaseProtocol: ...
    def is_closing(self) -> bool: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There are none: the protocol waits whenever anything does."""
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def can_write_eof(self) -> bool: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...

@final
class Endpoint:
    """A service as its connections share it: handlers, limits, and the set of all of them."""

    def __new__(
        cls,
        hub: Hub,
        service: _Service,
        options: _ServerOptions,
        kernel_backlog: int = 0,
        inherits_kernel_backlog: bool = True,
        *,
        client: bool = False,
    ) -> Endpoint: ...
    @property
    def is_client(self) -> bool:
        """Whether its connections are those of clients: what is pushed to a service or a group is not for them."""
    @property
    def hub(self) -> Hub:
        """The hub of its loop."""
    @property
    def name(self) -> str:
        """The name of the service."""
    @property
    def path(self) -> str:
        """Where clients connect, as it was written; services of different nodes are the same if it is."""
    @property
    def members(self) -> Members:
        """All open connections."""
    @property
    def live(self) -> int:
        """How many connections have not come to their end."""
    on_empty: Callable[[], None] | None
    """Called when the last of them has come to its end."""
    @property
    def unhandled(self) -> int:
        """How many messages no handler wanted."""
    def hurry(self) -> None:
        """Wait for no peer and no handler any longer: abort every connection, and cancel what still runs."""

@final
class Target:
    """What other nodes are told of under one subject."""

    @property
    def name(self) -> str:
        """Of the group or the connection, the path of the service, or the id of the node."""
    @property
    def subject(self) -> bytes:
        """Under which engines know it."""

@final
class Peer:
    """Another node."""

    @property
    def id(self) -> bytes:
        """As its `Node.node`."""
    @property
    def epoch(self) -> int:
        """As its `Node.epoch`."""

@final
class Partial:
    """What has come of a message in parts."""

@final
class Partials:
    """All of them, bounded."""

@disjoint_base
class Voice:
    """What a node says to others, and what it wants of them; a part of `Node`."""

    node: bytes
    """The id of this process, which no other has: 16 hexadecimal digits."""
    is_up: bool
    """Whether the engine takes messages."""

    def __new__(cls, hub: Hub, engine: Any, prefix: bytes, *args: Any, **kwargs: Any) -> Self: ...
    @property
    def hub(self) -> Any:
        """Whose connections others reach; None when it has ended."""
    @property
    def engine(self) -> Any:
        """What carries the messages."""
    @property
    def epoch(self) -> int:
        """Grows when something that was said is lost."""
    @property
    def published(self) -> int:
        """Records that were handed over."""
    @property
    def lost(self) -> int:
        """Records that could not be."""
    def go_up(self) -> None:
        """Publish from now on, messages as large as the engine takes now."""
    def next_epoch(self) -> None:
        """Have others know that some of what was said is missing."""
    def linger(self, *, over: bool = False) -> None:
        """Unsubscribe from what nobody here was meant by for 2 s, or, if that is over, from all of it."""
    def flush(self) -> None:
        """Hand over what collected in this turn."""
    def subscriptions(self) -> Iterator[bytes]:
        """Return all subjects that are wanted."""
    def wants(self, subject: bytes) -> bool:
        """Tell whether a subject is."""

@disjoint_base
class Node(Voice):
    """What happens per push and per message between this process and others; `backplane.relay` has the rest.

    It is what an engine calls, a `backplane.base.Receiver`. Counters tell what became of records: pushes, and what
    else one node says to others.

    Args:
        hub: whose connections others reach.
        engine: a `backplane.base.Backplane`.
        prefix: of all subjects.
    """

    foreign: int
    """Messages and records of others that no version known here wrote; they are skipped."""

    @property
    def heard(self) -> int:
        """Records of others that were taken."""
    @property
    def late(self) -> int:
        """Records that came twice, or after later ones, and were dropped."""
    @property
    def unwanted(self) -> int:
        """Messages for whom nobody is here."""
    def begin(self) -> None:
        """Be the node of the hub: all that is there already can be reached from now on."""
    def end(self) -> None:
        """Be it no longer."""
    def say_all(self, data: bytes) -> None:
        """Tell all nodes something, which comes to their `on_control`."""
    def say_to(self, node: bytes, data: bytes) -> None:
        """Likewise one of them."""
    def received(self, subject: bytes, payload: bytes) -> None:
        """Take a message of another node."""
    def wanted(self, subject: bytes) -> None:
        """Note that another node wants a subject."""
    def forget_peer(self, node: bytes) -> None:
        """Keep nothing of a node that has ended."""
    def forget_strangers(self, known: Container[bytes]) -> None:
        """Keep nothing of nodes that are not known by their ids and were not heard of since this was called last.

        Those that end before they tell of themselves, or whose last words come after their end, would add up.
        """
    def take_claimed(self) -> list[str]:
        """Return the names that were claimed since this was called last."""
    def claim_again(self, names: Iterable[str]) -> None:
        """Claim names again, where connections here have them."""
    def next_stamp(self) -> int:
        """Return a number that is greater than all before, here, and all that were noted."""
    def note_stamp(self, stamp: int) -> None:
        """Note a stamp of another node."""
    def retire(self, name: str, stamp: int) -> None:
        """Dissolve a group that was removed on another node."""
    def revive(self, name: str) -> None:
        """Let a group be joined again."""
    def count_here(self, kind: str, name: str) -> int:
        """Return how many connections here are in a ``"group"``, or of a ``"service"`` by its path."""
    def on_control(self, node: bytes, data: bytes) -> None:
        """Called with what a node said; to be overridden, as are those below."""
    def on_gap(self, node: bytes, target: tuple[str, str] | None, missing: int) -> None:
        """Called when some of what a node said, for a target or for any, is missing."""
    def on_group_removed(self, name: str) -> None:
        """Called when a group was removed here."""
    def on_group_created(self, name: str) -> None:
        """Called when one was created here explicitly."""

def counted(group: str | None, to: object) -> tuple[Any, str, str, int]:
    """Return, for `ws.count`: the node or None, what is counted and its name, and how many of it are here."""

def located(name: str) -> tuple[Any, bool]:
    """Return, for `ws.locate`: the node or None, and whether a connection here has the name."""

def link_frame(kind: int, data: bytes) -> bytes:
    """Return a frame as workers of a machine say it to each other."""

def link_message(subject: bytes, payload: bytes) -> bytes:
    """Return a frame with a message."""

@final
class LinkReader:
    """Frames of another worker out of pieces that are cut anywhere.

    Args:
        on_message: called with the subject and the payload of a message.
        on_frame: called with the kind and the data of any other frame.
    """

    def __new__(
        cls, on_message: Callable[[bytes, bytes], object], on_frame: Callable[[int, bytes], object]
    ) -> LinkReader: ...
    def feed(self, data: bytes) -> None:
        """Take in what came; raise ValueError for what is no frame, after which nothing more is to be fed."""

def hub_of_thread(
    loop: asyncio.AbstractEventLoop,
    make_headers: Callable[[bytes], Mapping[str, str]],
    make_query: Callable[[str], Mapping[str, str]],
) -> Hub:
    """Return the hub of the running loop; made when there is none."""

def shut_down(transport: asyncio.BaseTransport) -> None:
    """End both directions of a lost transport's plain socket, which another process may have, too, before it is closed.

    For transports of the loop's, in `connection_lost` only. Those of the core's do it themselves, and TLS says its end.
    """

def on_fork(part: Callable[[], None], end: Callable[[], NoReturn]) -> None:
    """Set what parts a child of a fork with its parent, and what ends one that comes back to a hub of the parent's."""

def hold_signals() -> None:
    """Hold back the signals of this thread if anything is served."""

def release_signals() -> None:
    """Let through again what `hold_signals` held back."""

def abandon_hubs() -> tuple[list[tuple[asyncio.AbstractEventLoop, bool]], list[int]]:
    """In a child of a fork: belong to no loop any more.

    Returns:
        The loops, each with whether this thread is the one that ran it, and the descriptors of all SocketTransports.
    """

def accept_connection(listening: int) -> int:
    """Accept a connection at a listening socket; returns its descriptor, which does not block and is not inherited.

    Raises:
        BlockingIOError: no client waits, if the listening socket does not block.
        OSError: there are no descriptors, or the client has left.
    """

def service_context(endpoint: Endpoint) -> contextvars.Context:
    """Return a new context in which broadcasts go to the clients of a service."""

# --- What is said to the servers that carry messages between nodes.

# Who reads the protocol of NATS, such as a connection of `backplane.nats`.
class _NatsListener(Protocol):
    @property
    def received(self) -> Callable[[bytes, bytes], object]: ...
    @property
    def on_info(self) -> Callable[[bytes], object]: ...
    @property
    def on_ping(self) -> Callable[[], object]: ...
    @property
    def on_pong(self) -> Callable[[], object]: ...
    @property
    def on_error(self) -> Callable[[bytes], object]: ...
    @property
    def on_status(self) -> Callable[[bytes, bytes], object]: ...

@final
class NatsProtocolError(Exception):
    """What came from a NATS server is malformed, and nothing behind it can be read; the text has none of it."""

@final
class NatsReader:
    """Reads what a NATS server says: at most 64 KiB in a line, 64 MiB in a message."""

    def __new__(cls) -> NatsReader: ...
    def feed(self, data: bytes, listener: _NatsListener) -> None:
        """Take bytes, and tell a listener of all that is complete with them, before this returns.

        Its `received` gets the subject and the payload of each message, without headers; `on_status` what comes instead
        where a message has a status, such as ``b"503"``; the others what their names say. An exception of theirs goes
        through, and the reader is of no more use.

        Raises:
            NatsProtocolError: it is malformed, or too long.
        """

@final
class NatsWriter:
    """Collects what is said to a NATS server, to be sent at once.

    Attributes:
        size: bytes that are collected.
        limit: bytes that `publish` may collect; 0 at first, whereupon it takes nothing.
        max_payload: bytes that the payload of a publish may have; 0 at first.
    """

    limit: int
    max_payload: int
    @property
    def size(self) -> int: ...
    def __new__(cls) -> NatsWriter: ...
    def publish(self, subject: bytes, payload: bytes) -> bool:
        """Add a PUB; False if it is not taken, since it is too long or too much is collected already.

        Raises:
            ValueError: the subject has a blank or a control character, or is too long.
        """

    def subscribe(self, subject: bytes) -> None:
        """Add a SUB, whose id is the subject; raises as `publish` does."""

    def unsubscribe(self, subject: bytes) -> None:
        """Add an UNSUB; raises as `publish` does."""

    def take(self) -> bytes:
        """Return what is collected, and begin anew."""

    def clear(self) -> None:
        """Forget it."""

@final
class RespProtocolError(Exception):
    """What came from a server is no RESP, and nothing behind it can be read; the text has none of it."""

@final
class RespError:
    """An error that a server replied with.

    Attributes:
        message: what it says, as in ``b"MOVED 866 127.0.0.1:7002"``.
        code: the first word of that.
    """

    @property
    def message(self) -> bytes: ...
    def __new__(cls, message: bytes) -> RespError: ...
    @property
    def code(self) -> bytes: ...

@final
class RespReader:
    """A reader of RESP: what a server of Redis or Valkey sends, in version 3 or 2.

    Once `feed` has raised, by itself or by one of the two functions, the reader is of no more use.

    Args:
        received: called with the channel and the payload of each message.
        replied: called with every other value but a number by itself, which answers a publish. Strings are bytes,
            errors `RespError`, arrays and sets a list, maps a list of keys and values in turn, pushes a tuple; a
            string that is longer than `max_length` is None.
        max_length: bytes of a string, 8 at least.

    Attributes:
        skipped: messages that were dropped, for want of the form of one or because they are too long.
    """

    @property
    def skipped(self) -> int: ...
    def __new__(
        cls, received: Callable[[bytes, bytes], object], replied: Callable[[Any], object], *, max_length: int = 1048576
    ) -> RespReader: ...
    def feed(self, data: _Data) -> None:
        """Take bytes, cut anywhere.

        Raises:
            RespProtocolError: they are no RESP, or of a size that no server needs.
        """

@final
class RespWriter:
    """Collects commands, to be sent at once.

    Attributes:
        size: bytes that are collected.
        limit: bytes that `publish` may collect; 0 at first, whereupon it takes nothing.
        max_payload: bytes that the payload of a publish may have; 0 at first.
    """

    limit: int
    max_payload: int
    @property
    def size(self) -> int: ...
    def __new__(cls) -> RespWriter: ...
    def publish(self, command: bytes, channel: bytes, payload: bytes) -> bool:
        """Add a command with a channel and a payload; False if it is not taken, since it or all of it is too long."""

    def command(self, *arguments: bytes) -> None:
        """Add any command."""

    def take(self) -> bytes:
        """Return what is collected, and begin anew."""

# --- The parts alone, for tests and measuring.

@final
class FrameReader:
    """A reader of frames without a connection.

    Args:
        max_message_size: bytes of a message.
        max_fragments: frames that a message may come in.
        client: read as a client does, which expects unmasked frames.
        window_bits: 9 to 15 where messages may be compressed (RFC 7692), for windows of that size; 0 where not.
        takeover: whether the peer's window lasts from one compressed message to the next.
    """

    def __new__(
        cls,
        *,
        max_message_size: int = 1048576,
        max_fragments: int = 16384,
        client: bool = False,
        window_bits: int = 0,
        takeover: bool = False,
    ) -> FrameReader: ...
    def feed(self, data: _Data) -> list[tuple[int, str | bytes | None]]:
        """Take bytes; returns the events in them: opcode and message, or last the close code to fail with and None."""

def use_vectors(wanted: bool) -> bool:
    """Use vectors where this machine has them, or plain loops; returns whether vectors were used until now."""

def mask(data: _Data, key: bytes, done: int = 0) -> bytes:
    """Apply a masking key to data that follows `done` bytes of the same payload (RFC 6455 section 5.3)."""

def is_utf8(*pieces: _Data) -> bool | None:
    """Tell whether the pieces together are UTF-8; None while they are and the last character is not complete."""

def build_frame(opcode: int, data: _Data, key: bytes | None = None) -> bytes:
    """Build one unfragmented frame, masked if there is a key (RFC 6455 section 5.2)."""

def read_close_payload(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame's payload, or minus the code to fail with (RFC 6455 section 7.4)."""

def build_close_payload(code: int, reason: str) -> bytes:
    """Build the payload of a close frame; a reason over 123 bytes is cut between two characters."""

def fail_allocation(count: int) -> int:
    """Have the allocation of ours that comes so many from now fail (0: none); only debug builds can.

    Returns how many were still to come until the one that was asked for last: 0 when it has failed. -1: none can.
    """

def live_objects() -> dict[str, int]:
    """Count what exists now in the process.

    Hubs with their receive buffers, connections, chunks of frames, backlogs, and incomplete messages.
    """
