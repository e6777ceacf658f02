"""`fastws.run`: serve in this process until a signal, on the best event loop there is."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, StartError
from ..logs import Log, show_logs
from ..net.sockets import keep_standard_descriptors
from ..options import ServeOptions, takes
from ..server.drain import DRAIN_TIME
from ..server.loading import refuse_while_importing
from ..server.server import Server
from ..server.signals import ENDING, Signals, is_unhandled
from .activation import activated
from .announcement import announce
from .escalation import DRAINING, Escalation, Step
from .loading import load
from .notify import Notifier
from .status import Kind, Status
from .supervisor import supervise

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Ending", "raise_file_limit", "reload_certificate", "run", "runner"]

logger = Log("fastws")


@takes(ServeOptions)
def run(
    *services: object,
    workers: int | str | None = None,
    on_listening: Callable[[Server], None] | None = None,
    **options: Unpack[ServeOptions],
) -> None:
    """Serve until SIGINT or SIGTERM, on uvloop where it exists; blocks.

    It says where it listens, and shows its logs on stderr where the program has not set up logging.

    The first of these signals closes the server, as `Server.close` does. A second one waits for nobody any longer: what
    is open is aborted and what runs is cancelled, and `on_stop` still runs. A third one kills. With `drain` a SIGTERM
    comes before all of these, as the first one, that drains as `Server.drain` does; so does a SIGUSR1 in any case, if
    the program leaves that signal its default. In another thread than
    the main one there are no signals; there, and everywhere, it also returns when somebody closed the server:
    ``asyncio.run_coroutine_threadsafe(server.close(), server.loop)``.

    It raises the limit of open files to what the system allows. If it was given `certfile`, SIGHUP has it read the
    certificate again, as `Server.reload_certificate` does.

    With `workers` so many processes serve as one: they accept at the same sockets, each its share of the connections.
    This one imports nothing of yours, starts those again that end, and closes all of them when a signal comes; a second
    and a third one mean the same. Each worker makes an instance of a service of its own, so what that keeps in ``self``
    is of one worker, and so are `on_start`, `on_stop` and the limits on connections and memory.

    Args:
        services: as for `serve`, as are all options; or their names, as ``"module:Class"``, ``"module"`` or
            ``"file.py"``, which the command takes, too.
        workers: how many processes serve, ``"auto"`` for as many as there are cores to use; services are given by their
            names then, and a certificate as `certfile`. None serves in this process.
        on_listening: called with the server once it listens, instead of printing what is served where. Not with
            `workers`.

    Raises:
        ConfigurationError: likewise; also if `fastws run` imports what calls this, which it would serve twice.
        StartError: an event loop runs in this thread already; or a worker cannot start, and the message is what it
            said of that. Workers need the main thread.
    """
    refuse_while_importing()
    if asyncio._get_running_loop() is not None:
        raise StartError(
            "fastws.run starts an event loop, and one runs here already, as it does in Jupyter and in async functions; "
            "serve on that one: async with fastws.serve(...)"
        )
    if workers is not None:
        _refuse_on_listening(on_listening)
        show_logs(access=False)
        supervise(services, workers, options)
        return
    server = Server(*_loaded(services), **options)
    keep_standard_descriptors()
    show_logs(access=server.access_log)
    raise_file_limit()
    sockets = activated(options)
    if sockets is not None:
        server.inherit(sockets, None)
    notifier = Notifier.of_environment()
    try:
        runner()(_serve_until_signal(server, on_listening, notifier))
    finally:
        notifier.end()


def _refuse_on_listening(on_listening: object) -> None:
    if on_listening is not None:
        raise ConfigurationError(
            "on_listening: with workers no server is in this process; what shall run in each of them is @ws.on_start"
        )


def _loaded(services: Iterable[object]) -> Iterator[object]:
    for service in services:
        if isinstance(service, str):
            yield from load([service])
        else:
            yield service


async def _serve_until_signal(
    server: Server, on_listening: Callable[[Server], None] | None, notifier: Notifier
) -> None:
    hang_up = [signal.SIGHUP] if server.has_certificate_files else []
    ending = Ending(server, ENDING, notifier)
    loop = asyncio.get_running_loop()
    hanging_up = Signals(loop, hang_up, lambda _: _reload(server, notifier))
    with ending.signals, hanging_up, Status(Kind.SERVER):
        async with server:
            (on_listening or announce)(server)
            notifier.ready()
            notifier.live(loop)
            await server.until(ending.asked)
            notifier.stopping(server.closing_time)


def _reload(server: Server, notifier: Notifier) -> None:
    notifier.reloading()
    reload_certificate(server)
    notifier.ready()


class Ending:
    """The end of a server, as somebody asks for it; made on the loop.

    Args:
        server: that is to end.
        numbers: signals that end it, besides that which drains it. Each goes a step further.
        notifier: is told when it begins to end.

    Attributes:
        signals: to be entered.
        asked: done when it shall end.
    """

    def __init__(self, server: Server, numbers: Iterable[int], notifier: Notifier) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._notifier = notifier
        self._escalation = Escalation(drains=server.drain_time is not None)
        self._drain: asyncio.Task[None] | None = None
        self.signals = Signals(self._loop, [*numbers, *filter(is_unhandled, DRAINING)], self._signalled)
        self.asked: asyncio.Future[int] = self._loop.create_future()

    def drain(self, over: float | None = None, *, elsewhere: bool | None = None) -> None:
        """Drain it, which ends it."""
        self._begin(self._server.drain(over, elsewhere=elsewhere))

    def yield_to(self, over: float) -> None:
        """Drain it for a successor, which ends it."""
        self._begin(self._server.yield_to(over))

    def _begin(self, draining: Coroutine[Any, Any, None]) -> None:
        self._drain = self._loop.create_task(draining)
        # Where it does not listen yet nothing else would end it
        self._drain.add_done_callback(lambda _: self.close())

    def close(self) -> None:
        """End it, if nobody has asked for that yet."""
        if not self.asked.done():
            self.asked.set_result(0)

    def hurry(self) -> None:
        """End it, and wait for nobody."""
        self.close()
        self._server.hurry()

    def insist(self) -> None:
        """End it, and hurry if it is about to."""
        if self.asked.done():
            self.hurry()
        self.close()

    def _signalled(self, number: int) -> None:
        # Not `insist`: whoever stops a service may tell the supervisor and each worker, too
        step = self._escalation.next(number)
        if step is Step.DRAIN:
            self._notifier.stopping((self._server.drain_time or DRAIN_TIME) + self._server.closing_time)
            self.drain()
        elif step is Step.CLOSE:
            self.close()
        elif step is Step.HURRY:
            self.signals.let_kill()
            self.hurry()


def reload_certificate(server: Server) -> None:
    """Read the certificate again, and say what came of it."""
    try:
        server.reload_certificate()
    except ConfigurationError as error:
        logger.error("the certificate stays as it is: %s", error)
    else:
        logger.info("the certificate was read again")


def runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return what runs a coroutine on the best event loop there is."""
    try:
        import uvloop
    except ImportError:
        if sys.platform != "win32":  # where there is none
            logger.warning("uvloop is not installed: asyncio's own event loop serves, and everything takes longer")
        return asyncio.run
    return uvloop.run


def raise_file_limit() -> None:
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
