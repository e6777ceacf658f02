"""Addresses of a server, for people: a line for each WebSocket and HTTP resource."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .saying import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..server.server import Server

__all__ = ["announce", "listing"]


def announce(server: Server) -> None:
    """Print what is served where, if there is anything to print to."""
    say(listing(server), sys.stdout)


def listing(server: Server) -> str:
    """Return what is served where."""
    lines = [line for address in server.addresses for line in _lines(server, address)]
    width = max(len(url) for url, _ in lines)
    return "\n".join(f"{url:{width}}  {what}" for url, what in lines)


def _lines(server: Server, address: Any) -> Iterator[tuple[str, str]]:
    ws, http = ("wss", "https") if server.secure else ("ws", "http")
    place = _place(address)
    for service in server.services:
        if service.upgrade_path is not None:
            yield f"{ws}{place}{service.upgrade_path.text}", service.name
        for resource in service.resources:
            yield f"{http}{place}{resource.path.text}", f"{service.name}  {resource.method}"


def _place(address: Any) -> str:
    """Return what stands in a URL between the scheme and the path."""
    if isinstance(address, str):
        return f"+unix:{address}:"
    host, port, *_ = address
    return f"://[{host}]:{port}" if ":" in host else f"://{host}:{port}"
