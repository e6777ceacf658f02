"""Heads of HTTP/1.1 messages: the target of a request, and the bytes that begin a response."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from .response import Response, phrase

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RETRY_AFTER", "encode_head", "error_response", "origin_form"]

RETRY_AFTER: Final = 10  # seconds


def origin_form(target: bytes) -> bytes | None:
    """Return a request target as path and query (RFC 9112 section 3.2), or None when it is none."""
    if b"#" in target:
        return None
    if target.startswith(b"/") or target == b"*":
        return target
    _, separator, rest = target.partition(b"://")
    if not separator:
        return None
    authority, slash, path = rest.partition(b"/")
    if b"?" in authority:
        return b"/" + rest[rest.index(b"?") :]
    return slash + path if slash else b"/"


class _Date:
    """The Date field, made once per second."""

    __slots__ = ("_field", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._field = b""

    def field(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._field = b"Date: " + formatdate(second, usegmt=True).encode() + b"\r\n"
        return self._field


_date: Final = _Date()


def encode_head(
    response: Response,
    length: int | None,
    keep_alive: bool,
    old: bool,
    further: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return the status line and all header fields of a response.

    Args:
        response: its status and fields.
        length: bytes of the body, also where it is not sent, as to HEAD; None where it is not known.
        keep_alive: whether another request may follow.
        old: whether the client speaks HTTP/1.0.
        further: fields that the response does not know of.
    """
    parts = [b"HTTP/1.1 %d %b\r\n" % (response.status, phrase(response.status).encode()), _date.field()]
    parts.extend(b"%b: %b\r\n" % field for field in response.headers)
    parts.extend(b"%b: %b\r\n" % field for field in further)
    if length is not None and response.status not in (204, 304):
        parts.append(b"Content-Length: %d\r\n" % length)
    if not keep_alive:
        parts.append(b"Connection: close\r\n")
    elif old:
        # HTTP/1.0 closes unless both sides say otherwise.
        parts.append(b"Connection: keep-alive\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def error_response(status: int, *, retry_after: int | None = None) -> Response:
    """Return a refusal of ours: constant, so that it reveals nothing.

    Args:
        status: of the response.
        retry_after: seconds after which to try again, if it is to say so.
    """
    response = Response(f"{status} {phrase(status)}\n", status)
    if retry_after is not None:
        response.headers.append((b"Retry-After", b"%d" % retry_after))
    return response
