"""Whom a proxy speaks for: the client's address out of ``Forwarded`` (RFC 7239) and ``X-Forwarded-For``.

Each proxy appends the address that it saw to what it was sent, so that the right end of a list is known and its left
end is whatever the client wrote. The list is walked from the right while the address that wrote an entry is trusted:
the first address that is not is the client. What cannot be read ends the walk at the last trusted address before it,
and nothing that stands left of it is believed. For the same reason elements are read from the right end of the text: a
quote that a client leaves open swallows nothing of what a proxy appends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Network

    _Network: TypeAlias = IPv4Network | IPv6Network

__all__ = ["ContradictionError", "TrustedProxies"]

Address: TypeAlias = "tuple[str, int]"

# How far a list is read from its right end; a client may have written thousands of entries.
MAX_HOPS: Final = 32
MAX_NODE: Final = 64  # characters

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
    """Both header fields are there and name different clients: one of them is the client's own invention."""


class TrustedProxies:
    """The addresses whose word is taken for whom they speak for.

    Args:
        trusted: addresses and networks such as ``"10.0.0.0/8"``, and ``"unix"`` for peers on Unix sockets, as a list or
            between commas; True is this machine: loopback addresses and Unix sockets.

    Raises:
        ConfigurationError: one of them is no address; the message names it.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, trusted: bool | str | Iterable[str]) -> None:
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

    def client(self, peer: Address | None, headers: Iterable[tuple[bytes, bytes]]) -> Address | None:
        """Return the address of the client that a trusted peer speaks for; the peer's own where it speaks for nobody.

        Args:
            peer: the address of a proxy that is trusted, or None on a Unix socket.
            headers: the header fields of the request, names in lower case.

        Raises:
            ContradictionError: the two header fields lead to different clients.
        """
        forwarded = [value for name, value in headers if name == b"forwarded"]
        listed = [value for name, value in headers if name == b"x-forwarded-for"]
        if forwarded and listed:
            return _agree(self._walk(peer, _forwarded(_text(forwarded))), self._walk(peer, _listed(_text(listed))))
        return self._walk(peer, _forwarded(_text(forwarded)) if forwarded else _listed(_text(listed)))

    def _walk(self, client: Address | None, nodes: Iterator[str | None]) -> Address | None:
        for node in nodes:
            address = None if node is None else _address(node)
            if address is None:
                break
            client = address
            if not self.trusts(address):
                break
        return client


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


def _agree(one: Address | None, other: Address | None) -> Address | None:
    """Return what both say; a port may be known to one of them only."""
    if (one and one[0]) != (other and other[0]):
        raise ContradictionError("Forwarded and X-Forwarded-For lead to different clients")
    return one if one and one[1] else other


# --- From the right end of a list to its left; None is an element that names nobody.


def _listed(text: str) -> Iterator[str | None]:
    entries = text.rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    return (entry.strip(" \t") for entry in reversed(entries) if entry.strip(" \t"))


def _forwarded(text: str) -> Iterator[str | None]:
    end = start = len(text)
    for _ in range(MAX_HOPS):
        start = text.rfind(",", 0, start)
        element = text[start + 1 : end].strip(" \t")
        if _ELEMENT.fullmatch(element):
            if element:
                yield _for(element)
            end = start
        # Else the comma may be one within a quoted string.
        if start < 0:
            break
    if end > 0:
        yield None


def _for(element: str) -> str | None:
    nodes = [value for name, value in _PAIRS.findall(element) if name.lower() == "for"]
    if len(nodes) != 1:
        return None
    node: str = nodes[0]
    return re.sub(r"\\(.)", r"\1", node[1:-1]) if node.startswith('"') else node


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
