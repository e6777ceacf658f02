"""Bytes that may lie unsent in the kernel for each client: which option says so, and how the kernel is told.

The kernel takes up to 4 MB for a client that is slow, and the policies of `overflow` see none of it: what lies there is
neither replaced nor dropped, and ages. `TCP_NOTSENT_LOWAT` bounds it. What is on its way and what the client's kernel
holds comes on top. The value is that of the listening socket, from which connections inherit it at no cost; a service
that wants another one sets it when a connection opens.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..options import UpgradeOptions

__all__ = ["bytes_for", "bytes_for_all", "limit"]

UNLIMITED: Final = 0  # which is how the kernel has it, too
# For messages that others replace: a slow client reads new ones, and one send of a large one becomes several
FRESH: Final = 16384  # bytes
FRESH_POLICIES: Final = frozenset({"drop_old", "conflate"})
# For all others: what is one send without a limit is one with it, and a client that has stalled holds a quarter
AMPLE: Final = 1 << 20


def bytes_for(service: UpgradeOptions, of_server: int | str | None) -> int:
    """Return what may lie there for the clients of a service: what that says, else the server, else what suits it."""
    for wanted in (service.kernel_backlog, of_server):
        if not isinstance(wanted, str):
            return wanted or UNLIMITED
    return FRESH if service.overflow in FRESH_POLICIES else AMPLE


def bytes_for_all(services: Iterable[UpgradeOptions], of_server: int | str | None) -> int:
    """Return what may lie there for whoever connects: what the server says, else what suits all of its services."""
    if not isinstance(of_server, str):
        return of_server or UNLIMITED
    wanted = {bytes_for(service, of_server) for service in services}
    return wanted.pop() if len(wanted) == 1 else UNLIMITED


def limit(sock: socket.socket, most: int) -> None:
    """Have the connections of a listening socket inherit a limit; one of TCP, where the system has such a thing."""
    if most == UNLIMITED or sock.family == getattr(socket, "AF_UNIX", None) or not hasattr(socket, "TCP_NOTSENT_LOWAT"):
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)
