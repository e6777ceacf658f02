"""Which proxy a connection goes through: none, one that the program names, or one of the environment.

Of the environment (`urllib.request.getproxies`, on macOS the system's settings, too) a ``wss`` URL takes the proxy of
``wss_proxy``, ``https_proxy`` or ``all_proxy``, a ``ws`` URL that of ``ws_proxy``, ``http_proxy`` or ``all_proxy``, the
first that there is. ``no_proxy`` lists whom to reach without: names and all below them, addresses, networks such as
``10.0.0.0/8``, each with a port or for all ports, or ``*``. This machine itself is always reached without: to a proxy
elsewhere ``localhost`` would be the proxy.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

from ..errors import ConfigurationError
from .url import address_of, authority, parse_place, shown

if TYPE_CHECKING:
    from .url import Auth, IPAddress, Target

__all__ = ["Proxy", "proxy_for"]

_PORTS: Final = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_OF_ENVIRONMENT: Final = {False: ("ws", "http", "all"), True: ("wss", "https", "all")}
_URL: Final = re.compile(r"([A-Za-z0-9]+)://([^/?#]*)/?")
_SOME_PORT: Final = re.compile(r"(.*?)(?::([0-9]+))?")
MAX_SOCKS_CREDENTIAL: Final = 255  # bytes (RFC 1929 section 2)


@dataclass(frozen=True)
class Proxy:
    """A proxy, and how to introduce oneself there.

    Attributes:
        scheme: ``http`` or ``https`` for HTTP CONNECT, to the proxy itself without or with TLS; ``socks5`` or
            ``socks4``, for which we resolve the server's name, ``socks5h`` or ``socks4a``, which do that themselves.
        host: a name or an address, without brackets.
        port: of TCP.
        auth: a user and a password, None without.
    """

    scheme: str
    host: str
    port: int
    auth: Auth | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: object) -> Proxy:
        """Take the URL of a proxy apart.

        Raises:
            ConfigurationError: it is none, and why; no password is shown.
        """
        found = _URL.fullmatch(url) if isinstance(url, str) else None
        if found is None or found[1].lower() not in _PORTS:
            _refuse(url, f"give None, True or the URL of a proxy, of {', '.join(_PORTS)}: such as http://10.0.0.1:3128")
        scheme = found[1].lower()
        try:
            proxy = cls(scheme, *parse_place(found[0], found[2], _PORTS[scheme]))
        except ConfigurationError as error:
            raise ConfigurationError(f"proxy: {error}") from None
        if proxy.is_socks and proxy.auth and not all(map(_fits_socks, proxy.auth)):
            _refuse(url, f"users and passwords of SOCKS are ASCII, and no longer than {MAX_SOCKS_CREDENTIAL}")
        return proxy

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS, and not HTTP."""
        return self.scheme.startswith("socks")

    def __str__(self) -> str:
        return f"{self.scheme}://{authority(self.host, self.port)}"


def proxy_for(target: Target, given: bool | str | None) -> Proxy | None:
    """Return the proxy to go through; None for none.

    Args:
        target: of the connection.
        given: True asks the environment, None wants none, and a str is the URL of one.

    Raises:
        ConfigurationError: it is none, whether given or of the environment.
    """
    if given is None:
        return None
    return _of_environment(target) if given is True else Proxy.parse(given)


def _of_environment(target: Target) -> Proxy | None:
    urls = urllib.request.getproxies()
    url = next((urls[name] for name in _OF_ENVIRONMENT[target.secure] if urls.get(name)), None)
    if url is None or _is_here(target.host) or _is_spared(target, urls.get("no", "")):
        return None
    try:
        return Proxy.parse(url if "://" in url else f"http://{url}")  # everybody reads them like this
    except ConfigurationError as error:
        raise ConfigurationError(f"of the environment, {error}; proxy=None goes without") from None


def _is_here(host: str) -> bool:
    if host.rstrip(".") == "localhost":
        return True
    address = address_of(host)
    return address is not None and address.is_loopback


def _is_spared(target: Target, spared: str) -> bool:
    """Tell whether `no_proxy` has the host: names are compared as `urllib` does, addresses here."""
    if urllib.request.proxy_bypass(f"{target.host}:{target.port}"):
        return True
    address = address_of(target.host)
    return address is not None and any(_has(entry.strip(), address, target.port) for entry in spared.split(","))


def _has(entry: str, address: IPAddress, port: int) -> bool:
    network, number = entry, None
    if entry.count(":") == 1 or entry.startswith("["):
        found = _SOME_PORT.fullmatch(entry)
        assert found is not None
        network, number = found[1].strip("[]"), found[2]
    if number is not None and int(number) != port:
        return False
    with contextlib.suppress(ValueError):
        return address in ipaddress.ip_network(network, strict=False)
    return False


def _fits_socks(text: str) -> bool:
    return text.isascii() and len(text) <= MAX_SOCKS_CREDENTIAL


def _refuse(url: object, why: str) -> NoReturn:
    raise ConfigurationError(f"proxy={shown(url)}: {why}")
