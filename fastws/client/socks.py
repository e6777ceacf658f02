"""Through a SOCKS proxy: version 5 (RFC 1928, RFC 1929) and 4, with python-socks, which is an optional dependency."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, Final

import python_socks
from python_socks.async_.asyncio import Proxy as Socks

from ..errors import ConnectError, ProxyError
from .tcp import open_tcp
from .url import address_of

if TYPE_CHECKING:
    import socket

    from .proxies import Proxy
    from .tcp import LocalAddress
    from .url import Target

__all__ = ["open_socks"]

PATIENCE: Final = 1e9  # seconds: the library insists on a timeout, and who dials has one
# By scheme: the version, and whether the proxy resolves the name of the server
_KINDS: Final = {
    "socks4": (python_socks.ProxyType.SOCKS4, False),
    "socks4a": (python_socks.ProxyType.SOCKS4, True),
    "socks5": (python_socks.ProxyType.SOCKS5, False),
    "socks5h": (python_socks.ProxyType.SOCKS5, True),
}


class _Way(Socks):
    """The way to the proxy, where the library would have another proxy: as everything here is dialed."""

    def __init__(self, proxy: Proxy, local_addr: LocalAddress | None) -> None:
        super().__init__(python_socks.ProxyType.SOCKS5, proxy.host, proxy.port)
        self._local_addr = local_addr

    async def connect(self, dest_host: str, dest_port: int, *_: object, **__: Any) -> socket.socket:
        return await open_tcp(dest_host, dest_port, self._local_addr)


async def open_socks(proxy: Proxy, target: Target, local_addr: LocalAddress | None) -> socket.socket:
    """Connect to a target through a SOCKS proxy.

    Raises:
        DialError: the proxy cannot be reached, or we resolve and do not find the target.
        ProxyError: it refuses, or does not answer as such a proxy does.
    """
    kind, resolves = _KINDS[proxy.scheme]
    if kind is python_socks.ProxyType.SOCKS4 and isinstance(address_of(target.host), IPv6Address):
        raise ProxyError(str(proxy), f"SOCKS 4 does not reach {target.host}, which is an address of IPv6")
    user, password = proxy.auth or ("", "")
    socks = Socks(kind, proxy.host, proxy.port, user, password, resolves, forward=_Way(proxy, local_addr))
    try:
        return await socks.connect(target.host, target.port, timeout=PATIENCE)
    except python_socks.ProxyError as error:
        raise ProxyError(str(proxy), str(error), error.error_code) from error
    except ConnectError:
        raise
    except OSError as error:
        raise ProxyError(str(proxy), error.strerror or str(error)) from error
