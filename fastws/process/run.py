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
from ..server.loading import refuse_while_importing
from ..server.server import Server
from ..server.signals import ENDING, Signals
from .announcement import announce
from .loading import load

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["run"]

logger = Log("fastws")


@takes(ServeOptions)
def run(
    *services: object, on_listening: Callable[[Server], None] | None = None, **options: Unpack[ServeOptions]
) -> None:
    """Serve until SIGINT or SIGTERM, on uvloop where it exists; blocks.

    It says where it listens, and shows its logs on stderr where the program has not set up logging.

    The first of these signals closes the server, as `Server.close` does. A second one waits for nobody any longer: what
    is open is aborted and what runs is cancelled, and `on_stop` still runs. A third one kills. In another thread than
    the main one there are no signals; there, and everywhere, it also returns when somebody closed the server:
    ``asyncio.run_coroutine_threadsafe(server.close(), server.loop)``.

    It raises the limit of open files to what the system allows. If it was given `certfile`, SIGHUP has it read the
    certificate again, as `Server.reload_certificate` does.

    Args:
        services: as for `serve`, as are all options; or their names, as ``"module:Class"``, ``"module"`` or
            ``"file.py"``, which the command takes, too.
        on_listening: called with the server once it listens, instead of printing what is served where.

    Raises:
        ConfigurationError: likewise; also if `fastws run` imports what calls this, which it would serve twice.
        StartError: an event loop runs in this thread already.
    """
    refuse_while_importing()
    if asyncio._get_running_loop() is not None:
        raise StartError(
            "fastws.run starts an event loop, and one runs here already, as it does in Jupyter and in async functions; "
            "serve on that one: async with fastws.serve(...)"
        )
    server = Server(*_loaded(services), **options)
    keep_standard_descriptors()
    show_logs(access=server.access_log)
    _raise_file_limit()
    _runner()(_serve_until_signal(server, on_listening))


def _loaded(services: Iterable[object]) -> Iterator[object]:
    for service in services:
        if isinstance(service, str):
            yield from load([service])
        else:
            yield service


async def _serve_until_signal(server: Server, on_listening: Callable[[Server], None] | None) -> None:
    loop = asyncio.get_running_loop()
    interrupted: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if not interrupted.done():
            interrupted.set_result(number)
        else:
            signals.let_kill()
            server.hurry()

    hang_up = [signal.SIGHUP] if server.has_certificate_files else []
    with Signals(loop, ENDING, end) as signals, Signals(loop, hang_up, lambda _: _reload_certificate(server)):
        async with server:
            (on_listening or announce)(server)
            await server.until(interrupted)


def _reload_certificate(server: Server) -> None:
    try:
        server.reload_certificate()
    except ConfigurationError as error:
        logger.error("the certificate stays as it is: %s", error)
    else:
        logger.info("the certificate was read again")


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop
    except ImportError:
        if sys.platform != "win32":  # where there is none
            logger.warning("uvloop is not installed: asyncio's own event loop serves, and everything takes longer")
        return asyncio.run
    return uvloop.run


def _raise_file_limit() -> None:
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
