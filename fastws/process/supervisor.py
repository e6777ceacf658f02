"""Several processes that serve as one: their supervisor, which serves nothing itself and imports nothing of the user's.

Theory of operation. The supervisor opens the listening sockets and keeps them open, so that no client is lost that the
kernel has queued, whatever becomes of a worker. It starts each worker (`child.py`), gives it the sockets, and each pair
of workers gets a connection of its own. At the beginning nobody serves until all have loaded what they serve: an error
of one is the error of all, said once. Later one that ends is started again, and a restart replaces one after another
(`place.py`); a successor that cannot start ends the restart, and nobody else.

Nobody outlives anybody. A worker that does not end in time is killed, and all of them end when the control socket does,
which happens also where the supervisor is killed.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError, StartError
from ..logs import Log
from ..net.share import Table
from ..net.sockets import ListeningSockets
from ..options import ServeOptions, ServerOptions
from ..server.drain import DRAIN_TIME
from ..server.patience import Patience, closing_time
from ..server.signals import ENDING, Signals, is_unhandled
from . import reload
from .activation import activated
from .child import Child, Stage
from .escalation import DRAINING, Escalation, Step
from .loading import UsageError, WorkerError
from .notify import Notifier
from .order import number_of, order_of
from .place import Place
from .saying import say
from .status import Kind, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .control import Message

__all__ = ["supervise"]

logger = Log("fastws")

HURRY_TIMEOUT: Final = 2 * Patience.grace
# Who waits for a reload kills us after that time, and then workers would hold the port a moment longer
RELOAD_TIMEOUT: Final = reload.STOP_TIMEOUT - 0.5

# What a worker says of an error, by its kind.
_FAILURES: Final = {"usage": UsageError, "configuration": ConfigurationError, "failure": WorkerError}


def supervise(
    targets: Sequence[object],
    workers: object,
    given: ServeOptions,
    *,
    log_level: str | None = None,
    lifeline: reload.Lifeline | None = None,
) -> None:
    """Serve in several processes until a signal; blocks.

    Args:
        targets: names of services.
        workers: how many processes, or "auto".
        given: options of the server.
        log_level: what workers log, at least; None leaves that to the program.
        lifeline: what ends us with whom has started us.

    Raises:
        ConfigurationError: of ours, or of a worker.
        WorkerError: of a worker, any other one.
        StartError: a worker ended before it served, or this is not the main thread.
        OSError: we cannot listen there.
    """
    count = number_of(workers)
    order = order_of(targets, given, log_level)
    options = ServerOptions(**given)
    if threading.current_thread() is not threading.main_thread():
        raise StartError("workers are started in the main thread: elsewhere no signal would ever end them")
    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(_Supervisor(loop, count, order, options, activated(given)).run(lifeline))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


class _Supervisor:
    """Has workers serve.

    Args:
        loop: its own.
        count: of workers.
        order: what each of them is told.
        options: of the server.
        inherited: sockets to listen at, instead of where the options say.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        count: int,
        order: dict[str, Any],
        options: ServerOptions,
        inherited: ListeningSockets | None,
    ) -> None:
        self._loop = loop
        self._count = count
        self._order = order
        self._options = options
        self._inherited = inherited
        given = inherited is not None or options.sock is not None or options.unix is not None
        self._shares = given or not options.reuse_port
        self._workers: list[Child] = []  # all that live
        self._places: list[Place] = []
        self._free_rows = list(range(count + 1))  # of the table; one is for a successor
        self._sockets: ListeningSockets
        self._table: int
        self._rows: Table
        self._news = asyncio.Event()  # of any worker
        self._serving = False
        self._ending = asyncio.Event()
        self._closed = False
        self._closing_time = closing_time(options.close_timeout)
        self._listing = ""
        self._escalation = Escalation(options.drain is not None)
        self._restart_asked = asyncio.Event()
        # nohup has the signal ignored
        self._ends_with_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        self._status: Status
        self._notifier = Notifier.of_environment()

    async def run(self, lifeline: reload.Lifeline | None) -> None:
        ending = [*ENDING, *filter(is_unhandled, DRAINING)]
        hanging_up = Signals(self._loop, [signal.SIGHUP], self._hung_up)
        with Signals(self._loop, ending, self._signalled), hanging_up, Status(Kind.SUPERVISOR) as self._status:
            self._sockets = self._inherited or await ListeningSockets.bind(self._loop, self._options)
            if self._shares:
                self._sockets.listen(self._options.backlog)
            self._table = Table.create(self._count + 1)
            self._rows = Table(self._table)
            if lifeline is not None:
                lifeline.serves(lambda: self._loop.call_soon_threadsafe(self._close, RELOAD_TIMEOUT))
            try:
                await self._serve()
            finally:
                self._close()
                await asyncio.gather(*(worker.ended for worker in self._workers))
                self._notifier.end()
                os.close(self._table)

    async def _serve(self) -> None:
        for number in range(self._count):
            self._places.append(Place(functools.partial(self._start, number), self._ending))
        if not await self._reach(Stage.LOADED):
            return
        self._serving = True
        self._tell("serve")
        if await self._reach(Stage.READY):
            say(self._listing, sys.stdout)
            self._notifier.ready()
            self._notifier.live(self._loop)
            restarting = self._loop.create_task(self._restart_when_asked())
            await asyncio.gather(*(place.keep() for place in self._places))
            restarting.cancel()

    async def _reach(self, stage: Stage) -> bool:
        """Wait until all are as far; False if they shall end before.

        Raises:
            Exception: one of them has ended instead.
        """
        while not self._ending.is_set():
            workers = [place.worker for place in self._places]
            for worker in workers:
                if worker.stage is Stage.ENDED:
                    raise worker.why_not()
            if all(worker.stage >= stage for worker in workers):
                return True
            await self._news.wait()
            self._news.clear()
        return False

    # --- A worker begins.

    def _start(self, number: int, predecessor: Child | None) -> Child:
        own = [] if self._shares else self._own_sockets(predecessor)
        row = self._free_rows.pop(0)
        try:
            worker = Child(self._loop, number, row, own, self._heard, self._went)
        except OSError:
            self._free_rows.append(row)
            for sock in own:
                sock.close()
            raise
        self._workers.append(worker)
        descriptors = [self._table, *(sock.fileno() for sock in own or self._sockets.sockets)]
        worker.send("start", descriptors, number=number, row=row, shares=self._shares, **self._order)
        return worker

    def _own_sockets(self, predecessor: Child | None) -> list[socket.socket]:
        """Return those of the predecessor, with all whom the kernel has queued there, or new ones."""
        return self._sockets.again() if predecessor is None else [sock.dup() for sock in predecessor.sockets]

    def _heard(self, worker: Child, message: Message) -> None:
        if message.name == "loaded":
            self._link(worker)
            worker.stage = Stage.LOADED
            if self._serving:
                worker.send("serve")
        elif message.name == "ready":
            worker.stage = Stage.READY
            worker.ready.set_result(None)
            self._listing = message.told["listing"]
        elif message.name == "failed":
            worker.failure = _FAILURES[message.told["kind"]](message.told["text"])
        self._news.set()

    def _link(self, newcomer: Child) -> None:
        """Connect it to all that are there; whoever comes later is connected to it."""
        for worker in self._workers:
            if worker.stage in (Stage.LOADED, Stage.READY):
                try:
                    one, other = socket.socketpair()
                except OSError:
                    newcomer.kill()  # to be tried again
                    return
                with one, other:
                    newcomer.send("link", [one.fileno()])
                    worker.send("link", [other.fileno()])

    def _went(self, worker: Child) -> None:
        self._rows.clear(worker.row)
        self._free_rows.append(worker.row)
        self._workers.remove(worker)
        self._news.set()

    # --- Each is replaced.

    def _hung_up(self, _number: int) -> None:
        """Have certificates read again, and all begin anew; or all end with the terminal that has gone."""
        if self._ends_with_terminal and not _has_terminal():
            self._close()
            return
        if self._options.certfile is not None:
            self._tell("reload")  # those that it takes a while to replace
        self._status.ask()
        self._restart_asked.set()

    async def _restart_when_asked(self) -> None:
        while True:
            await self._restart_asked.wait()
            self._restart_asked.clear()
            asked = self._status.asked
            self._notifier.reloading()
            failed = not await self._restart()
            self._status.answer(asked, failed=failed)
            self._notifier.ready()

    async def _restart(self) -> bool:
        """Replace all workers; False where one of them could not be."""
        logger.info("the workers are replaced one after another")
        over = (self._options.drain or DRAIN_TIME) / self._count
        try:
            for place in self._places:
                await place.replace(over, self._closing_time)
        except (OSError, ConfigurationError, StartError) as error:
            if not self._ending.is_set():
                logger.error("the restart ends here, and those that serve go on: %s", error)
            return False
        logger.info("all workers were replaced")
        return True

    # --- All end.

    def _tell(self, name: str) -> None:
        for worker in self._workers:
            worker.send(name)

    def _signalled(self, number: int) -> None:
        step = self._escalation.next(number)
        if step is Step.DRAIN:
            self._drain()
        elif step is Step.CLOSE:
            self._close()
        elif step is Step.HURRY:
            self._tell("hurry")
            self._kill_after(HURRY_TIMEOUT)
        elif step is Step.KILL:
            self._kill()

    def _drain(self) -> None:
        """Have all end over a time; meanwhile they accept, to say no."""
        if not self._serving:
            self._close()
            return
        time = (self._options.drain or DRAIN_TIME) + self._closing_time
        self._begin_to_end(time)
        elsewhere = bool(self._options.health or self._options.backplane)
        for worker in self._workers:
            if worker.stage is Stage.READY:
                worker.send("drain", elsewhere=elsewhere)
            else:
                worker.send("close")
        self._kill_after(time)

    def _close(self, timeout: float = math.inf) -> None:
        """Have all end, and listen no more."""
        if not self._closed:
            self._closed = True
            self._begin_to_end(self._closing_time)
            self._sockets.close()
            self._tell("close")
            self._kill_after(self._closing_time)
        if timeout < math.inf:
            self._kill_after(timeout)

    def _begin_to_end(self, seconds: float) -> None:
        self._ending.set()
        self._news.set()
        self._notifier.stopping(seconds)

    def _kill_after(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._kill)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
