"""A PROXY header is read as `proxy-protocol.txt` says, and is never taken for complete, or wrong, too early.

Whatever follows a header changes nothing; a beginning of it waits for more, of which there is a bounded amount; and
what is wrong stays wrong, however it goes on.
"""

from __future__ import annotations

import re
import socket

from fastws.net.proxy_protocol import MAX_HEADER_LENGTH, MalformedHeaderError, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MALFORMED = "malformed"
LINE = re.compile(rb"PROXY (?:(UNKNOWN)(?: [^\r\n]*)?|TCP([46]) (\S+) (\S+) (\d+) (\d+))\r\n")
SPACES = {b"\x21\x00": 0, b"\x21\x11": 12, b"\x21\x21": 36, b"\x21\x31": 216}  # bytes of addresses


def check(data: bytes) -> None:
    expected = meaning(data)
    assert read(data) == expected, (read(data), expected)
    # From a prefix to a longer one only "more is needed" may change
    outcomes = [read(data[:length]) for length in (*range(0, len(data), 1 + len(data) // 20), len(data))]
    settled = [outcome for outcome in outcomes if outcome is not None]
    assert settled[1:] == settled[:-1]
    assert outcomes[: len(outcomes) - len(settled)] == [None] * (len(outcomes) - len(settled))
    if expected is None:
        assert len(data) < MAX_HEADER_LENGTH


def read(data: bytes) -> tuple | str | None:
    """The length of the header, the address in it, as its bytes, for there are several ways to write one, and TLS."""
    try:
        header = read_header(data)
    except MalformedHeaderError:
        return MALFORMED
    if header is None or header.address is None:
        return header
    host, port = header.address
    address = (packed(socket.AF_INET6 if ":" in host else socket.AF_INET, host.encode()), port)
    return header.length, address, header.secure


def meaning(data: bytes) -> tuple | str | None:
    """What all of the bytes mean; None where more of them are needed."""
    if data.startswith(SIGNATURE):
        return block(data)
    if not data.startswith(b"PROXY "):
        return None if (SIGNATURE.startswith(data) or b"PROXY ".startswith(data)) else MALFORMED
    return line(data)


def line(data: bytes) -> tuple | str | None:
    if (whole := LINE.match(data[:107])) is None:
        # Whether a line may still end well is seen at its end only, unless a stray line end comes before
        begun = re.fullmatch(rb"[^\r\n]*\r?", data)
        return None if begun and len(data) < 107 else MALFORMED
    unknown, version, *addresses, port, other_port = whole.groups()
    if unknown:
        return whole.end(), None, None
    family = socket.AF_INET if version == b"4" else socket.AF_INET6
    ports = [text for text in (port, other_port) if re.fullmatch(rb"0|[1-9]\d{0,4}", text) and int(text) < 65536]
    hosts = [packed(family, text) for text in addresses]
    return (whole.end(), (hosts[0], int(port)), None) if len(ports) == 2 and all(hosts) else MALFORMED


def packed(family: int, text: bytes) -> bytes | None:
    try:
        return socket.inet_pton(family, text.decode("ascii"))
    except (OSError, ValueError):
        return None


def block(data: bytes) -> tuple | str | None:
    if len(data) < 16:
        return None if data[12:13] in (b"", b"\x20", b"\x21") else MALFORMED
    kind, length = data[12:14], int.from_bytes(data[14:16], "big")
    is_local = kind[:1] == b"\x20"
    if length > MAX_HEADER_LENGTH - 16 or not (is_local or (kind in SPACES and length >= SPACES[kind])):
        return MALFORMED
    if len(data) < 16 + length:
        return None
    if is_local:
        return 16 + length, None, None
    said = secure(data[16 + SPACES[kind] : 16 + length])
    if said == MALFORMED:
        return MALFORMED
    if kind not in (b"\x21\x11", b"\x21\x21"):
        return 16 + length, None, said
    size = 4 if kind == b"\x21\x11" else 16
    port = data[16 + 2 * size : 18 + 2 * size]
    return 16 + length, (data[16 : 16 + size], int.from_bytes(port, "big")), said


def secure(values: bytes) -> bool | str | None:
    """What the first PP2_TYPE_SSL says; two bytes that are left are no value."""
    while len(values) >= 3:
        end = 3 + int.from_bytes(values[1:3], "big")
        if end > len(values) or values[:3] == b"\x20\x00\x00":
            return MALFORMED
        if values[0] == 0x20:
            return values[3] % 2 == 1
        values = values[end:]
    return None


def seeds() -> list[bytes]:
    return [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET / HTTP/1.1\r\n",
        b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 0 65535\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:ffff whatever\r\nmore",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r",
        b"PROXY " + b"x" * 110,
        SIGNATURE + b"\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbbGET",
        SIGNATURE + b"\x21\x21\x00\x26" + bytes(range(38)),
        SIGNATURE
        + b"\x21\x11\x00\x1c"
        + bytes(12)
        + b"\x04\x00\x02\x00\x00\x20\x00\x08\x01\x00\x00\x00\x00\x00\x00\x00",
        SIGNATURE + b"\x20\x00\x00\x00",
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        SIGNATURE + b"\x21\x11\x10\x01",
        SIGNATURE[:7],
    ]
