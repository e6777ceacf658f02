"""From a target to a connected socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys

import pytest

from fastws.client import tcp
from fastws.client.dialing import dial
from fastws.client.url import parse
from fastws.errors import ConfigurationError, DialError, ProxyError

from ..kit import certificates
from ..kit.client import until, within
from ..kit.proxies import HttpProxy, Socks4Proxy, SocksProxy

pytestmark = pytest.mark.plain("sockets below TLS")


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.fixture
async def echo():
    """A port of 127.0.0.1 where everything is said back; its writers are let go with the test."""
    writers = []

    async def accept(reader, writer):
        writers.append(writer)
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.close()


@pytest.fixture
def resolver(monkeypatch):
    """Have names mean addresses: `resolver(name="127.0.0.1")`; what asyncio and uvloop ask is not the same."""
    names: dict[str, list[str]] = {}
    resolve = tcp._resolve

    async def ask(loop, host, port):
        if host not in names:
            return await resolve(loop, host, port)
        return [found for address in names[host] for found in await resolve(loop, address, port)]

    monkeypatch.setattr(tcp, "_resolve", ask)
    return lambda **given: names.update({name: addresses.split() for name, addresses in given.items()})


async def speaks(sock: socket.socket) -> bool:
    """Whether what is said on it comes back."""
    loop = asyncio.get_running_loop()
    await within(loop.sock_sendall(sock, b"hello"))
    heard = b""
    while len(heard) < 5:
        heard += await within(loop.sock_recv(sock, 5 - len(heard)))
    return heard == b"hello"


async def reached(port: int, **options) -> bool:
    """Dial a port of this machine and speak."""
    options = {"proxy": None, **options}
    with await within(dial(parse(f"ws://127.0.0.1:{port}/"), **options)) as sock:
        assert sock.getblocking() is False
        return await speaks(sock)


async def test_a_server_is_reached_by_address_and_by_name(echo):
    assert await reached(echo)
    with await within(dial(parse(f"ws://localhost:{echo}/"))) as sock:
        assert await speaks(sock)


async def test_small_frames_leave_at_once(echo):
    with await within(dial(parse(f"ws://127.0.0.1:{echo}/"))) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_nobody_there_is_an_error_that_says_where(unused_tcp_port):
    before = descriptors()
    with pytest.raises(
        DialError, match=rf"cannot connect to 127.0.0.1:{unused_tcp_port}: Connection refused"
    ) as raised:
        await reached(unused_tcp_port)
    assert raised.value.errno == errno.ECONNREFUSED
    assert descriptors() == before


async def test_a_name_that_nobody_knows_is_an_error():
    with pytest.raises(DialError, match=r"cannot connect to nobody\.invalid:80: "):
        await within(dial(parse("ws://nobody.invalid/"), proxy=None))


# --- Happy eyeballs.


async def test_an_address_that_refuses_is_passed_over(echo, resolver):
    resolver(both="::1 127.0.0.1")
    with await within(dial(parse(f"ws://both:{echo}/"))) as sock:
        assert sock.family == socket.AF_INET


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8, and a full queue that drops")
async def test_an_address_that_is_silent_holds_up_nobody(echo, resolver, monkeypatch):
    monkeypatch.setattr(tcp, "EYEBALLS_DELAY", 0.01)
    before = descriptors()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.2", echo))
        deaf.listen(0)
        with socket.create_connection(("127.0.0.2", echo)):  # its queue is full
            resolver(both="127.0.0.2 127.0.0.1")
            with await within(dial(parse(f"ws://both:{echo}/"))) as sock:
                assert sock.getpeername()[0] == "127.0.0.1"
            assert descriptors() == before + 3  # the two here, and the accepted end of ours
    await until(lambda: descriptors() <= before + 1)


async def test_where_all_refuse_the_error_says_so(resolver, unused_tcp_port):
    resolver(both="::1 127.0.0.1")
    with pytest.raises(DialError, match=f"cannot connect to both:{unused_tcp_port}: Connection refused"):
        await within(dial(parse(f"ws://both:{unused_tcp_port}/")))


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue drops")
async def test_cancelling_leaves_no_socket_behind(resolver):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.2", 0))
        deaf.listen(0)
        with socket.create_connection(deaf.getsockname()):
            before = descriptors()
            dialing_it = asyncio.ensure_future(dial(parse(f"ws://127.0.0.2:{deaf.getsockname()[1]}/")))
            await until(lambda: descriptors() == before + 1)
            dialing_it.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialing_it
            assert descriptors() == before


# --- Other ways.


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
async def test_it_comes_from_a_local_address(echo):
    target = parse(f"ws://127.0.0.1:{echo}/")
    with await within(dial(target, local_addr=("127.0.0.3", 0))) as sock:
        assert sock.getsockname()[0] == "127.0.0.3"
        assert await speaks(sock)


async def test_a_local_address_that_is_not_ours_is_an_error(echo):
    with pytest.raises(DialError, match=r"cannot connect to 127\.0\.0\.1"):
        await within(dial(parse(f"ws://127.0.0.1:{echo}/"), local_addr=("192.0.2.1", 0)))


async def test_a_unix_socket_is_reached(tmp_path):
    path = tmp_path / "s"
    accepted = asyncio.Event()
    server = await asyncio.start_unix_server(lambda _, writer: (writer.close(), accepted.set()), path)
    with await within(dial(parse("ws://name/"), unix=path, proxy="http://127.0.0.1:1")) as sock:
        assert sock.family == socket.AF_UNIX
        assert sock.getblocking() is False
        await within(accepted.wait())
    server.close()


async def test_a_unix_socket_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DialError, match=r"cannot connect to unix:.*: No such file or directory"):
        await within(dial(parse("ws://name/"), unix=tmp_path / "s"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse")
async def test_a_unix_socket_whose_queue_is_full_is_an_error(tmp_path):
    with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX) as first:
        deaf.bind(str(tmp_path / "s"))
        deaf.listen(0)
        first.connect(str(tmp_path / "s"))
        with pytest.raises(DialError, match="temporarily unavailable"):
            await within(dial(parse("ws://name/"), unix=tmp_path / "s"))


async def test_a_socket_that_is_connected_is_taken(echo):
    with socket.create_connection(("127.0.0.1", echo)) as ours:
        assert await dial(parse("ws://name/"), sock=ours, proxy="http://127.0.0.1:1") is ours
        assert ours.getblocking() is False
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert await speaks(ours)


# --- Through proxies.

PROXIES = [
    (HttpProxy, "http"),
    (SocksProxy, "socks5"),
    (SocksProxy, "socks5h"),
    (Socks4Proxy, "socks4"),
    (Socks4Proxy, "socks4a"),
]


@pytest.mark.parametrize(("kind", "scheme"), PROXIES, ids=[scheme for _, scheme in PROXIES])
async def test_a_proxy_connects(echo, kind, scheme):
    async with kind() as proxy:
        assert await reached(echo, proxy=proxy.url(scheme=scheme))
        assert proxy.asked == [f"127.0.0.1:{echo}"]


@pytest.mark.parametrize(
    ("kind", "scheme", "resolves"),
    [
        (HttpProxy, "http", True),
        (SocksProxy, "socks5h", True),
        (Socks4Proxy, "socks4a", True),
        (Socks4Proxy, "socks4", False),
    ],
)
async def test_who_resolves_the_name_depends_on_the_scheme(echo, kind, scheme, resolves):
    async with kind(hosts={"localhost": "127.0.0.1"}) as proxy:
        with await within(dial(parse(f"ws://localhost:{echo}/"), proxy=proxy.url(scheme=scheme))) as sock:
            assert await speaks(sock)
        assert proxy.asked == [f"{'localhost' if resolves else '127.0.0.1'}:{echo}"]


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy, Socks4Proxy])
async def test_a_proxy_is_told_who_comes(echo, kind):
    async with kind(auth=("ada", "s:@é" if kind is HttpProxy else "s:@")) as proxy:
        userinfo = "ada:s:%40%C3%A9@" if kind is HttpProxy else "ada:s:%40@"
        assert await reached(echo, proxy=proxy.url(userinfo))


REFUSALS = [
    (HttpProxy, {"auth": ("ada", "x")}, "407 Who are you?", 407),
    (HttpProxy, {"answer": b"HTTP/1.0 403 \x1b[31mno\xff\r\n\r\n"}, "403 ?[31mnoÿ", 403),
    (HttpProxy, {"answer": b"HTTP/1.1 503\r\nRetry-After: 1\r\n\r\nbusy"}, "503", 503),
    (HttpProxy, {"answer": b"HTTP/1.1 302 Found\r\nLocation: ws://evil/\r\n\r\n"}, "302 Found", 302),
    (HttpProxy, {"answer": b"SSH-2.0-OpenSSH\r\n\r\n"}, "not HTTP/1.1", None),
    (HttpProxy, {"answer": b""}, "without an answer", None),
    (HttpProxy, {"answer": b"HTTP/1.1 200 OK\r\n"}, "without an answer", None),
    (HttpProxy, {"answer": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000}, "longer than 16384 bytes", None),
    (HttpProxy, {"granted": b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101"}, "more behind its answer", None),
    (SocksProxy, {"auth": ("ada", "x")}, "No acceptable authentication", None),
    (SocksProxy, {"reply": 2}, "not allowed by ruleset", 2),
    (SocksProxy, {"reply": 99}, "Invalid reply code", None),
    (Socks4Proxy, {"auth": ("ada", "x")}, "different user-ids", 93),
]


@pytest.mark.parametrize(("kind", "options", "reason", "status"), REFUSALS)
async def test_a_refusal_says_what_the_proxy_said(echo, kind, options, reason, status):
    before = descriptors()
    async with kind(**options) as proxy:
        with pytest.raises(ProxyError) as raised:
            await reached(echo, proxy=proxy.url("eve:secret@" if kind is HttpProxy else ""))
        assert reason in str(raised.value)
        assert raised.value.status == status
        assert raised.value.proxy == proxy.url()
        assert "secret" not in str(raised.value)
        await until(lambda: proxy.open == 0)
    await until(lambda: descriptors() <= before)


@pytest.mark.parametrize(("kind", "status"), [(HttpProxy, 502), (SocksProxy, 5), (Socks4Proxy, 91)])
async def test_a_server_that_a_proxy_cannot_reach_is_its_refusal(unused_tcp_port, kind, status):
    async with kind() as proxy:
        with pytest.raises(ProxyError) as raised:
            await reached(unused_tcp_port, proxy=proxy.url())
        assert raised.value.status == status


async def test_a_wrong_password_is_an_error(echo):
    async with SocksProxy(auth=("ada", "right")) as proxy:
        with pytest.raises(ProxyError, match="authentication failure"):
            await reached(echo, proxy=proxy.url("ada:wrong@"))


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks4"])
async def test_a_proxy_that_is_not_there_is_an_error(unused_tcp_port, scheme):
    with pytest.raises(DialError, match=f"cannot connect to 127.0.0.1:{unused_tcp_port}: Connection refused"):
        await reached(1, proxy=f"{scheme}://127.0.0.1:{unused_tcp_port}")


async def test_an_answer_in_pieces_is_read_to_its_end(echo):
    granted = b"HTTP/1.1 200 Connection established\r\nProxy-Agent: slow\r\n\r\n"
    async with HttpProxy(piecewise=True, granted=granted) as proxy:
        assert await reached(echo, proxy=proxy.url())


@pytest.mark.parametrize("granted", [b"HTTP/1.0 200 ok\n\n", b"HTTP/1.1 201 x\r\nContent-Length: 9\r\n\r\n"])
async def test_every_success_is_one(echo, granted):
    async with HttpProxy(granted=granted) as proxy:
        assert await reached(echo, proxy=proxy.url())


async def test_socks_4_knows_no_ipv6():
    with pytest.raises(ProxyError, match="::1, which is an address of IPv6"):
        await within(dial(parse("ws://[::1]/"), proxy="socks4://127.0.0.1:1"))


async def test_socks_needs_a_package_and_the_error_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "python_socks", None)
    monkeypatch.delitem(sys.modules, "fastws.client.socks", raising=False)
    with pytest.raises(
        ConfigurationError, match=r"SOCKS needs the package python_socks; pip install 'fastws\[proxy\]'"
    ):
        await within(dial(parse("ws://a/"), proxy="socks5://127.0.0.1:1"))


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy, Socks4Proxy])
async def test_a_proxy_that_says_nothing_is_given_up_without_a_trace(kind):
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1", 0)
    before = descriptors()
    port = server.sockets[0].getsockname()[1]
    dialing_it = asyncio.ensure_future(dial(parse("ws://127.0.0.1/"), proxy=f"{kind.scheme}://127.0.0.1:{port}"))
    writer = await within(accepted)
    dialing_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialing_it
    writer.close()
    server.close()
    await until(lambda: descriptors() <= before)


# --- TLS with the proxy.


@pytest.fixture
def trusted(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", certificates.authority_file())


async def test_a_proxy_may_speak_tls(echo, trusted):
    async with HttpProxy(tls=certificates.server_context(), auth=("ada", "x")) as proxy:
        assert await reached(echo, proxy=proxy.url("ada:x@"))
        await until(lambda: proxy.open == 0)


async def test_what_is_bridged_waits_for_who_reads_slowly(echo, trusted):
    loop = asyncio.get_running_loop()
    sent = os.urandom(1 << 20) * 8
    async with HttpProxy(tls=certificates.server_context()) as proxy:
        with await within(dial(parse(f"ws://127.0.0.1:{echo}/"), proxy=proxy.url())) as sock:
            sending = asyncio.ensure_future(loop.sock_sendall(sock, sent))
            heard = bytearray()
            while len(heard) < len(sent):
                heard += await within(loop.sock_recv(sock, 1 << 16))
            await sending
        assert heard == sent
        await until(lambda: proxy.open == 0)


async def test_tls_with_a_proxy_that_nobody_vouches_for_is_an_error(echo):
    before = descriptors()
    async with HttpProxy(tls=certificates.server_context()) as proxy:
        with pytest.raises(ProxyError, match=r"no TLS with it: .*certificate verify failed"):
            await reached(echo, proxy=proxy.url())
    await until(lambda: descriptors() <= before)


async def test_the_end_of_a_bridged_server_is_the_end_of_the_socket(echo, trusted):
    async with HttpProxy(tls=certificates.server_context()) as proxy:
        sock = await within(dial(parse(f"ws://127.0.0.1:{echo}/"), proxy=proxy.url()))
        with sock:
            assert await speaks(sock)
            sock.shutdown(socket.SHUT_WR)
            assert await within(asyncio.get_running_loop().sock_recv(sock, 1)) == b""


async def test_a_refusal_over_tls_leaves_nothing(echo, trusted):
    before = descriptors()
    async with HttpProxy(tls=certificates.server_context(), auth=("ada", "x")) as proxy:
        with pytest.raises(ProxyError, match="407"):
            await reached(echo, proxy=proxy.url())
        await until(lambda: proxy.open == 0)
    await until(lambda: descriptors() <= before)
