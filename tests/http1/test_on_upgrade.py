"""`on_upgrade` over real sockets: who is let in, who is refused, and that nobody else waits for it."""

from __future__ import annotations

import asyncio
import contextvars
import enum

import pytest

from fastws import NoCurrentConnectionError, http, testing, ws

from ..kit.client import REQUEST, Client, frame, open_connection, until, within
from ..kit.guarded import ORIGIN, answer
from ..kit.services import Echo, Log, Watch, at

OPENING = REQUEST % (b"/", b"")
OURS = REQUEST % (b"/", ORIGIN)
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\n"


def body(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


# ---------------------------------------------------------------------------------------------------------------------
# Letting in


@at("/{room}", subprotocols=["chat.v1"])
class Door(Echo):
    """Lets in who has the cookie of its room, and says what it knows of them."""

    @ws.on_upgrade
    def check(self, request: http.Request, upgrade: ws.Upgrade, room: str) -> None:
        user = request.cookies.get(room)
        if user is None:
            raise http.Refuse(401, "who are you?\n", {"WWW-Authenticate": "Cookie", "X-Room": room})
        upgrade.attributes["user"] = user
        upgrade.headers.add("Set-Cookie", f"{room}={user}; HttpOnly")
        upgrade.headers.add("Set-Cookie", "seen=1")
        if "chat.v2" in upgrade.subprotocols:
            upgrade.subprotocol = "chat.v2"

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        super().opened(connection)
        connection.push_text(connection.attributes["user"])


async def test_who_is_let_in_gets_the_fields_and_the_attributes(serve, connect):
    server = await serve(Door)
    client = await connect(server, "/lobby", fields=b"Cookie: a=b; lobby=ada\r\n")
    assert b"\r\nSet-Cookie: lobby=ada; HttpOnly\r\nSet-Cookie: seen=1\r\n\r\n" in client.head
    assert b"Sec-WebSocket-Protocol" not in client.head
    assert await client.text() == "ada"
    assert await client.asks("hello") == "hello"


@pytest.mark.parametrize(
    ("offered", "chosen"), [(b"chat.v2, chat.v1", "chat.v2"), (b"chat.v3, chat.v1", "chat.v1"), (b"chat.v3", None)]
)
async def test_the_subprotocol_is_the_default_or_what_the_handler_chose(serve, connect, offered, chosen):
    server = await serve(Door)
    fields = b"Cookie: lobby=ada\r\nSec-WebSocket-Protocol: %b\r\n" % offered
    client = await connect(server, "/lobby", fields=fields)
    assert (f"Sec-WebSocket-Protocol: {chosen}\r\n".encode() in client.head) is (chosen is not None)
    assert await client.text() == "ada"
    [connection] = server.services[0].instance.connections
    assert connection.subprotocol == chosen


class Chosen(str, enum.Enum):
    """An enumeration of texts: what `str` makes of a member is another text."""

    OLDEST = "drop_old"
    SHARED = "shared"
    CHAT = "chat.v2"


async def test_an_option_and_a_subprotocol_may_be_members_of_an_enumeration_of_texts(serve, connect):
    @at(overflow=Chosen.OLDEST, compression=Chosen.SHARED, subprotocols=[Chosen.CHAT])
    class Speaks(Log):
        @ws.on_upgrade
        def choose(self, upgrade: ws.Upgrade) -> None:
            upgrade.subprotocol = Chosen.CHAT

    service = Speaks()
    server = await serve(service)
    client = await connect(server, fields=b"Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n")
    assert b"Sec-WebSocket-Protocol: chat.v2\r\n" in client.head
    await until(lambda: service.connections)
    options = server.services[0].upgrade
    values = [service.connections[0].subprotocol, options.overflow, options.compression, *options.subprotocols]
    assert [type(value) for value in values] == [str] * 4


async def test_frames_that_came_behind_the_head_are_read_after_it(serve):
    server = await serve(Later())
    response = await answer(server, OPENING + frame(1, b"early"), frame(8, b"\x03\xe8"))
    assert response.endswith(b"\r\n\r\n\x81\x05early\x88\x02\x03\xe8")


# ---------------------------------------------------------------------------------------------------------------------
# Refusing


async def test_a_refusal_is_sent_with_its_status_fields_and_body_and_then_the_end(serve):
    server = await serve(Door)
    response = await answer(server, REQUEST % (b"/lobby", b"") + frame(1, b"let me in"))
    assert response.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nWWW-Authenticate: Cookie\r\nX-Room: lobby\r\n" in response
    assert b"\r\nConnection: close\r\n" in response
    assert body(response) == b"who are you?\n"
    assert server.services[0].instance.connections == []


async def refuse():
    await asyncio.sleep(0)
    raise http.Refuse(302, headers={"Location": "/login"})


async def test_an_async_handler_refuses_in_the_same_way(serve):
    server = await serve(Asks(refuse))
    response = await answer(server, OPENING)
    assert response.startswith(b"HTTP/1.1 302 Found\r\n")
    assert b"\r\nLocation: /login\r\n" in response
    assert body(response) == b"Found\n"


@at()
class Asks(Watch):
    """Does what it is given."""

    def __init__(self, does) -> None:
        super().__init__()
        self.does = does

    @ws.on_upgrade
    async def check(self) -> object:
        return await self.does()


@at()
class AsksAtOnce(Watch):
    """Does what it is given, without waiting."""

    def __init__(self, does) -> None:
        super().__init__()
        self.does = does

    @ws.on_upgrade
    def check(self, upgrade: ws.Upgrade) -> object:
        return self.does(upgrade)


def leak(upgrade):
    raise LookupError("the secret database is down")


def forge(upgrade):
    upgrade.headers["Sec-WebSocket-Accept"] = "a secret"


def invent(upgrade):
    upgrade.subprotocol = "secret.v1"


@pytest.mark.parametrize("does", [leak, forge, invent, lambda upgrade: False, lambda upgrade: http.Response("secret")])
async def test_a_failure_is_logged_and_the_client_learns_nothing(serve, failures, does):
    async def later():
        await asyncio.sleep(0)
        return does(ws.Upgrade(http.Request("GET", b"/", [])))

    for service in (AsksAtOnce(does), Asks(later)):
        failures.records.clear()
        server = await serve(service)
        response = await answer(server, OPENING)
        assert response.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"secret" not in response
        assert body(response) == b"500 Internal Server Error\n"
        assert failures.messages() == [f"{type(service).__name__}.check failed"]
        assert service.connections == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (OPENING.replace(b"GET", b"POST"), b"405"),
        (OPENING.replace(b"Version: 13", b"Version: 8"), b"426"),
        (OURS.replace(b"Sec-WebSocket-Key", b"X-Key"), b"400"),
        (OURS.replace(b"https://example.com", b"https://evil.example"), b"403"),
        (OPENING.replace(b"GET /", b"GET /elsewhere"), b"404"),
    ],
)
async def test_a_handshake_that_is_not_in_order_is_refused_before(serve, data, status):
    asked = []

    @at(allowed_origins=["https://example.com"])
    class Strict(Watch):
        @ws.on_upgrade
        def check(self, upgrade: ws.Upgrade) -> None:
            asked.append(upgrade)

    server = await serve(Strict)
    assert (await answer(server, data))[9:12] == status
    assert asked == []


