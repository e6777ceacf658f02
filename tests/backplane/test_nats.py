"""NATS beyond what all engines do alike: who is let in, TLS, clusters, and servers that say strange things."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys

import nats
import pytest

from fastws.backplane import session
from fastws.backplane.engines import engine_of
from fastws.errors import ConfigurationError

from ..kit import certificates
from ..kit.client import until
from ..kit.engines import NatsServer, Node, free_port, join_cluster

pytestmark = [
    pytest.mark.plain("an engine is spoken to, and no server of ours runs"),
    pytest.mark.usefixtures("no_task_left"),
]


@pytest.fixture
def start(server_of):
    """Start a server: `server = await start("--user", "u", credentials="u:p")`, or with a configuration."""

    async def start(*options: str, configuration: str = "", **more) -> NatsServer:
        server = server_of(NatsServer, *options, **more)
        if configuration:
            server.configure(configuration)
        await server.start()
        return server

    return start


async def assert_delivers(url: str) -> None:
    async with Node(url, b"a") as listener, Node(url, number=2) as speaker:
        assert listener.events == ["up"]
        assert speaker.publish(b"a", b"hello")
        assert await listener.gets(1) == [b"hello"]


async def assert_refused(url: str, reason: str) -> None:
    async with Node(url) as node:
        assert node.events == [f"down: {reason}"]
        assert not node.publish(b"a", b"")


# --- The driver as an oracle


async def test_the_driver_gets_what_we_publish_and_we_what_it_does(start):
    server = await start()
    driver = await nats.connect(server.url())
    received = []

    async def receive(message):
        received.append((message.subject, message.data))

    async with Node(server.url(), b"room.a") as node:
        await driver.subscribe("room.>", cb=receive)
        while not received:  # its flush says nothing of its subscriptions
            node.publish(b"room.probe", b"")
            await asyncio.sleep(0.005)
        node.publish(b"room.a", b"own messages do not come back")
        node.publish(b"room.b", bytes(range(256)), b"")
        await until(lambda: received[-1] == ("room.b", b""))
        assert received[-3:-1] == [("room.a", b"own messages do not come back"), ("room.b", bytes(range(256)))]
        await driver.publish("room.a", b"\r\n\0")
        await driver.publish("room.a", b"with headers", headers={"Key": "value"})
        await driver.publish("room.a", b"with a reply", reply="room.reply")
        assert await node.gets(3) == [b"\r\n\0", b"with headers", b"with a reply"]
    await driver.close()


# --- Who is let in


@pytest.mark.parametrize(
    ("options", "credentials"),
    [(["--user", "u", "--pass", "p@:/?#"], "u:p%40%3A%2F%3F%23"), (["--auth", "a token"], "a%20token")],
    ids=["password", "token"],
)
async def test_a_password_or_a_token_opens(start, options, credentials):
    server = await start(*options, credentials=credentials)
    await assert_delivers(server.url())


async def test_wrong_credentials_are_told_without_them_and_tried_again(start, caplog, hasty):
    caplog.set_level(logging.DEBUG)
    server = await start("--user", "someone", "--pass", "s3cret")
    async with Node(server.url(credentials="someone:other-s3cret")) as node:
        assert node.events == ["down: the server refuses: authorization violation"]
        server.kill()
        server.options[-1] = "other-s3cret"
        await server.start()
        await until(lambda: node.is_up)
    assert "s3cret" not in caplog.text
    assert "someone" not in caplog.text


@pytest.fixture
def user(tmp_path):
    nats_accounts = pytest.importorskip("tests.kit.nats_accounts", reason="nkeys is not here")
    return nats_accounts.make(tmp_path)


async def test_the_credentials_of_an_account_open(start, user):
    configuration, path = user
    server = await start(configuration=configuration)
    await assert_delivers(server.url(query=f"?creds={path}"))
    await assert_refused(server.url(), "the server refuses: authorization violation")


async def test_the_seed_of_an_nkey_opens(start, tmp_path):
    nkeys = pytest.importorskip("nkeys")
    pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
    path = tmp_path / "seed"
    path.write_bytes(pair.seed + b"\n")
    server = await start(configuration=f"authorization: {{ users: [ {{ nkey: {pair.public_key.decode()} }} ] }}")
    await assert_delivers(server.url(query=f"?nkey={path}"))


async def test_credentials_are_read_again_when_it_connects_again(start, user, hasty):
    configuration, path = user
    server = await start(configuration=configuration)
    text = path.read_text()
    async with Node(server.url(query=f"?creds={path}")) as node:
        path.unlink()
        server.kill()
        await until(lambda: not node.is_up)
        await server.start()
        await until(lambda: node.events[-1] == "down: creds or nkey cannot be used: no such file or directory")
        path.write_text(text)
        await until(lambda: node.is_up)


def refuses(url: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        engine_of(url)
    return str(caught.value)


def test_a_file_without_what_it_should_have_is_refused_at_once(tmp_path, user):
    for number, (name, text) in enumerate(
        [("creds", "nothing"), ("nkey", "nothing"), ("nkey", "SUAAAAAAAAAAAAAAAAAAAAAAAAAA"), ("creds", "\xff\0")]
    ):
        path = tmp_path / str(number)
        path.write_text(text, "latin-1")
        assert f"the file of {name} is of no use: it has" in refuses(f"nats://a?{name}={path}")
        assert text not in refuses(f"nats://a?{name}={path}")
    assert "no such file" in refuses("nats://a?creds=/nowhere")
    assert "one is enough" in refuses("nats://a?creds=/x&nkey=/y")


def test_an_extra_that_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nkeys", None)
    assert "install fastws[nats]" in refuses("nats://a?creds=/x")
    engine_of("nats://a")


def test_a_url_that_says_what_nats_does_not_know_is_refused():
    assert "there is no path" in refuses("nats://a/0")
    assert "there are ca, cert, creds, key, nkey, tls_first" in refuses("nats://a?user=x")
    assert "tls_first is true or false" in refuses("nats://a?tls_first=x")
    assert "No such file" in refuses("nats://a?ca=/nowhere")


# --- TLS


@pytest.fixture
def secure(start, tmp_path):
    """Start a server that speaks TLS; its URL is to be completed."""
    files = certificates.Files(tmp_path)

    async def secure(more: str = "") -> NatsServer:
        block = f"cert_file: '{files.certfile}', key_file: '{files.keyfile}', ca_file: '{files.client_ca}'"
        return await start(configuration=f"tls {{ {block} {more} }}")

    secure.ca = f"ca={files.client_ca}"
    secure.files = files
    return secure


def tls_url(server: NatsServer, query: str, scheme: str = "tls", before: str = "") -> str:
    return f"{scheme}://{before}127.0.0.1:{server.port}?{query}"


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_tls_is_spoken_when_the_url_or_the_server_wants_it(secure, scheme):
    await assert_delivers(tls_url(await secure(), secure.ca, scheme))


async def test_tls_comes_first_where_that_is_asked_for(start, secure):
    version = (await info_of(await start()))["version"]
    if tuple(map(int, version.split("-")[0].split("."))) < (2, 10, 4):
        pytest.skip(f"nats-server {version} does not know it")
    server = await secure(", handshake_first: true")
    await assert_delivers(tls_url(server, f"{secure.ca}&tls_first=true"))


async def test_a_server_may_want_a_certificate_of_ours(secure):
    server = await secure(", verify: true")
    ours = f"&cert={secure.files.certfile}&key={secure.files.keyfile}"
    await assert_delivers(tls_url(server, secure.ca + ours))
    async with Node(tls_url(server, secure.ca)) as node:
        assert node.events[0].startswith("down: ")


async def test_a_server_that_we_do_not_trust_is_told_nothing(secure, hasty, caplog):
    caplog.set_level(logging.DEBUG)
    server = await secure()
    for scheme in ("tls", "nats"):
        async with Node(tls_url(server, "", scheme, before="u:s3cret@")) as node:
            assert node.events[0].startswith("down: the server's certificate is refused: ")
    assert "s3cret" not in caplog.text


async def test_a_url_that_says_tls_never_speaks_without(start, monkeypatch):
    server = await start()
    said = []
    monkeypatch.setattr(session.Wire, "write", lambda wire, data: said.append(data))
    for query in ("", "tls_first=1"):
        async with Node(tls_url(server, query, before="u:s3cret@")) as node:
            assert node.events[0].startswith("down: ")
            assert "has no TLS" in node.events[0] or query
    assert said == []


# --- Clusters


@pytest.fixture
async def cluster(server_of):
    """Three servers that carry each other's messages, and know of each other."""
    servers = [server_of(NatsServer) for _ in range(3)]
    join_cluster(servers)
    for server in servers:
        await server.start()
    for server in servers:
        while len((await info_of(server)).get("connect_urls", ())) < 3:
            await asyncio.sleep(0.02)
    return servers


