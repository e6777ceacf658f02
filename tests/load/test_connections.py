"""Opening very many connections: from where, what each sends first, and what those that fail are counted as."""

from __future__ import annotations

import asyncio
import socket

from fastws import http, ws
from fastws.load.connections import Crowd, Dialer, end
from fastws.load.plan import Plan

from ..kit import certificates
from ..kit.client import until, url, within
from ..kit.services import Watch, at


class Listener:
    """What came, and how connections ended."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.codes: list[int] = []

    @ws.on_text_message
    def came(self, text: str) -> None:
        self.texts.append(text)

    @ws.on_close
    def ended(self, code: int) -> None:
        self.codes.append(code)


@at()
class Says:
    """Keeps what each connection says, with its address."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    @ws.on_upgrade
    def asks(self, request: http.Request) -> None:
        if "status" in request.query:
            raise http.Refuse(int(request.query["status"]))

    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> str:
        self.heard.append((connection.remote_address[0], text))
        return text


def plan(where: str, **given) -> Plan:
    return Plan(
        **{"url": where, "question": "fanout", "connections": 4, "rate": 10.0, "ramp": 0.01, "insecure": True} | given
    )


async def opened(given: Plan, addresses=()) -> tuple[Crowd, Dialer, Listener]:
    listener = Listener()
    dialer = Dialer(given, given.url, addresses)
    crowd = Crowd(given, dialer, lambda number: listener, range(given.connections))
    await within(crowd.open(lambda number, connection: None))
    return crowd, dialer, listener


async def test_each_connection_subscribes_with_its_number_and_its_room(serve):
    service = Says()
    server = await serve(service)
    given = plan(url(server), subscribe=("join {room} as {n}", "hello"), rooms=2)
    crowd, dialer, listener = await opened(given)
    await until(lambda: len(listener.texts) == 8)
    assert sorted(text for _, text in service.heard) == [
        *["hello"] * 4, "join 0 as 0", "join 0 as 2", "join 1 as 1", "join 1 as 3"
    ]  # fmt: skip
    assert (sorted(crowd.opened), dialer.opened, dialer.refused, dialer.failed) == ([0, 1, 2, 3], 4, {}, {})
    await within(crowd.close())
    assert listener.codes == [1000] * 4


async def test_they_dial_from_the_addresses_in_turns(serve):
    service = Says()
    server = await serve(service)
    crowd, _, listener = await opened(plan(url(server), subscribe=("{n}",)), ["127.0.0.1", "127.0.0.2"])
    await until(lambda: len(listener.texts) == 4)
    assert sorted(service.heard) == [("127.0.0.1", "0"), ("127.0.0.1", "2"), ("127.0.0.2", "1"), ("127.0.0.2", "3")]
    await within(crowd.close())


async def test_refusals_are_counted_by_status(serve):
    server = await serve(Says())
    crowd, dialer, _ = await opened(plan(url(server, "/?status=429")))
    assert (crowd.opened, dialer.opened, dialer.refused) == ({}, 0, {429: 4})


async def test_a_server_that_does_not_answer_is_a_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
        _, dialer, _ = await opened(plan(where, open_timeout=0.05))
    assert dialer.failed == {"timeout": 4}


async def test_a_port_where_nobody_listens_is_said_in_the_words_of_the_system():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        where = f"ws://127.0.0.1:{gone.getsockname()[1]}/"
    _, dialer, _ = await opened(plan(where))
    assert dialer.failed == {"Connection refused": 4}


async def test_the_opening_handshake_has_what_the_user_names(serve):
    asked = []

    @at(subprotocols=["chat"])
    class Asked(Watch):
        @ws.on_upgrade
        def asks(self, request: http.Request) -> None:
            asked.append({name: request.headers.get(name) for name in ("Cookie", "Origin", "Sec-WebSocket-Protocol")})

    server = await serve(Asked)
    given = plan(url(server), connections=1, header=("Cookie: id=7",), origin="http://a.example", subprotocol=("chat",))
    crowd, _, _ = await opened(given)
    assert asked == [{"Cookie": "id=7", "Origin": "http://a.example", "Sec-WebSocket-Protocol": "chat"}]
    assert crowd.opened[0].subprotocol == "chat"
    await within(crowd.close())


async def test_a_certificate_is_checked_unless_the_user_does_not_want_that(serve):
    server = await serve(Says(), ssl=certificates.server_context())
    _, dialer, _ = await opened(plan(url(server), insecure=False))
    assert sum(dialer.failed.values()) == 4
    assert all("certificate verify failed" in why for why in dialer.failed)
    crowd, _, _ = await opened(plan(url(server)))
    assert len(crowd.opened) == 4
    await within(crowd.close())


async def test_a_server_that_does_not_close_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr("fastws.load.connections._ENDING", 0.01)

    class Stubborn:
        def close(self) -> None:
            pass

        async def wait_closed(self) -> None:
            await asyncio.Event().wait()

    await within(end([Stubborn()]))
