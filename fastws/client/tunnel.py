"""Through a proxy: HTTP CONNECT (RFC 9110 section 9.3.6) here, SOCKS in `socks`, with a library.

That library, python-socks, knows CONNECT, too, but takes for the whole answer what one read brings: of an answer in two
pieces the second one would become the beginning of what the server says.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError, ProxyError
from ..options import authorization
from .bridge import open_bridge
from .tcp import open_tcp
from .url import authority

if TYPE_CHECKING:
    import socket

    from .proxies import Proxy
    from .tcp import LocalAddress
    from .url import Target

__all__ = ["open_tunnel"]

MAX_HEAD: Final = 1 << 14  # bytes of the answer to CONNECT
MAX_REASON: Final = 100  # characters of what a proxy says, that are shown
PIECE: Final = 1 << 12  # bytes read at once

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: ([^\r\n]*))?\r?\n")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")


async def open_tunnel(proxy: Proxy, target: Target, local_addr: LocalAddress | None) -> socket.socket:
    """Connect to a target through a proxy.

    Raises:
        ConfigurationError: it speaks SOCKS, and python-socks is not installed.
        DialError: it cannot be reached.
        ProxyError: it refuses, or does not answer as such a proxy does.
    """
    if proxy.is_socks:
        return await _open_socks(proxy, target, local_addr)
    return await _open_http(proxy, target, local_addr)


async def _open_socks(proxy: Proxy, target: Target, local_addr: LocalAddress | None) -> socket.socket:
    try:
        from .socks import open_socks
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"proxy {proxy}: SOCKS needs the package {error.name}; pip install 'fastws[proxy]'"
        ) from error
    return await open_socks(proxy, target, local_addr)


async def _open_http(proxy: Proxy, target: Target, local_addr: LocalAddress | None) -> socket.socket:
    sock = await open_tcp(proxy.host, proxy.port, local_addr)
    if proxy.scheme == "https":
        sock = await open_bridge(sock, proxy)
    try:
        await _connect(sock, proxy, target)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, ProxyError):
            raise ProxyError(str(proxy), f"it went away: {error.strerror or error}") from error
        raise
    return sock


async def _connect(sock: socket.socket, proxy: Proxy, target: Target) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, _request(proxy, target))
    head = await _read_head(sock, proxy)
    found = _STATUS_LINE.match(head)
    if found is None:
        raise ProxyError(str(proxy), "its answer is not HTTP/1.1")
    status = int(found[1])
    if not 200 <= status < 300:
        raise ProxyError(str(proxy), f"{status} {_printable(found[2] or b'')}".rstrip(), status)


def _request(proxy: Proxy, target: Target) -> bytes:
    place = authority(target.host, target.port)
    fields = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.auth is not None:
        _, credentials = authorization(proxy.auth)
        fields.append(f"Proxy-Authorization: {credentials}")
    return "\r\n".join([*fields, "", ""]).encode("ascii")


async def _read_head(sock: socket.socket, proxy: Proxy) -> bytes:
    """Read the answer up to its empty line."""
    loop = asyncio.get_running_loop()
    head = b""
    while not (end := _END_OF_HEAD.search(head)):
        if len(head) > MAX_HEAD:
            raise ProxyError(str(proxy), f"its answer is longer than {MAX_HEAD} bytes")
        piece = await loop.sock_recv(sock, PIECE)
        if not piece:
            raise ProxyError(str(proxy), "it closed the connection without an answer")
        head += piece
    if head.startswith(b"HTTP/1.") and head[9:10] == b"2" and end.end() < len(head):
        # The server says nothing before we do (RFC 6455 section 4.1), nor does TLS
        raise ProxyError(str(proxy), "there is more behind its answer")
    return head


def _printable(text: bytes) -> str:
    """Return what foreigners say as far as it can be shown."""
    words = text[:MAX_REASON].decode("latin-1")
    return "".join(letter if letter.isprintable() else "?" for letter in words)
