"""What breaks the opening handshake over a raw socket: a status, no WebSocket, and nobody else notices."""

from __future__ import annotations

import asyncio

import pytest

from ..kit.client import Client, open_connection, until, within
from ..kit.guarded import ORIGIN, Guarded, answer, bystander

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
LINE = b"GET / HTTP/1.1\r\n"
HEAD = (
    LINE
    + b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    + KEY
    + b"Sec-WebSocket-Version: 13\r\n"
    + ORIGIN
)
FIELDS = HEAD.count(b"\r\n") - 1


def status(data: bytes) -> int:
    """The status of the only response in the data."""
    assert data.startswith(b"HTTP/1.1 "), data
    assert data.count(b"HTTP/1.1 ") == 1, data
    assert b"\r\nConnection: close\r\n" in data, data
    return int(data[9:12])


REFUSED = {
    "a value of 16 KiB": (431, HEAD + b"X-Long: " + b"x" * 16384 + b"\r\n\r\n"),
    "a head of 16 KiB that does not end": (431, HEAD + b"X-Long: " + b"x" * 16384),
    "a field name without end": (431, HEAD + b"x" * 32768),
    "a target of 16 KiB": (431, HEAD.replace(b"GET /", b"GET /" + b"x" * 16384) + b"\r\n"),
    "a target without end": (431, b"GET /" + b"x" * 32768),
    "129 fields": (431, HEAD + b"X: y\r\n" * (129 - FIELDS) + b"\r\n"),
    "129 fields and no end": (431, HEAD + b"X: y\r\n" * (130 - FIELDS)),
    "no HTTP": (400, b"hello\r\n\r\n"),
    "a TLS hello": (400, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(64))),
    "a WebSocket frame": (400, b"\x81\x85\x00\x00\x00\x00hello"),
    "the preface of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "zeros": (400, bytes(100)),
    "an unknown method": (400, b"BREW / HTTP/1.1\r\n\r\n"),
    "a NUL in a field": (400, HEAD + b"X: a\x00b\r\n\r\n"),
    "a field without a colon": (400, HEAD + b"nonsense\r\n\r\n"),
    "a blank before the colon": (400, HEAD + b"X : y\r\n\r\n"),
    "a folded field": (400, HEAD + b"X: a\r\n b\r\n\r\n"),
    "two framings": (400, HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "no Host": (400, HEAD.replace(b"Host: localhost\r\n", b"") + b"\r\n"),
    "no key": (400, HEAD.replace(KEY, b"") + b"\r\n"),
    "a short key": (400, HEAD.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZQ==") + b"\r\n"),
    "two keys": (400, HEAD + KEY + b"\r\n"),
    "a body": (400, HEAD + b"Content-Length: 5\r\n\r\nhello"),
    "HTTP/1.0": (400, HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n"),
    "no Upgrade in Connection": (400, HEAD.replace(b"Connection: Upgrade", b"Connection: close") + b"\r\n"),
    "POST": (405, HEAD.replace(b"GET", b"POST") + b"\r\n"),
    "version 8": (426, HEAD.replace(b": 13", b": 8") + b"\r\n"),
    "no origin": (403, HEAD.replace(ORIGIN, b"") + b"\r\n"),
    "another path": (404, HEAD.replace(b"GET /", b"GET /elsewhere") + b"\r\n"),
    **{
        f"origin {origin.decode()}": (403, HEAD.replace(b"https://example.com", origin) + b"\r\n")
        for origin in (
            b"https://evil.example",
            b"http://example.com",
            b"https://example.com:8443",
            b"https://example.com.evil.example",
            b"https://sub.example.com",
            b"null",
        )
    },
}


@pytest.mark.parametrize(("expected", "data"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_opening_is_refused(serve, connect, expected, data):
    async with bystander(serve, connect) as (server, service):
        assert status(await answer(server, data)) == expected
        assert len(service.connections) == 1


@pytest.mark.plain("TLS of asyncio may reset a client that still sends")
@pytest.mark.parametrize("name", ["a value of 16 KiB", "no HTTP", "no key", "version 8", "origin null"])
async def test_the_refusal_arrives_although_the_client_still_sends(serve, connect, name):
    expected, data = REFUSED[name]
    async with bystander(serve, connect) as (server, service):
        assert status(await answer(server, data, *[b"x" * 65536] * 50)) == expected
        assert len(service.connections) == 1


@pytest.mark.parametrize(
    "pieces",
    [[], [b"G"], [LINE], [HEAD], [HEAD + b"\r"], [LINE, b"Host: localhost\r\n", b"Upgrade: websocket\r\n"]],
    ids=["nothing", "a byte", "a line", "all but the end", "all but a byte", "one by one"],
)
async def test_an_opening_that_does_not_finish_is_closed(serve, connect, pieces):
    async with bystander(serve, connect, handshake_timeout=0.05) as (server, service):
        assert await answer(server, *pieces) == b""
        assert len(service.connections) == 1


async def test_an_opening_that_trickles_in_is_closed_all_the_same(serve, connect):
    async with bystander(serve, connect, handshake_timeout=0.05) as (server, service):
        _, writer = await open_connection(server.addresses[0][1])

        async def trickle() -> None:
            writer.write(LINE + b"X: ")
            while not writer.transport.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.01)

        await within(trickle())
        assert len(service.connections) == 1


async def test_who_leaves_within_the_opening_leaves_nothing(serve, connect):
    async with bystander(serve, connect) as (server, service):
        for data in (b"", b"GET", LINE, HEAD, HEAD + b"\r"):
            client = Client(*await open_connection(server.addresses[0][1]))
            client.write(data)
            client.end_stream()
            assert await client.rest() == []
        await until(lambda: not server.http_connections)
        assert len(service.connections) == 1


FIREFOX = (
    b"GET / HTTP/1.1\r\nHost: localhost:9090\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Sec-WebSocket-Version: 13\r\nOrigin: https://example.com\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nDNT: 1\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: websocket\r\nSec-Fetch-Site: same-origin\r\n"
    b"Pragma: no-cache\r\nCache-Control: no-cache\r\nUpgrade: websocket\r\n\r\n"
)

WELCOME = {
    "Firefox": FIREFOX,
    "lower case": b"GET / HTTP/1.1\r\n"
    + HEAD[len(LINE) :].lower().replace(KEY.lower(), KEY.replace(b"Sec-WebSocket-Key", b"sec-websocket-key"))
    + b"\r\n",
    "upper case": HEAD.replace(b"websocket", b"WEBSOCKET").replace(b": Upgrade", b": UPGRADE") + b"\r\n",
    "Connection in two lines": HEAD.replace(b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: Upgrade")
    + b"\r\n",
    "Upgrade in two lines": HEAD.replace(b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: websocket") + b"\r\n",
    "Upgrade as a list": HEAD.replace(b"Upgrade: websocket", b"Upgrade: h2c, websocket") + b"\r\n",
    "no blanks": HEAD.replace(b": ", b":") + b"\r\n",
    "many blanks": HEAD.replace(b": ", b": \t ").replace(b"\r\n", b" \t\r\n").replace(b"HTTP/1.1 \t", b"HTTP/1.1")
    + b"\r\n",
    "an origin in capitals": HEAD.replace(b"https://example.com", b"HTTPS://EXAMPLE.COM") + b"\r\n",
    "a query": HEAD.replace(b"GET /", b"GET /?a=b") + b"\r\n",
    "128 fields": HEAD + b"X: y\r\n" * (128 - FIELDS) + b"\r\n",
    "a head of 16 KiB": HEAD + b"X: " + b"x" * (16384 - len(HEAD) - 7) + b"\r\n\r\n",
}


@pytest.mark.parametrize("head", WELCOME.values(), ids=WELCOME)
async def test_an_unusual_opening_is_welcome(serve, connect, head):
    server = await serve(Guarded)
    for cut in (len(head), 1, 40):
        client = Client(*await open_connection(server.addresses[0][1]))
        for start in range(0, len(head), cut):
            client.write(head[start : start + cut])
            await asyncio.sleep(0)
        answered = await within(client.reader.readuntil(b"\r\n\r\n"))
        assert answered.startswith(b"HTTP/1.1 101 "), answered
        assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answered
        assert await client.asks("welcome") == "welcome"
        await client.close()
