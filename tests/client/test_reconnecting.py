"""Connections to one server, one after another."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc

import pytest

import fastws
from fastws import ConnectionClosed, http, ws
from fastws.client import reconnecting
from fastws.client.backoff import Backoff

from ..kit import certificates
from ..kit.client import until, url, within

pytestmark = pytest.mark.plain("the certificate is a matter of its own")


@http.base_path("/")
@ws.upgrade_path("/")
class House:
    """Counts who comes; refuses and closes as it is told."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.closed: list[int] = []
        self.refusal: http.Refuse | None = None

    @ws.on_upgrade
    def check(self, request: http.Request) -> None:
        self.came.append(request.path)
        if self.refusal is not None:
            raise self.refusal

    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> str | None:
        command, _, reason = text.partition(" ")
        if command != "close":
            return text.upper()
        connection.close(int(reason[:4]), reason[5:])
        return None

    @ws.on_close
    def left(self, code: int) -> None:
        self.closed.append(code)


@pytest.fixture
def waits(monkeypatch):
    """The delays that were waited, none of them for real; each is its whole bound."""
    waited: list[float] = []

    async def sleep(delay: float) -> None:
        waited.append(delay)
        await asyncio.sleep(0)

    monkeypatch.setattr(reconnecting, "sleep", sleep)
    monkeypatch.setattr(reconnecting, "Backoff", functools.partial(Backoff, draw=lambda: 1.0))
    return waited


@pytest.fixture
async def house(serve):
    service = House()
    service.server = await serve(service)
    service.url = url(service.server)
    return service


async def test_a_connection_that_ends_is_followed_by_another(house, waits):
    heard = []
    connections = fastws.reconnect(house.url)
    assert (connections.attempt, connections.delay) == (0, 0)
    async for connection in connections:
        await connection.send("hello")
        heard.append((await within(connection.receive()), connections.attempt, connections.delay))
        if len(heard) == 3:
            break
        await connection.send("close 1012 going")
        with pytest.raises(ConnectionClosed):
            await within(connection.receive())
    assert heard == [("HELLO", 1, 0), ("HELLO", 2, 1), ("HELLO", 3, 2)]
    assert waits == [1, 2]


async def test_the_end_of_the_loop_closes_the_connection(house):
    async for _ in fastws.reconnect(house.url):
        break
    await until(lambda: house.closed == [1000])


async def test_an_error_in_the_loop_closes_the_connection(house):
    async def fail() -> None:
        async for _ in fastws.reconnect(house.url):
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    await until(lambda: house.closed == [1000])


async def test_aclose_closes_the_connection_and_makes_no_other(house):
    async with contextlib.aclosing(fastws.reconnect(house.url)) as connections:
        async for connection in connections:
            await connections.aclose()
            assert (connection.is_open, connection.was_clean) == (False, True)
    assert len(house.came) == 1


async def test_the_end_of_the_body_closes_what_is_open_still(house, waits):
    count = 0
    async for connection in fastws.reconnect(house.url):
        assert connection.is_open
        count += 1
        if count == 3:
            break
    await until(lambda: house.closed == [1000, 1000, 1000])


async def test_a_server_that_is_away_is_waited_for(serve, waits, unused_tcp_port):
    told = []

    async def meet() -> str:
        async for connection in fastws.reconnect(f"ws://127.0.0.1:{unused_tcp_port}/", on_retry=told.append):
            await connection.send("back")
            return await connection.receive()
        raise AssertionError("it never gives up")

    meeting = asyncio.ensure_future(meet())
    await until(lambda: len(told) >= 3)
    await serve(House(), port=unused_tcp_port)
    assert await within(meeting) == "BACK"
    assert [retry.attempt for retry in told[:3]] == [2, 3, 4]
    assert [retry.delay for retry in told[:3]] == [1, 2, 4]
    assert all(isinstance(retry.error, fastws.DialError) for retry in told)


async def test_a_close_frame_says_when_to_come_back(house, waits):
    async for connection in fastws.reconnect(house.url):
        if waits:
            break
        await connection.send("close 1012 reconnect in 3500 ms")
        with pytest.raises(ConnectionClosed):
            await within(connection.receive())
    assert waits == [3.5]


async def test_a_server_that_drains_sends_its_clients_back_later(house, waits):
    async def stay() -> None:
        async for connection in fastws.reconnect(house.url):
            if waits:
                return
            with contextlib.suppress(ConnectionClosed):
                async for _ in connection:
                    pass

    staying = asyncio.ensure_future(stay())
    await until(lambda: house.came)
    draining = asyncio.ensure_future(house.server.drain(0.01, elsewhere=False))
    await until(lambda: waits)
    assert 2 <= waits[0] < 2.1
    staying.cancel()
    await within(draining)
    with contextlib.suppress(asyncio.CancelledError):
        await staying


