"""Clients that end one direction, or both, or reset the connection: at every stage, with and without close frames."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from ...kit.client import BINARY, CLOSE, PING, TEXT, close_payload, frame, until, within
from ...kit.services import Patient, Watch, nothing_follows
from ...kit.wires import blocked

pytestmark = pytest.mark.plain("with TLS no direction ends alone")

KEY = bytes(4)  # a masking key that leaves the payload legible
VIOLATION = b"\x83\x80" + KEY


class Stage(NamedTuple):
    """How far a connection has come, and how it ends when it comes no further.

    Attributes:
        server: what the service's close frame says, if it begins to close.
        client: what the client sends.
        answers: close frames that the client then waits for.
        outcome: close_code, close_reason and was_clean.
    """

    server: tuple[int, str] | None
    client: bytes
    answers: list[tuple[int, bytes]]
    outcome: tuple[int, str, bool]


LOST = 1006, "", False
OURS = 4000, "ours"

STAGES = {
    "nothing": Stage(None, b"", [], LOST),
    "half a header": Stage(None, b"\x81", [], LOST),
    "half a length": Stage(None, b"\x81\xfe\x01", [], LOST),
    "half a message": Stage(None, b"\x81\x85" + KEY + b"he", [], LOST),
    "a first fragment": Stage(None, b"\x01\x83" + KEY + b"hel", [], LOST),
    "half a second fragment": Stage(None, b"\x01\x83" + KEY + b"hel" + b"\x80\x82" + KEY + b"l", [], LOST),
    "half a close frame": Stage(None, b"\x88\x82" + KEY + b"\x03", [], LOST),
    "our close frame": Stage(OURS, b"", [(CLOSE, close_payload(*OURS))], (*OURS, False)),
    "our close frame and half an answer": Stage(OURS, b"\x88", [(CLOSE, close_payload(*OURS))], (*OURS, False)),
    "our close frame and half a message": Stage(
        OURS, b"\x82\x85" + KEY + b"he", [(CLOSE, close_payload(*OURS))], (*OURS, False)
    ),
    "both close frames, ours first": Stage(
        OURS, frame(CLOSE, b"\x0f\xa1mine"), [(CLOSE, close_payload(*OURS))], (4001, "mine", True)
    ),
    "both close frames, the client's first": Stage(
        None, frame(CLOSE, b"\x0f\xa1mine"), [(CLOSE, b"\x0f\xa1")], (4001, "mine", True)
    ),
    "both close frames without a code": Stage(None, frame(CLOSE), [(CLOSE, b"")], (1005, "", True)),
    "a violation": Stage(
        None, VIOLATION, [(CLOSE, close_payload(1002, "protocol error"))], (1002, "protocol error", False)
    ),
    "a violation behind our close frame": Stage(OURS, VIOLATION, [(CLOSE, close_payload(*OURS))], (*OURS, False)),
}

each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)


async def reach(stage: Stage, client, connection) -> None:
    if stage.server is not None:
        connection.close(*stage.server)
    client.write(stage.client)
    assert [await client.receive() for _ in stage.answers] == stage.answers


async def assert_ended(server, watch, connection, outcome: tuple[int, str, bool]) -> None:
    """on_close once, the attributes say the same, and nothing is left."""
    assert await watch.next() == ("closed", *outcome[:2])
    assert (connection.close_code, connection.close_reason, connection.was_clean) == outcome
    await nothing_follows(server, watch)


@each_stage
async def test_the_client_ends_its_direction(opened, stage):
    watch = Watch()
    server, client, connection = await opened(watch)
    await reach(stage, client, connection)
    client.writer.write_eof()
    assert await client.rest() == []
    await assert_ended(server, watch, connection, stage.outcome)


@each_stage
async def test_the_client_closes_its_socket(opened, stage):
    watch = Watch()
    server, client, connection = await opened(watch)
    await reach(stage, client, connection)
    client.transport.close()
    await assert_ended(server, watch, connection, stage.outcome)


@each_stage
async def test_the_client_resets_the_connection(opened, stage):
    watch = Watch()
    server, client, connection = await opened(watch)
    await reach(stage, client, connection)
    client.reset()
    await assert_ended(server, watch, connection, stage.outcome)


# ---------------------------------------------------------------------------------------------------------------------
# With a backlog: the client does not read what is sent to it


@pytest.mark.parametrize(
    ("last", "answer", "outcome"),
    [
        (frame(CLOSE, b"\x03\xe8bye"), b"\x03\xe8", (1000, "bye", True)),
        (frame(CLOSE), b"", (1005, "", True)),
        (VIOLATION, close_payload(1002, "protocol error"), (1002, "protocol error", False)),
    ],
    ids=["close frame", "close frame without a code", "violation"],
)
async def test_who_ended_its_direction_still_gets_all_that_waits_and_the_close_frame(narrow, last, answer, outcome):
    watch = Patient()
    (client,), (connection,) = await narrow(watch)
    payloads = await blocked(connection)
    client.write(last)
    client.writer.write_eof()
    assert await watch.next() == ("closed", *outcome[:2])
    client.transport.resume_reading()
    assert await client.rest() == [*((BINARY, payload) for payload in payloads), (CLOSE, answer)]
    assert (connection.close_code, connection.close_reason, connection.was_clean) == outcome
    await until(lambda: connection.buffered == 0)


async def test_who_ended_its_direction_without_a_close_frame_is_let_go(narrow):
    watch = Patient()
    (client,), (connection,) = await narrow(watch, close_timeout=0.05)
    await blocked(connection)
    client.writer.write_eof()
    assert await watch.next() == ("closed", 1006, "")
    assert connection.buffered == 0


async def test_who_ended_its_direction_and_never_reads_is_let_go_at_the_deadline(narrow):
    watch = Patient()
    (client,), (connection,) = await narrow(watch, close_timeout=0.05)
    await blocked(connection)
    client.send_close()
    client.writer.write_eof()
    assert await watch.next() == ("closed", 1000, "")
    await until(lambda: connection.buffered == 0)


@pytest.mark.parametrize(
    ("last", "outcome"), [(b"", LOST), (frame(CLOSE, b"\x03\xe8"), (1000, "", True))], ids=["nothing", "close frame"]
)
async def test_a_reset_drops_all_that_waits(narrow, last, outcome):
    watch = Patient()
    (client,), (connection,) = await narrow(watch)
    await blocked(connection)
    client.write(last)
    await until(lambda: client.transport.get_write_buffer_size() == 0)
    if last:
        assert await watch.next() == ("closed", *outcome[:2])
    client.reset()
    if not last:
        assert await watch.next() == ("closed", *outcome[:2])
    assert (connection.close_code, connection.close_reason, connection.was_clean) == outcome
    await until(lambda: connection.buffered == 0)


# ---------------------------------------------------------------------------------------------------------------------
# The server has ended its direction


async def test_the_server_reads_on_until_the_client_hangs_up(opened):
    watch = Watch()
    server, client, _ = await opened(watch)
    client.send_close()
    assert await within(client.reader.read()) == b"\x88\x02\x03\xe8"
    client.write((frame(TEXT, b"late") + VIOLATION) * 100_000)
    # A server that had closed its socket would answer with a reset
    await within(client.writer.drain())
    client.writer.write_eof()
    assert await watch.next() == ("closed", 1000, "")
    await nothing_follows(server, watch)


@pytest.mark.parametrize("noise", [frame(PING), frame(TEXT, b"more")], ids=["pings", "messages"])
async def test_who_sends_and_sends_and_does_not_close_is_let_go_at_the_deadline(opened, noise):
    watch = Watch()
    server, client, connection = await opened(watch, close_timeout=0.05)
    connection.close(*OURS)
    assert await client.close_frame() == OURS

    def ended() -> bool:
        if not client.transport.is_closing():
            client.write(noise)
        return not watch.events.empty()

    await until(ended)
    await assert_ended(server, watch, connection, (*OURS, False))