async def info_of(server: NatsServer) -> dict:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    line = await reader.readline()
    writer.transport.abort()
    return json.loads(line.removeprefix(b"INFO "))


def place_of(node: Node) -> int | None:
    """The port of the server that a node is connected to."""
    return node.engine._session._last.port if node.is_up else None


def urls(servers) -> str:
    return "nats://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


async def test_messages_go_on_over_the_servers_that_are_left(cluster, hasty):
    async with Node(urls(cluster), b"a") as listener, Node(urls(cluster[:1]), number=2) as speaker:
        for number, server in enumerate(cluster[:2]):
            server.kill()
            left = {server.port for server in cluster[number + 1 :]}
            await until(lambda left=left: {place_of(listener), place_of(speaker)} <= left)
            await listener.hears(speaker)
            assert speaker.publish(b"a", b"1")
            assert await listener.gets(1) == [b"1"]


async def test_a_server_in_lame_duck_mode_is_left_and_nothing_is_lost(cluster):
    async with Node(cluster[0].url(), b"a") as listener, Node(cluster[0].url(), number=2) as speaker:
        for turn in range(2):
            [left] = [server for server in cluster if server.port == place_of(listener)]
            left.leave()
            number = 0
            while left.port in (place_of(listener), place_of(speaker)) or number < 50:
                assert speaker.publish(b"a", b"%d.%d" % (turn, number))
                number += 1
                await asyncio.sleep(0.002)
            await until(lambda turn=turn, number=number: b"%d.%d" % (turn, number - 1) in listener.payloads)
            # While there are two connections a message may come over both, and the relay drops one
            received = [payload for payload in dict.fromkeys(listener.payloads) if payload.startswith(b"%d." % turn)]
            assert received == [b"%d.%d" % (turn, each) for each in range(number)]
        assert listener.events == speaker.events == ["up"]


