"""A log that fails: whatever a filter or handler of the program raises, connections fare as they would without it."""

from __future__ import annotations

import asyncio
import contextvars
import logging

import pytest

import fastws
from fastws import http, ws
from fastws.logs import Log

from ..kit.client import Client, within
from ..kit.services import Watch, at

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")


class AddId(logging.Filter):
    """What people write: it is not prepared for records from elsewhere than their own requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class Raises(logging.Handler):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__(logging.DEBUG)
        self.error = error
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        raise self.error("no log")


@pytest.fixture(params=[AddId, LookupError, asyncio.CancelledError])
def failing_log(request, capfd):
    """A handler that raises, or its filter does, at every record of fastws; what it writes to stderr is its own."""
    handler: logging.Handler
    if request.param is AddId:
        handler = logging.StreamHandler()
        handler.addFilter(AddId())
    else:
        handler = Raises(request.param)
    logger = logging.getLogger("fastws")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@at()
class Failing(Watch):
    """Fails in every way that is logged."""

    @ws.on_upgrade
    async def decide(self, request: http.Request) -> None:
        await asyncio.sleep(0)
        if request.query.get("fail"):
            raise ValueError("boom")

    @ws.on_text_message
    async def text(self, text: str) -> None:
        await asyncio.sleep(0)
        raise ValueError("boom")

    @ws.on_binary_message
    def binary(self, data: bytes) -> None:
        raise ValueError("boom")

    @ws.on_error
    def error(self, error: Exception) -> None:
        self.saw("error", str(error))
        raise LookupError("on_error, too")

    @http.get("/now")
    def now(self) -> str:
        raise ValueError("boom")

    @http.get("/later")
    async def later(self) -> str:
        await asyncio.sleep(0)
        raise ValueError("boom")

    @ws.on_start
    async def start(self) -> None:
        raise ValueError("boom")

    @ws.on_stop
    async def stop(self) -> None:
        raise ValueError("boom")


@pytest.mark.usefixtures("failing_log")
@pytest.mark.parametrize("message", ["text", b"binary"])
async def test_a_failing_log_keeps_no_connection_open(serve, connect, message):
    failing = Failing()
    client = await connect(await serve(failing))
    client.send(message)
    assert await client.close_frame() == (1011, "internal error")
    client.send_close(1011)
    assert await client.rest() == []
    assert [await failing.next(), await failing.next()] == [("error", "boom"), ("closed", 1011, "")]


@pytest.mark.usefixtures("failing_log")
@pytest.mark.parametrize("path", [b"/now", b"/later", b"/?fail=1"])
async def test_a_failing_log_keeps_no_answer_back(serve, dial, path):
    server = await serve(Failing(), access_log=True)
    upgrade = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    client = await dial(server, b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\n%b\r\n" % (path, upgrade))
    assert (await within(client.reader.readline())).startswith(b"HTTP/1.1 500 ")


@pytest.mark.usefixtures("failing_log")
async def test_a_failing_log_holds_up_no_shutdown(no_task_left):
    failing = Failing()
    server = await fastws.serve(failing, port=0, close_timeout=0.1).__aenter__()
    client = await Client.connect(server.addresses[0][1], "/")
    await within(server.close())
    assert await client.rest() != []
    assert (await failing.next())[:2] == ("closed", 1001)


def test_what_ends_the_program_is_let_through():
    log = Log("fastws.test")
    handler = Raises(SystemExit)
    logging.getLogger("fastws.test").addHandler(handler)
    with pytest.raises(SystemExit):
        log.warning("%s", "whatever")
    logging.getLogger("fastws.test").removeHandler(handler)


def test_a_log_that_works_gets_the_record_and_the_place_of_the_call(caplog):
    try:
        raise LookupError("why")
    except LookupError:
        Log("fastws.test").exception("%s failed", "it")
    (record,) = caplog.records
    assert (record.getMessage(), record.filename, record.exc_info[0]) == ("it failed", "test_logs.py", LookupError)
