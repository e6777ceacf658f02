"""WebSocket: what annotates a service, and the functions that its handlers call.

A handler takes the arguments that it names. The functions act on the connection whose handler runs, also after an
`await`; those that name their target, with a name, a group or `to=Service`, work anywhere on the thread of the server,
and from other threads through `Server.call_from_thread`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from ._speedups import (
    Connection,
    Connections,
    Delivery,
    Group,
    add_connection_to_group,
    broadcast_binary,
    broadcast_text,
    close_connection,
    close_connection_group,
    close_stored_connection,
    connections,
    counted,
    create_connection_group,
    located,
    push_binary,
    push_binary_to_connection,
    push_binary_to_group,
    push_text,
    push_text_to_connection,
    push_text_to_group,
    remove_connection_from_group,
    remove_connection_group,
    remove_stored_connection,
    store_connection,
)
from .backplane.questions import Count, Location
from .http1.upgrade import Upgrade
from .options import UpgradeOptions, UpgradePathOptions, takes
from .service.marks import UpgradePath, mark_class, mark_method
from .service.paths import check_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "Connection",
    "Connections",
    "Count",
    "Delivery",
    "Group",
    "Location",
    "Upgrade",
    "add_connection_to_group",
    "broadcast_binary",
    "broadcast_text",
    "close_connection",
    "close_connection_group",
    "close_stored_connection",
    "connections",
    "count",
    "create_connection_group",
    "locate",
    "on_backlog",
    "on_backplane",
    "on_binary_message",
    "on_close",
    "on_error",
    "on_idle_timeout",
    "on_open",
    "on_ping",
    "on_pong",
    "on_start",
    "on_stop",
    "on_text_message",
    "on_upgrade",
    "push_binary",
    "push_binary_to_connection",
    "push_binary_to_group",
    "push_text",
    "push_text_to_connection",
    "push_text_to_group",
    "remove_connection_from_group",
    "remove_connection_group",
    "remove_stored_connection",
    "store_connection",
    "upgrade_path",
]

_C = TypeVar("_C", bound=type)
_F = TypeVar("_F", bound=Callable[..., Any])


class _Decorator(Protocol):
    """Marks a method: ``@ws.on_open`` and ``@ws.on_open()`` are the same."""

    @overload
    def __call__(self, handler: _F, /) -> _F: ...
    @overload
    def __call__(self) -> Callable[[_F], _F]: ...


def _with_or_without_parentheses(mark: Callable[[Any], Any]) -> _Decorator:
    @functools.wraps(mark)
    def decorate(*handler: Any) -> Any:
        return mark(*handler) if handler else mark

    return decorate


@takes(UpgradePathOptions)
def upgrade_path(path: str, **options: Unpack[UpgradePathOptions]) -> Callable[[_C], _C]:
    """Annotate a class: clients connect at this path, under the base path.

    Args:
        path: joined to the base path; `{name}` segments are given to handlers that name them.
        subprotocols: what the service speaks; the first of the client's list that is among them is used.
        max_message_size: bytes of a message; a larger one fails the connection with 1009 before it is buffered.
        idle_timeout: seconds without a message from the client until `on_idle_timeout`, and again after as many more.
            A service without that handler closes the connection with 1001. None never does.
        ping_interval: seconds without a byte from the client, or without one to it, until a ping is sent; None sends
            none.
        ping_timeout: seconds to wait for any sign of life after a ping until the connection fails with 1011; None waits
            forever. A byte from the client is one, and while the ping waits behind other messages so is each that the
            client takes.
        max_backlog: bytes of frames that may wait for a client that does not read, as `connection.buffered` counts
            them; `overflow` says what happens beyond. A message is always taken when nothing waits, whatever its size.
        high_water: bytes that wait for a client from which on `on_backlog` is told, and again when no more than a
            fourth of that wait; None is half of `max_backlog`.
        overflow: what happens when a message does not fit, unless the push says otherwise. `"close"` ends the
            connection with `overflow_code`, `"drop_new"` drops the message, `"drop_old"` drops the oldest ones that
            wait. `"conflate"` is for services whose messages have keys (`push_text(..., key=...)`) and replace each
            other; what does not fit all the same ends the connection.
        overflow_code: the close code for a client for which too much waits, by `max_backlog` or by the server's
            `max_total_backlog` (RFC 6455 section 7.4). A third of the client libraries turn 1013 into 1002 or an
            error; 1001, 1011 and 3000 to 4999 arrive everywhere, see docs/clients.md.
        kernel_backlog: bytes that may lie unsent in the kernel before messages wait here, where `overflow` and keys see
            them. Less keeps what a slow client reads fresh, more saves system calls for large messages. None leaves it
            to the kernel, which takes up to 4 MB on Linux. ``"auto"`` is what `serve` says, and where that says nothing
            16384 with `"drop_old"` and `"conflate"`, 1048576 with the others.
        max_queue: messages that may wait for a suspended `async` handler until reading is paused; they are also
            bounded by `max_message_size` in sum.
        max_fragments: frames that one message may come in; more fail the connection with 1008.
        max_message_rate: messages, pings and pongs a second that a client may send on average, with bursts of as many
            as that within a second; more fail the connection with 1008. None allows any.
        allowed_origins: origins that browsers may connect from, such as `"https://example.com"`; others get a 403.
            Clients that send no Origin get it too. None allows any (RFC 6455 section 10.2).
        upgrade_timeout: seconds that an `async` `on_upgrade` may take until it is cancelled and the client gets a 503;
            None waits forever.
        compression: permessage-deflate (RFC 7692). `"shared"` compresses each message on its own, so that a connection
            owns no memory for it and a broadcast is compressed once for all. `"dedicated"` keeps a history per
            connection in each direction: small messages that resemble each other shrink more, at some 20 KiB per
            connection with the default window, 48 KiB where the client cannot be told to keep to it. None speaks no
            compression.
        compression_threshold: bytes from which on a message to a client is compressed, if that makes it smaller. 0
            compresses all but the empty one, also those that grow, for clients that need it.
        compression_level: 1, the fastest, to 9, the smallest.
        compression_window_bits: 9 to 15; no window is larger than two to the power of this many bytes, but that of a
            client which offers no `client_max_window_bits`: 15. None is 15 where windows are shared and 12 where they
            are dedicated.

    Raises:
        ConfigurationError: an option is wrong; the message names it.
    """
    marked = UpgradePath(check_path(path, "ws.upgrade_path"), UpgradeOptions(**options))
    return lambda cls: mark_class(cls, "upgrade_path", marked)


@_with_or_without_parentheses
def on_upgrade(handler: _F) -> _F:
    """Call the method before a WebSocket opens, in order to refuse the client or to say how it is let in.

    It may take `request` (an `http.Request`), `upgrade` (an `Upgrade`) and the segments of the path. The opening
    handshake is in order by then, origin included. Returning None lets the client in. ``raise http.Refuse(401, ...)``
    refuses it with that status, its headers and its body; any other exception, and any other result, is logged and
    refuses it with 500.

    An `async` one holds up nobody else. It is cancelled when the client leaves, and with a 503 for the client after
    `upgrade_timeout` seconds or when the server stops. There is no current connection yet, so that functions which act
    on it raise `NoCurrentConnectionError`; broadcasts go to the clients of this service, of which this one is none yet.
    Context variables that are set here are seen by tasks that are started here, not by later handlers; what those are
    to know goes into `upgrade.attributes`.
    """
    return mark_method(handler, "on_upgrade")


@_with_or_without_parentheses
def on_open(handler: _F) -> _F:
    """Call the method when a connection has opened. It may take `connection`."""
    return mark_method(handler, "on_open")


@_with_or_without_parentheses
def on_text_message(handler: _F) -> _F:
    """Call the method with each text message. It may take `connection` and `text`; what it returns is its reply."""
    return mark_method(handler, "on_text_message")


@_with_or_without_parentheses
def on_binary_message(handler: _F) -> _F:
    """Call the method with each binary message. It may take `connection` and `data`; what it returns is its reply."""
    return mark_method(handler, "on_binary_message")


@_with_or_without_parentheses
def on_ping(handler: _F) -> _F:
    """Call the method when the client pings. It may take `connection` and `data`; the pong is sent without it."""
    return mark_method(handler, "on_ping")


@_with_or_without_parentheses
def on_pong(handler: _F) -> _F:
    """Call the method with each pong. It may take `connection` and `data`."""
    return mark_method(handler, "on_pong")


@_with_or_without_parentheses
def on_idle_timeout(handler: _F) -> _F:
    """Call the method when no message came for `idle_timeout` seconds. It may take `connection`."""
    return mark_method(handler, "on_idle_timeout")


@_with_or_without_parentheses
def on_backlog(handler: _F) -> _F:
    """Call the method when more than `high_water` bytes wait for a client that is slow to read, and when few do again.

    It may take `connection`, `buffered` (bytes that waited when it was noticed) and `high` (a bool: whether it is more
    now). It is called at the end of the turn of the loop, once however often that changed meanwhile.
    """
    return mark_method(handler, "on_backlog")


@_with_or_without_parentheses
def on_error(handler: _F) -> _F:
    """Call the method when another handler failed, before the connection closes with 1011.

    It may take `connection` and `error`.
    """
    return mark_method(handler, "on_error")


@_with_or_without_parentheses
def on_close(handler: _F) -> _F:
    """Call the method exactly once for each connection that opened, after it left every group and registry.

    It may take `connection`, `code` and `reason`: those of the client's close frame, else of ours, else 1006 and "".
    `sent_code` and `received_code` tell what either side said: 1005 is a close frame without a code, None no close
    frame (RFC 6455 section 7.1.5). Some clients answer every code with 1000; then that is `code`, and `sent_code`
    tells what they were told.

    It comes after the connection's other handlers. One that is still suspended `close_timeout` seconds after the end
    is cancelled.
    """
    return mark_method(handler, "on_close")


@overload
def on_start(handler: _F, /) -> _F: ...
@overload
def on_start(*, once: bool = False) -> Callable[[_F], _F]: ...
def on_start(handler: Any = None, /, *, once: bool = False) -> Any:
    """Call the method when the server starts. It may take `server`.

    An `async` one is the service's background work: the server does not wait for it and cancels it when it stops.
    Services start in the order in which they are served. Where one raises the server does not start: the `on_stop` of
    those before it run, and the error comes out of ``async with``.

    With several workers it runs in each of them, on each machine: each has an instance of the service of its own, and
    what a method keeps in `self` is that worker's alone.

    Args:
        handler: the method, where the decorator has no parentheses.
        once: call it in one of all nodes only (workers, and machines with the same backplane and cluster): the one that
            has been there longest. When that one ends, another calls its own, within 7 s where it did not say goodbye,
            and one that stood still meanwhile has its task cancelled when it goes on. It is for what must not be done
            by several, such as a ticker. While the backplane is away everything stays as it is, so before it was there
            for the first time nobody does it; two parts of a network that is cut have one each. What it raises is
            logged.
    """

    def mark(method: _F) -> _F:
        return mark_method(method, "on_start_once" if once else "on_start")

    return mark if handler is None else mark(handler)


@_with_or_without_parentheses
def on_stop(handler: _F) -> _F:
    """Call the method when the server stops, after all connections have ended. It may take `server`.

    It runs where `on_start` did not fail, whatever the `on_stop` of other services raise. An `async` one has
    `close_timeout` seconds, and is cancelled then.
    """
    return mark_method(handler, "on_stop")


@_with_or_without_parentheses
def on_backplane(handler: _F) -> _F:
    """Call the method when the way to other nodes changes. It may take `state`, `node`, `target`, `missing`, `server`.

    `state` is ``"up"`` when messages flow, also when the service starts; ``"down"`` when none do, until ``"up"``: what
    was said meanwhile is lost, and what was said until that was noticed, within 6 s; and ``"gap"`` when some messages
    to this node are lost. Then `node` is the id of the node whose messages they were, or None if they may be anybody's.
    `target` is whom they were for, ``("group", name)``, ``("connection", name)`` or ``("service", path)``, or None for
    any; and `missing` how many, 0 if that is not known. A service may have its clients fetch anew what they may have
    missed, or close them with 1012.

    A gap is known when the next message comes, when the node that lost something tells so, or when one ends without a
    word.
    """
    return mark_method(handler, "on_backplane")


async def count(group: str | None = None, *, to: object = None, timeout: float = 1.0) -> Count:
    """Count the connections of a group, or of a service, on all nodes.

    Args:
        group: its name; None counts those of the service whose handler runs, or of `to`.
        to: the class or the instance that is served.
        timeout: seconds to wait for the other nodes.

    Returns:
        The number, whose `complete` tells whether all nodes answered that there are known to be.

    Raises:
        NoCurrentConnectionError: no group and no service is named, and no handler runs.
        NotServingError: nothing is served on this thread, or not `to`.
    """
    node, kind, name, here = counted(group, to)
    return Count(here) if node is None else await node.count(kind, name, timeout)


async def locate(name: str, *, timeout: float = 1.0) -> Location:
    """Find the node on which the connection is that is stored under a name.

    Args:
        name: as `store_connection` was given it.
        timeout: seconds to wait for the other nodes.

    Returns:
        Where it is, true if it is anywhere; its `complete` tells whether all nodes answered that there are known to be.
    """
    node, here = located(name)
    if node is None:
        return Location(None, True, here)
    location: Location = await node.locate(name, timeout)
    return location
