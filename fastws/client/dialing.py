"""From a target to a connected socket: resolved, raced, and brought through a proxy.

Theory of operation. Whatever lies between, what comes out is a plain socket, not blocking, over which the next byte is
the server's or for the server; TLS with the server begins above it. A name with several addresses is raced as RFC 8305
has it ("happy eyeballs"): they are tried in turn by family, each a quarter of a second after the one before, or as soon
as that one has failed; the first that is there wins. The loop's own race exists on asyncio only, so a library does it.

Nothing here has a timeout: who dials has one for all that opening takes, and cancels. Wherever that happens, each
socket that was made is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from ..errors import DialError
from .proxies import proxy_for
from .url import authority

if TYPE_CHECKING:
    from .url import Target

__all__ = ["dial", "open_tcp"]

EYEBALLS_DELAY: Final = 0.25  # seconds until the next address is tried beside the one before (RFC 8305 section 5)

LocalAddress = tuple[str, int]
"""A host and a port of this machine to connect from; 0 is any port."""


async def dial(
    target: Target,
    *,
    proxy: bool | str | None = True,
    unix: str | os.PathLike[str] | None = None,
    local_addr: LocalAddress | None = None,
    sock: socket.socket | None = None,
) -> socket.socket:
    """Connect to a target.

    Cancelling it leaves nothing open but a `sock` that was given, which stays its owner's until this returns.

    Args:
        target: where to; of a Unix socket and of `sock` it only names the server.
        proxy: see `proxy_for`; none for `unix` and `sock`.
        unix: the path of a Unix socket to connect to instead.
        local_addr: what to connect from.
        sock: connected already.

    Returns:
        A socket that does not block.

    Raises:
        ConfigurationError: the proxy is wrong, or needs what is not installed.
        DialError: the server, or the proxy, cannot be reached.
        ProxyError: the proxy refuses.
    """
    if sock is not None:
        sock.setblocking(False)
        return _undelayed(sock)
    if unix is not None:
        return _open_unix(os.fspath(unix))
    if (through := proxy_for(target, proxy)) is not None:
        # What most programs never need is not loaded for them
        from .tunnel import open_tunnel

        return await open_tunnel(through, target, local_addr)
    return await open_tcp(target.host, target.port, local_addr)


async def open_tcp(host: str, port: int, local_addr: LocalAddress | None = None) -> socket.socket:
    """Connect to a host, at whichever of its addresses is there first.

    Raises:
        DialError: the name is not known, or nobody is there.
    """
    from aiohappyeyeballs import start_connection

    loop = asyncio.get_running_loop()
    try:
        addresses = await _resolve(loop, host, port)
        sources = await _resolve(loop, *local_addr) if local_addr else None
        sock = await start_connection(
            addresses, local_addr_infos=sources, happy_eyeballs_delay=EYEBALLS_DELAY, loop=loop
        )
    except OSError as error:
        raise _dial_error(error, authority(host, port)) from error
    return _undelayed(sock)


def _open_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        # It is there at once or not at all: "would block" means that its queue is full, and nothing tells when
        # there is room again
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise _dial_error(error, f"unix:{path}") from error
    except BaseException:
        sock.close()
        raise
    return sock


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Any]:
    with contextlib.suppress(socket.gaierror):
        # An address needs no thread
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _undelayed(sock: socket.socket) -> socket.socket:
    """Have small frames leave at once; a socket that is not of TCP does so anyway."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _dial_error(error: OSError, address: str) -> DialError:
    # Those of resolvers have numbers of their own, and those of a race their sentences in a list
    known = error.errno is not None and not isinstance(error, socket.gaierror)
    reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
    return DialError(address, reason, error.errno)
