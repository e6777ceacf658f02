"""URLs of WebSockets (RFC 6455 section 3, RFC 3986): taken apart, checked, and brought into one form.

What is wrong is refused, and not mended: a URL that two programs read differently leads to the wrong server. Two things
are no mistakes and are brought into the form of the wire, as browsers do: a name of another script becomes its ASCII
form, and what a path or a query has besides the characters of RFC 3986 is percent-encoded.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final, NoReturn
from urllib.parse import quote, unquote

from ..errors import ConfigurationError

__all__ = ["DEFAULT_PORTS", "Auth", "IPAddress", "Target", "address_of", "authority", "parse", "parse_place", "shown"]

Auth = tuple[str, str]
"""A user and a password."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
"""An address of either version."""

DEFAULT_PORTS: Final = {False: 80, True: 443}
"""By whether TLS is spoken."""

MAX_NAME: Final = 253  # characters of a host (RFC 1035 section 2.3.4)
_SECURE: Final = {"ws": False, "wss": True, "http": False, "https": True}
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_PLACE: Final = re.compile(r"(?:(.*)@)?(\[[^\]]*\]|[^:@]*)(?::([^:]*))?", re.DOTALL)
_USERINFO: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%[0-9A-Fa-f]{2})*")
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
# Of these IDNA 2003, which Python knows, makes other names than IDNA 2008, which browsers know; so it may of what came
# after the Unicode that it knows
_DEVIATIONS: Final = frozenset("ßς\u200c\u200d")
_OF_RESOURCE: Final = "/?%:@!$&'()*+,;=-._~"


@dataclass(frozen=True)
class Target:
    """Where a client connects.

    Attributes:
        secure: whether TLS is spoken.
        host: a name in ASCII and lower case, or an address; one of IPv6 is without brackets, perhaps with its zone.
        port: of TCP.
        resource: what the request asks for, path and query (RFC 6455 section 3 calls it resource name).
        auth: the user and the password of the URL, None without.
    """

    secure: bool
    host: str
    port: int
    resource: str = "/"
    auth: Auth | None = field(default=None, repr=False)

    @property
    def host_field(self) -> str:
        """What ``Host`` says: without a port that is the scheme's own (RFC 9110 section 7.2)."""
        return authority(self.host, None if self.port == DEFAULT_PORTS[self.secure] else self.port)

    @property
    def tls_name(self) -> str:
        """For whom the server's certificate has to be."""
        return self.host.partition("%")[0].rstrip(".")

    @property
    def origin(self) -> tuple[bool, str, int]:
        """What two targets share that are of one origin (RFC 6454 section 4)."""
        return self.secure, self.host, self.port

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.host_field}{self.resource}"


def authority(host: str, port: int | None) -> str:
    """Return ``host:port`` as a URL or a header field has it; a zone is ours alone and is left out (RFC 6874)."""
    host = host.partition("%")[0]
    place = f"[{host}]" if ":" in host else host
    return place if port is None else f"{place}:{port}"


def parse(url: str) -> Target:
    """Take the URL of a WebSocket apart.

    Args:
        url: of the scheme ``ws`` or ``wss``; ``http`` and ``https`` mean the same.

    Raises:
        ConfigurationError: it is none, and why; no password is shown.
    """
    scheme, place, path, query = _split(url)
    if scheme not in _SECURE:
        _refuse(url, "its scheme is none of ws, wss, http and https")
    secure = _SECURE[scheme]
    host, port, auth = parse_place(url, place, DEFAULT_PORTS[secure])
    return Target(secure, host, port, _resource(url, (path or "/") + query), auth)


def parse_place(url: str, place: str, default_port: int) -> tuple[str, int, Auth | None]:
    """Take ``user:password@host:port`` apart.

    Args:
        url: that it is of, for errors.
        place: what stands between ``//`` and the path.
        default_port: where none is given.

    Raises:
        ConfigurationError: it is none.
    """
    found = _PLACE.fullmatch(place)
    if found is None:
        _refuse(url, "an IPv6 address stands in brackets, and an @ of a user or a password is written %40")
    userinfo, host, port = found.groups()
    return _host(url, host), _port(url, port, default_port), _auth(url, userinfo)


