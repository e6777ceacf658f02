"""The client that a proxy speaks for: its address and scheme out of ``Forwarded`` (RFC 7239) or ``X-Forwarded-*``.

Each proxy appends the address that it saw to what it was sent, so that the right end of a list is known and its left
end is whatever the client wrote. The list is walked from the right while the address that wrote an entry is trusted:
the first address that is not is the client. What cannot be read ends the walk at the last trusted address before it,
and nothing that stands left of it is believed. For the same reason elements are read from the right end of the text: a
quote that a client leaves open swallows nothing of what a proxy appends.

The scheme stands in the element of ``Forwarded`` that names the client. ``X-Forwarded-Proto`` is a list beside
``X-Forwarded-For``, and is read as far from its right end as that one was; where it is shorter, its left end counts:
most proxies pass on what the first of them wrote.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Network

    _Network: TypeAlias = IPv4Network | IPv6Network

__all__ = ["Client", "ContradictionError", "TrustedProxies"]

Address: TypeAlias = "tuple[str, int]"

# How far a list is read from its right end; a client may have written thousands of entries.
MAX_HOPS: Final = 32
MAX_NODE: Final = 64  # characters

WARNING_INTERVAL: Final = 60.0  # seconds; any client can cause one

# Traefik tells the scheme of the WebSocket.
_SCHEMES: Final = {"https": "https", "wss": "https", "http": "http", "ws": "http"}

_LOCAL: Final = ("127.0.0.0/8", "::1", "unix")

# RFC 7239 section 4: pairs between semicolons, with tokens and quoted strings of RFC 9110 section 5.6.
_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PAIR: Final = rf"({_TOKEN})=({_TOKEN}|{_QUOTED})"
_PAIRS: Final = re.compile(_PAIR)
_ELEMENT: Final = re.compile(rf"(?:{_PAIR})?(?:;(?:{_PAIR})?)*")

# Section 6, and what proxies write in X-Forwarded-For: IPv6 stands in brackets where a port follows.
_NODE: Final = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::(?:([0-9]{1,5})|_[0-9A-Za-z._-]+))?|([0-9A-Fa-f:.]+)")


class ContradictionError(ValueError):
    """Both header fields are there and tell of different clients: one of them is the client's own invention."""


class Client(NamedTuple):
    """A client that a proxy speaks for.

    Attributes:
        address: host and port; the port is 0 where none is told. None on a Unix socket whose peer speaks for nobody.
        scheme: ``"https"`` or ``"http"``, or None where it is not told.
    """

    address: Address | None
    scheme: str | None = None


class _Hop(NamedTuple):
    """One proxy's words: the node that it saw, or None for one that cannot be read, and the scheme."""

    node: str | None
    scheme: str | None


