"""From `connect` to an open connection: options, redirects, both styles, time, cancellation, and what is shared."""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import socket
import ssl
import subprocess
import sys
import weakref

import pytest

import fastws
from fastws import _speedups, ws
from fastws.client import endpoints

from ..kit import certificates
from ..kit.client import tls_at, turns, until, url, within
from ..kit.raw_server import Peer, raw_server
from ..kit.services import Echo, Log, Watch, at


def connect(server, *listener, path="/", **options):
    where = url(server, path)
    if server.secure:
        options = {"ssl": tls_at(where), "server_hostname": "localhost", **options}
    return fastws.connect(where, *listener, **options)


class Listener(Log):
    """Notes all that happens to the connections that it listens to."""

    @ws.on_text_message
    def text(self, connection: ws.Connection, text: str) -> None:
        self.saw("text", text)

    @ws.on_binary_message
    async def binary(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.saw("binary", data)

    @ws.on_close
    def closed(self, code: int, reason: str) -> None:
        self.saw("closed", code, reason)


# ---------------------------------------------------------------------------------------------------------------------
# What is given


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nothing": 1}, "there is no option 'nothing'"),
        ({"subprotocols": "chat"}, "give a list of strings"),
        ({"headers": "X: y"}, "a mapping or pairs of strings"),
        ({"headers": [("X", 1)]}, "a mapping or pairs of strings"),
        ({"headers": {"X Y": "z"}}, "the name of a header field is a token"),
        ({"headers": {"X": "y\r\nZ: 1"}}, "without control characters"),
        ({"headers": {"X": "\u20ac"}}, "is Latin-1"),
        ({"headers": {"Sec-WebSocket-Key": "x"}}, "the handshake says that itself"),
        ({"headers": {"connection": "close"}}, "the handshake says that itself"),
        ({"origin": "example.com"}, "an origin is like"),
        ({"cookies": {"a": "b;c"}}, "the value of a cookie"),
        ({"cookies": {"a=": "b"}}, "the name of a cookie"),
        ({"cookies": {"a": "b"}, "headers": {"Cookie": "c=d"}}, "say the same"),
        ({"auth": "user:password"}, "give a user"),
        ({"auth": ("us:er", "password")}, "give a user"),
        ({"auth": ("a", "b"), "headers": {"authorization": "Bearer x"}}, "say the same"),
        ({"ssl": True}, "give an ssl.SSLContext"),
        ({"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, "the URL is one of ws"),
        ({"proxy": 8080}, "give True for that of the environment"),
        ({"max_redirects": -1}, "an int from 0 to 100"),
        ({"unix": ""}, "give the path of a socket"),
        ({"local_addr": "127.0.0.1"}, "give a host and a port"),
        ({"sock": 7}, "give a connected stream socket"),
        ({"open_timeout": 0}, "above 0"),
        ({"max_queue": 0}, "an int above 0"),
        ({"high_water": 2, "max_backlog": 1}, "no more than max_backlog"),
        ({"compression": "always"}, '"shared", "dedicated" or None'),
        ({"overflow": "burst"}, "give one of close"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_happens(options, words):
    with pytest.raises(fastws.ConfigurationError, match=words):
        fastws.connect("ws://127.0.0.1:1/", **options)


def test_an_error_about_auth_does_not_show_the_password():
    with pytest.raises(fastws.ConfigurationError) as caught:
        fastws.connect("ws://127.0.0.1:1/", auth=("us:er", "secret"))
    assert "secret" not in str(caught.value)


def test_two_ways_to_a_server_are_one_too_many(tmp_path):
    with socket.socket() as sock, pytest.raises(fastws.ConfigurationError, match="sock and unix"):
        fastws.connect("ws://a/", sock=sock, unix=tmp_path / "x")


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (Listener, "is a class; a listener is an instance of one"),
        (object(), "handles nothing"),
        (type("Admits", (), {"admit": ws.on_upgrade(lambda self: None)})(), "is for a server's"),
        (type("Starts", (), {"start": ws.on_start(lambda self: None)})(), "is for a server's"),
        (type("Wants", (), {"got": ws.on_text_message(lambda self, texts: None)})(), "takes 'texts'"),
    ],
)
def test_what_cannot_listen_is_refused(listener, words):
    with pytest.raises(fastws.ConfigurationError, match=words):
        fastws.connect("ws://127.0.0.1:1/", listener)


async def test_headers_cookies_origin_and_auth_arrive(serve):
    seen = []

    @at()
    class Looks:
        @ws.on_open
        def opened(self, connection: ws.Connection) -> None:
            seen.append(dict(connection.headers))

    server = await serve(Looks)
    options = {"headers": {"X-Room": "7"}, "cookies": {"a": "b"}, "origin": "https://example.com", "auth": ("u", "pä")}
    async with connect(server, **options):
        await until(lambda: seen)
    basic = "Basic " + base64.b64encode("u:pä".encode()).decode()
    assert seen[0].items() >= {"x-room": "7", "cookie": "a=b", "origin": "https://example.com"}.items()
    assert seen[0]["authorization"] == basic


async def test_who_we_are_may_stand_in_the_url():
    heads = []

    async def serve(peer: Peer) -> None:
        heads.append(peer.head)

    async with raw_server(serve) as where:
        with pytest.raises(fastws.InvalidHandshake):
            await within(fastws.connect(where.replace("//", "//me:secret@")))
    assert b"Authorization: Basic " + base64.b64encode(b"me:secret") in heads[0]
    assert b"Host: 127.0.0.1:" in heads[0]


async def test_a_socket_or_a_path_may_take_the_place_of_an_address(serve, tmp_path, pytestconfig):
    if pytestconfig.getoption("tls"):
        pytest.skip("what matters is the socket below")
    path = tmp_path / "socket"
    server = await serve(Echo(), unix=path, port=None)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    for options in ({"unix": path}, {"sock": sock}):
        async with fastws.connect("ws://localhost/", **options) as connection:
            await connection.send("hello")
            assert await within(connection.receive()) == "hello"
            assert connection.remote_address is None
    assert server is not None
    assert sock.fileno() == -1


async def test_a_connection_may_come_from_an_address(serve):
    service = Watch()
    server = await serve(service)
    async with connect(server, local_addr=("127.0.0.1", 0)):
        await until(lambda: service.connections)
        assert service.connections[0].remote_address[0] == "127.0.0.1"


async def test_nobody_there_is_a_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(fastws.ConnectError, match=f"127.0.0.1:{port}") as caught:
        await fastws.connect(f"ws://127.0.0.1:{port}/")
    assert isinstance(caught.value, OSError)


async def test_a_certificate_that_is_not_trusted_is_a_clear_error(serve):
    server = await serve(Watch(), ssl=certificates.server_context())
    with pytest.raises(fastws.ConnectError, match="no TLS with localhost") as caught:
        await within(fastws.connect(f"wss://localhost:{server.addresses[0][1]}/", local_addr=("127.0.0.1", 0)))
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


async def test_tls_is_spoken_with_whom_the_context_trusts(serve):
    server = await serve(Echo(), ssl=certificates.server_context())
    options = {"ssl": certificates.client_context(), "server_hostname": "localhost"}
    async with fastws.connect(f"wss://127.0.0.1:{server.addresses[0][1]}/", **options) as connection:
        assert connection.secure
        for message in ("hello", bytes(1 << 20)):
            await connection.send(message)
            assert await within(connection.receive()) == message


async def test_a_server_without_tls_is_a_clear_error(serve, pytestconfig):
    if pytestconfig.getoption("tls"):
        pytest.skip("all servers speak TLS")
    server = await serve(Watch())
    with pytest.raises(fastws.ConnectError, match="no TLS with"):
        await within(fastws.connect(f"wss://127.0.0.1:{server.addresses[0][1]}/"))


# ---------------------------------------------------------------------------------------------------------------------
# Redirects


def redirects(location: str, status: int = 302):
    async def serve(peer: Peer) -> None:
        heads.append(peer.head)
        peer.send(f"HTTP/1.1 {status} Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        await peer.reader.read()

    heads = []
    serve.heads = heads
    return serve


async def test_a_redirect_is_followed_and_secrets_stay_behind(serve):
    seen = []

    @at("/there")
    class There(Watch):
        @ws.on_open
        def opened(self, connection: ws.Connection) -> None:
            seen.append(dict(connection.headers))

    server = await serve(There())
    where = url(server, "/there")
    tls = {"ssl": tls_at(where), "server_hostname": "localhost"} if server.secure else {}
    if tls:
        pytest.skip("from ws to wss with a context: the first URL is one of ws")
    here = redirects(where)
    options = {"cookies": {"a": "b"}, "auth": ("u", "p"), "headers": {"X-Room": "7"}}
    async with raw_server(here) as first, fastws.connect(first, **options) as connection:
        assert connection.path == "/there"
        await until(lambda: seen)
    assert b"Cookie: a=b" in here.heads[0]
    assert b"Authorization" in here.heads[0]
    assert seen[0]["x-room"] == "7"
    assert not seen[0].keys() & {"cookie", "authorization"}


async def test_a_circle_of_redirects_ends():
    here = redirects("/again")
    async with raw_server(here) as where:
        with pytest.raises(fastws.RedirectError, match=r"3 were followed already \(max_redirects\)"):
            await within(fastws.connect(where, max_redirects=3))
    assert len(here.heads) == 4


async def test_no_redirect_is_followed_where_none_is_wanted():
    async with raw_server(redirects("/again", 307)) as where:
        with pytest.raises(fastws.InvalidStatus) as caught:
            await within(fastws.connect(where, max_redirects=0))
    assert (caught.value.status, caught.value.headers["Location"]) == (307, "/again")


async def test_another_status_is_no_redirect():
    here = redirects("/again", 300)
    async with raw_server(here) as where:
        with pytest.raises(fastws.InvalidStatus):
            await within(fastws.connect(where))
    assert len(here.heads) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Called instead of awaited


async def test_a_listener_is_called_with_all_that_happens(serve):
    server = await serve(Echo())
    listener = Listener()
    async with connect(server, listener) as connection:
        assert listener.connections == [connection]
        connection.push_text("hello")
        assert await listener.next() == ("text", "hello")
        connection.push_binary(b"\x00")
        assert await listener.next() == ("binary", b"\x00")
    assert await listener.next() == ("closed", 1000, "")
    assert connection.close_code == 1000


async def test_what_a_listener_returns_is_its_reply(serve):
    class Replies:
        @ws.on_text_message
        def text(self, text: str) -> str:
            return text + "!"

    service = type("Asks", (Watch,), {"text": ws.on_text_message(lambda self, text: self.saw(text))})
    service = at()(service)()
    server = await serve(service)
    async with connect(server, Replies()):
        await until(lambda: service.connections)
        service.connections[0].push_text("hello")
        assert await service.next() == ("hello!",)


async def test_a_listener_that_fails_ends_its_connection(serve, failures):
    class Fails(Listener):
        @ws.on_text_message
        def text(self, text: str) -> None:
            raise LookupError("no such text")

    service = Echo()
    server = await serve(service)
    listener = Fails()
    connection = await within(connect(server, listener))
    connection.push_text("x")
    await within(connection.wait_closed())
    assert await listener.next() == ("closed", 1011, "")
    assert "Fails.text failed on connection" in failures.messages()[0]


async def test_a_message_that_a_listener_does_not_handle_is_dropped(serve, caplog):
    class TextOnly:
        @ws.on_text_message
        def text(self, text: str) -> None:
            pass

    service = Watch()
    server = await serve(service)
    async with connect(server, TextOnly()):
        await until(lambda: service.connections)
        service.connections[0].push_binary(b"x")
        await until(lambda: "TextOnly" in caplog.text)


async def test_functions_of_the_api_act_on_the_listeners_connection(serve):
    class Pushes:
        @ws.on_open
        def opened(self) -> None:
            ws.push_text("hello")

    service = at()(type("Hears", (Watch,), {"text": ws.on_text_message(lambda self, text: self.saw(text))}))()
    server = await serve(service)
    async with connect(server, Pushes()):
        assert await service.next() == ("hello",)


# ---------------------------------------------------------------------------------------------------------------------
# Beside servers


async def test_a_client_is_none_of_the_clients_of_a_server(serve):
    service = Watch()
    server = await serve(service)
    listener = Listener()
    async with connect(server, listener) as connection, connect(server) as awaited:
        await until(lambda: len(service.connections) == 2)
        assert len(ws.connections(service)) == 2
        with pytest.raises(fastws.NotServingError):
            ws.broadcast_text("x", to=listener)
        for refused in (
            lambda: connection.join("room"),
            lambda: connection.store("name"),
            lambda: connection.broadcast_text("x"),
            lambda: connection.broadcast_binary(b"x"),
        ):
            with pytest.raises(fastws.ClientRoleError, match=r"made by fastws.connect"):
                refused()
        ws.broadcast_text("all", to=service)
        assert await listener.next() == ("text", "all")
        assert await within(awaited.receive()) == "all"


async def test_a_program_that_is_a_client_only_serves_nobody():
    async def serve(peer: Peer) -> None:
        peer.send(peer.answer())
        await peer.reader.read()

    async with raw_server(serve) as where, fastws.connect(where, close_timeout=0.05):
        with pytest.raises(fastws.NotServingError):
            ws.push_text_to_group("room", "x")
        with pytest.raises(fastws.NoCurrentConnectionError):
            ws.push_text("x")


async def test_groups_end_with_their_server_though_a_client_lives_on():
    async def serve(peer: Peer) -> None:
        peer.send(peer.answer())
        await peer.reader.read()

    async with raw_server(serve) as where, fastws.connect(where, close_timeout=0.05):
        async with fastws.serve(Echo(), port=0):
            ws.create_connection_group("room")
            ws.remove_connection_group("room")
            with pytest.raises(fastws.GroupRemovedError):
                ws.push_text_to_group("room", "x")
        async with fastws.serve(Echo(), port=0):
            assert not ws.push_text_to_group("room", "x")


async def test_connections_with_equal_options_share_an_endpoint(serve):
    server = await serve(Echo())
    listener = Listener()
    connections = [await within(connect(server, listener)) for _ in range(5)]
    connections += [await within(connect(server, listener, max_queue=3))]
    awaited = [await within(connect(server)) for _ in range(5)]
    assert len(endpoints._endpoints) == 3
    for connection in connections:
        connection.close()
        await within(connection.wait_closed())
    for connection in awaited:
        await within(connection.close())
    assert endpoints._endpoints == {}


async def test_a_listener_with_two_loops_has_one_connection_on_each(serve):
    server = await serve(Echo())
    if server.secure:
        pytest.skip("what matters is the loop")

    def elsewhere():
        async def use():
            async with connect(server) as connection:
                await connection.send("from there")
                return await within(connection.receive())

        return asyncio.run(use())

    async with connect(server) as connection:
        there = asyncio.ensure_future(asyncio.to_thread(elsewhere))
        await connection.send("from here")
        assert await within(connection.receive()) == "from here"
        assert await within(there) == "from there"


# ---------------------------------------------------------------------------------------------------------------------
# Nothing is left behind


async def test_cancelling_it_at_any_point_leaves_nothing(serve):
    """`nothing_left` looks for connections and transports, `no_task_left` for tasks."""
    server = await serve(Echo())
    ended = cancelled = 0
    for turn in range(40):
        opening = asyncio.ensure_future(connect(server)._open())
        await turns(turn)
        opening.cancel()
        try:
            connection = await within(opening)
        except asyncio.CancelledError:
            cancelled += 1
        else:
            ended += 1
            await within(connection.close())
    assert cancelled > 2
    await until(lambda: _speedups.live_objects()["transports"] == 0)


@pytest.mark.parametrize("turn", [0, 1, 2, 5, 10])
async def test_cancelling_it_while_a_refusal_comes_leaves_nothing(turn):
    async def serve(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n")
        await peer.writer.drain()
        said.set()
        await peer.reader.read()

    said = asyncio.Event()
    async with raw_server(serve) as where:
        opening = asyncio.ensure_future(fastws.connect(where)._open())
        await within(said.wait())
        await turns(turn)
        opening.cancel()
        with pytest.raises((asyncio.CancelledError, fastws.InvalidStatus)):
            await within(opening)


async def test_one_second_of_opening_is_all_that_it_gets():
    async def serve(peer: Peer) -> None:
        await peer.reader.read()

    async with raw_server(serve) as where:
        with pytest.raises(fastws.OpenTimeoutError):
            await within(fastws.connect(where, open_timeout=0.05))


def test_a_listener_is_compiled_once_as_long_as_somebody_has_its_handlers():
    class Ears:
        @ws.on_text_message
        def hear(self, text: str) -> None: ...

    ears, others = Ears(), Ears()
    first = endpoints.listening_of(ears)
    assert endpoints.listening_of(ears) is first is not endpoints.listening_of(others)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


# ---------------------------------------------------------------------------------------------------------------------
# The process


def test_importing_fastws_loads_no_client():
    script = "import fastws, sys; assert not [name for name in sys.modules if name.startswith('fastws.client')]"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_client_alone_starts_and_ends_quietly():
    script = """
import asyncio, fastws, warnings
warnings.simplefilter("error")
async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a slow machine is no fault
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    opening = asyncio.ensure_future(fastws.connect(f"ws://127.0.0.1:{port}/")._open())
    await asyncio.sleep(0.05)
    server.close()
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_child_of_a_fork_masks_with_keys_of_its_own():
    script = """
import os, fastws, asyncio
from fastws import ws
from fastws.testing.memory import memory_transports
from fastws._speedups import Connection, Endpoint, hub_of_thread
import fastws.client.connect as c
from fastws.client.endpoints import endpoint_for
def key():
    async def use():
        loop = asyncio.get_running_loop()
        hub = hub_of_thread(loop, dict, dict)
        hub.attach(client=True)
        near, far = memory_transports(loop)
        near.hold()
        far.set_protocol(asyncio.Protocol())
        endpoint = endpoint_for(hub, c.ClientOptions(), None)
        connection = Connection(endpoint, client=True)
        connection.start(near, b"", b"")
        connection.push_text("x")
        await asyncio.sleep(0)
        return bytes(near.written[2:6])
    loop = asyncio.new_event_loop()
    return loop.run_until_complete(use())
key()
reader, writer = os.pipe()
pid = os.fork()
mine = key()
if pid == 0:
    os.write(writer, mine)
    os._exit(0)
os.waitpid(pid, 0)
assert os.read(reader, 4) != mine
"""
    subprocess.run([sys.executable, "-c", script], check=True)
