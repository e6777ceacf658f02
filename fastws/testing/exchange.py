"""A request of a test's client and the response to it, or the refusal of its opening handshake, as bytes."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import httptools

from ..errors import ConfigurationError, FastWSError
from ..handshake.mappings import Headers

if TYPE_CHECKING:
    from ..http1.response import HeadersInput

__all__ = ["HOST", "Exchange", "Refused", "Response", "encode_request", "fields_of"]

HOST: Final = "testserver"
_NO_BODY: Final = ("GET", "HEAD", "DELETE", "OPTIONS")


class Response:
    """What a server answered to a request.

    Attributes:
        status: such as 200.
        headers: the header fields, a mapping that does not care about the case of names.
        body: all of it.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Decode the body as JSON."""
        return jsonlib.loads(self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


class Refused(FastWSError):
    """The server refuses an opening handshake: an HTTP response instead of a WebSocket.

    Attributes:
        status: such as 403.
        headers: the header fields of the response.
        body: all of it.
    """

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(status, headers, body)
        self.status = status
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        reason = self.body.decode("utf-8", "replace").strip()
        return f"the opening handshake is refused with {self.status}" + (f": {reason}" if reason else "")


class Exchange:
    """Reads the response to one request.

    Args:
        method: of the request.

    Attributes:
        is_complete: whether the response is, or the WebSocket open.
        rest: what was read behind the head of a 101; None without one.
    """

    def __init__(self, method: str) -> None:
        self.is_complete = False
        self.rest: bytes | None = None
        self._has_body = method != "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what came; what follows a complete response is nobody's."""
        if self.is_complete:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.is_complete = True
            self.rest = data[upgrade.args[0] :]

    @property
    def response(self) -> Response:
        """The response, once it is complete."""
        return Response(self._parser.get_status_code(), Headers(self._fields), bytes(self._body))

    # --- The parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field."""
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """End here what has no body, whatever its length says."""
        self.is_complete = not self._has_body

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self._body += data

    def on_message_complete(self) -> None:
        """End."""
        self.is_complete = True


def encode_request(method: str, path: str, fields: list[tuple[str, str]], body: bytes) -> bytes:
    """Return a request as bytes; `fields` come behind ``Host``, unless they have their own."""
    lines = [f"{method} {path} HTTP/1.1"]
    if not any(name.lower() == "host" for name, _ in fields):
        lines.append(f"Host: {HOST}")
    lines += [f"{name}: {value}" for name, value in fields]
    if body or method not in _NO_BODY:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def fields_of(headers: HeadersInput | None) -> list[tuple[str, str]]:
    """Return header fields; a client may send any.

    Raises:
        ConfigurationError: one has a line break, and would be two.
    """
    fields = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    for name, value in fields:
        if "\n" in name + value or "\r" in name + value:
            raise ConfigurationError(f"header {name!r} has a line break; send_raw sends anything")
    return fields
