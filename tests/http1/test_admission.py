"""How many may be connected, in all and from one address, and how many may dawdle at the door."""

from __future__ import annotations

import logging

import pytest

from fastws import http, ws
from fastws.http1 import refusal

from ..kit.client import REQUEST, until, url, within
from ..kit.peers import Aiohttp, Websockets
from ..kit.services import Echo, at


@http.base_path("/")
@ws.upgrade_path("/")
class Both(Echo):
    """A WebSocket and a resource."""

    @http.get("/motd")
    def motd(self) -> str:
        return "be kind"


GET = b"GET /motd HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def refused(connecting) -> str:
    with pytest.raises(ConnectionError) as caught:
        await connecting
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# In all


async def test_one_connection_too_many_is_refused_until_another_ends(serve, connect):
    server = await serve(Echo(), max_connections=2)
    clients = [await connect(server), await connect(server)]
    response = await refused(connect(server))
    assert response.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert "\r\nRetry-After: 10\r\n" in response
    assert "\r\nConnection: close\r\n" in response
    assert await clients[0].asks("still here?") == "still here?"
    await clients[0].close()
    await until(lambda: server._site.connection_count() == 1)  # a place is free when its transport is gone
    clients.append(await connect(server))
    assert await clients[2].asks("at last") == "at last"