# ---------------------------------------------------------------------------------------------------------------------
# Waiting


@at()
class Later(Echo):
    """Lets in when it is told to, and who is not slow a turn of the loop later."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Queue()
        self.go_on = asyncio.Event()
        self.ended = asyncio.Queue()

    @ws.on_upgrade
    async def check(self, request: http.Request) -> None:
        self.asked.put_nowait(asyncio.current_task())
        outcome = "cancelled"
        try:
            await (self.go_on.wait() if "x-slow" in request.headers else asyncio.sleep(0))
            outcome = "done"
        finally:
            self.ended.put_nowait(outcome)


SLOW = b"X-Slow: yes\r\n"
SLOW_OPENING = REQUEST % (b"/", SLOW)


async def raw(server, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await open_connection(server.addresses[0][1])
    writer.write(data)
    return reader, writer


async def test_an_async_handler_holds_up_nobody_else(serve, connect):
    service = Later()
    server = await serve(service)
    slow = asyncio.ensure_future(connect(server, fields=SLOW))
    await within(service.asked.get())
    fast = await connect(server)
    assert await fast.asks("first") == "first"
    assert not slow.done()
    service.go_on.set()
    assert await (await within(slow)).asks("second") == "second"


async def test_it_runs_in_a_task_of_its_own(serve, connect):
    seen = []

    async def check():
        seen.append(asyncio.current_task())
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        except asyncio.TimeoutError:
            seen.append(asyncio.current_task())

    server = await serve(Asks(check))
    await connect(server)
    before, after = seen
    assert before is after is not None
    assert before is not asyncio.current_task()
    assert before.done()


async def test_after_upgrade_timeout_it_is_cancelled_and_the_client_gets_503(no_task_left, caplog):
    service = at(upgrade_timeout=5)(type("Impatient", (Later,), {}))()
    async with testing.serve(service) as server:
        connecting = server.connect(headers={"X-Slow": "yes"})
        await server.clock.advance(4.9)
        assert service.ended.empty()
        await server.clock.advance(0.1)
        with pytest.raises(testing.Refused) as refused:
            await connecting
        assert (refused.value.status, refused.value.body) == (503, b"503 Service Unavailable\n")
        assert service.ended.get_nowait() == "cancelled"
        assert service.connections == []
    messages = [record.getMessage() for record in caplog.records if record.name == "fastws.http"]
    assert messages == ["Impatient.check took longer than 5 seconds (upgrade_timeout) and is cancelled"]


async def test_a_handler_that_will_not_be_cancelled_keeps_no_client_waiting(no_task_left):
    go_on = asyncio.Event()

    @at(upgrade_timeout=5)
    class Stubborn(Watch):
        @ws.on_upgrade
        async def check(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await go_on.wait()

    service = Stubborn()
    async with testing.serve(service) as server:
        connecting = server.connect()
        await server.clock.advance(5)
        with pytest.raises(testing.Refused, match="503"):
            await connecting
        assert server.server.http_connections
        go_on.set()
        await server.settle()
        assert not server.server.http_connections
        assert service.connections == []


async def test_upgrade_timeout_may_be_off(serve):
    service = at(upgrade_timeout=None)(type("Patient", (Later,), {}))()
    server = await serve(service, handshake_timeout=0.01)
    _, writer = await raw(server, SLOW_OPENING)
    await within(service.asked.get())
    assert len(server._site.deadlines) == 0
    writer.close()
    assert await within(service.ended.get()) == "cancelled"


HALF_CLOSE = pytest.param("write_eof", marks=pytest.mark.plain("with TLS no direction ends alone"))


@pytest.mark.parametrize("leave", ["close", "abort", HALF_CLOSE])
async def test_a_client_that_leaves_cancels_it(serve, leave):
    service = Later()
    server = await serve(service)
    _, writer = await raw(server, SLOW_OPENING)
    await within(service.asked.get())
    getattr(writer.transport, leave)()
    assert await within(service.ended.get()) == "cancelled"
    await until(lambda: not server.http_connections)
    writer.close()
    assert service.connections == []


async def test_what_comes_meanwhile_is_bounded_and_waits(serve):
    service = Later()
    server = await serve(service)
    reader, writer = await raw(server, SLOW_OPENING)
    await within(service.asked.get())
    payload = b"x" * 1000
    writer.write(frame(2, payload) * 2000)
    [protocol] = server.http_connections
    await until(lambda: protocol._paused)
    assert len(protocol._input) <= 1 << 18
    service.go_on.set()
    await within(reader.readuntil(b"\r\n\r\n"))
    for _ in range(2000):
        assert (await within(reader.readexactly(1004)))[4:] == payload
    writer.close()


async def test_a_server_that_stops_cancels_it_and_says_503(serve):
    service = Later()
    server = await serve(service)
    reader, writer = await raw(server, SLOW_OPENING)
    await within(service.asked.get())
    closing = asyncio.ensure_future(server.close())
    assert (await within(reader.read(-1))).startswith(UNAVAILABLE)
    writer.close()
    await within(closing)
    assert service.ended.get_nowait() == "cancelled"


async def test_on_stop_comes_after_what_a_cancelled_one_has_to_tidy_up(serve):
    order = []
    asked, go_on = asyncio.Event(), asyncio.Event()

    @at()
    class Tidy(Watch):
        @ws.on_upgrade
        async def check(self) -> None:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                await go_on.wait()
                order.append("tidied up")

        @ws.on_stop
        def stop(self) -> None:
            order.append("stopped")

    server = await serve(Tidy)
    reader, writer = await raw(server, OPENING)
    await within(asked.wait())
    closing = asyncio.ensure_future(server.close())
    assert (await within(reader.read(-1))).startswith(UNAVAILABLE)
    writer.close()
    await within(writer.wait_closed())
    go_on.set()
    await within(closing)
    assert order == ["tidied up", "stopped"]


async def test_one_that_cancels_itself_is_dropped(serve):
    async def check():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    server = await serve(Asks(check))
    assert await answer(server, OPENING) == b""


async def test_it_waits_for_the_responses_before_it(serve):
    @at("/")
    class Both(Later):
        @http.get("/slow")
        async def slow(self) -> str:
            await self.go_on.wait()
            return "slow"

    service = Both()
    server = await serve(service)
    reader, writer = await raw(server, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + OPENING)
    await until(lambda: any(protocol._task for protocol in server.http_connections))
    assert service.asked.empty()
    service.go_on.set()
    assert (await within(reader.readuntil(b"\r\n\r\nslow"))).startswith(b"HTTP/1.1 200 OK\r\n")
    assert (await within(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 101 ")
    writer.close()


# ---------------------------------------------------------------------------------------------------------------------
# Where it runs

asked_by = contextvars.ContextVar("asked_by", default="nobody")


@pytest.mark.parametrize("is_async", [False, True])
async def test_functions_know_the_service_but_no_connection(serve, connect, is_async):
    def check():
        for act in (ws.push_text, ws.store_connection, ws.add_connection_to_group):
            with pytest.raises(NoCurrentConnectionError):
                act("?")
        ws.broadcast_text("somebody knocks")
        asked_by.set("on_upgrade")

    async def later():
        check()

    service = Asks(later) if is_async else AsksAtOnce(lambda upgrade: check())

    @at("/other")
    class Other(Log):
        """Hears nothing of it."""

        @ws.on_text_message
        def reply(self, text: str) -> str:
            return text

    server = await serve(service, Other)
    first, other = await connect(server), await connect(server, "/other")
    await connect(server)
    assert await first.text() == "somebody knocks"
    assert await other.asks("silence") == "silence"


@pytest.mark.parametrize("is_async", [False, True])
async def test_later_handlers_do_not_see_its_context_variables(serve, connect, is_async):
    async def later():
        asked_by.set("on_upgrade")

    class Sees(Log):
        @ws.on_open
        def opened(self) -> None:
            self.saw(asked_by.get())

        @ws.on_text_message
        async def said(self) -> None:
            self.saw(asked_by.get())

        if is_async:

            @ws.on_upgrade
            async def check(self) -> None:
                asked_by.set("on_upgrade")
        else:

            @ws.on_upgrade
            def check(self) -> None:
                asked_by.set("on_upgrade")

    service = at()(Sees)()
    client = await connect(await serve(service))
    client.send("?")
    assert [await service.next(), await service.next()] == [("nobody",), ("nobody",)]


async def test_a_task_that_it_starts_belongs_to_the_service(serve, connect):
    tasks = []

    @at()
    class Announces(Watch):
        @ws.on_upgrade
        def check(self) -> None:
            async def announce() -> None:
                await until(lambda: self.connections)
                ws.broadcast_text("somebody is here")

            tasks.append(asyncio.ensure_future(announce()))

    client: Client = await connect(await serve(Announces))
    assert await client.text() == "somebody is here"
    await within(tasks[0])
