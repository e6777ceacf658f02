"""The opening handshake of RFC 6455, the client's side: a request out, the answer checked, no I/O.

`ask` makes the request of section 4.1; `check` goes through the answer, and takes nothing for granted that the request
did not ask for.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ..errors import InvalidHandshake
from .deflate import Deflate, agree, offers
from .fields import has_token
from .server import accept_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Agreed", "Asked", "Options", "ask", "check"]


class Options(Protocol):
    """A client's options as the handshake reads them; `options.ClientOptions` is one."""

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client speaks, the one that it prefers first."""

    @property
    def origin(self) -> str | None:
        """What ``Origin`` says, or None."""

    @property
    def compression(self) -> str | None:
        """Whether and how permessage-deflate is spoken."""

    @property
    def compression_window_bits(self) -> int:
        """The largest window of either direction."""


class Asked(NamedTuple):
    """An opening handshake as it was asked for.

    Attributes:
        request: all bytes of the request.
        accept: what ``Sec-WebSocket-Accept`` has to say.
        options: of the client.
    """

    request: bytes
    accept: bytes
    options: Options


class Agreed(NamedTuple):
    """What a server agreed to.

    Attributes:
        subprotocol: the one in use, or None.
        extension: the one in use, or None.
    """

    subprotocol: str | None
    extension: Deflate | None


# Of which a second line would say something else
_ONCE: Final = (b"upgrade", b"sec-websocket-accept", b"sec-websocket-protocol")


def ask(resource: str, host: str, headers: Iterable[tuple[str, str]], options: Options) -> Asked:
    """Make the request of an opening handshake.

    Args:
        resource: path and query, percent-encoded.
        host: what ``Host`` says, unless one of the headers does.
        headers: further header fields, checked already.
        options: of the client.
    """
    key = b64encode(os.urandom(16))
    lines = [f"GET {resource} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.insert(1, f"Host: {host}")
    lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key.decode()}"]
    lines.append("Sec-WebSocket-Version: 13")
    if options.origin is not None:
        lines.append(f"Origin: {options.origin}")
    if options.subprotocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(options.subprotocols)}")
    if extensions := offers(options):
        lines.append(f"Sec-WebSocket-Extensions: {extensions.decode()}")
    return Asked("\r\n".join([*lines, "", ""]).encode("latin-1"), accept_key(key), options)


def check(asked: Asked, http_version: str, fields: Sequence[tuple[bytes, bytes]]) -> Agreed:
    """Check an answer with status 101 (RFC 6455 section 4.1).

    Args:
        asked: what it answers.
        http_version: such as ``"1.1"``.
        fields: the header fields in order; names in lower case, values without surrounding blanks.

    Raises:
        InvalidHandshake: something is missing, repeated or malformed, or was not asked for; the message says what.
    """
    if http_version != "1.1":
        raise InvalidHandshake(f"the server answers with HTTP/{http_version} instead of 1.1")
    values = _by_name(fields)
    if values.get(b"upgrade", b"").lower() != b"websocket":
        raise InvalidHandshake("the answer has no Upgrade: websocket")
    if not has_token(values.get(b"connection", b""), b"upgrade"):
        raise InvalidHandshake("the answer has no Connection: Upgrade")
    for name in (b"content-length", b"transfer-encoding"):
        if name in values:
            # "A server MUST NOT send" either "in any response with a status code of 1xx" (RFC 9110 8.6, RFC 9112 6.1)
            raise InvalidHandshake(f"the answer announces a body: {name.decode()} with status 101")
    if values.get(b"sec-websocket-accept") != asked.accept:
        raise InvalidHandshake("the Sec-WebSocket-Accept of the answer does not belong to our Sec-WebSocket-Key")
    extension = agree(values.get(b"sec-websocket-extensions", b""), asked.options)
    return Agreed(_subprotocol(values.get(b"sec-websocket-protocol"), asked.options), extension)


def _by_name(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the values by name, those of several lines joined with commas (RFC 9110 section 5.2)."""
    values: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _ONCE and name in values:
            raise InvalidHandshake(f"the answer says {name.decode()} twice")
        values[name] = values[name] + b", " + value if name in values else value
    return values


def _subprotocol(chosen: bytes | None, options: Options) -> str | None:
    if chosen is None:
        return None
    name = chosen.decode("latin-1")
    if name not in options.subprotocols:
        raise InvalidHandshake(f"the server speaks a subprotocol that was not asked for: {name[:200]!r}")
    return name
