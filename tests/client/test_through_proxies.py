"""`connect` through proxies of every kind, to servers with TLS and without."""

from __future__ import annotations

import asyncio

import pytest

import fastws

from ..kit import certificates
from ..kit.client import until, url, within
from ..kit.proxies import HttpProxy, Socks4Proxy, SocksProxy
from ..kit.services import Echo

pytestmark = pytest.mark.plain("servers with TLS and without are both here")

KINDS = {
    "http": (HttpProxy, "http"),
    "https": (HttpProxy, "https"),
    "socks5": (SocksProxy, "socks5"),
    "socks5h": (SocksProxy, "socks5h"),
    "socks4a": (Socks4Proxy, "socks4a"),
}


@pytest.fixture(params=KINDS)
async def proxy(request, monkeypatch):
    kind, scheme = KINDS[request.param]
    monkeypatch.setenv("SSL_CERT_FILE", certificates.authority_file())
    tls = certificates.server_context() if scheme == "https" else None
    async with kind(tls=tls, hosts={"localhost": "127.0.0.1"}) as proxy:
        proxy.given = proxy.url(scheme=scheme)
        yield proxy
        await until(lambda: proxy.open == 0)


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_a_connection_goes_through_a_proxy(serve, proxy, secure):
    server = await serve(Echo(), **({"ssl": certificates.server_context()} if secure else {}))
    options = {"ssl": certificates.client_context()} if secure else {}
    where = url(server).replace("127.0.0.1", "localhost")
    async with fastws.connect(where, proxy=proxy.given, compression=None, **options) as connection:
        large = "x" * 1_000_000
        await connection.send("hello")
        await connection.send(large)
        assert [await within(connection.receive()) for _ in range(2)] == ["hello", large]
        assert await within(connection.ping()) > 0
    assert connection.was_clean
    assert len(proxy.asked) == 1


async def test_the_proxy_of_the_environment_is_taken(serve, proxy, monkeypatch):
    server = await serve(Echo())
    monkeypatch.setenv("ws_proxy", proxy.given)
    monkeypatch.setattr("fastws.client.proxies._is_here", lambda host: False)  # or this machine would be spared
    async with fastws.connect(url(server)) as connection:
        assert connection.is_open
    assert len(proxy.asked) == 1
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    async with fastws.connect(url(server)):
        assert len(proxy.asked) == 1


async def test_a_refusal_of_the_proxy_is_raised(serve):
    server = await serve(Echo())
    async with HttpProxy(auth=("ada", "x")) as proxy:
        with pytest.raises(fastws.ProxyError, match=r"does not connect: 407 Who are you\?"):
            await within(fastws.connect(url(server), proxy=proxy.url("eve:y@")))


async def test_a_proxy_is_within_the_time_of_opening():
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    given = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(fastws.OpenTimeoutError):
        await within(fastws.connect("ws://a.invalid/", proxy=given, open_timeout=0.05))
    server.close()
    for writer in held:
        writer.close()


async def test_a_bridge_that_breaks_is_a_lost_connection(serve, monkeypatch):
    server = await serve(Echo())
    monkeypatch.setenv("SSL_CERT_FILE", certificates.authority_file())
    async with HttpProxy(tls=certificates.server_context()) as proxy:
        connection = await within(fastws.connect(url(server), proxy=proxy.url()))
        proxy.cut()
        with pytest.raises(fastws.ConnectionClosed) as raised:
            await within(connection.receive())
        assert raised.value.code == 1006
        await connection.wait_closed()


async def test_closing_at_the_end_of_a_loop_leaves_nothing(serve, monkeypatch):
    """A program ends right behind its connection: what bridges it ends, too, and nothing is warned of."""
    server = await serve(Echo())
    monkeypatch.setenv("SSL_CERT_FILE", certificates.authority_file())

    async def program(where: str, proxy: str) -> None:
        async with fastws.connect(where, proxy=proxy) as connection:
            await connection.send("hello")
            await connection.receive()

    async with HttpProxy(tls=certificates.server_context()) as proxy:
        await within(asyncio.to_thread(asyncio.run, program(url(server), proxy.url())))
        await until(lambda: proxy.open == 0)
