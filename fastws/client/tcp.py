"""From a host and a port to a connected socket.

A name with several addresses is raced as RFC 8305 has it ("happy eyeballs"): they are tried in turn by family, each a
quarter of a second after the one before, or as soon as that one has failed; the first that is there wins. The loop's
own race exists on asyncio only, so a library does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any, Final

from aiohappyeyeballs import start_connection

from ..errors import DialError
from .url import authority

__all__ = ["LocalAddress", "dial_error", "open_tcp", "send_at_once"]

EYEBALLS_DELAY: Final = 0.25  # seconds until the next address is tried beside the one before (RFC 8305 section 5)

LocalAddress = tuple[str, int]
"""A host and a port of this machine to connect from; 0 is any port."""


async def open_tcp(host: str, port: int, local_addr: LocalAddress | None = None) -> socket.socket:
    """Connect to a host, at whichever of its addresses is there first.

    Raises:
        DialError: the name is not known, or nobody is there.
    """
    loop = asyncio.get_running_loop()
    try:
        addresses = await _resolve(loop, host, port)
        if len(addresses) == 1 and local_addr is None:
            sock = await _reach(loop, *addresses[0])  # nobody to race with
        else:
            sources = await _resolve(loop, *local_addr) if local_addr else None
            sock = await start_connection(
                addresses, local_addr_infos=sources, happy_eyeballs_delay=EYEBALLS_DELAY, loop=loop
            )
    except OSError as error:
        raise dial_error(error, authority(host, port)) from error
    send_at_once(sock)
    return sock


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Any]:
    with contextlib.suppress(socket.gaierror):
        # An address needs no thread
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _reach(
    loop: asyncio.AbstractEventLoop, family: int, kind: int, protocol: int, _: str, address: Any
) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def send_at_once(sock: socket.socket) -> None:
    """Have small frames wait for nothing; on a socket that is not of TCP they do not anyway."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def dial_error(error: OSError, address: str) -> DialError:
    """Return the error of a server, or a proxy, that cannot be reached at an address, from that of the system."""
    # Those of resolvers have numbers of their own, and those of a race their sentences in a list
    known = error.errno is not None and not isinstance(error, socket.gaierror)
    reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
    return DialError(address, reason, error.errno)