async def test_a_refusal_says_when_to_come_back(house, waits):
    house.refusal = http.Refuse(503, headers={"Retry-After": "30"})
    told = []

    def on_retry(retry: fastws.Retry) -> None:
        told.append(retry.error.status)
        house.refusal = None

    async for connection in fastws.reconnect(house.url, on_retry=on_retry):
        assert connection.is_open
        break
    assert (told, waits) == ([503], [31])


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_refusal_for_good_is_raised(house, status):
    house.refusal = http.Refuse(status)
    with pytest.raises(fastws.InvalidStatus) as raised:
        await within(anext(fastws.reconnect(house.url)))
    assert raised.value.status == status
    assert len(house.came) == 1


async def test_it_gives_up_after_so_many_attempts(house, waits):
    house.refusal = http.Refuse(503)
    connections = fastws.reconnect(house.url, max_attempts=4)
    with pytest.raises(fastws.InvalidStatus):
        await within(anext(connections))
    assert (len(house.came), connections.attempt, waits) == (4, 4, [1, 2, 4])


async def test_connections_that_live_for_moments_count_as_attempts(house, waits):
    async def stay() -> None:
        async for connection in fastws.reconnect(house.url, max_attempts=3):
            await connection.send("close 4000 out")
            with pytest.raises(ConnectionClosed):
                await within(connection.receive())

    with pytest.raises(ConnectionClosed, match="4000: out"):
        await stay()
    assert waits == [1, 2]


async def test_a_connection_that_lived_for_a_while_begins_anew(house, waits, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(reconnecting, "get_running_loop", lambda: Clock)

    class Clock:
        @staticmethod
        def time() -> float:
            return now[0]

    attempts = []
    connections = fastws.reconnect(house.url)
    async for _ in connections:
        attempts.append(connections.attempt)
        now[0] += 10 if len(attempts) == 3 else 9
        if len(attempts) == 5:
            break
    assert attempts == [1, 2, 3, 1, 2]
    assert waits == [1, 2, 1, 2]


async def test_no_bound_is_above_max_delay(house, waits):
    house.refusal = http.Refuse(503)
    with pytest.raises(fastws.InvalidStatus):
        await within(anext(fastws.reconnect(house.url, max_delay=1.5, max_attempts=5)))
    assert waits == [1, 1.5, 1.5, 1.5]


async def test_who_is_told_may_give_up(unused_tcp_port):
    def on_retry(retry: fastws.Retry) -> None:
        raise retry.error

    with pytest.raises(fastws.DialError):
        await within(anext(fastws.reconnect(f"ws://127.0.0.1:{unused_tcp_port}/", on_retry=on_retry)))


async def test_a_certificate_that_is_not_trusted_is_not_tried_again(serve):
    server = await serve(House(), ssl=certificates.server_context())
    with pytest.raises(fastws.ConnectError, match="certificate verify failed"):
        await within(anext(fastws.reconnect(url(server))))


WRONG = [
    ("ftp://a/", {}, "its scheme is none of"),
    ("ws://a/", {"max_delay": -1}, "max_delay=-1: give a number of seconds"),
    ("ws://a/", {"max_delay": float("nan")}, "max_delay=nan: give a number of seconds"),
    ("ws://a/", {"max_delay": True}, "max_delay=True: give a number of seconds"),
    ("ws://a/", {"max_attempts": 0}, "max_attempts=0: give a number above 0"),
    ("ws://a/", {"max_attempts": 1.5}, "max_attempts=1.5: give a number above 0"),
    ("ws://a/", {"on_retry": 1}, "on_retry=1: give a function"),
    ("ws://a/", {"open_timeout": 0}, "open_timeout=0"),
    ("ws://a/", {"no_such": 0}, "there is no option 'no_such'"),
]


@pytest.mark.parametrize(("where", "options", "words"), WRONG)
def test_a_mistake_is_told_at_once(where, options, words):
    with pytest.raises(fastws.ConfigurationError, match=words):
        fastws.reconnect(where, **options)


async def test_a_socket_cannot_be_connected_again(house):
    import socket

    with socket.socket() as sock, pytest.raises(fastws.ConfigurationError, match="sock is one connection"):
        fastws.reconnect(house.url, sock=sock)


async def test_cancelling_while_it_waits_leaves_nothing(unused_tcp_port):
    told = asyncio.Event()
    connections = fastws.reconnect(f"ws://127.0.0.1:{unused_tcp_port}/", on_retry=lambda _: told.set(), max_delay=1e6)
    waiting = asyncio.ensure_future(anext(connections))
    await within(told.wait())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(StopAsyncIteration):
        await anext(connections)


async def test_cancelling_within_the_loop_closes_the_connection(house):
    inside = asyncio.Event()

    async def stay() -> None:
        async for _ in fastws.reconnect(house.url):
            inside.set()
            await asyncio.Event().wait()

    staying = asyncio.ensure_future(stay())
    await within(inside.wait())
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    await until(lambda: house.closed == [1000])


async def test_nothing_is_kept_of_connections_that_have_ended(house, waits):
    seen = 0
    async for _ in fastws.reconnect(house.url):
        seen += 1
        if seen == 50:
            break
    await until(lambda: len(house.closed) == 50)
    gc.collect()
    assert sum(type(one).__name__ == "ClientConnection" for one in gc.get_objects()) <= 1
