"""What a handler may be: whatever can be called. What the call returns decides whether it is awaited."""

from __future__ import annotations

import asyncio
import functools

import pytest

import fastws
from fastws import http, ws

from ...kit.client import within
from ...kit.services import Log, at


def plain(function):
    return function


def as_def(function):
    """Around an `async` function one that is none, and returns its coroutine."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def as_task(function):
    @functools.wraps(function)
    def wrapper(*args):
        return asyncio.ensure_future(function(*args))

    return wrapper


def as_awaitable(function):
    class Awaitable:
        def __init__(self, *args):
            self.args = args

        def __await__(self):
            return function(*self.args).__await__()

    @functools.wraps(function)
    def wrapper(*args):
        return Awaitable(*args)

    return wrapper


def awaited(function):
    """Around a function of either kind one that is `async`."""

    @functools.wraps(function)
    async def wrapper(*args):
        result = function(*args)
        return await result if asyncio.iscoroutine(result) else result

    return wrapper


def partial(function):
    return functools.partialmethod(function)


KINDS = [plain, as_def, as_task, as_awaitable, awaited, partial]


def service(decorate):
    @at()
    class Service(Log):
        @ws.on_upgrade
        @decorate
        async def decide(self, request: http.Request):
            await asyncio.sleep(0)
            if request.query.get("no"):
                raise http.Refuse(403)

        @ws.on_open
        @decorate
        async def opened(self, connection: ws.Connection):
            await asyncio.sleep(0)
            connection.push_text("open")

        @ws.on_text_message
        @decorate
        async def text(self, text: str):
            if text == "later":
                await asyncio.sleep(0)
            return f"reply to {text}"

        @ws.on_close
        @decorate
        async def closed(self, code: int):
            await asyncio.sleep(0)
            self.saw("closed", code)

        @http.get("/motd")
        @decorate
        async def motd(self):
            await asyncio.sleep(0)
            return "be kind"

        @ws.on_start
        @decorate
        async def start(self):
            self.saw("start")

        @ws.on_stop
        @decorate
        async def stop(self):
            await asyncio.sleep(0)
            self.saw("stop")

    return Service()


@pytest.mark.parametrize("decorate", KINDS)
async def test_what_is_returned_is_awaited_whatever_returned_it(serve, connect, dial, decorate):
    told = service(decorate)
    server = await serve(told)
    assert await told.next() == ("start",)
    client = await connect(server)
    assert await client.text() == "open"
    client.send("now", "later", "now")
    assert await client.texts(3) == ["reply to now", "reply to later", "reply to now"]
    await client.close(4000)
    assert await told.next() == ("closed", 4000)
    asking = await dial(server, b"GET /motd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await within(asking.reader.read())).endswith(b"be kind")
    with pytest.raises(ConnectionError, match="403"):
        await connect(server, "/?no=1")
    await within(server.close())
    assert await told.next() == ("stop",)


async def test_a_wrapper_that_returns_at_once_is_done_at_once(serve, connect):
    def in_background(function):
        @functools.wraps(function)
        def wrapper(self, text):
            tasks.append(asyncio.ensure_future(function(self, text)))

        return wrapper

    @at()
    class Busy(Log):
        @ws.on_text_message
        @in_background
        async def text(self, text: str):
            if text == "wait":
                await go_on.wait()
            ws.push_text(f"did {text}")

    tasks: list[asyncio.Task] = []
    go_on = asyncio.Event()
    client = await connect(await serve(Busy()))
    client.send("wait", "now")
    assert await client.text() == "did now"
    go_on.set()
    assert await client.text() == "did wait"


async def test_an_object_with_an_async_call_is_a_handler(serve, connect):
    class Reply:
        async def __call__(self, text: str) -> str:
            await asyncio.sleep(0)
            return f"reply to {text}"

    @at()
    class Service(Log):
        text = ws.on_text_message(Reply())

    client = await connect(await serve(Service()))
    assert await client.asks("it") == "reply to it"


async def test_a_task_that_a_handler_returned_ends_with_its_connection(serve, connect):
    @at()
    class Endless(Log):
        @ws.on_text_message
        def text(self, text: str) -> asyncio.Task:
            return asyncio.ensure_future(self.wait())

        async def wait(self) -> None:
            self.saw("waits")
            try:
                await asyncio.Event().wait()
            finally:
                self.saw("ends")

    endless = Endless()
    client = await connect(await serve(endless, close_timeout=0.1))
    client.send("go")
    assert await endless.next() == ("waits",)
    client.reset()
    assert await endless.next() == ("ends",)


async def test_a_failure_of_what_was_returned_is_that_of_the_handler(serve, connect, failures):
    @at()
    class Fails(Log):
        @ws.on_text_message
        @as_task
        async def text(self, text: str):
            raise LookupError(text)

        @ws.on_error
        @as_awaitable
        async def error(self, error: Exception):
            self.saw("error", str(error))

    fails = Fails()
    client = await connect(await serve(fails))
    client.send("why")
    assert await client.close_frame() == (1011, "internal error")
    assert await fails.next() == ("error", "why")
    assert [message.partition(" on ")[0] for message in failures.messages()] == ["Fails.text failed"]


def test_what_cannot_bear_a_mark_is_refused_with_words():
    class Bare:
        __slots__ = ()

        def __call__(self, text):
            """Has no attributes."""

    with pytest.raises(fastws.ConfigurationError, match="call it in a method of the service"):
        ws.on_text_message(Bare())
    with pytest.raises(fastws.ConfigurationError, match="twice"):
        ws.on_open(ws.on_open(functools.partial(print)))
