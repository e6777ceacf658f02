"""Over real sockets with clients that nobody here wrote."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from fastws import ws

from .kit.client import until, url
from .kit.peers import Aiohttp, Picows, Websockets
from .kit.services import Echo, Watch, at

ALL = pytest.mark.parametrize("peer", [Websockets, Aiohttp, Picows], ids=lambda peer: peer.__name__.lower())
FRAGMENTING = pytest.mark.parametrize("peer", [Websockets, Picows], ids=lambda peer: peer.__name__.lower())

LARGE = 700_000  # bytes: more than one read, and less than the limit


@at("/", subprotocols=["news.2", "news.1"])
class News(Watch):
    """Echoes, closes when told to, and tells everybody what it is told to."""

    @ws.on_text_message
    def text(self, connection: ws.Connection, text: str) -> None:
        if text == "close":
            connection.close(4001, "as you wish — auf Wiedersehen")
        else:
            connection.broadcast_text(text)


@ALL
@pytest.mark.parametrize(
    "message",
    ["grüße \N{SNOWMAN}", b"\x00\xff\x80", "", b"", "x" * 126, b"y" * 65536],
    ids=lambda m: f"{type(m).__name__}-{len(m)}",
)
async def test_messages_come_back_as_they_were(serve, peer, message):
    async with peer(url(await serve(Echo)), []) as client:
        await client.send(message)
        assert await client.receive() == message


@ALL
async def test_large_messages_come_back_as_they_were(serve, peer):
    text, binary = "0123456é" * (LARGE // 9), bytes(range(256)) * (LARGE // 256)
    async with peer(url(await serve(Echo)), []) as client:
        await client.send(text)
        await client.send(binary)
        assert await client.receive() == text
        assert await client.receive() == binary


@FRAGMENTING
async def test_fragments_make_one_message(serve, peer):
    async with peer(url(await serve(Echo)), []) as client:
        await client.send_fragments(["one ", "", "twö ", "three"])
        await client.send_fragments([b"\xff", b"\x00" * 70_000, b""])
        assert await client.receive() == "one twö three"
        assert await client.receive() == b"\xff" + b"\x00" * 70_000


@ALL
async def test_a_ping_is_answered_with_its_own_data(serve, peer):
    async with peer(url(await serve(Echo)), []) as client:
        await client.ping(b"are you there?")
        await client.send("after it")
        assert await client.receive() == "after it"


@ALL
async def test_the_service_learns_the_client_s_close_code_and_reason(serve, peer):
    service = Echo()
    async with peer(url(await serve(service)), []) as client:
        await client.close(4000, "that is all")
    assert await service.next() == ("closed", 4000, "that is all")


@ALL
async def test_the_client_learns_the_service_s_close_code_and_reason(serve, peer):
    service = News()
    async with peer(url(await serve(service)), []) as client:
        await client.send("close")
        assert await client.closed() == (4001, "as you wish — auf Wiedersehen")
    # Its answer may hold another code, and then that one counts: aiohttp says 1000
    assert (await service.next())[1] in (4001, 1000)


@ALL
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["news.1", "news.2"], "news.1"), (["news.3", "news.2"], "news.2"), (["news.3"], None), ([], None)],
)
async def test_the_first_subprotocol_that_the_service_speaks_is_chosen(serve, peer, offered, chosen):
    service = News()
    async with peer(url(await serve(service)), offered) as client:
        assert client.subprotocol == chosen
        await until(lambda: service.connections)
        assert service.connections[0].subprotocol == chosen


@ALL
async def test_many_at_once_each_get_what_is_theirs(serve, peer):
    server = await serve(Echo)

    async def talk(number: int) -> None:
        async with peer(url(server), []) as client:
            for turn in range(20):
                await client.send(f"{number}/{turn}")
            assert [await client.receive() for _ in range(20)] == [f"{number}/{turn}" for turn in range(20)]

    await asyncio.gather(*map(talk, range(50)))
    await until(lambda: not server.connections(Echo))


@ALL
async def test_a_broadcast_reaches_clients_of_every_make(serve, peer):
    server = await serve(News)
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(make(url(server), [])) for make in (Websockets, Aiohttp, Picows, peer)
        ]
        await until(lambda: len(server.connections(News)) == len(clients))
        await clients[-1].send("tea is ready")
        for client in clients:
            assert await client.receive() == "tea is ready"


@ALL
async def test_the_end_of_the_server_is_told_as_1001(serve, peer):
    server = await serve(Echo)
    async with peer(url(server), []) as client:
        await client.send("hello")
        assert await client.receive() == "hello"
        closed = asyncio.create_task(client.closed())
        await server.close()
        assert await closed == (1001, "going away")