def address_of(host: str) -> IPAddress | None:
    """Return a host as the IP address that it is, without its zone; None for a name."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0])
    return None


def shown(url: object) -> str:
    """Return a URL as errors show it: without user and password."""
    return repr(re.sub(r"(?<=//).*@", "***@", url, flags=re.DOTALL)[:200]) if isinstance(url, str) else repr(url)


def _split(url: str) -> tuple[str, str, str, str]:
    """Return scheme, authority, path and query."""
    if not isinstance(url, str):
        _refuse(url, 'give a str such as "wss://example.com/chat"')
    if _CONTROL.search(url) or not _is_unicode(url):
        _refuse(url, "there is a space, a line break, a control character or half a character in it")
    found = _URL.fullmatch(url)
    if found is None:
        _refuse(url, 'give one such as "wss://example.com/chat"')
    scheme, place, path, query, fragment = found.groups(default="")
    if fragment:
        _refuse(url, "a WebSocket has no fragment; a # that belongs to the path is written %23")
    return scheme.lower(), place, path, query


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _resource(url: str, resource: str) -> str:
    if _BROKEN_ESCAPE.search(resource):
        _refuse(url, "there is a % without two hexadecimal digits; one that stands for itself is written %25")
    return quote(resource, safe=_OF_RESOURCE)


def _auth(url: str, userinfo: str | None) -> Auth | None:
    if not userinfo:
        return None
    if not _USERINFO.fullmatch(userinfo):
        _refuse(url, "percent-encode what is special in the user and the password")
    user, _, password = userinfo.partition(":")
    try:
        auth = unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        _refuse(url, "the user or the password is not UTF-8")
    if ":" in auth[0] or _has_control("".join(auth)):
        _refuse(url, "a user has no colon, and neither it nor the password a control character")
    return auth


def _has_control(text: str) -> bool:
    return any(ord(character) < 0x20 or ord(character) == 0x7F for character in text)


def _port(url: str, port: str | None, default: int) -> int:
    if not port:
        return default
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        _refuse(url, "a port is a number from 1 to 65535")
    return int(port)


def _host(url: str, host: str) -> str:
    if host.startswith("["):
        return _ipv6(url, host[1:-1])
    name = _to_ascii(url, host)
    labels = name.removesuffix(".").split(".")
    if len(name) > MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        _refuse(url, "its host is neither a name nor an address" if host else "it names no host")
    # Resolvers take 127.1 and 0x7f000001 for addresses, and others do not
    if _NUMBER.fullmatch(labels[-1]) and not _is_ipv4(name):
        _refuse(url, "its host is no address of IPv4, which is four decimal numbers")
    return name


def _to_ascii(url: str, host: str) -> str:
    if host.isascii():
        return host.lower()
    why = "its host is no name, or one that not all programs encode alike; write its form with xn--"
    if any(map(_is_ambiguous, host)):
        _refuse(url, why)
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        _refuse(url, why)


def _is_ambiguous(letter: str) -> bool:
    return letter in _DEVIATIONS or unicodedata.ucd_3_2_0.category(letter) == "Cn"


def _ipv6(url: str, text: str) -> str:
    # RFC 6874: the % before a zone is encoded itself
    address, _, zone = text.partition("%25")
    try:
        host = str(ipaddress.IPv6Address(address))
    except ValueError:
        _refuse(url, "there is no IPv6 address in its brackets")
    if not zone and "%" in text:
        _refuse(url, "the % before a zone is written %25")
    return f"{host}%{unquote(zone)}" if zone else host


def _is_ipv4(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _refuse(url: object, why: str) -> NoReturn:
    raise ConfigurationError(f"url {shown(url)}: {why}")
