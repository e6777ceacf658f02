"""Logging that decides nothing.

A filter or a handler of the program's may raise, for want of a context variable for instance, and `logging` lets that
through to whoever logs. Here it ends: what becomes of a connection never depends on whether it can be told.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Final

__all__ = [
    "FAILED",
    "LOG_FORMAT",
    "SLOW_HANDLER",
    "UNHANDLED_MESSAGE",
    "UNUSED_RESULT",
    "WORKER_LOG_FORMAT",
    "Log",
    "show_logs",
]

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
WORKER_LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"

# Sentences that the core and the layer above it both say.
SLOW_HANDLER: Final = (
    "%s held up the event loop for %.2f seconds, in which nobody else was served; have it await what takes long, or "
    "give that to asyncio.to_thread (slow_handler_time is the option that says how long is too long)"
)
UNUSED_RESULT: Final = "%s returned %s, which is not used: only what a message handler returns is sent; push it instead"
UNHANDLED_MESSAGE: Final = (
    "%s has no handler for %s messages: one of connection %d was dropped, and so will all others be; "
    "mark a method with @ws.%s"
)

# Who is told of each exception that is logged as an error, whatever becomes of the record: the test kit, which fails a
# test by it. In the contexts of all that runs for a server of its own.
FAILED: Final = contextvars.ContextVar[Callable[[BaseException], object] | None]("fastws.failed", default=None)

# From a filter or handler to the caller of one of our methods.
_OUR_FRAMES: Final = 3


class Log:
    """A logger of the standard library whose failures end here, told on stderr as `logging` tells those of handlers.

    Args:
        name: of the logger.
    """

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def is_enabled_for(self, level: int) -> bool:
        """Tell whether anybody wants to know."""
        return self._logger.isEnabledFor(level)

    def debug(self, message: str, *args: object) -> None:
        """Log what only who debugs wants to know."""
        self._log(logging.DEBUG, message, args)

    def info(self, message: str, *args: object) -> None:
        """Log what is as it should be."""
        self._log(logging.INFO, message, args)

    def warning(self, message: str, *args: object) -> None:
        """Log what somebody may have to look at."""
        self._log(logging.WARNING, message, args)

    def error(self, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log what failed."""
        self._log(logging.ERROR, message, args, exc_info)

    def exception(self, message: str, *args: object) -> None:
        """Log what failed, with the exception that is being handled."""
        self._log(logging.ERROR, message, args, sys.exc_info()[1])

    def _log(self, level: int, message: str, args: tuple[object, ...], error: BaseException | None = None) -> None:
        if error is not None and (tell := FAILED.get()) is not None:
            tell(error)
        try:
            self._logger.log(level, message, *args, exc_info=error, stacklevel=_OUR_FRAMES)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failure:  # a CancelledError, too, was meant for nobody here
            _tell(message, failure)


class _Fallback(logging.Handler):
    """Prints to stderr as long as the program has arranged nothing for all of its logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        if logging.root.handlers or sys.stderr is None:
            return
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def show_logs(*, access: bool, format: str = LOG_FORMAT) -> None:
    """Let our logs be seen also where the program says nothing of logging.

    Args:
        access: whether the access log is wanted, which then is to be had at every level.
        format: of a line.
    """
    ours = logging.getLogger("fastws")
    if not ours.hasHandlers():
        handler = _Fallback()
        handler.setFormatter(logging.Formatter(format))
        ours.addHandler(handler)
        ours.setLevel(ours.level or logging.INFO)
    if access and not logging.getLogger("fastws.access").isEnabledFor(logging.INFO):
        logging.getLogger("fastws.access").setLevel(logging.INFO)


def _tell(message: str, failure: BaseException) -> None:
    if logging.raiseExceptions and sys.stderr is not None:
        with contextlib.suppress(Exception):
            sys.stderr.write(f"fastws: logging failed at {message!r}\n")
            traceback.print_exception(type(failure), failure, failure.__traceback__)
