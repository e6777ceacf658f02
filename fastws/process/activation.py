"""Sockets that systemd has opened for this process: socket activation, as sd_listen_fds(3) describes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError
from ..net.sockets import ListeningSockets, inherited_socket

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from ..options import ServeOptions

__all__ = ["activated"]

FIRST: Final = 3  # the descriptor
MAX_SOCKETS: Final = 64
_PLACES: Final = ("host", "port", "unix", "sock")


def activated(given: ServeOptions, environment: MutableMapping[str, str] = os.environ) -> ListeningSockets | None:
    """Return the sockets, unless the options say where to listen; each process gets them once.

    Args:
        given: options of the server.
        environment: what it says of them is taken out: processes that we start have no part in it.

    Raises:
        ConfigurationError: it is no number of sockets, or one of them does not listen.
    """
    process, count = environment.get("LISTEN_PID"), environment.get("LISTEN_FDS")
    if process != str(os.getpid()) or count is None or any(place in given for place in _PLACES):
        return None
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    return ListeningSockets([inherited_socket(FIRST + number) for number in range(_number_of(count))])


def _number_of(count: str) -> int:
    if not (count.isascii() and count.isdigit() and 1 <= int(count[:9]) <= MAX_SOCKETS):
        raise ConfigurationError(f"LISTEN_FDS={count}: it is no number of sockets from 1 to {MAX_SOCKETS}")
    return int(count)
