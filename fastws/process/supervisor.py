"""Several processes that serve as one: their supervisor, which serves nothing itself and imports nothing of the user's.

Theory of operation. The supervisor opens the listening sockets and keeps them open, so that no client is lost that the
kernel has queued, whatever becomes of a worker. It starts each worker as a new interpreter (`worker.py`), gives it the
sockets on a control socket (`control.py`), and each pair of workers gets a connection of its own. At the beginning
nobody serves until all have loaded what they serve: an error of one is the error of all, said once. Later a worker that
ends is started again, after a pause that grows while it keeps ending.

A restart replaces them one after another: a successor starts, is connected to all, and accepts; then its predecessor
accepts no more and closes its clients over its part of the time. Both are nodes of their own meanwhile, and what is
pushed reaches each client on the one that it is connected to. One that cannot start ends the restart, and nobody else.

Nobody outlives anybody. A worker that does not end in time is killed, and all of them end when the control socket does,
which happens also where the supervisor is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError, StartError
from ..logs import Log
from ..net.share import Table
from ..net.sockets import ListeningSockets
from ..options import ServeOptions, ServerOptions
from ..server.drain import DRAIN_TIME
from ..server.patience import Patience
from ..server.signals import ENDING, Signals, hold_back, is_unhandled
from . import reload
from .activation import activated
from .control import Control, Message
from .escalation import DRAINING, Escalation, Step
from .loading import UsageError, WorkerError
from .notify import Notifier
from .saying import say
from .status import Kind, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["supervise"]

logger = Log("fastws")

MAX_WORKERS: Final = 64  # each has a connection to each of the others
FIRST_DELAY: Final = 0.1  # seconds until a worker is started again
LONGEST_DELAY: Final = 5.0  # seconds
START_TIMEOUT: Final = 120.0  # seconds until a successor serves
STEADY: Final = 10.0  # seconds that a worker lives if nothing is wrong with it
# Beyond what a server may take: its clients, then its services
CLOSING_GRACE: Final = Patience.grace
HURRY_TIMEOUT: Final = 2 * Patience.grace
# Who waits for a reload kills us after that time, and then workers would hold the port a moment longer
RELOAD_TIMEOUT: Final = reload.STOP_TIMEOUT - 0.5

# Not -m, which would look first into the working directory, for modules of the standard library, too
_MAIN: Final = "import sys; sys.path[:] = {path!r}; from fastws.process.worker import main; sys.exit(main())"


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
    count = _number_of(workers)
    order = {
        "targets": _names(targets),
        "options": _portable_options(given),
        "log_level": log_level,
    }
    options = ServerOptions(**given)
    if threading.current_thread() is not threading.main_thread():
        raise StartError("workers are started in the main thread: elsewhere no signal would ever end them")
    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(_Supervisor(loop, count, order, options, activated(given)).run(lifeline))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


# --- What it is given.


def _number_of(workers: object) -> int:
    if not hasattr(socket, "send_fds"):
        raise ConfigurationError("workers: this system cannot pass sockets to other processes")
    if workers == "auto":
        return min(_cores(), MAX_WORKERS)
    if not isinstance(workers, int) or isinstance(workers, bool) or not 1 <= workers <= MAX_WORKERS:
        raise ConfigurationError(f'workers={workers!r}: give a whole number from 1 to {MAX_WORKERS}, or "auto"')
    return workers


def _cores() -> int:
    """Return how many cores this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota())))


