"""The header of the PROXY protocol: what it says, and that nothing else passes for one."""

from __future__ import annotations

import pytest

from fastws import ws
from fastws.net.proxy_protocol import MAX_HEADER_LENGTH, Header, MalformedHeaderError, read_header

from ..kit.client import REQUEST, TEXT, frame, turns, until, within
from ..kit.services import Echo, Log, at

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = b"\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb"  # 192.0.2.1:56324 to 192.0.2.2:443
IPV6 = b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01" + bytes(15) + b"\x01" + b"\xdc\x04\x01\xbb"
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/proxy".ljust(108, b"\0")


def block(command: int, family: int, payload: bytes, length: int | None = None) -> bytes:
    length = len(payload) if length is None else length
    return SIGNATURE + bytes([command, family]) + length.to_bytes(2, "big") + payload


TLV = b"\x01\x00\x08http/1.1" + b"\x04\x00\x00"

HEADERS = {
    "TCP4": (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", ("192.0.2.1", 56324)),
    "TCP4, ports at their limits": (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", ("255.255.255.255", 65535)),
    "TCP6": (b"PROXY TCP6 2001:DB8::1 ::1 56324 443\r\n", ("2001:db8::1", 56324)),
    "UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "UNKNOWN, and more": (b"PROXY UNKNOWN ffff::1 what ever 1 2\r\n", None),
    "the longest line": (b"PROXY UNKNOWN ".ljust(105, b"f") + b"\r\n", None),
    "version 2, IPv4": (block(0x21, 0x11, IPV4), ("192.0.2.1", 56324)),
    "version 2, IPv6": (block(0x21, 0x21, IPV6), ("2001:db8::1", 56324)),
    "version 2, Unix": (block(0x21, 0x31, UNIX), None),
    "version 2, unspecified": (block(0x21, 0x00, b""), None),
    "version 2, local": (block(0x20, 0x00, b""), None),
    "version 2, local with addresses": (block(0x20, 0x11, IPV4), None),
    "version 2, local of a family to come": (block(0x20, 0x47, b"?"), None),
    "version 2, IPv4 and more": (block(0x21, 0x11, IPV4 + TLV), ("192.0.2.1", 56324)),
    "version 2, the longest": (block(0x21, 0x11, IPV4.ljust(4096, b"\0")), ("192.0.2.1", 56324)),
}


def ssl(flags: int, *, length: int = 5) -> bytes:
    """PP2_TYPE_SSL: flags, what verifying the client's certificate gave, and the version of TLS."""
    return b"\x20" + (length + 10).to_bytes(2, "big") + bytes([flags]) + bytes(length - 1) + b"\x21\x00\x07TLSv1.3"


SECURE = {
    "nothing of TLS": (block(0x21, 0x11, IPV4 + TLV), None),
    "TLS": (block(0x21, 0x11, IPV4 + ssl(0x01)), True),
    "TLS, behind others": (block(0x21, 0x21, IPV6 + TLV + ssl(0x07)), True),
    "TLS, on a Unix socket": (block(0x21, 0x31, UNIX + ssl(0x01)), True),
    "TLS, of unspecified family": (block(0x21, 0x00, ssl(0x01)), True),
    "a client that speaks none": (block(0x21, 0x11, IPV4 + ssl(0x00) + TLV), False),
    "the proxy itself": (block(0x20, 0x11, IPV4 + ssl(0x01)), None),
}

MALFORMED = {
    "nothing of it": b"GET / HTTP/1.1\r\n",
    "a TLS ClientHello": b"\x16\x03\x01\x02\x00\x01\x00",
    "another case": b"proxy TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
    "another family": b"PROXY UDP4 192.0.2.1 192.0.2.2 56324 443\r\n",
    "a family of its own": b"PROXY UNKNOWNS\r\n",
    "no family": b"PROXY \r\n",
    "no blank": b"PROXY\r\n",
    "two blanks": b"PROXY  TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
    "a blank at the end": b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n",
    "a line feed alone": b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n",
    "a carriage return too many": b"PROXY UNKNOWN \r\r\n",
    "a line in a line": b"PROXY UNKNOWN \n\r\n",
    "no destination": b"PROXY TCP4 192.0.2.1 56324 443\r\n",
    "one port": b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
    "a port too large": b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
    "a port of many digits": b"PROXY TCP4 192.0.2.1 192.0.2.2 " + b"9" * 60 + b" 443\r\n",
    "a port with a zero in front": b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 0443\r\n",
    "a port with a sign": b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n",
    "a port in another script": "PROXY TCP4 192.0.2.1 192.0.2.2 ١ 443\r\n".encode(),
    "IPv6 as TCP4": b"PROXY TCP4 ::1 ::1 56324 443\r\n",
    "IPv4 as TCP6": b"PROXY TCP6 192.0.2.1 192.0.2.2 56324 443\r\n",
    "a name for an address": b"PROXY TCP4 localhost 192.0.2.2 56324 443\r\n",
    "no address for a destination": b"PROXY TCP4 192.0.2.1 192.0.2.256 56324 443\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n",
    "a byte that is no ASCII": b"PROXY TCP4 192.0.2.\xb2 192.0.2.2 56324 443\r\n",
    "a line too long": b"PROXY UNKNOWN ".ljust(106, b"f") + b"\r\n",
    "a line without end": b"PROXY UNKNOWN ".ljust(107, b"f"),
    "half a signature": SIGNATURE[:8] + b"HELO",
    "version 1 in version 2": block(0x11, 0x11, IPV4),
    "version 3": block(0x31, 0x11, IPV4),
    "another command": block(0x22, 0x11, IPV4),
    "another family of version 2": block(0x21, 0x41, IPV4),
    "a datagram": block(0x21, 0x12, IPV4),
    "IPv4 of an unspecified transport": block(0x21, 0x10, IPV4),
    "too short for IPv4": block(0x21, 0x11, IPV4[:11]),
    "too short for IPv6": block(0x21, 0x21, IPV6[:35]),
    "too short for Unix": block(0x21, 0x31, UNIX[:215]),
    "a value that goes on behind the block": block(0x21, 0x11, IPV4 + b"\x01\x00\x09http/1.1"),
    "TLS without flags": block(0x21, 0x11, IPV4 + b"\x20\x00\x00"),
    "more than anybody needs": block(0x21, 0x11, IPV4, 4097),
    "more than anybody needs, local": block(0x20, 0x00, b"", 65535),
}


def read_in_pieces(data: bytes) -> Header | None:
    """What is read byte by byte; every piece before the last leaves it open."""
    for length in range(len(data)):
        found = read_header(data[:length])
        if found is not None:
            return found
    return read_header(data)


@pytest.mark.parametrize(("data", "address"), HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("tail", [b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_header_is_read_and_what_follows_is_left(data, address, tail):
    assert read_header(data + tail) == Header(len(data), address)
    assert read_in_pieces(data + tail) == Header(len(data), address)
    assert len(data) <= MAX_HEADER_LENGTH


@pytest.mark.parametrize(("data", "secure"), SECURE.values(), ids=SECURE)
@pytest.mark.parametrize("tail", [b"", b"GET / HTTP/1.1\r\n\r\n"])
def test_version_2_may_say_whether_the_client_speaks_tls(data, secure, tail):
    assert read_header(data + tail).secure is secure
    assert read_in_pieces(data).secure is secure


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_header_is_refused_whole_and_byte_by_byte(data):
    with pytest.raises(MalformedHeaderError):
        read_header(data)
    with pytest.raises(MalformedHeaderError):
        read_in_pieces(data)


# ---------------------------------------------------------------------------------------------------------------------
# A server that expects it


@at()
class Addresses(Log):
    """Replies with the address of the client, and notes those whose connection ends."""

    @ws.on_text_message
    def text(self, connection: ws.Connection, text: str) -> str:
        return repr(connection.secure if text == "secure?" else connection.remote_address)

    @ws.on_close
    def closed(self, connection: ws.Connection) -> None:
        self.saw(connection.remote_address)


BEHIND_PROXY = pytest.mark.plain("the header comes before TLS; test_tls has its own")


@BEHIND_PROXY
@pytest.mark.parametrize(("header", "address"), HEADERS.values(), ids=HEADERS)
async def test_the_client_has_the_address_that_its_proxy_told(serve, dial, header, address):
    service = Addresses()
    client = await dial(await serve(service, proxy_protocol=True), header)
    await client.open()
    if address is None:
        address = client.transport.get_extra_info("sockname")
    assert await client.asks("who am I?") == repr(address)
    await client.close()
    assert await service.next() == (address,)


@BEHIND_PROXY
@pytest.mark.parametrize(("header", "secure"), SECURE.values(), ids=SECURE)
async def test_a_connection_knows_whether_its_client_speaks_tls_with_the_proxy(serve, dial, header, secure):
    client = await dial(await serve(Addresses(), proxy_protocol=True), header)
    await client.open()
    assert await client.asks("secure?") == repr(bool(secure))


@BEHIND_PROXY
async def test_a_header_may_come_byte_by_byte_and_with_all_that_follows(serve, dial):
    server = await serve(Addresses(), proxy_protocol=True)
    header, address = HEADERS["version 2, IPv4 and more"]
    slow = await dial(server)
    for byte in header:
        slow.write(bytes([byte]))
        await turns()
    await slow.open()
    assert await slow.asks("?") == repr(address)
    fast = await dial(server, header + REQUEST % (b"/", b"") + frame(TEXT, b"?"))
    await within(fast.reader.readuntil(b"\r\n\r\n"))
    assert await fast.text() == repr(address)


@BEHIND_PROXY
@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4\r\n", b"\x16\x03\x01", b"PROXY TCP", b""])
async def test_without_a_header_a_connection_is_closed_without_a_word(serve, dial, data):
    echo = Echo()
    server = await serve(echo, proxy_protocol=True)
    client = await dial(server, data)
    client.end_stream()
    assert await client.rest() == []
    assert echo.connections == []
    await until(lambda: server._site.limits.handshakes == 0)


@BEHIND_PROXY
async def test_a_header_that_does_not_come_in_time_ends_the_connection(serve, dial):
    server = await serve(Echo(), proxy_protocol=True, handshake_timeout=0.05)
    client = await dial(server, b"PROXY TCP4 192.0.2.1")
    assert await client.rest() == []


@BEHIND_PROXY
async def test_a_server_does_not_wait_for_headers_when_it_closes(serve, dial):
    server = await serve(Echo(), proxy_protocol=True)
    client = await dial(server, b"PROXY TCP4 192.0.2.1")
    await until(lambda: server._site.limits.handshakes == 1)
    await within(server.close())
    assert await client.rest() == []


@BEHIND_PROXY
async def test_a_connection_on_its_way_is_counted_once(serve, dial):
    server = await serve(Echo(), proxy_protocol=True, max_handshakes=2)
    header, _ = HEADERS["TCP4"]
    clients = [await dial(server, header + b"GET / HT") for _ in range(2)]
    await until(lambda: len(server.http_connections) == 2)
    for client in clients:
        client.write((REQUEST % (b"/", b""))[len(b"GET / HT") :])
        await within(client.reader.readuntil(b"\r\n\r\n"))
        assert await client.asks("hello") == "hello"
