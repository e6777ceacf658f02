"""A child of a fork has no part in what its parent serves.

Handlers start processes: with `multiprocessing`, a `ProcessPoolExecutor`, `os.fork`. Such a child is a copy of the
server, but some of what it has is no copy: its descriptors stand for the parent's sockets, and the epoll of the event
loop is the parent's, too. So in the child, before anything else happens there:

- Signals get their default action where the loop would handle them, and the parent's loop is told of none. None comes
  before that: they are held back in the thread that forks, while it does.
- Every socket of the server's gives way to one that nobody talks to, under the same number. Closed, it would leave that
  number to a file of the child's, and what is left of the loop and its transports would read and close it.
- The epoll gives way to a new one in the same manner: the parent's would do what the child tells it.
- The core gives up its hubs (`core/forking.pxi`), and functions raise `ForkedProcessError`.

A child does its work and exits, or serves on a loop of its own. One that comes back into its parent's loop is ended
before that polls, and the log says why: what waits in that loop would be done twice.

A program that is started (`subprocess`) inherits nothing of ours: all our descriptors are closed when it begins.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn

from .._speedups import abandon_hubs, hold_signals, on_fork, release_signals
from ..logs import Log

if TYPE_CHECKING:
    import asyncio

__all__ = ["end", "note"]

logger = Log("fastws")

LOOPS: Final = frozenset({"asyncio", "fastws", "uvloop"})  # packages whose signal handlers need their loop

_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_inert: list[socket.socket] = []  # of this process, if it is a child: both ends


def note(sock: socket.socket) -> None:
    """Have children of a fork part with a socket: one that listens, or that has a transport of the loop's."""
    _sockets.add(sock)


def _part() -> None:
    """In a child: part with the parent."""
    loops, descriptors = abandon_hubs()
    if not loops:
        return
    _reset_signals()
    descriptors += [sock.fileno() for sock in _sockets]
    _inert[:] = socket.socketpair()
    _inert[0].setblocking(False)
    for descriptor in descriptors:
        if descriptor >= 0:
            os.dup2(_inert[0].fileno(), descriptor, inheritable=False)
    for loop, runs_here in loops:
        _replace_poll(loop)
        if runs_here:
            _end_next(loop)


def _reset_signals() -> None:
    """Let the parent's loop know of no signal, and let those happen that it would have handled."""
    with contextlib.suppress(ValueError):  # a fork past Python, in another thread than the main one
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            # While libuv has a program running it handles SIGCHLD past Python, through a pipe that both share
            if _is_of_loop(handler) or (number == signal.SIGCHLD and handler == signal.SIG_DFL):
                signal.signal(number, _default_of(number))


def _default_of(number: int) -> Any:
    # One that waits already would be an exception in a hook, where Python drops it
    raises = number == signal.SIGINT and number not in signal.sigpending()
    return signal.default_int_handler if raises else signal.SIG_DFL


def _is_of_loop(handler: Any) -> bool:
    function = getattr(handler, "func", handler)  # that of asyncio.run is a partial
    return str(getattr(function, "__module__", "")).partition(".")[0] in LOOPS


def _replace_poll(loop: asyncio.AbstractEventLoop) -> None:
    descriptor = _poll_of(loop)
    if descriptor is not None:
        with select.epoll() as poll:
            os.dup2(poll.fileno(), descriptor, inheritable=False)


def _end_next(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop end the child before it does anything else, where it lets us: the core sees to uvloop's."""
    loop.call_soon(end)
    ready = getattr(loop, "_ready", None)
    if ready is not None:
        ready.rotate(1)


def _poll_of(loop: Any) -> int | None:
    """Return the epoll of a loop, if it has one: others are not inherited."""
    if not hasattr(select, "epoll"):
        return None
    if hasattr(loop, "_get_backend_id"):  # uvloop
        return int(loop._get_backend_id())
    fileno = getattr(getattr(loop, "_selector", None), "fileno", None)
    return None if fileno is None else int(fileno())


def end() -> NoReturn:
    """End a child that came back into the loop of its parent; where SystemExit brings it, with the status of that."""
    error = sys.exc_info()[1]
    status: Any = 1
    if isinstance(error, SystemExit):
        status = 0 if error.code is None else error.code
    else:
        logger.error(
            "process %d was forked from the one that serves and came back into its event loop: it is ended; "
            "let it end itself with os._exit()",
            os.getpid(),
        )
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status & 0xFF)


on_fork(_part, end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=hold_signals, after_in_parent=release_signals, after_in_child=_part)
    os.register_at_fork(after_in_child=release_signals)
