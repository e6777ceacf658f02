"""TLS: who may come in, what a certificate's renewal does, and ends of connections that only TLS has.

What a connection does once it is open, the whole suite tests over TLS too: `make test-tls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys

import pytest
import trustme

import fastws
from fastws import ConfigurationError, http, ws

from ..kit import certificates
from ..kit.certificates import client_context, server_context, show_certificate
from ..kit.client import BINARY, CLOSE, REQUEST, TEXT, Client, close_payload, frame, until, within
from ..kit.peers import Aiohttp, Picows, Websockets
from ..kit.services import Echo, Watch, at
from ..kit.wires import SMALL, narrow_socket

if sys.version_info < (3, 11):
    # asyncio has another TLS there, which warns of every transport that was lost or aborted
    pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


@at()
class Chat(Echo):
    """Tells everybody what it is told."""

    @ws.on_text_message
    def text(self, connection: ws.Connection, text: str) -> None:
        connection.broadcast_text(text)


@pytest.fixture
async def visit(serve):
    """Connect with TLS: `client = await visit(server, context=..., receive_buffer=...)`; it has no handshake yet."""
    clients: list[Client] = []

    async def visit(server, context=None, receive_buffer=None) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await within(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.addresses[0][1])))
        options = {"ssl": context or client_context(), "server_hostname": "localhost"}
        clients.append(Client(*await within(asyncio.open_connection(sock=sock, **options))))
        return clients[-1]

    yield visit
    for client in clients:
        client.transport.abort()


@pytest.fixture
async def enter(visit):
    """Connect with TLS and open a WebSocket."""

    async def enter(server, **options) -> Client:
        client = await visit(server, **options)
        await client.open()
        return client

    return enter


@pytest.fixture
async def raw(serve):
    """Connect without TLS."""
    clients: list[Client] = []

    async def raw(server, data: bytes = b"") -> Client:
        clients.append(Client(*await within(asyncio.open_connection("127.0.0.1", server.addresses[0][1]))))
        clients[-1].write(data)
        return clients[-1]

    yield raw
    for client in clients:
        client.transport.abort()


@pytest.fixture
def files(tmp_path):
    return certificates.Files(tmp_path)


def pem_files(files) -> dict[str, object]:
    return {"certfile": files.certfile, "keyfile": files.keyfile}


def serial_seen_by(client: Client) -> int:
    """The serial number of the certificate that the server has shown."""
    der = client.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return certificates.serial_of(ssl.DER_cert_to_PEM_cert(der).encode())


# ---------------------------------------------------------------------------------------------------------------------
# In use


@pytest.mark.parametrize("message", ["grüße", "", "x" * 65536, "y" * 900_000], ids=len)
async def test_messages_of_every_size_come_back(serve, enter, message):
    client = await enter(await serve(Echo(), ssl=server_context()))
    assert await client.asks(message) == message


@pytest.mark.parametrize("peer", [Websockets, Aiohttp, Picows], ids=lambda peer: peer.__name__.lower())
async def test_clients_of_others_are_served(serve, monkeypatch, peer):
    monkeypatch.setattr("tests.kit.peers.tls_at", lambda url: client_context())
    echo = Echo()
    server = await serve(echo, ssl=server_context())
    async with peer(f"wss://localhost:{server.addresses[0][1]}/", []) as client:
        await client.send("grüße")
        assert await client.receive() == "grüße"
        await client.send(bytes(range(256)) * 1000)
        assert await client.receive() == bytes(range(256)) * 1000
        await client.close(4001, "bye")
    assert await echo.next() == ("closed", 4001, "bye")


async def test_a_resource_is_served_too(serve, visit):
    @http.base_path("/")
    class Motd:
        @http.get("/motd")
        def motd(self, request: http.Request) -> str:
            return f"be kind, {request.remote_address[0]}"

    client = await visit(await serve(Motd, ssl=server_context()))
    client.write(b"GET /motd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await within(client.reader.read())
    assert answer.endswith(b"\r\n\r\nbe kind, 127.0.0.1")


async def test_a_broadcast_reaches_everybody(serve, enter):
    server = await serve(Chat(), ssl=server_context())
    clients = [await enter(server) for _ in range(30)]
    for number in range(20):
        clients[number].send(f"{number} " + "x" * number * 500)
    heard = [await client.texts(20) for client in clients]
    assert all(sorted(texts) == sorted(heard[0]) for texts in heard)


async def test_a_client_that_does_not_read_holds_up_nobody_and_gets_all_of_it_later(serve, enter):
    service = Chat()
    server = await serve(service, ssl=server_context(), sock=narrow_socket())
    slow, quick = await enter(server, receive_buffer=SMALL), await enter(server)
    slow.transport.set_read_buffer_limits(high=1)
    slow.transport.pause_reading()
    texts = [f"{number} ".ljust(10_000, ".") for number in range(80)]
    for text in texts:
        quick.send(text)
    assert await quick.texts(80) == texts
    assert any(connection.buffered for connection in service.connections)
    slow.transport.resume_reading()
    assert await slow.texts(80) == texts


async def test_a_client_that_never_reads_is_let_go_and_the_server_ends_in_time(serve, enter):
    watch = Watch()
    server = await serve(watch, ssl=server_context(), sock=narrow_socket(), close_timeout=0.1)
    client = await enter(server, receive_buffer=SMALL)
    client.transport.set_read_buffer_limits(high=1)
    client.transport.pause_reading()
    await until(lambda: watch.connections)
    for _ in range(10):
        watch.connections[0].push_binary(bytes(90_000))
    await within(server.close())
    assert await watch.next() == ("closed", 1001, "going away")


async def test_http_1_1_is_what_is_agreed_on(serve, visit, files):
    context = client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await visit(await serve(Echo(), **pem_files(files)), context=context)
    assert client.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert client.transport.get_extra_info("ssl_object").version() == "TLSv1.3"


async def test_a_client_of_tls_1_2_is_served_and_one_of_before_is_not(serve, visit, files):
    server = await serve(Echo(), **pem_files(files))
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = await visit(server, context=context)
    await client.open()
    assert await client.asks("hello") == "hello"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await visit(server, context=context)


# ---------------------------------------------------------------------------------------------------------------------
# Its end


async def test_the_client_begins_to_close(serve, enter):
    watch = Watch()
    client = await enter(await serve(watch, ssl=server_context()))
    client.send_close(1000, "done")
    assert await client.rest() == [(CLOSE, close_payload(1000))]
    assert await watch.next() == ("closed", 1000, "done")


async def test_the_server_begins_to_close(serve, enter):
    watch = Watch()
    client = await enter(await serve(watch, ssl=server_context()))
    await until(lambda: watch.connections)
    watch.connections[0].push_text("last words")
    watch.connections[0].close(4001, "ours")
    assert await client.receive() == (TEXT, b"last words")
    assert await client.close_frame() == (4001, "ours")
    client.send_close(4001)
    assert await client.rest() == []
    assert await watch.next() == ("closed", 4001, "")


async def test_a_broken_frame_is_failed_with_its_code_behind_what_was_pushed(serve, enter):
    watch = Watch()
    client = await enter(await serve(watch, ssl=server_context()))
    await until(lambda: watch.connections)
    watch.connections[0].push_binary(bytes(300_000))
    client.write(b"\xff" + frame(TEXT, b"x")[1:])
    assert await client.rest() == [(BINARY, bytes(300_000)), (CLOSE, close_payload(1002, "protocol error"))]
    assert (await watch.next())[1] == 1002


@pytest.mark.parametrize("end", [Client.end_stream, Client.reset])
async def test_who_leaves_without_a_close_frame_is_1006(serve, enter, end):
    watch = Watch()
    server = await serve(watch, ssl=server_context())
    client = await enter(server)
    await until(lambda: watch.connections)
    end(client)
    assert await watch.next() == ("closed", 1006, "")


async def test_all_are_told_when_the_server_goes_away(serve, enter):
    watch = Watch()
    server = await serve(watch, ssl=server_context())
    clients = [await enter(server) for _ in range(10)]
    closing = asyncio.ensure_future(server.close())
    for client in clients:
        assert await client.close_frame() == (1001, "going away")
        client.send_close(1001)
        assert await client.rest() == []
    await within(closing)


# ---------------------------------------------------------------------------------------------------------------------
# Those who get no further than the door


@pytest.mark.parametrize(
    "data",
    [
        REQUEST % (b"/", b""),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506),
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        bytes(range(256)) * 10,
    ],
    ids=["plain HTTP", "a hello of nothing", "a record that is too long", "anything"],
)
async def test_what_is_no_tls_is_dropped_and_harms_nobody(serve, enter, raw, data):
    echo = Echo()
    server = await serve(echo, ssl=server_context())
    client = await enter(server)
    strangers = [await raw(server, data) for _ in range(20)]
    for stranger in strangers:
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in await within(stranger.reader.read())
    assert await client.asks("still here?") == "still here?"
    await until(lambda: server._site.limits.handshakes == 0)
    assert len(echo.connections) == 1


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_handshake_that_does_not_go_on_ends_in_time(serve, enter, raw, data):
    server = await serve(Echo(), ssl=server_context(), handshake_timeout=0.3)
    stranger = await raw(server, data)
    client = await enter(server)
    with contextlib.suppress(ConnectionError):
        assert await within(stranger.reader.read()) == b""
    assert await client.asks("still here?") == "still here?"
    await until(lambda: server._site.limits.handshakes == 0)


async def test_who_leaves_within_the_handshake_leaves_nothing(serve, raw):
    server = await serve(Echo(), ssl=server_context())
    strangers = [await raw(server, b"\x16\x03\x01\x02\x00\x01\x00") for _ in range(20)]
    await until(lambda: server._site.limits.handshakes == 20)
    for stranger in strangers[:10]:
        stranger.end_stream()
    for stranger in strangers[10:]:
        stranger.reset()
    await until(lambda: server._site.limits.handshakes == 0)


async def test_the_oldest_handshake_ends_when_there_are_too_many(serve, enter, raw):
    server = await serve(Echo(), ssl=server_context(), max_handshakes=3)
    strangers = [await raw(server, b"\x16\x03\x01") for _ in range(3)]
    await until(lambda: server._site.limits.handshakes == 3)
    client = await enter(server)
    with contextlib.suppress(ConnectionError):
        assert await within(strangers[0].reader.read()) == b""
    assert await client.asks("hello") == "hello"
    assert server._site.limits.handshakes == 2


async def test_a_server_does_not_wait_for_handshakes_when_it_closes(serve, raw):
    server = await serve(Echo(), ssl=server_context())
    stranger = await raw(server, b"\x16\x03\x01")
    await until(lambda: server._site.limits.handshakes == 1)
    await within(server.close())
    with contextlib.suppress(ConnectionError):
        assert await within(stranger.reader.read()) == b""
    assert server._site.limits.handshakes == 0


async def test_a_refusal_is_read_through_tls(serve, enter, visit):
    server = await serve(Echo(), ssl=server_context(), max_connections=1)
    await enter(server)
    client = await visit(server)
    with pytest.raises(ConnectionError, match=r"HTTP/1\.1 503"):
        await client.open()


async def test_a_proxy_header_comes_before_tls(serve):
    @at()
    class Addresses(Watch):
        @ws.on_text_message
        def text(self, connection: ws.Connection) -> str:
            return repr(connection.remote_address)

    server = await serve(Addresses(), ssl=server_context(), proxy_protocol=True)
    context, loop = client_context(), asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    sock = socket.create_connection(("127.0.0.1", server.addresses[0][1]))
    sock.setblocking(False)
    # In one segment: who reads a byte too many of the header takes it from TLS
    await loop.sock_sendall(sock, b"PROXY TCP4 192.0.2.7 192.0.2.2 5 443\r\n" + outgoing.read())
    while True:
        incoming.write(await within(loop.sock_recv(sock, 65536)))
        with contextlib.suppress(ssl.SSLWantReadError):
            hello.do_handshake()
            break
    hello.write(REQUEST % (b"/", b"") + frame(TEXT, b"who am I?"))
    await loop.sock_sendall(sock, outgoing.read())
    said = b""
    while b"('192.0.2.7', 5)" not in said:
        incoming.write(await within(loop.sock_recv(sock, 65536)))
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                said += hello.read(65536)
    sock.close()


# ---------------------------------------------------------------------------------------------------------------------
# Certificates of clients


async def test_a_client_shows_a_certificate(serve, enter, files):
    @at()
    class Names(Watch):
        @ws.on_text_message
        def text(self, text: str) -> str:
            return text

    server = await serve(Names(), **pem_files(files), client_ca=files.client_ca)
    context = client_context()
    show_certificate(context, "alice")
    client = await enter(server, context=context)
    assert await client.asks("hello") == "hello"


@pytest.mark.parametrize("kind", ["none", "foreign", "expired"])
async def test_a_client_without_a_certificate_that_counts_does_not_get_in(serve, enter, visit, files, kind):
    echo = Echo()
    server = await serve(echo, **pem_files(files), client_ca=files.client_ca)
    context = client_context()
    if kind == "foreign":
        show_certificate(context, "mallory", issuer=trustme.CA())
    elif kind == "expired":
        show_certificate(context, "alice", expired=True)
    # In TLS 1.3 the client has done its part before it hears
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await (await visit(server, context=context)).open()
    assert echo.connections == []
    await until(lambda: not server.http_connections and server._site.limits.handshakes == 0)


async def test_a_client_that_does_not_trust_the_server_leaves(serve, visit):
    server = await serve(Echo(), ssl=server_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        await visit(server, context=ssl.create_default_context())
    await until(lambda: server._site.limits.handshakes == 0)


# ---------------------------------------------------------------------------------------------------------------------
# Renewal


@pytest.mark.parametrize("key_type", list(trustme.KeyType))
async def test_a_renewed_certificate_is_for_new_connections_and_ends_no_old_one(serve, enter, files, key_type):
    server = await serve(Echo(), **pem_files(files))
    old = await enter(server)
    serial = files.renew(key_type)
    server.reload_certificate()
    new = await enter(server)
    assert serial_seen_by(new) == serial != serial_seen_by(old)
    assert [await client.asks("hello") for client in (old, new)] == ["hello"] * 2


@pytest.mark.parametrize("damage", ["no file", "no PEM", "another key", "half a file"])
async def test_a_certificate_that_cannot_be_loaded_leaves_the_old_one(serve, enter, files, tmp_path, damage):
    server = await serve(Echo(), **pem_files(files))
    serial = serial_seen_by(await enter(server))
    if damage == "no file":
        files.certfile.unlink()
    elif damage == "no PEM":
        files.certfile.write_text("no PEM")
    elif damage == "another key":
        (tmp_path / "other").mkdir()
        files.keyfile.write_bytes(certificates.Files(tmp_path / "other").keyfile.read_bytes())
    else:
        files.certfile.write_bytes(files.certfile.read_bytes()[:300])
    with pytest.raises(ConfigurationError, match=rf"certfile {files.certfile} .*cannot be loaded: \w+"):
        server.reload_certificate()
    assert serial_seen_by(await enter(server)) == serial


async def test_other_files_may_be_given(serve, enter, files, tmp_path):
    server = await serve(Echo(), **pem_files(files))
    (tmp_path / "other").mkdir()
    other = certificates.Files(tmp_path / "other")
    server.reload_certificate(other.certfile, other.keyfile)
    seen = serial_seen_by(await enter(server))
    assert seen == certificates.serial_of(other.certfile.read_bytes())


async def test_a_context_of_the_user_gets_the_files_that_are_given(serve, enter, files):
    context = server_context()
    server = await serve(Echo(), ssl=context)
    old = await enter(server)
    with pytest.raises(ConfigurationError, match="give certfile, since the server was given an SSLContext"):
        server.reload_certificate()
    with pytest.raises(ConfigurationError, match="No such file"):
        server.reload_certificate("nowhere.pem")
    assert serial_seen_by(await enter(server)) == serial_seen_by(old)
    server.reload_certificate(files.certfile, files.keyfile)
    assert serial_seen_by(await enter(server)) == certificates.serial_of(files.certfile.read_bytes())
    assert await old.asks("hello") == "hello"


async def test_an_encrypted_key_needs_its_password(serve, enter, files):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(files.keyfile.read_bytes(), None)
    encrypted = serialization.BestAvailableEncryption(b"open sesame")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted)
    files.keyfile.write_bytes(key.private_bytes(*form))
    with pytest.raises(ConfigurationError, match="the private key is encrypted; give its password"):
        fastws.serve(Echo, **pem_files(files))
    server = await serve(Echo(), **pem_files(files), keyfile_password="open sesame")
    client = await enter(server)
    assert await client.asks("hello") == "hello"
    server.reload_certificate()
    server.reload_certificate(files.certfile, files.keyfile, "open sesame")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        server.reload_certificate(files.certfile, files.keyfile, "close sesame")


@pytest.mark.plain("it is about a server without TLS")
async def test_without_tls_there_is_nothing_to_reload(serve):
    server = await serve(Echo())
    with pytest.raises(ConfigurationError, match="the server speaks no TLS"):
        server.reload_certificate()


@pytest.mark.parametrize("name", ["certfile", "keyfile", "client_ca"])
async def test_a_file_that_is_not_there_is_named_before_anything_listens(files, name):
    options = {**pem_files(files), "client_ca": files.client_ca, name: "nowhere.pem"}
    with pytest.raises(ConfigurationError, match=rf"{name} nowhere\.pem.* cannot be loaded: {os.strerror(2)}"):
        fastws.serve(Echo, **options)
    getattr(files, name).write_text("no PEM")
    with pytest.raises(ConfigurationError, match=rf"{name} {getattr(files, name)}.* cannot be loaded: "):
        fastws.serve(Echo, **pem_files(files), client_ca=files.client_ca)
