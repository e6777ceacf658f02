"""Limits on connections: how many are in a handshake, and how many each address has.

Nothing is kept for a WebSocket unless connections are counted per address, and then it is what gives its place back.
"""

from __future__ import annotations

import functools
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from .deadlines import Waiting

__all__ = ["Limits", "address_key", "uncounted"]

_MAPPED: Final = bytes(10) + b"\xff\xff"  # an IPv4 address in the form of IPv6 (RFC 4291 section 2.5.5.2)


class Limits:
    """The counts of one server.

    Args:
        max_handshakes: connections that have not completed the head of their first request.
        max_per_address: connections of an address, None for any number.

    Attributes:
        max_per_address: as given; None means that addresses are not counted.
    """

    __slots__ = ("_addresses", "_handshakes", "_max_handshakes", "max_per_address")

    def __init__(self, max_handshakes: int, max_per_address: int | None) -> None:
        self._max_handshakes = max_handshakes
        self.max_per_address = max_per_address
        # The oldest first. Not a dict: finding its first key means to walk over those that were removed
        self._handshakes: OrderedDict[Waiting, None] = OrderedDict()
        self._addresses: dict[bytes, int] = {}

    # --- Handshakes in progress.

    @property
    def handshakes(self) -> int:
        """How many handshakes are in progress."""
        return len(self._handshakes)

    def begin_handshake(self, newcomer: Waiting) -> None:
        """Count a handshake that begins; if it is one too many, the deadline of the oldest one has come.

        A client that means well is done within milliseconds: who has been at it longest dawdles.
        """
        self._handshakes[newcomer] = None
        if len(self._handshakes) > self._max_handshakes:
            oldest, _ = self._handshakes.popitem(last=False)
            oldest.on_deadline()

    def end_handshake(self, newcomer: Waiting) -> None:
        """Forget a handshake: it is complete or its connection lost. Nothing happens when it is forgotten already."""
        self._handshakes.pop(newcomer, None)

    # --- Connections of an address.

    def enter(self, host: str | None) -> Callable[[], None] | None:
        """Take a place of an address.

        Args:
            host: an IPv4 or IPv6 address; what is neither (a Unix socket has none) has places without number.

        Returns:
            What gives the place back, to be called once; None when all places of the address are taken.
        """
        key = address_key(host)
        if key is None or self.max_per_address is None:
            return uncounted
        count = self._addresses.get(key, 0)
        if count >= self.max_per_address:
            return None
        self._addresses[key] = count + 1
        return functools.partial(self._leave, key)

    def _leave(self, key: bytes) -> None:
        count = self._addresses[key] - 1
        if count:
            self._addresses[key] = count
        else:
            del self._addresses[key]


def uncounted() -> None:
    """Give back a place that is not counted."""


def address_key(host: str | None) -> bytes | None:
    """Return what counts as one address: all of an IPv4 address, the first half of an IPv6 address.

    A site is given 64 bits of IPv6 to choose from (RFC 6177), so that single addresses of it say nothing.
    """
    if host is None:
        return None
    try:
        if ":" not in host:
            return socket.inet_pton(socket.AF_INET, host)
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed[:8]
