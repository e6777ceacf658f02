"""An opening handshake is accepted exactly when it is as RFC 6455 4.2.1 says, else refused with a documented status.

Choices: one byte, the method, the version of HTTP and what the service speaks. The wire: header fields, one a line,
`name:value`, as the parser hands them on: names in lower case, values without blanks at their ends.
"""

from __future__ import annotations

import base64
import hashlib
import re

from fastws.errors import HandshakeError
from fastws.handshake.deflate import Deflate
from fastws.handshake.server import accept
from fastws.handshake.server import check as check_opening
from fastws.http import Request
from fastws.options import UpgradeOptions

from . import deflate_offers

METHODS = ("GET", "POST", "HEAD", "OPTIONS")
VERSIONS = ("1.1", "1.1", "1.0", "2.0")
OPTIONS = (
    UpgradeOptions(),
    UpgradeOptions(subprotocols=("chat", "superchat")),
    UpgradeOptions(allowed_origins=frozenset({"https://example.com"})),
    UpgradeOptions(subprotocols=("chat",), allowed_origins=frozenset({"null"})),
)
ONCE = (b"host", b"origin", b"sec-websocket-key", b"sec-websocket-version", b"content-length", b"transfer-encoding")
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+]|[-0-9A-Za-z._~%!$&'()*+,;=]*)(:[0-9]*)?")  # RFC 3986 section 3.2
STATUSES = (400, 403, 405, 426)


def check(data: bytes) -> None:
    choice = data[0] if data else 0
    method, version, options = METHODS[choice & 3], VERSIONS[choice >> 2 & 3], OPTIONS[choice >> 4 & 3]
    fields = [_field(line) for line in data[1:].split(b"\n") if b":" in line]
    request = Request(method, b"/", fields, version)
    try:
        opening = check_opening(request, options)
    except HandshakeError as error:
        opening, status = None, error.status
    offers = [value for name, value in fields if name == b"sec-websocket-extensions"]
    extension = deflate_offers.answer(b",".join(offers), options) if offers else None
    acceptable = is_right(method, version, fields, options.allowed_origins) and extension != "malformed"
    assert (opening is not None) == acceptable
    if opening is None:
        assert status in STATUSES
        return
    accepted = accept(opening)
    subprotocol = chosen(fields, options.subprotocols)
    assert (accepted.subprotocol, accepted.extension) == (subprotocol, extension)
    assert accepted.response == answer(dict(fields)[b"sec-websocket-key"], subprotocol, extension)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t\r\0")


def is_right(method: str, version: str, fields: list[tuple[bytes, bytes]], origins: frozenset[str] | None) -> bool:
    values = {name: [value for other, value in fields if other == name] for name, _ in fields}
    return (
        method == "GET"
        and version == "1.1"
        and all(len(values.get(name, ())) <= 1 for name in ONCE)
        and bool(values.get(b"host", [b""])[0])  # "containing the server's authority": no empty one
        and HOST.fullmatch(values[b"host"][0]) is not None
        and b"websocket" in tokens(values.get(b"upgrade", []))
        and b"upgrade" in tokens(values.get(b"connection", []))
        and values.get(b"sec-websocket-version") == [b"13"]
        and re.fullmatch(rb"[A-Za-z0-9+/]{22}==", values.get(b"sec-websocket-key", [b""])[0]) is not None
        and b"transfer-encoding" not in values
        and values.get(b"content-length", [b"0"]) == [b"0"]
        and (origins is None or values.get(b"origin", [b""])[0].decode("latin-1").lower() in origins)
    )


def tokens(values: list[bytes]) -> list[bytes]:
    return [token.strip(b" \t").lower() for token in b",".join(values).split(b",")]


def chosen(fields: list[tuple[bytes, bytes]], supported: tuple[str, ...]) -> str | None:
    offers = b",".join(value for name, value in fields if name == b"sec-websocket-protocol").decode("latin-1")
    return next((offer.strip(" \t") for offer in offers.split(",") if offer.strip(" \t") in supported), None)


def answer(key: bytes, subprotocol: str | None, extension: Deflate | None) -> bytes:
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + base64.b64encode(digest)
        + (b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode() if subprotocol else b"")
        + (b"\r\nSec-WebSocket-Extensions: " + extension.response if extension else b"")
        + b"\r\n\r\n"
    )


def seeds() -> list[bytes]:
    head = (
        b"host:example.com\nupgrade:websocket\nconnection:keep-alive, Upgrade\n"
        b"sec-websocket-key:dGhlIHNhbXBsZSBub25jZQ==\nsec-websocket-version:13"
    )
    more = (
        b"\norigin:https://example.com\nsec-websocket-protocol:soap, superchat ,chat\ncontent-length:0"
        b"\nsec-websocket-extensions:permessage-deflate; server_max_window_bits=9"
    )
    return [bytes([choice]) + head + more for choice in (0x00, 0x10, 0x20, 0x30, 0x01, 0x08)] + [b"\0" + head]
