"""The opening handshake of RFC 6455, the server's side: a request in, the response out, no I/O.

`check` goes through a request in the order of section 4.2.1, or raises a `HandshakeError` that says which HTTP status
refuses it; `accept` makes the response of section 4.2.2. What the service itself decides, in its `on_upgrade`, comes
between the two. Storms of connections are what a server feels after a restart, so that the header fields are gone
through once and hardly an object is made that is not returned.
"""

from __future__ import annotations

import hashlib
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ..errors import HandshakeError
from .deflate import Deflate, negotiate
from .fields import has_token, is_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Accepted", "Opening", "Request", "UpgradeOptions", "accept", "check"]


class Request(Protocol):
    """A request as the handshake reads it; `fastws.http.Request` is one."""

    @property
    def method(self) -> str:
        """The method, in capitals."""

    @property
    def http_version(self) -> str:
        """The version, such as ``"1.1"``."""

    @property
    def raw_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The header fields in order; names in lower case, values without surrounding blanks."""


class UpgradeOptions(Protocol):
    """A service's options as the handshake reads them; `options.UpgradeOptions` is one."""

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the service speaks."""

    @property
    def allowed_origins(self) -> frozenset[str] | None:
        """The origins that may connect, in lower case; None is any."""

    @property
    def compression(self) -> str | None:
        """Whether and how permessage-deflate is spoken."""

    @property
    def compression_window_bits(self) -> int:
        """The largest window of either direction."""


class Opening(NamedTuple):
    """An opening handshake that is in order, before it is answered.

    Attributes:
        accept: the value of ``Sec-WebSocket-Accept``.
        offers: the subprotocols that the client offers, as it sent them, or None.
        subprotocol: the first of them that the service speaks, or None.
        extension: what was negotiated, or None.
    """

    accept: bytes
    offers: bytes | None
    subprotocol: str | None
    extension: Deflate | None

    def offered(self) -> tuple[str, ...]:
        """Return the subprotocols that the client offers, in its order."""
        return () if self.offers is None else tuple(_split(self.offers))


class Accepted(NamedTuple):
    """An accepted handshake.

    Attributes:
        response: all bytes of the 101 response.
        subprotocol: the subprotocol in use, or None.
        extension: the extension in use, or None.
        attributes: what the service likes to remember of the client, or None.
    """

    response: bytes
    subprotocol: str | None
    extension: Deflate | None = None
    attributes: dict[str, Any] | None = None


# RFC 6455 section 1.3
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_RESPONSE: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)

# RFC 9110 section 7.8: what names a protocol in Upgrade says so in Connection.
_ASK_UPGRADE: Final = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))

_LISTS: Final = frozenset({b"upgrade", b"connection", b"sec-websocket-protocol", b"sec-websocket-extensions"})
_FIELDS: Final = _LISTS | {
    b"host",
    b"origin",
    b"sec-websocket-key",
    b"sec-websocket-version",
    b"content-length",
    b"transfer-encoding",
}


def check(request: Request, options: UpgradeOptions) -> Opening:
    """Check an opening handshake (RFC 6455 section 4.2.1).

    Args:
        request: the head of the request.
        options: what the service speaks and whom it admits.

    Raises:
        HandshakeError: 405 for another method than GET; 426 without ``Upgrade: websocket`` or for another version of
            the protocol than 13; 403 for an origin that is not allowed, also for none where some are listed; 400 for
            everything else that is missing, repeated or malformed.
    """
    if request.method != "GET":
        raise HandshakeError(405, ((b"Allow", b"GET"),), b"a WebSocket is opened with GET\n")
    if request.http_version != "1.1":
        raise HandshakeError(400, (), b"a WebSocket is opened with HTTP/1.1\n")
    fields = dict(request.raw_headers)
    if len(fields) < len(request.raw_headers):
        fields = _join(request.raw_headers)
    _check_upgrade(fields)
    if options.allowed_origins is not None:
        _check_origin(fields.get(b"origin"), options.allowed_origins)
    key = accept_key(fields.get(b"sec-websocket-key", b""))
    offers = fields.get(b"sec-websocket-protocol")
    subprotocol = _choose(offers, options.subprotocols) if offers is not None and options.subprotocols else None
    extensions = fields.get(b"sec-websocket-extensions")
    extension = None if extensions is None else negotiate(extensions, options)
    return Opening(key, offers, subprotocol, extension)


def accept(opening: Opening, headers: Iterable[tuple[bytes, bytes]] = ()) -> Accepted:
    """Accept an opening handshake (RFC 6455 section 4.2.2): after the response the connection speaks WebSocket.

    Args:
        opening: what `check` returned; its subprotocol may have been replaced by another that the client offers.
        headers: further header fields, checked already.
    """
    response = _RESPONSE + opening.accept
    if opening.subprotocol is not None:
        response += b"\r\nSec-WebSocket-Protocol: " + opening.subprotocol.encode("latin-1")
    if opening.extension is not None:
        response += b"\r\nSec-WebSocket-Extensions: " + opening.extension.response
    for field in headers:
        response += b"\r\n%b: %b" % field
    return Accepted(response + b"\r\n\r\n", opening.subprotocol, opening.extension)


def accept_key(key: bytes) -> bytes:
    """Return the ``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key``.

    Raises:
        HandshakeError: the key is not the base64 of 16 bytes.
    """
    # 24 characters make 16 bytes only if 22 of them are of the alphabet and the last two are padding.
    try:
        valid = len(key) == 24 and len(a2b_base64(key)) == 16
    except Base64Error:
        valid = False
    if not valid:
        raise HandshakeError(400, (), b"Sec-WebSocket-Key is missing or is not the base64 of 16 bytes\n")
    # SHA-1 is what the protocol says; nothing here is a secret.
    return b2a_base64(hashlib.sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)


def _join(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Gather the fields that the handshake reads where some are repeated, as only lists may be."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _FIELDS:
            if name not in fields:
                fields[name] = value
            elif name in _LISTS:
                fields[name] += b"," + value
            else:
                raise HandshakeError(400, (), b"a header field of the opening handshake is repeated\n")
    return fields


def _check_upgrade(fields: dict[bytes, bytes]) -> None:
    if not has_token(fields.get(b"upgrade", b""), b"websocket"):
        raise HandshakeError(426, _ASK_UPGRADE, b"only WebSocket is spoken here\n")
    if not has_token(fields.get(b"connection", b""), b"upgrade"):
        raise HandshakeError(400, (), b"Connection does not hold Upgrade\n")
    # llhttp lets a request without Host pass, and any value of it.
    host = fields.get(b"host")
    if not host or not is_host(host):
        raise HandshakeError(400, (), b"Host is missing or is none\n")
    # A body would be taken for the first frames.
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
        raise HandshakeError(400, (), b"an opening handshake has no body\n")
    version = fields.get(b"sec-websocket-version")
    if version != b"13":
        _refuse_version(version)


def _refuse_version(version: bytes | None) -> None:
    if version is None:
        raise HandshakeError(400, (), b"Sec-WebSocket-Version is missing\n")
    # Section 4.4: the versions that we speak, so that the client can try one of them.
    headers = (*_ASK_UPGRADE, (b"Sec-WebSocket-Version", b"13"))
    raise HandshakeError(426, headers, b"Sec-WebSocket-Version is not 13\n")


def _check_origin(origin: bytes | None, allowed: frozenset[str]) -> None:
    # Section 10.2: browsers always tell the origin, so that where origins matter its absence is no excuse.
    if origin is None or origin.decode("latin-1").lower() not in allowed:
        raise HandshakeError(403, (), b"this origin may not connect\n")


def _choose(offers: bytes, supported: tuple[str, ...]) -> str | None:
    return next((name for name in _split(offers) if name in supported), None)


def _split(offers: bytes) -> Iterator[str]:
    names = (offer.strip(" \t") for offer in offers.decode("latin-1").split(","))
    return (name for name in names if name)
