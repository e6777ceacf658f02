"""One connection while it is open: what it answers, replies and shows."""

from __future__ import annotations

import pytest

from fastws import ws
from fastws._speedups import Hub

from ...kit.client import CLOSE, PING, PONG, REQUEST, TEXT, frame, open_connection, until, within
from ...kit.services import Commanded, Echo, Log, Watch, at
from ...kit.wires import PacketWire, texts, wired


async def test_a_ping_is_answered_with_its_payload(opened):
    _, client, _ = await opened(Watch())
    client.write(frame(PING, b"\x00\xffhello") + frame(PING))
    assert [await client.receive(), await client.receive()] == [(PONG, b"\x00\xffhello"), (PONG, b"")]


async def test_pings_and_pongs_are_seen_by_their_handlers(opened):
    @at()
    class Controls(Log):
        @ws.on_ping
        @ws.on_pong
        def control(self, data: bytes) -> None:
            self.saw(data)

    service = Controls()
    _, client, _ = await opened(service)
    client.write(frame(PING, b"ping") + frame(PONG, b"pong"))
    assert [await service.next(), await service.next()] == [(b"ping",), (b"pong",)]


@pytest.mark.parametrize("messages", [[], ["one"], ["one", "two"]])
async def test_the_answer_to_the_handshake_is_one_send_and_what_on_open_pushes_another(messages):
    @at()
    class Greeting:
        @ws.on_open
        def greet(self) -> None:
            for message in messages:
                ws.push_text(message)

    response = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    async with wired(Greeting(), PacketWire, 1, response=response) as (_, (wire,)):
        first, *others = wire.packets()
    assert first == response
    assert texts(others) == ([messages] if messages else [])


async def test_what_a_message_handler_returns_is_its_reply(opened):
    class Text(str):
        __slots__ = ()

    replies = {
        "text": "plain",
        "bytes": b"\x00\xff",
        "none": None,
        "empty": "",
        "view": memoryview(b"view"),
        "array": bytearray(b"array"),
        "subclass": Text("sub"),
        "snowman": "☃",
    }
    _, client, _ = await opened(Commanded(**{name: lambda reply=reply: reply for name, reply in replies.items()}))
    client.send(*replies)
    assert [await client.receive() for _ in range(7)] == [
        (0x1, b"plain"),
        (0x2, b"\x00\xff"),
        (0x1, b""),
        (0x2, b"view"),
        (0x2, b"array"),
        (0x1, b"sub"),
        (0x1, "☃".encode()),
    ]


@pytest.mark.parametrize("reply", [42, ["a"], object(), True, 1.5])
async def test_any_other_reply_is_an_error_of_the_handler(opened, failures, reply):
    _, client, _ = await opened(Commanded(reply=lambda: reply))
    client.send("reply")
    assert await client.close_frame() == (1011, "internal error")
    assert f"Commanded.obey returned {type(reply).__name__}; a reply is" in str(failures.records[0].exc_info[1])


async def test_a_reply_comes_behind_what_the_handler_pushed(opened):
    def push() -> str:
        ws.push_text("first")
        ws.broadcast_text("second")
        return "third"

    _, client, _ = await opened(Commanded(push=push))
    client.send("push", "push")
    assert await client.texts(6) == ["first", "second", "third"] * 2


async def test_a_message_that_nobody_handles_is_dropped(opened):
    service = Commanded(here=lambda: "here")
    _, client, _ = await opened(service)
    client.send(b"nobody wants this", "here")
    assert await client.text() == "here"


async def test_what_a_connection_knows_of_its_request(serve, connect):
    @at("/rooms/{room}", subprotocols=["chat.v2"])
    class Rooms(Watch):
        @ws.on_text_message
        def where(self, room: str) -> str:
            return room

    rooms = Rooms()
    server = await serve(rooms)
    fields = b"X-Token: abc\r\nSec-WebSocket-Protocol: chat.v1, chat.v2\r\n"
    client = await connect(server, "/rooms/tea%20room?a=1&a=2&b=%C3%A9", fields=fields)
    assert await client.asks("?") == "tea room"
    (connection,) = rooms.connections
    assert connection.path == "/rooms/tea room"
    assert (connection.query["a"], connection.query["b"]) == ("1", "é")
    assert connection.headers["x-token"] == "abc"
    assert connection.subprotocol == "chat.v2"
    assert b"Sec-WebSocket-Protocol: chat.v2\r\n" in client.head
    assert connection.remote_address == client.transport.get_extra_info("sockname")


async def test_what_a_connection_shows_of_its_life(opened, connect):
    watch = Watch()
    server, client, connection = await opened(watch)
    other = await connect(server)
    await until(lambda: len(watch.connections) == 2)
    assert watch.connections[0].id != watch.connections[1].id
    assert (connection.is_open, connection.close_code, connection.close_reason) == (True, None, None)
    assert repr(connection) == f"<Connection {connection.id} of Watch, open>"
    connection.join("b")
    connection.join("a")
    assert connection.groups == {"a", "b"}
    assert connection.buffered == 0
    await client.close()
    await watch.next()
    assert (connection.is_open, connection.close_code, connection.groups) == (False, 1000, frozenset())
    assert repr(connection) == f"<Connection {connection.id} of Watch, closed>"
    assert other.transport.is_closing() is False


async def test_attributes_belong_to_one_connection(serve, connect):
    @at()
    class Counter(Watch):
        @ws.on_text_message
        def count(self, connection: ws.Connection) -> str:
            connection.attributes["n"] = connection.attributes.get("n", 0) + 1
            return str(connection.attributes["n"])

    server = await serve(Counter())
    one, two = await connect(server), await connect(server)
    assert [await one.asks(""), await one.asks(""), await two.asks("")] == ["1", "2", "1"]


async def test_frames_that_came_with_the_request_are_handled(serve):
    server = await serve(Echo())
    reader, writer = await open_connection(server.addresses[0][1])
    writer.write(REQUEST % (b"/", b"") + frame(TEXT, b"hurried") + frame(CLOSE)[:3])
    assert (await within(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 101 ")
    assert await within(reader.readexactly(9)) == b"\x81\x07hurried"
    writer.write(frame(CLOSE)[3:])
    assert await within(reader.read()) == b"\x88\x00"
    writer.close()


@pytest.mark.parametrize("make", [ws.Connection, Hub], ids=["connection", "hub"])
@pytest.mark.parametrize("arguments", [(), (None,), ("a", "b", "c")])
def test_what_only_a_server_can_make_refuses_other_arguments(make, arguments):
    with pytest.raises((TypeError, AttributeError)):
        make(*arguments)
