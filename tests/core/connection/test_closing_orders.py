"""The closing handshake from both ends and in every order, and what arrives around it (RFC 6455 5.5.1, 7.1)."""

from __future__ import annotations

import asyncio

import pytest

from fastws import ws

from ...kit.client import CLOSE, PING, PONG, TEXT, close_payload, frame, turns, until
from ...kit.services import Log, Watch, at, nothing_follows
from ...kit.wires import MemoryWire, wired

KEY = bytes(4)  # a masking key that leaves the payload legible


@at(max_message_size=100)
class Seen(Log):
    """Notes all that it is called with."""

    @ws.on_text_message
    def text(self, text: str) -> str:
        self.saw("text", text)
        return text

    @ws.on_ping
    @ws.on_pong
    def data(self, data: bytes) -> None:
        self.saw("data", data)

    @ws.on_close
    def closed(self, connection: ws.Connection, code: int, reason: str) -> None:
        assert (connection.close_code, connection.close_reason) == (code, reason)
        self.saw("closed", code, reason, connection.was_clean)


# ---------------------------------------------------------------------------------------------------------------------
# Two of us: who closes, and when

ORDERS = {
    "the server": [0],
    "the client": [1],
    "the server, then the client": [0, 1],
    "the client, then the server": [1, 0],
}
CODES = (4001, "from the server"), (4002, "from the client")


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_both_ends_learn_the_other_s_code_and_that_it_was_clean(pair, order):
    services = Seen(), Seen()
    sides = await pair(*services)
    for side in order:
        assert sides[side].close(*CODES[side]) is True
    for side, service in enumerate(services):
        # Who did not close sends the code back that it got, without a reason
        code, reason = CODES[1 - side] if 1 - side in order else (CODES[side][0], "")
        assert await service.next() == ("closed", code, reason, True)
    await turns()
    assert all(service.events.empty() for service in services)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_what_was_pushed_before_arrives_and_what_is_pushed_after_does_not(pair, order):
    services = Seen(), Seen()
    sides = await pair(*services)
    for side in order:
        for number in range(3):
            sides[side].push_text(f"{number} of {side}")
        sides[side].close()
        assert sides[side].push_text("late") == ws.Delivery(1, 0, 1)
    for side, service in enumerate(services):
        seen = []
        while not seen or seen[-1][0] != "closed":
            seen.append(await service.next())
        before = [("text", f"{number} of {1 - side}") for number in range(3)] if 1 - side in order else []
        # Who has sent a close frame handles no messages any more
        assert seen[:-1] == ([] if side in order else before)


@pytest.mark.parametrize("side", [0, 1], ids=["server", "client"])
async def test_while_it_closes_a_connection_is_neither_open_nor_closed(pair, side):
    sides = await pair(Seen(), Seen())
    connection = sides[side]
    assert (connection.is_open, connection.close_code, connection.close_reason) == (True, None, None)
    connection.close(4000, "why")
    assert (connection.is_open, connection.close_code, connection.close_reason) == (False, None, None)
    assert connection.was_clean is False
    await until(lambda: connection.close_code is not None)
    assert (connection.close_code, connection.close_reason, connection.was_clean) == (4000, "", True)
    assert connection.close() is False


@pytest.mark.parametrize("side", [0, 1], ids=["server", "client"])
async def test_a_connection_that_closes_is_in_no_broadcast(pair, side):
    services = Seen(), Seen()
    sides = await pair(*services)
    sides[side].close()
    assert sides[side].broadcast_text("late").queued == 0
    assert (await services[1 - side].next())[0] == "closed"


# ---------------------------------------------------------------------------------------------------------------------
# Over a socket: where in the exchange, and in which pieces