class TrustedProxies:
    """The addresses whose word is taken for whom they speak for.

    Args:
        trusted: addresses and networks such as ``"10.0.0.0/8"``, and ``"unix"`` for peers on Unix sockets, as a list or
            between commas; True is this machine: loopback addresses and Unix sockets.
        field: the one header field that they tell the address in: ``Forwarded``, or one that is a list of addresses as
            ``X-Forwarded-For`` is, beside which ``X-Forwarded-Proto`` is believed. With None all three are read, and
            have to agree.

    Raises:
        ConfigurationError: one of them is no address; the message names it.
    """

    __slots__ = ("_field", "_networks", "_unix", "_warned")

    def __init__(self, trusted: bool | str | Iterable[str], field: str | None = None) -> None:
        self._field = None if field is None else field.lower().encode()
        self._warned: float | None = None
        names = _names(trusted)
        self._unix = "unix" in names
        self._networks = [_network(name) for name in names if name != "unix"]

    def trusts(self, address: Address | None) -> bool:
        """Tell whether a peer is a trusted proxy; None stands for the peer of a Unix socket."""
        if address is None:
            return self._unix
        try:
            return self._contains(_normal(ip_address(address[0].partition("%")[0])))
        except ValueError:
            return False

    def _contains(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)

    def may_warn(self) -> bool:
        """Tell whether a contradiction may be logged: one in `WARNING_INTERVAL`."""
        now = time.monotonic()
        if self._warned is not None and now - self._warned < WARNING_INTERVAL:
            return False
        self._warned = now
        return True

    def client(self, peer: Address | None, headers: Iterable[tuple[bytes, bytes]]) -> Client:
        """Return the client that a trusted peer speaks for; the peer itself where it speaks for nobody.

        Args:
            peer: the address of a proxy that is trusted, or None on a Unix socket.
            headers: the header fields of the request, names in lower case.

        Raises:
            ContradictionError: the header fields lead to different clients, or schemes.
        """
        forwarded, listed, schemes = self._fields(headers)
        one = self._walk(peer, _forwarded(_text(forwarded)))
        if not listed and not schemes:
            return one
        other = self._walk(peer, _listed(_text(listed), _schemes(_text(schemes))))
        return _agree(one, other, both=bool(listed)) if forwarded else other

    def _fields(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return the lines of each field that is read."""
        forwarded: list[bytes] = []
        listed: list[bytes] = []
        schemes: list[bytes] = []
        only = self._field
        for name, value in headers:
            if name == b"forwarded" and only in (None, name):
                forwarded.append(value)
            elif name == (only or b"x-forwarded-for"):
                listed.append(value)
            elif name == b"x-forwarded-proto" and only != b"forwarded":
                schemes.append(value)
        return forwarded, listed, schemes

    def _walk(self, client: Address | None, hops: Iterator[_Hop]) -> Client:
        scheme = None
        for hop in hops:
            scheme = hop.scheme
            address = None if hop.node is None else _address(hop.node)
            if address is None:
                break
            client = address
            if not self.trusts(address):
                break
        return Client(client, scheme)


def _names(trusted: object) -> list[object]:
    if isinstance(trusted, bool):
        return list(_LOCAL) if trusted else []
    if isinstance(trusted, str):
        return [name.strip() for name in trusted.split(",")]
    if not isinstance(trusted, Iterable):
        raise ConfigurationError(f"proxy_headers={trusted!r}: give a list of addresses, or True for this machine")
    return list(trusted)


def _network(name: object) -> _Network:
    try:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no text")
        return ip_network(name)
    except ValueError as error:
        raise ConfigurationError(
            f'proxy_headers: {error}; give addresses and networks such as "10.0.0.1" and "10.0.0.0/8", or "unix"'
        ) from None


def _normal(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return an address of IPv4 as such, which a socket for both versions shows as one of IPv6."""
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def _text(lines: list[bytes]) -> str:
    return b",".join(lines).decode("latin-1")


def _agree(one: Client, other: Client, *, both: bool) -> Client:
    """Return what `Forwarded` and the other fields say; a port or the scheme may be known to one of them only.

    Args:
        one: out of `Forwarded`.
        other: out of the other fields.
        both: whether the other one tells an address, too.
    """
    if one.scheme and other.scheme and one.scheme != other.scheme:
        raise ContradictionError("Forwarded and X-Forwarded-Proto lead to different schemes")
    scheme = one.scheme or other.scheme
    if not both:
        return Client(one.address, scheme)
    if (one.address and one.address[0]) != (other.address and other.address[0]):
        raise ContradictionError("Forwarded and X-Forwarded-For lead to different clients")
    return Client(one.address if one.address and one.address[1] else other.address, scheme)


# --- From the right end of a list to its left.


def _entries(text: str) -> list[str]:
    entries = (entry.strip(" \t") for entry in reversed(text.rsplit(",", MAX_HOPS)[-MAX_HOPS:]))
    return [entry for entry in entries if entry]


def _schemes(text: str) -> list[str | None]:
    return [_SCHEMES.get(entry.lower()) for entry in _entries(text)]


def _listed(text: str, schemes: list[str | None]) -> Iterator[_Hop]:
    entries = _entries(text)
    if not entries and schemes:
        # The peer speaks for nobody else, and yet knows the scheme
        yield _Hop(None, schemes[0])
    for number, entry in enumerate(entries):
        yield _Hop(entry, schemes[min(number, len(schemes) - 1)] if schemes else None)


def _forwarded(text: str) -> Iterator[_Hop]:
    end = start = len(text)
    for _ in range(MAX_HOPS):
        start = text.rfind(",", 0, start)
        element = text[start + 1 : end].strip(" \t")
        if _ELEMENT.fullmatch(element):
            if element:
                yield _hop(element)
            end = start
        # Else the comma may be one within a quoted string.
        if start < 0:
            break
    if end > 0:
        yield _Hop(None, None)


def _hop(element: str) -> _Hop:
    pairs = [(name.lower(), value) for name, value in _PAIRS.findall(element)]
    return _Hop(_value(pairs, "for"), _SCHEMES.get((_value(pairs, "proto") or "").lower()))


def _value(pairs: list[tuple[str, str]], wanted: str) -> str | None:
    values = [value for name, value in pairs if name == wanted]
    if len(values) != 1:
        return None
    value = values[0]
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _address(node: str) -> Address | None:
    """Return a node as host and port; None for ``unknown``, for an obfuscated one and for garbage."""
    match = _NODE.fullmatch(node) if len(node) <= MAX_NODE else None
    if match is None:
        return None
    version4, bracketed, port, version6 = match.groups("")
    try:
        host = IPv4Address(version4) if version4 else IPv6Address(bracketed or version6)
    except ValueError:
        return None
    return (str(_normal(host)), int(port or 0)) if int(port or 0) < 65536 else None
