"""How connections end: both closing handshakes, every other end, and on_close exactly once whichever it is."""

from __future__ import annotations

import asyncio

import pytest

from fastws import ws

from ...kit.client import CLOSE, PING, TEXT, close_payload, frame, within
from ...kit.services import Commanded, Echo, Watch, nothing_follows

# ---------------------------------------------------------------------------------------------------------------------
# The closing handshake


async def test_a_client_that_closes_gets_its_code_back_and_then_the_end(opened):
    watch = Watch()
    server, client, connection = await opened(watch)
    client.send_close(4001, "good bye")
    assert await client.rest() == [(CLOSE, b"\x0f\xa1")]
    assert await watch.next() == ("closed", 4001, "good bye")
    assert (connection.close_code, connection.close_reason, connection.was_clean) == (4001, "good bye", True)
    await nothing_follows(server, watch)


async def test_a_close_frame_without_a_code_is_1005_and_answered_without_one(opened):
    watch = Watch()
    server, client, _ = await opened(watch)
    client.write(frame(CLOSE))
    assert await client.rest() == [(CLOSE, b"")]
    assert await watch.next() == ("closed", 1005, "")
    await nothing_follows(server, watch)


async def test_a_server_that_closes_waits_for_the_answer(opened):
    watch = Watch()
    server, client, connection = await opened(watch)
    assert connection.close(3000, "enough") is True
    assert not connection.is_open
    assert await client.close_frame() == (3000, "enough")
    assert watch.events.empty()
    client.send_close(3000)
    assert await client.rest() == []
    assert await watch.next() == ("closed", 3000, "")
    await nothing_follows(server, watch)


async def test_the_code_of_the_client_counts_when_both_close_at_once(opened):
    watch = Watch()
    server, client, connection = await opened(watch)
    connection.close(1001)
    client.send_close(4000, "mine")
    assert await client.rest() == [(CLOSE, close_payload(1001))]
    assert await watch.next() == ("closed", 4000, "mine")
    await nothing_follows(server, watch)


async def test_closing_twice_sends_one_close_frame(opened):
    watch = Watch()
    _, client, connection = await opened(watch)
    assert [connection.close(1000), connection.close(1001), connection.close()] == [True, False, False]
    client.send_close()
    assert await client.rest() == [(CLOSE, close_payload(1000))]
    await watch.next()
    assert connection.close() is False


async def test_a_long_reason_is_cut_between_two_characters(opened):
    _, client, connection = await opened(Watch())
    connection.close(1000, "é" * 100)
    assert await client.close_frame() == (1000, "é" * 61)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1])
async def test_a_code_that_may_not_be_sent_is_refused(opened, code):
    _, client, connection = await opened(Echo())
    with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
        connection.close(code)
    assert await client.asks("still there") == "still there"


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
async def test_codes_that_may_be_sent(opened, code):
    _, client, connection = await opened(Watch())
    connection.close(code)
    assert await client.close_frame() == (code, "")


async def test_messages_behind_a_close_frame_are_not_handled(opened):
    echo = Echo()
    server, client, _ = await opened(echo)
    client.write(frame(TEXT, b"before") + frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"behind") + frame(PING))
    assert await client.rest() == [(TEXT, b"before"), (CLOSE, b"\x03\xe8")]
    assert await echo.next() == ("closed", 1000, "")
    await nothing_follows(server, echo)


async def test_nothing_is_sent_behind_our_close_frame(opened):
    echo = Echo()
    _, client, connection = await opened(echo)
    connection.push_text("last")
    connection.close()
    assert connection.push_text("late") == ws.Delivery(1, 0, 1)
    client.send("more")
    client.write(frame(PING, b"?"))
    client.send_close()
    assert await client.rest() == [(TEXT, b"last"), (CLOSE, b"\x03\xe8")]
    assert await echo.next() == ("closed", 1000, "")


async def test_what_was_pushed_before_the_close_arrives(opened):
    _, client, connection = await opened(Watch())
    for number in range(1000):
        connection.push_text(str(number) * 100)
    connection.close()
    client.send_close()
    assert await client.rest() == [(TEXT, b"%d" % number * 100) for number in range(1000)] + [(CLOSE, b"\x03\xe8")]


# ---------------------------------------------------------------------------------------------------------------------
# Other ends


async def test_a_reset_is_1006(opened):
    watch = Watch()
    server, client, connection = await opened(watch)
    client.reset()
    assert await watch.next() == ("closed", 1006, "")
    assert connection.was_clean is False
    await nothing_follows(server, watch)


async def test_an_end_of_stream_without_a_close_frame_is_1006(opened):
    watch = Watch()
    server, client, _ = await opened(watch)
    client.end_stream()
    assert await watch.next() == ("closed", 1006, "")
    assert await client.rest() == []
    await nothing_follows(server, watch)


async def test_an_end_of_stream_within_a_frame_is_1006_and_leaves_nothing(opened):
    echo = Echo()
    server, client, _ = await opened(echo)
    client.write(frame(TEXT, b"never complete")[:-1])
    client.end_stream()
    assert await echo.next() == ("closed", 1006, "")
    await nothing_follows(server, echo)


async def test_a_client_that_vanishes_after_our_close_frame_gives_our_code(opened):
    watch = Watch()
    server, client, connection = await opened(watch)
    connection.close(4321, "ours")
    await client.receive()
    client.reset()
    assert await watch.next() == ("closed", 4321, "ours")
    await nothing_follows(server, watch)


async def test_a_broken_frame_fails_with_1002_and_is_on_close_at_once(opened):
    watch = Watch()
    server, client, connection = await opened(watch)
    client.write(b"\x83\x80\0\0\0\0")
    assert await client.close_frame() == (1002, "protocol error")
    assert await watch.next() == ("closed", 1002, "protocol error")
    assert connection.close_code == 1002
    assert await client.rest() == []
    await nothing_follows(server, watch)


async def test_a_failed_handler_closes_with_1011_and_tells_the_client_nothing(opened, failures):
    def fail() -> None:
        raise RuntimeError("secret")

    service = Commanded(fail=fail)
    server, client, _ = await opened(service)
    client.send("fail", "fail")
    assert await client.close_frame() == (1011, "internal error")
    client.send_close(1011)
    assert await client.rest() == []
    assert await service.next() == ("closed", 1011, "")
    await nothing_follows(server, service)
    assert failures.messages() == ["Commanded.obey failed on connection 1"]
    assert "secret" in str(failures.records[0].exc_info[1])


async def test_a_client_that_does_not_answer_is_let_go_after_close_timeout(opened):
    watch = Watch()
    server, client, connection = await opened(watch, close_timeout=0.05)
    connection.close(1000, "bye")
    assert await client.rest() == [(CLOSE, close_payload(1000, "bye"))]
    assert await watch.next() == ("closed", 1000, "bye")
    await nothing_follows(server, watch)


async def test_a_shutdown_is_1001_for_everybody(serve, connect):
    watch = Watch()
    server = await serve(watch)
    clients = [await connect(server) for _ in range(3)]
    stopping = asyncio.ensure_future(server.close())
    for client in clients:
        assert await client.close_frame() == (1001, "going away")
        client.send_close(1001)
        assert await client.rest() == []
    await within(stopping)
    assert [await watch.next() for _ in clients] == [("closed", 1001, "")] * 3
    assert watch.events.empty()