async def test_close_frames_that_cross_on_their_way(opened):
    service = Seen()
    server, client, connection = await opened(service)
    client.send_close(*CODES[1])
    connection.close(*CODES[0])
    assert await client.rest() == [(CLOSE, close_payload(*CODES[0]))]
    assert await service.next() == ("closed", *CODES[1], True)
    await nothing_follows(server, service)


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0f\xa0bye", b"\x0f\xa0" + b"r" * 123])
async def test_a_close_frame_comes_byte_by_byte(payload):
    service = Seen()
    async with wired(service, MemoryWire, 1) as ((connection,), (wire,)):
        for i, byte in enumerate(frame(CLOSE, payload)):
            assert connection.is_open, i
            wire.send(bytes([byte]))
            await turns(2)
        code, reason = (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")
        assert await service.next() == ("closed", code, reason, True)
        assert wire.receive() == b"\x88" + bytes([len(payload[:2])]) + payload[:2]


@pytest.mark.parametrize(
    "begun",
    [b"\x01\x81" + KEY + b"a", b"\x01\x80" + KEY, b"\x01\x82" + KEY + b"\xe2\x82", b"\x02\x81" + KEY + b"\xff"],
    ids=["text", "nothing", "half a character", "binary"],
)
async def test_a_close_frame_within_a_message_ends_it(opened, begun):
    service = Seen()
    server, client, _ = await opened(service)
    client.write(begun + frame(PING, b"?") + frame(CLOSE, b"\x03\xe8bye") + frame(0, b"b"))
    assert await client.rest() == [(PONG, b"?"), (CLOSE, b"\x03\xe8")]
    assert await service.next() == ("data", b"?")
    assert await service.next() == ("closed", 1000, "bye", True)
    await nothing_follows(server, service)


async def test_a_service_closes_within_a_message_of_its_client(opened):
    service = Seen()
    server, client, connection = await opened(service)
    client.write(frame(TEXT, b"a", fin=False) + frame(PING, b"?"))
    assert await service.next() == ("data", b"?")
    connection.close(4000)
    client.write(frame(0, b"b", fin=False) + frame(0, b"c") + frame(TEXT, b"another") + frame(CLOSE, b"\x0f\xa0"))
    assert await client.rest() == [(PONG, b"?"), (CLOSE, b"\x0f\xa0")]
    assert await service.next() == ("closed", 4000, "", True)
    await nothing_follows(server, service)


# ---------------------------------------------------------------------------------------------------------------------
# What comes behind a close frame

# The first example of RFC 7692 section 7.2.3.1: "Hello"
COMPRESSED = b"\xc1\x87" + KEY + b"\xf2\x48\xcd\xc9\xc9\x07\x00"

HARMLESS = {
    "a message": frame(TEXT, b"late"),
    "fragments": frame(TEXT, b"la", fin=False) + frame(0, b"te"),
    "a ping": frame(PING, b"?"),
    "a pong": frame(PONG, b"!"),
    "a compressed message": COMPRESSED,
    "compressed fragments": b"\x41\x83" + KEY + b"\xf2\x48\xcd" + b"\x80\x84" + KEY + b"\xc9\xc9\x07\x00",
}
VIOLATIONS = {
    "an unmasked frame": b"\x81\x04late",
    "a reserved bit": b"\x91\x80" + KEY,
    "an opcode": b"\x83\x80" + KEY,
    "no UTF-8": b"\x81\x81" + KEY + b"\xff",
    "more than fits": b"\x82\xfe\x01\x00" + KEY,
    "a continuation of nothing": b"\x80\x80" + KEY,
    "a close code that means nothing": frame(CLOSE, b"\x03\xed"),
    "a compressed ping": b"\xc9\x80" + KEY,
    "a compressed continuation": b"\x01\x81" + KEY + b"a" + b"\xc0\x81" + KEY + b"b",
}


@pytest.fixture
async def agreed(serve, connect):
    """A server, a client that may compress, and their connection."""
    service = Seen()
    server = await serve(service)
    client = await connect(server, fields=b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    assert b"permessage-deflate" in client.head
    await until(lambda: service.connections)
    return server, service, client, service.connections[0]


@pytest.mark.parametrize("late", [*HARMLESS.values(), *VIOLATIONS.values()], ids=[*HARMLESS, *VIOLATIONS])
async def test_nothing_behind_the_client_s_close_frame_matters(agreed, late):
    server, service, client, connection = agreed
    client.write(frame(CLOSE, b"\x0f\xa0bye") + late)
    assert await client.close_frame() == (4000, "")
    client.write(late)
    assert await client.rest() == []
    assert await service.next() == ("closed", 4000, "bye", True)
    await nothing_follows(server, service)
    assert (connection.close_code, connection.close_reason, connection.was_clean) == (4000, "bye", True)


@pytest.mark.parametrize("late", HARMLESS.values(), ids=HARMLESS)
async def test_what_comes_between_our_close_frame_and_its_answer_is_ignored(agreed, late):
    server, service, client, connection = agreed
    connection.close(4000, "bye")
    assert await client.close_frame() == (4000, "bye")
    client.write(late * 3 + frame(CLOSE, b"\x0f\xa1mine"))
    assert await client.rest() == []
    assert await service.next() == ("closed", 4001, "mine", True)
    await nothing_follows(server, service)


@pytest.mark.parametrize("late", VIOLATIONS.values(), ids=VIOLATIONS)
async def test_a_violation_between_our_close_frame_and_its_answer_ends_it_with_our_code(agreed, late):
    server, service, client, connection = agreed
    connection.close(4000, "bye")
    assert await client.close_frame() == (4000, "bye")
    client.write(late + frame(CLOSE, b"\x0f\xa1mine"))
    assert await client.rest() == []
    assert await service.next() == ("closed", 4000, "bye", False)
    await nothing_follows(server, service)


# ---------------------------------------------------------------------------------------------------------------------
# From within a handler


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("event", ["on_open", "on_text_message", "on_ping", "on_pong"])
async def test_a_handler_closes_its_own_connection_and_its_reply_comes_too_late(serve, connect, event, is_async):
    def close(self, connection: ws.Connection) -> None:
        connection.push_text("before")
        assert ws.close_connection(4000, "bye") is True
        assert connection.push_text("behind") == ws.Delivery(1, 0, 1)

    async def close_later(self, connection: ws.Connection) -> None:
        await asyncio.sleep(0)
        close(self, connection)

    handler = getattr(ws, event)(close_later if is_async else close)
    name = "opened" if event == "on_open" else "close"  # Watch has an on_open of that name
    service = at()(type("Closing", (Watch,), {name: handler}))()
    server = await serve(service)
    client = await connect(server)
    client.write(frame(TEXT, b"text") + frame(PONG, b"pong") + frame(PING, b"ping"))
    while (received := await client.receive()) == (PONG, b"ping"):
        pass
    assert received == (TEXT, b"before")
    client.send_close(4000)
    rest = [received for received in await client.rest() if received != (PONG, b"ping")]
    assert rest == [(CLOSE, close_payload(4000, "bye"))]
    assert await service.next() == ("closed", 4000, "")
    await nothing_follows(server, service)


async def test_on_close_can_close_nothing_any_more(opened):
    @at()
    class Late(Log):
        @ws.on_close
        def closed(self, connection: ws.Connection) -> None:
            self.saw(connection.close(4001), ws.close_connection(4001), connection.close_code, connection.was_clean)

    service = Late()
    server, client, _ = await opened(service)
    await client.close(4000)
    assert await service.next() == (False, False, 4000, True)
    await nothing_follows(server, service)
