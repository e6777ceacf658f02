"""Behind real proxies, with the configurations of docs/deployment.md: what arrives, who the client is, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import socket
import ssl
import tempfile
from pathlib import Path

import pytest

import fastws
from fastws import http, ws

from ..kit.certificates import client_context, serial_of
from ..kit.client import CLOSE, TEXT, Client, close_payload, frame, open_connection, take_frame, within
from ..kit.engines import free_port
from ..kit.services import Log
from .programs import PAGE, PROXIES, Proxy, running, write_certificates

CLIENT = "127.0.0.2"  # no proxy has this address, and everything of 127.0.0.0/8 is this machine

# What a client says of itself, and nobody may believe.
CLAIMS = (
    b"Forwarded: for=203.0.113.6;proto=http\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: wss\r\n"
    b"X-Real-IP: 203.0.113.8\r\n"
)

MOST = 1 << 25  # bytes that all buffers between us and a client together take, in the kernel and in a proxy


@http.base_path("/")
@ws.upgrade_path("/ws/{rest...}", subprotocols=["chat"], max_backlog=1 << 17, compression=None)
class Seen(Log):
    @ws.on_upgrade
    def check(self, request: http.Request) -> None:
        self.request = request
        if "refuse" in request.query:
            raise http.Refuse(403, "not you\n", headers={"X-Why": "because"})

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        super().opened(connection)
        ws.push_text("first of all")

    @ws.on_text_message
    def text(self, text: str) -> str:
        return text

    @ws.on_close
    def closed(self, code: int, reason: str) -> None:
        self.saw(code, reason)

    @http.get("/see/{rest...}")
    def see(self, request: http.Request) -> object:
        address = None if request.remote_address is None else request.remote_address[0]
        return [request.raw_target.decode(), request.headers["host"], address, request.scheme]


class Standing:
    """A proxy that runs, in front of a port or a socket where a test has its server."""

    def __init__(self, proxy: Proxy, port: int, process, folder, place: dict) -> None:
        self.proxy = proxy
        self.port = port
        self.process = process
        self.folder = folder
        self.place = place

    async def dial(self, **options) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        for name, value in options.items():
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        sock.bind((CLIENT, 0))
        try:
            await within(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port)))
        except OSError:
            sock.close()
            raise
        tls = {"ssl": client_context(), "server_hostname": "localhost"} if self.proxy.tls else {}
        return Client(*await open_connection(sock=sock, **tls))

    async def open(self, path: str = "/ws/", fields: bytes = b"") -> Client:
        client = await self.dial()
        await client.open(path, fields)
        assert await client.text() == "first of all"
        return client


@contextlib.contextmanager
def standing(proxy: Proxy, folder, place: dict):
    if proxy.path is None:
        pytest.skip(f"{proxy.program} is not here")
    with running(proxy, folder, place.get("unix") or place["port"]) as (port, process):
        yield Standing(proxy, port, process, folder, place)


@pytest.fixture(scope="module", params=PROXIES, ids=lambda proxy: proxy.name)
def behind(request, tmp_path_factory):
    with standing(request.param, tmp_path_factory.mktemp(request.param.name), {"port": free_port()}) as found:
        yield found


@pytest.fixture
async def seen(serve, behind):
    """A service behind the proxy."""
    service = Seen()
    await serve(service, **behind.place, **behind.proxy.options)
    return service


def test_every_configuration_of_the_page_is_run():
    page = PAGE.read_text(encoding="utf-8")
    section = page[page.index("\n## Behind a proxy") : page.index("\n## Limits of a server")]
    assert re.findall(r"^```(\w+)$", section, re.MULTILINE) == [proxy.language for proxy in PROXIES]


# --- What arrives.


@pytest.mark.parametrize("claims", [b"", CLAIMS])
async def test_a_request_arrives_as_it_was_sent_and_tells_who_sent_it(behind, seen, claims):
    client = await behind.dial()
    host = f"localhost:{behind.port}"
    target = "/see/a%20b/c%3Fd?e=%2F&f=g%26"
    client.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n".encode() + claims + b"\r\n")
    answered = await within(client.reader.read(-1))
    client.transport.abort()
    head, _, body = answered.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body) == [target, host, CLIENT, "https" if behind.proxy.secure else "http"]


@pytest.mark.parametrize("claims", [b"", CLAIMS])
async def test_a_websocket_opens_and_tells_whose_it_is(behind, seen, claims):
    client = await behind.open("/ws/a%20b?e=%2F", b"Sec-WebSocket-Protocol: talk, chat\r\n" + claims)
    (connection,) = seen.connections
    assert (connection.path, connection.query["e"], connection.subprotocol) == ("/ws/a b", "/", "chat")
    assert re.search(rb"(?i)\r\nsec-websocket-protocol: chat\r\n", client.head)
    assert connection.remote_address[0] == CLIENT
    assert connection.secure is behind.proxy.secure
    for size in (1, 126, 65536, 500_000):
        assert await client.asks("x" * size) == "x" * size
    await client.close()
    assert await seen.next() == (1000, "")


async def test_a_refusal_arrives_with_its_fields_and_its_body(behind, seen):
    client = await behind.dial()
    with pytest.raises(ConnectionError, match=r"(?is)^HTTP/1\.1 403 .*\r\nx-why: because\r\n"):
        await client.open("/ws/?refuse=yes")
    assert await within(client.reader.read(-1)) in (b"not you\n", b"8\r\nnot you\n\r\n0\r\n\r\n")


# --- How it ends.


@pytest.mark.parametrize("code", [1000, 1012, 4999])
async def test_close_codes_arrive_on_either_side(behind, seen, code):
    client = await behind.open()
    seen.connections[0].close(code, "so it ends")
    assert await client.close_frame() == (code, "so it ends")
    client.send_close(code)
    assert await client.rest() == []
    assert await seen.next() == (code, "")
    client = await behind.open()
    client.send_close(code, "I go")
    assert (await client.rest())[-1] == (CLOSE, close_payload(code))
    assert await seen.next() == (code, "I go")


async def test_a_client_that_vanishes_is_known_to_be_gone(behind, seen):
    client = await behind.open()
    client.reset()
    assert (await seen.next())[0] == 1006


async def test_a_client_that_does_not_read_meets_the_policy_of_its_service(behind, seen):
    client = await behind.dial(SO_RCVBUF=4096)
    await client.open("/ws/")
    client.transport.pause_reading()
    (connection,) = seen.connections
    pushed = 0
    while connection.is_open:
        assert pushed < MOST
        connection.push_binary(bytes(1 << 15))
        pushed += 1 << 15
        await asyncio.sleep(0)
    client.transport.abort()
    await seen.next()


async def test_our_own_client_comes_through(behind, seen):
    scheme = "wss" if behind.proxy.tls else "ws"
    tls = {"ssl": client_context(), "server_hostname": "localhost"} if behind.proxy.tls else {}
    where = f"{scheme}://127.0.0.1:{behind.port}"
    options = {"headers": {"Host": f"localhost:{behind.port}"}, "proxy": None, **tls}
    async with fastws.connect(f"{where}/ws/", subprotocols=["chat"], **options) as connection:
        assert await within(connection.receive()) == "first of all"
        for message in ("grüße", "x" * 500_000):
            await connection.send(message)
            assert await within(connection.receive()) == message
        assert await within(connection.ping()) > 0
    assert (connection.close_code, connection.was_clean, connection.subprotocol) == (1000, True, "chat")
    with pytest.raises(fastws.InvalidStatus) as refused:
        await within(fastws.connect(f"{where}/ws/?refuse=yes", **options))
    assert (refused.value.status, refused.value.headers["X-Why"], refused.value.body) == (403, "because", b"not you\n")


async def test_a_proxy_that_reads_its_configuration_again_keeps_what_is_open(behind, seen):
    if behind.proxy.reload is None:
        pytest.skip("the page says what becomes of connections")
    client = await behind.open()
    renewed = write_certificates(behind.folder)
    await _reload(behind, renewed)
    assert await client.asks("still there?") == "still there?"
    await client.close()


async def _reload(behind: Standing, serial: int) -> None:
    """Have the proxy read its configuration again, until it shows the certificate with this number."""
    for attempt in range(1000):
        if attempt % 100 == 0:
            os.kill(behind.process.pid, behind.proxy.reload)  # one that comes while it still starts may be lost
        if await _serial(behind) == serial:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the proxy shows its old certificate")


async def _serial(behind: Standing) -> int | None:
    """The number of the certificate that the proxy shows now."""
    try:
        client = await behind.dial()
    except OSError:
        return None  # between two of its processes
    certificate = client.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    client.transport.abort()
    return serial_of(ssl.DER_cert_to_PEM_cert(certificate).encode())


# --- Other ways.


@pytest.fixture
def public_folder():
    """A folder that workers of another user may enter; those of pytest are for its own user."""
    with tempfile.TemporaryDirectory(prefix="fastws-") as name:
        yield Path(name)


@pytest.mark.parametrize("proxy", [proxy for proxy in PROXIES if proxy.unix], ids=lambda proxy: proxy.name)
async def test_the_server_may_be_on_a_unix_socket(serve, public_folder, proxy):
    service = Seen()
    place = {"unix": public_folder / "chat.sock", "unix_mode": 0o666}
    await serve(service, port=None, **place, **proxy.options)
    with standing(proxy, public_folder, place) as behind:
        client = await behind.open()
        (connection,) = service.connections
        assert (connection.remote_address[0], connection.secure) == (CLIENT, proxy.secure)
        await client.close()


async def test_haproxy_tells_in_the_proxy_protocol_that_a_client_speaks_tls(serve, tmp_path):
    (haproxy,) = (proxy for proxy in PROXIES if proxy.name == "haproxy")
    server = "server chat 127.0.0.1:9090"
    proxy = dataclasses.replace(
        haproxy, change=(server, f"{server} send-proxy-v2-ssl"), options={"proxy_protocol": True}
    )
    service = Seen()
    place = {"port": free_port()}
    await serve(service, **place, **proxy.options)
    with standing(proxy, tmp_path, place) as behind:
        client = await behind.open(fields=CLAIMS)
        (connection,) = service.connections
        assert (connection.remote_address[0], connection.secure) == (CLIENT, True)
        await client.close()


class Over2:
    """A client that opens a WebSocket as one stream of HTTP/2 (RFC 8441)."""

    def __init__(self, behind: Standing, connection) -> None:
        self.behind = behind
        self.http = connection
        self.received = bytearray()
        self.response: dict[bytes, bytes] = {}

    async def open(self, path: str, fields: list[tuple[str, str]]) -> None:
        context = client_context()
        context.set_alpn_protocols(["h2"])
        address = {"host": "127.0.0.1", "port": self.behind.port, "local_addr": (CLIENT, 0)}
        self.reader, self.writer = await asyncio.open_connection(**address, ssl=context, server_hostname="localhost")
        self.http.initiate_connection()
        while not self.http.remote_settings.enable_connect_protocol:
            await self.go_on()
        head = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":path": path}
        head |= {":authority": "localhost", "sec-websocket-version": "13"}
        self.http.send_headers(1, [*head.items(), *fields])
        while not self.response:
            await self.go_on()

    async def go_on(self) -> None:
        """Send what is to be sent, and read."""
        self.writer.write(self.http.data_to_send())
        data = await self.reader.read(1 << 16)
        assert data
        for event in self.http.receive_data(data):
            if hasattr(event, "headers"):
                self.response = dict(event.headers)
            elif hasattr(event, "data") and hasattr(event, "flow_controlled_length"):
                self.received += event.data

    async def frame(self) -> tuple[int, bytes]:
        while (taken := take_frame(self.received)) is None:
            await self.go_on()
        return taken

    def send(self, data: bytes) -> None:
        self.http.send_data(1, data)
        self.writer.write(self.http.data_to_send())


async def test_a_websocket_comes_over_http_2(serve, tmp_path):
    (proxy,) = (proxy for proxy in PROXIES if proxy.name == "haproxy")
    h2 = pytest.importorskip("h2.connection")
    service = Seen()
    place = {"port": free_port()}
    await serve(service, **place, **proxy.options)
    with standing(proxy, tmp_path, place) as behind:
        client = Over2(behind, h2.H2Connection())
        await within(client.open("/ws/a?e=f", [("x-forwarded-for", "203.0.113.7")]))
        assert client.response[b":status"] == b"200"
        assert await within(client.frame()) == (TEXT, b"first of all")
        (connection,) = service.connections
        assert (connection.remote_address[0], connection.secure) == (CLIENT, True)
        client.send(frame(TEXT, b"hello"))
        assert await within(client.frame()) == (TEXT, b"hello")
        connection.close(4999, "so it ends")
        assert await within(client.frame()) == (CLOSE, close_payload(4999, "so it ends"))
        client.writer.transport.abort()
        await service.next()
