"""TLS to a proxy, and a socket for what goes through it.

Above it everything expects a plain socket, TLS with the server included, and asyncio knows TLS within TLS only since
Python 3.11. So a pair of sockets is made: one is given out, and what passes the other is copied to the proxy and back.
As on one connection, who reads slowly is waited for, and the end of one side is that of the other.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, cast

from ..errors import ProxyError

if TYPE_CHECKING:
    from .proxies import Proxy

__all__ = ["open_bridge"]


async def open_bridge(sock: socket.socket, proxy: Proxy) -> socket.socket:
    """Begin TLS with a proxy.

    Args:
        sock: connected to it; from here on it is the bridge's.
        proxy: for whom its certificate has to be, by the authorities of the system.

    Returns:
        A socket that does not block; with its end the bridge ends.

    Raises:
        ProxyError: its certificate is none that we trust, among others.
    """
    loop = asyncio.get_running_loop()
    outer = _Bank()
    try:
        await loop.create_connection(
            lambda: outer, sock=sock, ssl=ssl.create_default_context(), server_hostname=proxy.host.partition("%")[0]
        )
    except OSError as error:
        sock.close()
        raise ProxyError(str(proxy), f"no TLS with it: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        await loop.create_unix_connection(lambda: _Bank(outer), sock=theirs)
    except BaseException:
        ours.close()
        theirs.close()
        outer.end()
        raise
    return ours


class _Bank(asyncio.Protocol):
    """One side of a bridge.

    Args:
        other: the side that was there before.
    """

    def __init__(self, other: _Bank | None = None) -> None:
        self._transport: asyncio.Transport | None = None
        self._other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._other is not None:
            self._other._other = self

    def data_received(self, data: bytes) -> None:
        if (there := self._across()) is not None:
            there.write(data)

    def pause_writing(self) -> None:
        if (there := self._across()) is not None:
            there.pause_reading()

    def resume_writing(self) -> None:
        if (there := self._across()) is not None:
            there.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        other, self._other = self._other, None
        if other is not None:
            other.end()

    def end(self) -> None:
        """Close this side; what was written is sent still."""
        self._other = None
        if self._transport is not None:
            self._transport.close()

    def _across(self) -> asyncio.Transport | None:
        return self._other._transport if self._other is not None else None
