"""What may lie unsent in the kernel for each client: which option says so, and how the kernel is told.

The kernel takes up to 4 MB for a client that is slow, and the policies of `overflow` see none of it: what lies there is
neither replaced nor dropped, and ages. `TCP_NOTSENT_LOWAT` bounds it. What is on its way and what the client's kernel
holds comes on top. The value is that of the listening socket, from which connections inherit it at no cost; a service
that wants another one sets it when a connection opens.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .service import Service

__all__ = ["AUTO", "WHAT", "bytes_for", "bytes_for_all", "is_valid", "limit"]

AUTO: Final = "auto"
WHAT: Final = f'a number of bytes above 0, None for as many as the kernel takes, or "{AUTO}"'

UNLIMITED: Final = 0  # which is how the kernel has it, too
# For messages that others replace: a slow client reads new ones, and one send of a large one becomes several
FRESH: Final = 16384  # bytes
FRESH_POLICIES: Final = frozenset({"drop_old", "conflate"})
# For all others: what is one send without a limit is one with it, and a client that has stalled holds a quarter
AMPLE: Final = 1 << 20


def is_valid(value: object) -> bool:
    """Tell whether it is what `kernel_backlog` may be, of a service or of a server."""
    if isinstance(value, int) and not isinstance(value, bool):
        return 0 < value < 1 << 31
    return value is None or value == AUTO


def bytes_for(service: Service, of_server: int | str | None) -> int:
    """Return what may lie there for the clients of a service: what that says, else the server, else what suits it."""
    assert service.upgrade is not None
    for wanted in (service.upgrade.kernel_backlog, of_server):
        if not isinstance(wanted, str):
            return wanted or UNLIMITED
    return FRESH if service.upgrade.overflow in FRESH_POLICIES else AMPLE


def bytes_for_all(services: Iterable[Service], of_server: int | str | None) -> int:
    """Return what may lie there for whoever connects: what the server says, else what suits all of its services."""
    if not isinstance(of_server, str):
        return of_server or UNLIMITED
    wanted = {bytes_for(service, of_server) for service in services if service.upgrade is not None}
    return wanted.pop() if len(wanted) == 1 else UNLIMITED


def limit(sock: socket.socket, most: int) -> None:
    """Have the connections of a listening socket inherit a limit; one of TCP, where the system has such a thing."""
    if most == UNLIMITED or sock.family == getattr(socket, "AF_UNIX", None) or not hasattr(socket, "TCP_NOTSENT_LOWAT"):
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, most)
