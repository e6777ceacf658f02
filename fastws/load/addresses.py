"""What the system has to give for so many connections: descriptors, and ports for each of our addresses.

From one address to one port of a server there can be as many connections as there are ports to dial from, 28,232 on an
untouched Linux. All of 127.0.0.0/8 is this machine, so on loopback there are further addresses for the taking;
elsewhere the user names some that the machine has.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ..client.url import address_of
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .plan import Plan

__all__ = ["local_addresses", "raise_file_limit"]

_OTHER_FILES: Final = 64  # descriptors that the program needs besides
_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_PORTS: Final = 16384  # where the system does not say: those of RFC 6335
_SPARE: Final = 0.9  # of the ports; somebody else dials, too, and one that was used rests for a minute


def raise_file_limit(connections: int) -> None:
    """Allow as many open files as the system lets us.

    Raises:
        ConfigurationError: that is not enough for so many connections.
    """
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if most != resource.RLIM_INFINITY and most < needed:
        raise ConfigurationError(
            f"{connections} connections need {needed} open files, and the system allows this process {most}; raise "
            f"that (ulimit -Hn {needed}, LimitNOFILE={needed} in a unit of systemd), or give fewer --connections"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def local_addresses(plan: Plan, total: int) -> list[str]:
    """Return the addresses from which to dial, in turns; an empty list leaves it to the system.

    Args:
        plan: where to, and from where if the user says that.
        total: how many connections there will be, one after another or at once.

    Raises:
        ConfigurationError: there are not enough ports.
    """
    ports = int(port_count() * _SPARE)
    needed = -(-total // ports)
    given = list(plan.local_address)
    if not given and needed > 1 and _is_loopback(plan.url):
        return [f"127.0.0.{number}" for number in range(1, needed + 1)]
    if needed > max(1, len(given)):
        raise ConfigurationError(
            f"{total} connections to one server need {needed} addresses to dial from, with about {ports} ports each; "
            f"give --local-address {needed} times, with addresses of this machine"
        )
    return given


def port_count() -> int:
    """Return how many ports the system dials from."""
    try:
        lowest, highest = map(int, _PORT_RANGE.read_text().split())
    except (OSError, ValueError):
        return _USUAL_PORTS
    return highest - lowest + 1


def _is_loopback(url: str) -> bool:
    """Whether a URL leads to 127.0.0.0/8, whose addresses all are ours on Linux."""
    host = urlsplit(url).hostname or ""
    try:
        found = (
            {host} if address_of(host) is not None else {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
        )
    except OSError:
        return False
    return _PORT_RANGE.exists() and all(ipaddress.ip_address(address).is_loopback for address in found)
