"""The response to a request, and the refusal that a handler raises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

from ..errors import FastWSError
from ..handshake.fields import is_token

__all__ = ["HeadersInput", "Refuse", "Response", "check_header", "check_headers", "phrase"]

HeadersInput = Mapping[str, str] | Iterable[tuple[str, str]]
_Body = bytes | bytearray | memoryview | str


class Response:
    """An answer of a resource.

    Args:
        body: `str` is sent as UTF-8.
        status: 200 to 599; 204 and 304 have no body.
        headers: further header fields, a mapping or pairs. Without ``Content-Type`` a `str` is ``text/plain`` and bytes
            are ``application/octet-stream``.

    Raises:
        ValueError: the status, or a header field, cannot be sent.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: _Body = b"", status: int = 200, headers: HeadersInput | None = None) -> None:
        self.status = _check_status(status)
        self.body = body.encode() if isinstance(body, str) else bytes(body)
        if self.body and status in (204, 304):
            raise ValueError(f"a response with status {status} has no body")
        self.headers = [] if headers is None else check_headers(headers)
        if self.body and not any(name.lower() == b"content-type" for name, _ in self.headers):
            self.headers.append((b"Content-Type", _TEXT if isinstance(body, str) else _BYTES))

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status}, {self.length} bytes>"


class Refuse(FastWSError):
    """Raised in a resource, sends a status instead of a result; raised in an ``on_upgrade``, refuses the client.

    Args:
        status: 300 to 599.
        body: for the client; without it the phrase of the status.
        headers: further header fields, such as ``Location``.
    """

    def __init__(self, status: int, body: bytes | str = b"", headers: HeadersInput | None = None) -> None:
        super().__init__(status, body, headers)
        if status < 300:
            raise ValueError(f"status {status} is no refusal; return a Response")
        if not body and status != 304:
            body = phrase(status) + "\n"
        self.response = Response(body, status, headers)

    @property
    def status(self) -> int:
        """The status of the response."""
        return self.response.status

    def __str__(self) -> str:
        return f"{self.status} {phrase(self.status)}"


_TEXT: Final = b"text/plain; charset=utf-8"
_BYTES: Final = b"application/octet-stream"

# The connection itself is not the business of a resource.
_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"date", b"upgrade"})
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def phrase(status: int) -> str:
    """Return the reason phrase of a status."""
    return _PHRASES.get(status, "Unknown")


def _check_status(status: int) -> int:
    if not 200 <= status <= 599:
        raise ValueError(f"status {status!r} is not between 200 and 599")
    return int(status)


def check_headers(headers: HeadersInput) -> list[tuple[bytes, bytes]]:
    """Return header fields as they are sent; ValueError as from `check_header`."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [check_header(name, value) for name, value in pairs]


def check_header(name: str, value: str) -> tuple[bytes, bytes]:
    """Return a header field as it is sent.

    Raises:
        ValueError: it cannot be sent, or it is not the author's to set.
    """
    raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
    if not is_token(name):
        raise ValueError(f"header name {name!r} is no token")
    if raw_name.lower() in _OURS:
        raise ValueError(f"header {name!r} is set by the server")
    # A line break would end the field and begin one of the attacker's.
    if any((byte < 32 and byte != 9) or byte == 127 for byte in raw_value):
        raise ValueError(f"header {name!r} has a control character in its value {value!r}")
    return raw_name, raw_value
