"""Values of header fields: tokens, lists of them, hosts, origins and dates (RFC 9110, RFC 9112, RFC 6454)."""

from __future__ import annotations

import re
from email.utils import mktime_tz, parsedate_tz
from typing import Final

__all__ = ["TOKEN", "has_token", "is_host", "is_token", "normal_origin", "seconds_of"]

TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""A pattern of what RFC 9110 section 5.6.2 calls a token."""

_IS_TOKEN: Final = re.compile(TOKEN)
# RFC 9112 section 3.2 and RFC 3986 section 3.2.2
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def is_token(value: str) -> bool:
    """Tell whether a text is a token (RFC 9110 section 5.6.2)."""
    return _IS_TOKEN.fullmatch(value) is not None


def has_token(value: bytes, token: bytes) -> bool:
    """Tell whether a comma-separated list holds a token, which is given in lower case (RFC 9110 section 5.6.1)."""
    if value == token:
        return True
    value = value.lower()
    return value == token or (b"," in value and any(part.strip(b" \t") == token for part in value.split(b",")))


def is_host(value: bytes) -> bool:
    """Tell whether a ``Host`` is a host and perhaps a port, or empty; what else is said is no request of ours."""
    return _HOST.fullmatch(value) is not None


def normal_origin(value: str) -> str | None:
    """Bring an origin into the form in which browsers send it (RFC 6454 section 6.2); None if it is no origin."""
    origin = value.lower()
    scheme, separator, host = origin.partition("://")
    if origin == "null":
        return origin
    if not separator or not scheme or not host or "/" in host or not host.isascii() or not host.isprintable():
        return None
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, '/'))}"


def seconds_of(date: str | None) -> float | None:
    """Return a date as seconds since 1970 (RFC 9110 section 5.6.7); None for what is none."""
    try:
        parsed = None if date is None else parsedate_tz(date)
        return None if parsed is None else mktime_tz(parsed)
    except (ValueError, OverflowError, IndexError, TypeError):  # the last two from parsers of some versions of Python
        return None
