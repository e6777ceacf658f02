"""`fastws drain PID` and `fastws reload PID`: tell a process that serves, and wait until it has done what it was told.

A signal tells it. Most programs end at such a signal, so it is sent only to what shows that it is one of ours
(`status.py`), where that can be seen. The end of a process is seen by a descriptor of it, or by asking now and then.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError, StartError
from .escalation import DRAINING
from .status import Kind, Told, read_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["WAIT_TIMEOUT", "drain", "restart"]

WAIT_TIMEOUT: Final = 3600.0  # seconds
POLL: Final = 0.05  # seconds
_SEES: Final = Path("/proc/self/fd").is_dir() and hasattr(os, "memfd_create")


def drain(process: int, timeout: float) -> None:
    """Have a server, or one worker, drain, and wait until it has ended.

    Args:
        process: its number.
        timeout: seconds to wait at most.

    Raises:
        ConfigurationError: it is no process of ours.
        StartError: it has not ended in time.
    """
    with _open(process) as has_ended:
        _look(process)
        _tell(process, DRAINING[0])
        _wait(has_ended, timeout, f"process {process} has not ended after {timeout:g} seconds")


def restart(process: int, timeout: float) -> None:
    """Have a supervisor replace its workers, and wait until it has.

    Args:
        process: its number.
        timeout: seconds to wait at most.

    Raises:
        ConfigurationError: it is no process of ours, or has no workers.
        StartError: a worker could not start, the process has ended, or it takes longer.
    """
    with _open(process) as has_ended:
        before = _look(process)
        if before is not None and before.kind != Kind.SUPERVISOR:
            raise ConfigurationError(f"process {process} has no workers to replace; start it with --workers")
        _tell(process, signal.SIGHUP)
        if before is not None:
            _wait_for_answer(process, before.asked + 1, has_ended, timeout)


def _wait_for_answer(process: int, number: int, has_ended: Callable[[], bool], timeout: float) -> None:
    told: list[Told] = []

    def is_answered() -> bool:
        if has_ended():
            raise StartError(f"process {process} ended before its workers were replaced")
        told[:] = filter(None, [_read(process)])
        return bool(told) and told[0].answered >= number

    _wait(is_answered, timeout, f"the workers of process {process} are not replaced after {timeout:g} seconds")
    if told[0].failed >= number:
        raise StartError(f"a worker could not start, and those that serve go on: the log of process {process} says why")


def _tell(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except OSError as error:
        raise ConfigurationError(f"process {process} cannot be told: {error.strerror}") from None


def _look(process: int) -> Told | None:
    """Return what a process shows; None where nothing can be seen."""
    if not _SEES:
        return None
    told = _read(process)
    if told is None:
        raise ConfigurationError(f"process {process} does not serve with fastws.run or the command")
    return told


def _read(process: int) -> Told | None:
    try:
        return read_status(process)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"process {process} cannot be looked at: {error.strerror}") from None


# --- Waiting.


@contextlib.contextmanager
def _open(process: int) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether a process has ended, whoever has its number then."""
    if not hasattr(os, "pidfd_open"):
        yield lambda: not _is_there(process)
        return
    try:
        descriptor = os.pidfd_open(process)
    except OSError as error:
        raise ConfigurationError(f"process {process} cannot be told: {error.strerror}") from None
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    try:
        yield lambda: bool(waiting.poll(0))
    finally:
        os.close(descriptor)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _wait(is_over: Callable[[], bool], timeout: float, otherwise: str) -> None:
    end = time.monotonic() + timeout
    while not is_over():
        if time.monotonic() > end:
            raise StartError(otherwise)
        time.sleep(POLL)