def _quota() -> float:
    """Return how many cores a container may use, if there is a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such thing, or "max"
        return math.inf


def _names(targets: Sequence[object]) -> list[str]:
    if not targets:
        raise ConfigurationError("there is nothing to serve: give at least one service")
    for target in targets:
        if not isinstance(target, str):
            raise ConfigurationError(
                f'workers import what they serve: name it, as "module:Class" or "file.py", instead of giving {target!r}'
            )
    return list(map(str, targets))


def _portable_options(given: ServeOptions) -> dict[str, Any]:
    if given.get("ssl") is not None:
        raise ConfigurationError("ssl: a context cannot go to workers; give certfile and keyfile instead")
    return {name: _portable(name, value) for name, value in given.items() if name not in ("sock", "ssl")}


def _portable(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, os.PathLike)):
        return os.fsdecode(value)
    if isinstance(value, Iterable):
        return [_portable(name, item) for item in value]
    raise ConfigurationError(f"{name}={value!r}: this cannot go to workers, which are processes of their own")


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


# What a worker says of an error, by its kind.
_FAILURES: Final = {"usage": UsageError, "configuration": ConfigurationError, "failure": WorkerError}


# --- A worker, as its supervisor sees it.


class _Stage(enum.IntEnum):
    STARTED = 1
    LOADED = 2
    READY = 3
    ENDED = 4


class _Worker:
    """A process, from its start to its end.

    Args:
        loop: of the supervisor.
        number: from 0 on; a successor has the same.
        row: of the table of all.
        sockets: that it listens at and others do not, which are ours until it ends.
        heard: called with what it says.
        went: called when it has ended.

    Attributes:
        stage: how far it is.
        ready: done when it serves.
        relieved: done when it has a successor.
        ended: how it ended, as the rest of a sentence.
        failure: what it said of why it cannot start.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        row: int,
        sockets: list[socket.socket],
        heard: Callable[[_Worker, Message], None],
        went: Callable[[_Worker], None],
    ) -> None:
        self._loop = loop
        self._heard = heard
        self._went = went
        self._born = time.monotonic()
        self.number = number
        self.row = row
        self.sockets = sockets
        self.name = f"worker {number + 1}"
        self.stage = _Stage.STARTED
        self.ready: asyncio.Future[None] = loop.create_future()
        self.relieved: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.lifetime = 0.0
        self.failure: Exception | None = None
        self._control, theirs = Control.pair()
        try:
            self._process = _spawn(theirs)
        except OSError:
            self._control.close()
            raise
        finally:
            theirs.close()
        loop.add_reader(self._control.sock, self._read)
        threading.Thread(target=self._wait, name=f"fastws {self.name}", daemon=True).start()

    def send(self, name: str, descriptors: Sequence[int] = (), /, **told: object) -> None:
        """Tell it something; one that has not read for so long that this does not fit is killed."""
        if self.stage is _Stage.ENDED:
            return
        try:
            self._control.send(name, descriptors, **told)
        except OSError:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def _read(self) -> None:
        try:
            messages = self._control.receive()
        except ValueError:  # somebody else has written there
            messages = None
            self.kill()
        if messages is None:
            self._loop.remove_reader(self._control.sock)
        for message in messages or ():
            self._heard(self, message)

    def _wait(self) -> None:
        status = self._process.wait()
        self._loop.call_soon_threadsafe(self._end, status)

    def _end(self, status: int) -> None:
        if self._loop.remove_reader(self._control.sock):
            self._read()  # what it said last
            self._loop.remove_reader(self._control.sock)
        self._control.close()
        for sock in self.sockets:
            sock.close()
        self.stage = _Stage.ENDED
        self.lifetime = time.monotonic() - self._born
        self.ended.set_result(_how(status))
        self._went(self)


def _spawn(control: socket.socket) -> subprocess.Popen[bytes]:
    descriptor = control.fileno()
    with hold_back():
        command = [sys.executable, "-c", _MAIN.format(path=sys.path), str(descriptor)]
        return subprocess.Popen(command, pass_fds=[descriptor])


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _why_not(worker: _Worker) -> Exception:
    """Return why one that has ended did not serve."""
    return worker.failure or StartError(f"{worker.name} {worker.ended.result()} before it served")


