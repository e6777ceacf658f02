"""A worker: one of the processes that serve for a supervisor (`supervisor.py`), and what it hears from that.

Two threads. The main one loads the services and serves them. The other one reads what the supervisor says from the
first moment on, so that it is heard also while a module is being imported or a handler holds up the loop: until there
is a loop to tell, what shall end this process ends it by SIGTERM. When the supervisor ends, whatever ends it, the
stream does, too, and nobody is left behind.

Signals of the terminal go to all of its processes. They are the supervisor's affair, and no worker's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from ..backplane.workers import Mesh
from ..errors import ConfigurationError
from ..logs import WORKER_LOG_FORMAT, show_logs
from ..net import forking
from ..net.share import Share, Table
from ..net.sockets import ListeningSockets, keep_standard_descriptors
from ..server.server import Server
from ..server.signals import OF_TERMINAL, leave_to_others
from . import reload
from .announcement import listing
from .control import Control, Message
from .loading import UsageError, describe, load
from .notify import Notifier
from .run import Ending, raise_file_limit, reload_certificate, runner
from .status import Kind, Status

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

MAX_ERROR: Final = 1 << 15  # letters of what is told of an error; of a traceback the end says most

# What the end of the stream says.
_ORPHANED: Final = "orphaned"
_ENDING: Final = frozenset({"close", "hurry", _ORPHANED})


def main() -> int:
    """Serve what the supervisor says; returns the exit status."""
    leave_to_others(OF_TERMINAL)
    control = Control(socket.socket(fileno=int(sys.argv[1])))
    messages = control.receive()
    while messages == []:
        messages = control.receive()
    if messages is None:
        return 0  # it was killed meanwhile
    start, *early = messages
    return _Worker(control, start, _Orders(control, early)).run()


class _Worker:
    """Serves as `start` says."""

    def __init__(self, control: Control, start: Message, orders: _Orders) -> None:
        self._control = control
        self._told: dict[str, Any] = start.told
        self._orders = orders
        table, *sockets = start.descriptors
        self._sockets = [socket.socket(fileno=descriptor) for descriptor in sockets]
        self._share = Share(Table(table), start.told["row"]) if start.told["shares"] else None
        os.close(table)
        options = start.told["options"]
        self._mesh = Mesh() if options.get("backplane") is None else None  # over an engine they hear each other, too
        self._is_ready = False

    def run(self) -> int:
        told = self._told
        multiprocessing.current_process().name = f"worker {told['number'] + 1}"
        keep_standard_descriptors()
        if told["log_level"] is not None:
            logging.basicConfig(level=told["log_level"], format=WORKER_LOG_FORMAT)
        try:
            server = self._load()
            runner()(self._serve(server))
        except Exception as error:
            if self._is_ready:
                raise
            self._tell_failure(error)
            return 1
        return 0

    def _load(self) -> Server:
        try:
            services = load(self._told["targets"])
        except Exception as error:
            reload.report(error)
            raise
        reload.report()
        server = Server(*services, **{**self._told["options"], **({"backplane": self._mesh} if self._mesh else {})})
        server.inherit(ListeningSockets(self._sockets), self._share)
        show_logs(access=server.access_log, format=WORKER_LOG_FORMAT)
        raise_file_limit()
        self._tell("loaded")
        self._orders.wait_for_serve()
        return server

    async def _serve(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        ending = Ending(server, [signal.SIGTERM], Notifier())
        obey: dict[str, Callable[[Message], None]] = {
            "link": self._connect,
            "reload": lambda _: reload_certificate(server),
            "drain": lambda message: ending.drain(**message.told),
            "yield": lambda message: ending.yield_to(**message.told),
            "close": lambda _: ending.close(),
            "hurry": lambda _: ending.hurry(),
            _ORPHANED: lambda _: ending.insist(),
        }
        with ending.signals, Status(Kind.WORKER):
            self._orders.follow(loop, obey)
            async with server:
                self._is_ready = True
                self._tell("ready", listing=listing(server))
                await server.until(ending.asked)

    def _connect(self, message: Message) -> None:
        link = socket.socket(fileno=message.descriptors[0])
        if self._mesh is None:
            link.close()
        else:
            forking.note(link)
            self._mesh.connect(link)

    # --- What the supervisor hears.

    def _tell_failure(self, error: Exception) -> None:
        if isinstance(error, ConfigurationError):
            kind, text = "usage" if isinstance(error, UsageError) else "configuration", str(error)
        else:
            kind, text = "failure", describe(error)[0]
        self._tell("failed", kind=kind, text=text[-MAX_ERROR:])

    def _tell(self, name: str, **told: object) -> None:
        with contextlib.suppress(OSError):  # it has gone, which the other thread sees
            self._control.send(name, **told)


class _Orders:
    """Hears the supervisor, in a thread of its own.

    Args:
        control: the socket.
        early: messages that came with the first one.
    """

    def __init__(self, control: Control, early: list[Message]) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._early: list[Message] = []  # for the loop, once there is one
        self._serve = threading.Event()
        self._pass_on: Callable[[Message], object] | None = None
        for message in early:
            self._take(message)
        threading.Thread(target=self._hear, name="fastws worker", daemon=True).start()

    def wait_for_serve(self) -> None:
        """Wait until it is time to serve."""
        self._serve.wait()

    def follow(self, loop: asyncio.AbstractEventLoop, obey: dict[str, Callable[[Message], None]]) -> None:
        """Have all that comes done on a loop from now on, and what has come at once."""
        with self._lock:
            for message in self._early:
                obey[message.name](message)
            self._pass_on = lambda message: loop.call_soon_threadsafe(obey[message.name], message)

    def _hear(self) -> None:
        while (messages := self._control.receive()) is not None:
            for message in messages:
                self._take(message)
        self._end_as_orphan()

    def _take(self, message: Message) -> None:
        with self._lock:
            if message.name == "serve":
                self._serve.set()
            elif self._pass_on is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                    self._pass_on(message)
            elif message.name in _ENDING:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                self._early.append(message)

    def _end_as_orphan(self) -> None:
        self._take(Message(_ORPHANED, {}, []))
        time.sleep(reload.ORPHAN_TIMEOUT)
        os.kill(os.getpid(), signal.SIGKILL)