# --- Limits and permissions


async def test_max_payload_is_what_the_server_says_and_may_change(start):
    server = await start(configuration="max_payload: 1000")
    async with Node(server.url()) as node:
        assert node.engine.max_payload == 1000
        assert node.publish(b"a", b"x" * 1000)
        assert not node.publish(b"a", b"x" * 1001)
        server.kill()
        await until(lambda: not node.is_up)
        server.configure("max_payload: 2000")
        await server.start()
        await until(lambda: node.is_up)
        assert node.publish(b"a", b"x" * 2000)


async def test_what_is_not_permitted_is_counted_and_told_once(start, failures):
    allowed = "{ publish: 'mine.>', subscribe: 'mine.>' }"
    users = f"[ {{ user: u, password: p, permissions: {allowed} }} ]"
    server = await start(configuration=f"authorization: {{ users: {users} }}", credentials="u:p")
    async with Node(server.url(), b"mine.a", b"other.a") as node, Node(server.url(), number=2) as speaker:
        speaker.publish(b"other.a", b"1", b"2")
        speaker.publish(b"mine.a", b"3")
        assert await node.gets(1) == [b"3"]
        await until(lambda: (node.engine.violations, speaker.engine.violations) == (1, 2))
        assert node.events == speaker.events == ["up"]
    assert len(failures.messages()) == 2
    assert "permissions violation for publish to" in failures.messages()[1]


# --- Servers that say strange things

INFO = b'INFO {"server_id":"X","max_payload":1000}\r\n'