async def _first_of(*futures: asyncio.Future[Any], timeout: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


# --- All of them.


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
        self._workers: list[_Worker] = []  # all that live
        self._places: list[_Worker] = []  # by their numbers, those that have no successor
        self._locks = [asyncio.Lock() for _ in range(count)]  # by number: one at a time is started
        self._free_rows = list(range(count + 1))  # of the table; one is for a successor
        self._sockets: ListeningSockets
        self._table: int
        self._rows: Table
        self._news = asyncio.Event()  # of any worker
        self._serving = False
        self._ending = asyncio.Event()
        self._closed = False
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
            self._places.append(self._start(number))
        if not await self._reach(_Stage.LOADED):
            return
        self._serving = True
        self._tell("serve")
        if await self._reach(_Stage.READY):
            say(self._listing, sys.stdout)
            self._notifier.ready()
            self._notifier.live(self._loop)
            restarting = self._loop.create_task(self._restart_when_asked())
            await asyncio.gather(*map(self._keep, range(self._count)))
            restarting.cancel()

    async def _reach(self, stage: _Stage) -> bool:
        """Wait until all are as far; False if they shall end before.

        Raises:
            Exception: one of them has ended instead.
        """
        while not self._ending.is_set():
            for worker in self._places:
                if worker.stage is _Stage.ENDED:
                    raise _why_not(worker)
            if all(worker.stage >= stage for worker in self._places):
                return True
            await self._news.wait()
            self._news.clear()
        return False

    async def _keep(self, number: int) -> None:
        """Have a worker of this number, again and again."""
        delay = FIRST_DELAY
        while True:
            worker = self._places[number]
            await _first_of(worker.ended, worker.relieved)
            if self._ending.is_set() and worker.ended.done():
                return
            if worker.relieved.done():
                continue
            if worker.lifetime >= STEADY:
                delay = FIRST_DELAY
            if worker.failure is not None:
                logger.error("%s cannot start: %s", worker.name, worker.failure)
            logger.warning("%s %s and is started again in %s seconds", worker.name, worker.ended.result(), delay)
            if await self._ends_within(delay):
                return
            delay = min(2 * delay, LONGEST_DELAY)
            async with self._locks[number]:
                self._start_again(worker)

    def _start_again(self, worker: _Worker) -> None:
        if worker.relieved.done() or self._ending.is_set():
            return
        try:
            self._places[worker.number] = self._start(worker.number)
        except OSError as error:
            logger.error("%s cannot be started: %s", worker.name, error)
            worker.lifetime = 0.0

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        return self._ending.is_set()

    # --- A worker begins.

    def _start(self, number: int, predecessor: _Worker | None = None) -> _Worker:
        own = [] if self._shares else self._own_sockets(predecessor)
        row = self._free_rows.pop(0)
        try:
            worker = _Worker(self._loop, number, row, own, self._heard, self._went)
        except OSError:
            self._free_rows.append(row)
            for sock in own:
                sock.close()
            raise
        self._workers.append(worker)
        descriptors = [self._table, *(sock.fileno() for sock in own or self._sockets.sockets)]
        worker.send("start", descriptors, number=number, row=row, shares=self._shares, **self._order)
        return worker

    def _own_sockets(self, predecessor: _Worker | None) -> list[socket.socket]:
        """Return those of the predecessor, with all whom the kernel has queued there, or new ones."""
        return self._sockets.again() if predecessor is None else [sock.dup() for sock in predecessor.sockets]

    def _heard(self, worker: _Worker, message: Message) -> None:
        if message.name == "loaded":
            self._link(worker)
            worker.stage = _Stage.LOADED
            if self._serving:
                worker.send("serve")
        elif message.name == "ready":
            worker.stage = _Stage.READY
            worker.ready.set_result(None)
            self._listing = message.told["listing"]
        elif message.name == "failed":
            worker.failure = _FAILURES[message.told["kind"]](message.told["text"])
        self._news.set()

    def _link(self, newcomer: _Worker) -> None:
        """Connect it to all that are there; whoever comes later is connected to it."""
        for worker in self._workers:
            if worker.stage in (_Stage.LOADED, _Stage.READY):
                try:
                    one, other = socket.socketpair()
                except OSError:
                    newcomer.kill()  # to be tried again
                    return
                with one, other:
                    newcomer.send("link", [one.fileno()])
                    worker.send("link", [other.fileno()])

    def _went(self, worker: _Worker) -> None:
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
        try:
            for number in range(self._count):
                await self._replace(number)
        except (OSError, ConfigurationError, StartError) as error:
            if not self._ending.is_set():
                logger.error("the restart ends here, and those that serve go on: %s", error)
            return False
        logger.info("all workers were replaced")
        return True

    async def _replace(self, number: int) -> None:
        async with self._locks[number]:
            old = self._places[number]
            if old.stage is _Stage.ENDED:
                return  # it is about to be started again
            new = self._start(number, old)
            await self._until_ready(new)
            self._places[number] = new
            old.relieved.set_result(None)
        await self._relieve(old)

    async def _relieve(self, old: _Worker) -> None:
        over = (self._options.drain or DRAIN_TIME) / self._count
        if old.stage is _Stage.READY:
            old.send("yield", over=over)
        else:
            old.send("close")  # it was about to take the place of one that died
        self._loop.call_later(over + self._closing_time(), old.kill)
        await _first_of(old.ended)  # which outlives this task

    async def _until_ready(self, worker: _Worker) -> None:
        await _first_of(worker.ready, worker.ended, timeout=START_TIMEOUT)
        if worker.ended.done():
            raise _why_not(worker)
        if not worker.ready.done():
            worker.kill()
            raise StartError(f"{worker.name} does not serve after {START_TIMEOUT} seconds")

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
        time = (self._options.drain or DRAIN_TIME) + self._closing_time()
        self._begin_to_end(time)
        elsewhere = bool(self._options.health or self._options.backplane)
        for worker in self._workers:
            if worker.stage is _Stage.READY:
                worker.send("drain", elsewhere=elsewhere)
            else:
                worker.send("close")
        self._kill_after(time)

    def _close(self, timeout: float = math.inf) -> None:
        """Have all end, and listen no more."""
        if not self._closed:
            self._closed = True
            self._begin_to_end(self._closing_time())
            self._sockets.close()
            self._tell("close")
            self._kill_after(self._closing_time())
        if timeout < math.inf:
            self._kill_after(timeout)

    def _begin_to_end(self, seconds: float) -> None:
        self._ending.set()
        self._news.set()
        self._notifier.stopping(seconds)

    def _closing_time(self) -> float:
        seconds: float = 2 * self._options.close_timeout + CLOSING_GRACE
        return seconds

    def _kill_after(self, seconds: float) -> None:
        self._loop.call_later(seconds, self._kill)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()
