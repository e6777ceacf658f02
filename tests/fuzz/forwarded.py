"""Whatever a client writes into Forwarded and X-Forwarded-For, what a trusted proxy appends is what counts.

Choices: one byte, which field, and whether the proxy adds a line or goes on with the client's. The wire: what the
client wrote, lines between line feeds.
"""

from __future__ import annotations

import ipaddress

from fastws.http1.forwarded import ContradictionError, TrustedProxies

PROXIES = TrustedProxies(["192.0.2.0/24", "2001:db8::/32", "unix"])
PEER = ("192.0.2.1", 4711)
APPENDED = {
    b"forwarded": [b"for=198.51.100.7", b'for="[2001:db8::1]";proto=https', b'for="198.51.100.7:99";by=_x'],
    b"x-forwarded-for": [b"198.51.100.7", b"[2001:db8::1]", b"198.51.100.7:99"],
}
MEANT = [("198.51.100.7", 0), None, ("198.51.100.7", 99)]  # None: another proxy, in front of which anybody may stand


def check(data: bytes) -> None:
    choice, lines = data[:1] or b"\0", data[1:].split(b"\n")
    name, other = list(APPENDED)[:: -1 if choice[0] & 1 else 1]
    number = (choice[0] >> 1) % 3
    appended = APPENDED[name][number]
    written = [(name, line) for line in lines]
    if choice[0] & 0x80:
        headers = [*written, (name, appended)]
    else:
        headers = [*written[:-1], (name, written[-1][1] + b", " + appended)]
    assert is_address(PROXIES.client(PEER, written).address)
    found = PROXIES.client(PEER, headers).address
    assert is_address(found)
    assert MEANT[number] in (None, found), found
    try:
        both = PROXIES.client(PEER, [*headers, *((other, line) for line in lines)]).address
        assert both is None or both[0] == found[0]
    except ContradictionError:
        pass


def is_address(address: tuple[str, int] | None) -> bool:
    return address is None or (0 <= address[1] < 65536 and bool(ipaddress.ip_address(address[0])))


def seeds() -> list[bytes]:
    written = [
        b"",
        b"for=203.0.113.9",
        b'for="[2001:db8::2]:80";by=203.0.113.43;proto=http, for=unknown',
        b'for=_hidden, for="_port:_99"',
        b'for="open',
        b'for="a, for=\\"b',
        b"203.0.113.9, 192.0.2.7\n192.0.2.8:443, ::ffff:192.0.2.9",
        b"unknown, 1.2.3.4.5, [::1",
        b"for=192.0.2.2;for=192.0.2.3" + b"," * 40,
    ]
    return [bytes([choice]) + text for text in written for choice in (0, 0x81, 0x02, 0x83)]
