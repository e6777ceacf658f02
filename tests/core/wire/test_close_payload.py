"""The payload of a close frame: what core/wire/close.pxi takes, refuses and hands on (RFC 6455 5.5.1, 7.4)."""

from __future__ import annotations

import pytest

from ...kit import reference
from ...kit.client import CLOSE, close_payload, frame
from ...kit.services import Watch
from .test_utf8 import INVALID

REASONS = {1002: "protocol error", 1007: "invalid payload"}


async def answer(serve, connect, payload: bytes) -> tuple[list[tuple[int, bytes]], tuple]:
    """What the server sends from this close frame on, and what its service sees."""
    watch = Watch()
    client = await connect(await serve(watch))
    client.write(frame(CLOSE, payload))
    return await client.rest(), await watch.next()


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"\x03\xe8", 1000, ""),
        (b"\x03\xe8bye", 1000, "bye"),
        (b"\x03\xe9", 1001, ""),
        (b"\x03\xea", 1002, ""),
        (b"\x03\xeb", 1003, ""),
        (b"\x03\xef", 1007, ""),
        (b"\x03\xf0", 1008, ""),
        (b"\x03\xf1", 1009, ""),
        (b"\x03\xf2", 1010, ""),
        (b"\x03\xf3", 1011, ""),
        (b"\x03\xf6", 1014, ""),
        (b"\x0b\xb8", 3000, ""),
        (b"\x0f\x9f", 3999, ""),
        (b"\x0f\xa0", 4000, ""),
        (b"\x13\x87", 4999, ""),
        (b"\x03\xe8\xe2\x82\xac", 1000, "€"),
        (b"\x03\xe8" + b"r" * 123, 1000, "r" * 123),
    ],
)
async def test_a_right_payload_is_handed_on_and_its_code_sent_back(serve, connect, payload, code, reason):
    assert reference.parse_close(payload) == (code, reason)
    assert await answer(serve, connect, payload) == ([(CLOSE, payload[:2])], ("closed", code, reason))


async def test_no_payload_is_1005_and_answered_without_one(serve, connect):
    assert reference.parse_close(b"") == (1005, "")
    assert await answer(serve, connect, b"") == ([(CLOSE, b"")], ("closed", 1005, ""))


async def assert_refused(serve, connect, payload: bytes, code: int) -> None:
    with pytest.raises(reference.Violation, match=str(code)):
        reference.parse_close(payload)
    expected = [(CLOSE, close_payload(code, REASONS[code]))], ("closed", code, REASONS[code])
    assert await answer(serve, connect, payload) == expected


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
async def test_a_code_that_is_never_on_the_wire_is_1002(serve, connect, code):
    await assert_refused(serve, connect, close_payload(code), 1002)
    await assert_refused(serve, connect, close_payload(code, "why"), 1002)


async def test_a_payload_of_one_byte_is_1002(serve, connect):
    await assert_refused(serve, connect, b"\x03", 1002)


async def test_a_bad_code_counts_more_than_a_bad_reason(serve, connect):
    await assert_refused(serve, connect, b"\x03\xe7\xff", 1002)


@pytest.mark.parametrize("reason", [bad for bad, _ in INVALID.values()] + [b"cut \xe2\x82"])
async def test_a_reason_that_is_not_utf8_is_1007(serve, connect, reason):
    await assert_refused(serve, connect, b"\x03\xe8" + reason, 1007)
