"""Where a redirect leads, and what is told there (RFC 9110 section 15.4, RFC 6455 section 4.1).

Values in, values out: who connects asks `redirected` for the next target, and `headers_for` for what it may be told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from ..errors import ConfigurationError, RedirectError
from .url import DEFAULT_PORTS, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .url import Target

__all__ = ["REDIRECTS", "headers_for", "redirected"]

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Statuses of which a GET, which an opening handshake is, goes on elsewhere."""

# What tells who we are; a server could have it sent to another by a redirect
_SECRETS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


def redirected(target: Target, status: int, location: str | None) -> Target:
    """Return where a redirect leads.

    The user and the password of the first URL go along where the new one may know them; those of a ``Location`` are
    ignored, since they are the server's and not ours.

    Args:
        target: who answered with the redirect.
        status: of `REDIRECTS`.
        location: the field's value, None without; it may be relative.

    Raises:
        RedirectError: there is no ``Location``, it is no URL of a WebSocket, or it leads from ``wss`` to ``ws``.
    """
    if not location:
        raise RedirectError(str(target), status, "", "it does not say where to")
    there = _resolve(target, location)
    if there is None:
        raise RedirectError(str(target), status, location, "that is no URL of a WebSocket")
    if target.secure and not there.secure:
        raise RedirectError(str(target), status, location, "what was said with TLS is not said without it")
    return replace(there, auth=target.auth if may_know(target, there) else None)


def _resolve(target: Target, location: str) -> Target | None:
    if not location.isprintable():  # what `urljoin` would take away
        return None
    try:
        return parse(urljoin(str(target), location).partition("#")[0])
    except (ConfigurationError, ValueError):
        return None


def headers_for(headers: Iterable[tuple[str, str]], target: Target, there: Target) -> list[tuple[str, str]]:
    """Return of the headers for one target those that another may be told.

    Args:
        headers: name and value.
        target: whom they are for.
        there: where a redirect leads.
    """
    known = may_know(target, there)
    return [(name, value) for name, value in headers if known or name.lower() not in _SECRETS]


def may_know(target: Target, there: Target) -> bool:
    """Tell whether a target may be told what proves to another who we are.

    It has to be of the same origin (RFC 6454 section 4), or the same host which from its default port leads to that of
    TLS: what it gets there it was told already, where everybody could read it.
    """
    to_tls = not target.secure and there.secure
    if to_tls and target.host == there.host:
        return (target.port, there.port) == (DEFAULT_PORTS[False], DEFAULT_PORTS[True])
    return target.origin == there.origin
