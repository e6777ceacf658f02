"""The header of the PROXY protocol, versions 1 and 2: who the client of a proxy is, said before anything else.

A load balancer that passes bytes on unread (TLS included) has no header field to put the client's address in, so it
says it in front of the first byte: in a line of text (version 1) or in a block with a length (version 2). The format is
that of HAProxy's `proxy-protocol.txt`; whoever can connect can say anything, so that only a proxy may be able to.

`read_header` is given what has come and returns what it found, or that more is needed. While it needs more, all that it
was given belongs to the header: a caller who peeks may take that off the socket and never takes a byte too many.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

__all__ = ["MAX_HEADER_LENGTH", "Header", "MalformedHeaderError", "read_header"]

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_LINE_LENGTH: Final = 107  # bytes of a header of version 1, with its line end (section 2.1)
MAX_BLOCK_LENGTH: Final = 4096  # bytes that follow the 16 of version 2: addresses and all that is said besides
MAX_HEADER_LENGTH: Final = 16 + MAX_BLOCK_LENGTH

_LOCAL, _PROXY = 0x20, 0x21  # version 2 and the command
_IPV4, _IPV6 = 0x11, 0x21  # family and transport: a stream
_SSL: Final = 0x20  # the type of what is said of TLS
_CLIENT_SSL: Final = 0x01
_ADDRESS_LENGTH: Final = {0x00: 0, _IPV4: 12, _IPV6: 36, 0x31: 216}  # 0x00 is unspecified, 0x31 a Unix socket


class Header(NamedTuple):
    """A header that was read.

    Attributes:
        length: the bytes that it took.
        address: host and port of the client, or None where the connection's own address is meant or there is none:
            the proxy speaks for itself (LOCAL), does not know (UNKNOWN), or serves a Unix socket.
        secure: whether the client speaks TLS with the proxy, or None where that is not told.
    """

    length: int
    address: tuple[str, int] | None
    secure: bool | None = None


class MalformedHeaderError(Exception):
    """These bytes are no header of the PROXY protocol."""


def read_header(data: bytes) -> Header | None:
    """Read the header that `data` begins with.

    Returns:
        The header; or None when it goes on after `data`.

    Raises:
        MalformedHeaderError: no header begins so, however it may go on.
    """
    if data.startswith(SIGNATURE):
        return _read_block(data)
    if data.startswith(b"PROXY "):
        return _read_line(data)
    if SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise MalformedHeaderError


# --- Version 1: "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"


def _read_line(data: bytes) -> Header | None:
    line, end, _ = data[:MAX_LINE_LENGTH].partition(b"\r\n")
    if b"\n" in line or b"\r" in (line if end else line[:-1]):
        raise MalformedHeaderError
    if not end:
        if len(data) >= MAX_LINE_LENGTH:
            raise MalformedHeaderError
        return None
    length = len(line) + 2
    match line.split(b" "):
        case [_, b"UNKNOWN", *_]:
            # "The receiver must ignore anything presented before the CRLF" (section 2.1)
            return Header(length, None)
        case [_, b"TCP4" | b"TCP6" as family, source, destination, source_port, destination_port]:
            version = 4 if family == b"TCP4" else 6
            _read_host(version, destination)
            _read_port(destination_port)
            return Header(length, (_read_host(version, source), _read_port(source_port)))
        case _:
            raise MalformedHeaderError


def _read_host(version: int, text: bytes) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise MalformedHeaderError from None
    # A zone ("%eth0") means something on the proxy only
    if address.version != version or b"%" in text:
        raise MalformedHeaderError
    return str(address)


def _read_port(text: bytes) -> int:
    # "in the range [0..65535] inclusive ... Heading zeroes are not permitted" (section 2.1)
    if not text.isdigit() or (text[0] == 0x30 and text != b"0") or len(text) > 5 or int(text) > 65535:
        raise MalformedHeaderError
    return int(text)


# --- Version 2: the signature, version and command, family and transport, a length, and so many bytes


def _read_block(data: bytes) -> Header | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise MalformedHeaderError
    if len(data) < 16:
        return None
    local, family = data[12] == _LOCAL, data[13]
    block_length = int.from_bytes(data[14:16], "big")
    # "must discard the protocol block including the family which is ignored" (section 2.2, of LOCAL)
    if not local and (family not in _ADDRESS_LENGTH or block_length < _ADDRESS_LENGTH[family]):
        raise MalformedHeaderError
    if block_length > MAX_BLOCK_LENGTH:
        raise MalformedHeaderError
    length = 16 + block_length
    if len(data) < length:
        return None
    if local:
        return Header(length, None)
    return Header(length, _read_address(family, data[16:]), _read_secure(data[16 + _ADDRESS_LENGTH[family] : length]))


def _read_address(family: int, block: bytes) -> tuple[str, int] | None:
    if family == _IPV4:
        return str(ipaddress.IPv4Address(block[:4])), int.from_bytes(block[8:10], "big")
    if family == _IPV6:
        return str(ipaddress.IPv6Address(block[:16])), int.from_bytes(block[32:34], "big")
    return None


def _read_secure(block: bytes) -> bool | None:
    """Look for PP2_TYPE_SSL, whose first byte says whether the client speaks TLS (section 2.2.6)."""
    while len(block) > 2:
        kind, length = block[0], int.from_bytes(block[1:3], "big")
        value, block = block[3 : 3 + length], block[3 + length :]
        if len(value) < length or (kind == _SSL and not value):
            raise MalformedHeaderError
        if kind == _SSL:
            return bool(value[0] & _CLIENT_SSL)
    return None