async def test_http_connections_count_too(serve, connect, dial):
    server = await serve(Both(), max_connections=2)
    idle = await dial(server, GET)
    assert (await within(idle.reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 200")
    await connect(server)
    assert (await refused(connect(server))).startswith("HTTP/1.1 503")


async def test_a_refusal_is_read_whole_by_who_sends_much_and_reads_late(serve, connect, dial):
    server = await serve(Echo(), max_connections=1)
    await connect(server)
    client = await dial(server)
    client.transport.pause_reading()
    client.write(REQUEST % (b"/", b"X: " + b"x" * 500_000 + b"\r\n"))
    await until(lambda: not client.transport.get_write_buffer_size())
    client.transport.resume_reading()
    head = await within(client.reader.readuntil(b"\r\n\r\n"))
    assert head.startswith(b"HTTP/1.1 503")
    assert await within(client.reader.readexactly(24)) == b"503 Service Unavailable\n"


@pytest.mark.parametrize("peer", [Websockets, Aiohttp], ids=lambda peer: peer.__name__.lower())
async def test_clients_of_others_see_the_status(serve, connect, monkeypatch, peer):
    # It logs the exception, and with that all that its traceback knows
    monkeypatch.setattr(logging.getLogger("websockets.client"), "disabled", True)
    server = await serve(Echo(), max_connections=1)
    client = await connect(server)
    with pytest.raises(Exception, match="503"):
        async with peer(url(server), []):
            pass
    assert await client.asks("hello") == "hello"


@pytest.mark.parametrize("said", [b"", b"GET"])
async def test_who_stays_is_dropped(serve, connect, dial, monkeypatch, said):
    monkeypatch.setattr(refusal, "REFUSAL_TIMEOUT", 0.05)
    server = await serve(Echo(), max_connections=1)
    await connect(server)
    client = await dial(server, said)
    assert (await within(client.reader.read())).endswith(b"503 Service Unavailable\n" if said else b"")
    await until(lambda: not len(server._site.refusals))


async def test_refusals_are_bounded_too(serve, connect, dial, monkeypatch):
    monkeypatch.setattr(refusal, "MAX_REFUSALS", 2)
    server = await serve(Echo(), max_connections=1)
    await connect(server)
    first = await dial(server)
    await dial(server)
    third = await dial(server)
    assert await third.rest() == []
    with pytest.raises(ConnectionError, match="503"):
        await first.open()


async def test_a_server_does_not_wait_for_those_that_it_refused(serve, connect, dial):
    server = await serve(Echo(), max_connections=1, close_timeout=0.1)
    client = await connect(server)
    await dial(server)
    await until(lambda: len(server._site.refusals) == 1)
    client.reset()
    await within(server.close())
    assert len(server._site.refusals) == 0


# ---------------------------------------------------------------------------------------------------------------------
# From one address


async def test_one_connection_too_many_of_an_address_is_refused_until_another_ends(serve, connect):
    server = await serve(Echo(), max_connections_per_address=2)
    clients = [await connect(server), await connect(server)]
    response = await refused(connect(server))
    assert response.startswith("HTTP/1.1 429 Too Many Requests\r\n")
    assert "\r\nRetry-After: 10\r\n" in response
    clients[0].reset()
    await until(lambda: server._site.connection_count() == 1)  # a place is free when its transport is gone
    clients.append(await connect(server))
    assert await clients[2].asks("at last") == "at last"


async def test_an_http_connection_gives_its_place_back(serve, dial):
    server = await serve(Both(), max_connections_per_address=1)
    for _ in range(3):
        client = await dial(server, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await within(client.reader.read())).startswith(b"HTTP/1.1 200")
        await until(lambda: not server.http_connections)


@pytest.mark.plain("the PROXY header comes before TLS")
async def test_behind_a_proxy_the_clients_of_it_are_counted(serve, dial):
    def header(host: bytes) -> bytes:
        return b"PROXY TCP6 %s ::1 5 443\r\n" % host

    server = await serve(Echo(), max_connections_per_address=1, proxy_protocol=True)
    first, neighbour = await dial(server, header(b"2001:db8::1")), await dial(server, header(b"2001:db8:0:1::1"))
    await first.open()
    await neighbour.open()
    second = await dial(server, header(b"2001:db8::2"))
    assert (await refused(second.open())).startswith("HTTP/1.1 429")
    await first.close()
    await until(lambda: server._site.connection_count() == 1)  # a place is free when its transport is gone
    third = await dial(server, header(b"2001:db8::2"))
    await third.open()


async def test_behind_a_proxy_that_tells_it_in_header_fields_the_websockets_of_its_clients_are_counted(serve, connect):
    server = await serve(Echo(), max_connections_per_address=1, proxy_headers=True)
    alice, bob = b"X-Forwarded-For: 192.0.2.1\r\n", b"X-Forwarded-For: 192.0.2.2\r\n"
    client = await connect(server, fields=alice)
    await connect(server, fields=bob)
    response = await refused(connect(server, fields=alice))
    assert response.startswith("HTTP/1.1 429 Too Many Requests\r\n")
    assert "\r\nRetry-After: 10\r\n" in response
    await client.close()
    await until(lambda: server._site.connection_count() == 1)  # a place is free when its transport is gone
    await connect(server, fields=alice)


async def test_a_refused_upgrade_gives_the_place_of_its_client_back(serve, connect):
    @at()
    class Choosy(Echo):
        @ws.on_upgrade
        def upgrade(self, request: http.Request) -> None:
            if "x" in request.query:
                raise http.Refuse(401)

    server = await serve(Choosy(), max_connections_per_address=1, proxy_headers=True)
    alice = b"X-Forwarded-For: 192.0.2.1\r\n"
    for _ in range(3):
        assert (await refused(connect(server, "/?x", fields=b"X-Forwarded-For: 192.0.2.1\r\n"))).startswith(
            "HTTP/1.1 401"
        )
        await until(lambda: not server.http_connections)
    await connect(server, fields=alice)


# ---------------------------------------------------------------------------------------------------------------------
# Handshakes


async def test_the_oldest_handshake_ends_when_there_are_too_many(serve, connect, dial):
    server = await serve(Echo(), max_handshakes=3)
    client = await connect(server)
    head = REQUEST % (b"/", b"")
    slow = [await dial(server, head[:8]) for _ in range(3)]
    await until(lambda: server._site.limits.handshakes == 3)
    other = await connect(server)
    assert await slow[0].rest() == []
    assert await other.asks("hello") == "hello"
    assert await client.asks("hello") == "hello"
    slow[1].write(head[8:])
    assert (await within(slow[1].reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 101")
    assert await slow[1].asks("late, but in time") == "late, but in time"


async def test_who_has_completed_a_head_is_no_longer_in_progress(serve, connect, dial):
    server = await serve(Both(), max_handshakes=1)
    idle = await dial(server, GET)
    assert (await within(idle.reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 200")
    for _ in range(3):
        await connect(server)
    idle.write(GET)
    assert (await within(idle.reader.readuntil(b"\r\n\r\n"))).endswith(b"\r\n\r\n")
    assert server._site.limits.handshakes == 0


async def test_many_come_at_once_and_all_of_them_get_in(serve, connect):
    server = await serve(Echo(), max_handshakes=50)
    clients = [await connect(server) for _ in range(200)]
    assert [await client.asks("in") for client in clients] == ["in"] * 200