@contextlib.asynccontextmanager
async def saying(*answers: bytes):
    """A server that gives one answer to a connection, and the others to what it is told; yields its port and that."""
    got: list[bytes] = []

    async def accept(reader, writer):
        for answer in answers:
            writer.write(answer)
            data = await reader.read(65536)
            if not data:
                break
            got.append(data)
        writer.transport.abort()

    port = free_port()
    async with await asyncio.start_server(accept, "127.0.0.1", port):
        yield port, got


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n"], "does not speak as NATS does: a line is of no operation that there is"),
        ([b"INFO []\r\n"], "does not speak as NATS does: INFO is no JSON object"),
        ([b"INFO {\r\n"], "does not speak as NATS does: INFO is no JSON object"),
        ([b"INFO " + b"[" * 60000 + b"\r\n"], "does not speak as NATS does: INFO is no JSON object"),
        ([INFO + b"MSG a a 1\r\nx\r\n"], "does not speak as NATS does: a message comes before we are let in"),
        ([INFO, b"-ERR 'Maximum Connections Exceeded'\r\n"], "refuses: maximum connections exceeded"),
        ([INFO, b"-ERR '" + b"x" * 1000 + b"\0'\r\n"], f"refuses: {'x' * 200}"),
        (
            [INFO, b"PONG\r\n", b"MSG a a\r\n"],
            "does not speak as NATS does: a message has other arguments than it should",
        ),
    ],
)
async def test_what_makes_no_sense_is_told_as_the_reason(answers, reason, hasty):
    async with saying(*answers) as (port, _), Node(f"nats://127.0.0.1:{port}") as node:
        assert node.events[0] == f"down: the server {reason}"


async def test_what_a_server_says_of_itself_need_not_be_true(hasty):
    strange = b'INFO {"max_payload":"much","connect_urls":[1,"",":","[::1","a:1"],"ldm":1,"nonce":5}\r\n'
    async with saying(strange, b"PONG\r\n", b"PONG\r\n" + strange, b"") as (port, got):
        async with Node(f"nats://127.0.0.1:{port}") as node:
            assert node.engine.max_payload == 1 << 20
            await until(lambda: node.engine._discovered)
            assert [str(server) for server in node.engine._discovered] == ["1:4222", "a:1"]
        assert got[0].startswith(b'CONNECT {"verbose": false, "pedantic": false, "echo": false')


@pytest.mark.parametrize("later", [False, True])
async def test_a_server_may_tell_of_others_at_once_or_later(later, hasty):
    urls = b'INFO {"connect_urls":["127.0.0.1:1","other:2"]}\r\n'
    first, then = (INFO, urls) if later else (urls, b"")
    answers = [first, b"PONG\r\n", b"PONG\r\n" + then, b""]
    async with saying(*answers) as (port, _), Node(f"nats://u:p@localhost:{port}") as node:
        await until(lambda: node.engine._discovered)
        assert {(str(server), server.tls_name, server.password) for server in node.engine._discovered} == {
            ("127.0.0.1:1", "localhost", "p"),  # whose certificate is for the name that the user knows
            ("other:2", "other", "p"),
        }


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a stream of asyncio goes over to TLS since Python 3.11")
async def test_what_somebody_puts_between_info_and_tls_is_not_read(hasty):
    async def accept(reader, writer):
        writer.write(b'INFO {"tls_required":true}\r\nMSG a a 100\r\n')
        await writer.start_tls(certificates.server_context())
        while data := await reader.read(1000):
            writer.write(b"PONG\r\n" * data.count(b"PING\r\n"))
        writer.close()

    port = free_port()
    url = f"nats://127.0.0.1:{port}?ca={certificates.authority_file()}"
    async with await asyncio.start_server(accept, "127.0.0.1", port), Node(url) as node:
        assert node.events == ["up"]


async def test_a_status_is_no_message(hasty):
    status = b"HMSG a a 16 16\r\nNATS/1.0 503\r\n\r\n\r\nMSG a a 1\r\nx\r\n"
    answers = [INFO, b"PONG\r\n", b"PONG\r\n" + status, b""]
    async with saying(*answers) as (port, _), Node(f"nats://127.0.0.1:{port}", b"a") as node:
        assert await node.gets(1) == [b"x"]
        assert node.engine.skipped == 1
