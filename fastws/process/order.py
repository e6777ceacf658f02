"""What workers are told: how many there are, and of each of them what it serves, with which options.

All of that goes to other processes as JSON (`control.py`). So services are given by their names, and options are
numbers, texts, and lists of these; what is none of them is refused before anything starts.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..options import ServeOptions

__all__ = ["number_of", "order_of"]

MAX_WORKERS: Final = 64  # each has a connection to each of the others


def number_of(workers: object) -> int:
    """Return how many processes serve.

    Raises:
        ConfigurationError: it is no such number, or this system cannot have any.
    """
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


def order_of(targets: Sequence[object], given: ServeOptions, log_level: str | None) -> dict[str, Any]:
    """Return what each worker is told.

    Args:
        targets: names of services.
        given: options of the server.
        log_level: what workers log, at least; None leaves that to the program.

    Raises:
        ConfigurationError: something cannot go to another process, or there is nothing to serve.
    """
    return {"targets": _names(targets), "options": _portable_options(given), "log_level": log_level}


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
