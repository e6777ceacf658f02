"""From a target to a connected socket: over TCP, through a proxy, or at a path.

Theory of operation. Whatever lies between, what comes out is a plain socket, not blocking, over which the next byte is
the server's or for the server; TLS with the server begins above it.

Nothing here has a timeout: who dials has one for all that opening takes, and cancels. Wherever that happens, each
socket that was made is closed.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from .proxies import proxy_for
from .tcp import dial_error, open_tcp, send_at_once

if TYPE_CHECKING:
    from .tcp import LocalAddress
    from .url import Target

__all__ = ["dial"]


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
        send_at_once(sock)
        return sock
    if unix is not None:
        return _open_unix(os.fspath(unix))
    if (through := proxy_for(target, proxy)) is not None:
        # What most programs never need is not loaded for them
        from .tunnel import open_tunnel

        return await open_tunnel(through, target, local_addr)
    return await open_tcp(target.host, target.port, local_addr)


def _open_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        # It is there at once or not at all: "would block" means that its queue is full, and nothing tells when
        # there is room again
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise dial_error(error, f"unix:{path}") from error
    except BaseException:
        sock.close()
        raise
    return sock
