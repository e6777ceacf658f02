"""What breaks the protocol of an open connection: it fails with the right code, and nobody else notices."""

from __future__ import annotations

import pytest

from ...kit.client import CLOSE, close_payload, frame, until, within
from ...kit.guarded import LIMIT, ORIGIN, bystander

KEY = bytes(4)  # a masking key that leaves the payload legible

WRONG = {
    1002: {
        "unmasked text": b"\x81\x05hello",
        "unmasked binary of no length": b"\x82\x00",
        "unmasked ping": b"\x89\x00",
        "unmasked close": b"\x88\x02\x03\xe8",
        **{f"reserved bit {bit}": bytes([0x81 | 0x80 >> bit, 0x80]) + KEY for bit in (1, 2, 3)},
        **{f"reserved bit {bit} on a ping": bytes([0x89 | 0x80 >> bit, 0x80]) + KEY for bit in (1, 2, 3)},
        **{f"opcode {opcode:X}": bytes([0x80 | opcode, 0x80]) + KEY for opcode in (*range(3, 8), *range(0xB, 0x10))},
        "fragmented close": b"\x08\x80" + KEY,
        "fragmented ping": b"\x09\x80" + KEY,
        "fragmented pong": b"\x0a\x80" + KEY,
        "long close": b"\x88\xfe\x00\x7e" + KEY + b"\x03\xe8" + b"x" * 124,
        "long ping": b"\x89\xfe\x00\x7e" + KEY + b"x" * 126,
        "long pong": b"\x8a\xff\x00\x00\x00\x00\x00\x01\x00\x00" + KEY,
        "close payload of one byte": b"\x88\x81" + KEY + b"\x03",
        **{
            f"close code {code}": b"\x88\x82" + KEY + code.to_bytes(2, "big")
            for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
        },
        "2 bytes of length for 5": b"\x81\xfe\x00\x05" + KEY + b"hello",
        "2 bytes of length for 125": b"\x82\xfe\x00\x7d" + KEY + b"x" * 125,
        "8 bytes of length for 5": b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05" + KEY + b"hello",
        "8 bytes of length for 65535": b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff" + KEY,
        "length of 2**63": b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00" + KEY,
        "length of 2**64 - 1": b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff" + KEY,
        "continuation of nothing": b"\x80\x80" + KEY,
        "first fragment that continues nothing": b"\x00\x80" + KEY,
        "message within a message": b"\x01\x81" + KEY + b"a" + b"\x81\x81" + KEY + b"b",
    },
    1007: {
        "a stray byte": b"\x81\x83" + KEY + b"a\xffb",
        "a lone continuation byte": b"\x81\x81" + KEY + b"\x80",
        "a character cut short": b"\x81\x82" + KEY + b"\xe2\x82",
        "an overlong slash": b"\x81\x82" + KEY + b"\xc0\xaf",
        "a surrogate": b"\x81\x83" + KEY + b"\xed\xa0\x80",
        "a character beyond U+10FFFF": b"\x81\x84" + KEY + b"\xf4\x90\x80\x80",
        "a wrong byte before the frame is complete": b"\x81\x8a" + KEY + b"\xff",
        "a wrong byte in the second fragment": b"\x01\x82" + KEY + b"\xe2\x82" + b"\x80\x81" + KEY + b"(",
        "a wrong byte in a fragment that is not the last": b"\x01\x81" + KEY + b"\xff",
        "fragments that end within a character": b"\x01\x81" + KEY + b"a" + b"\x80\x81" + KEY + b"\xe2",
        "a close reason": b"\x88\x83" + KEY + b"\x03\xe8\xff",
        "a close reason cut short": b"\x88\x84" + KEY + b"\x03\xe8\xe2\x82",
    },
    # Headers without their payload: it fails before anything is buffered
    1009: {
        "text of a byte too many": b"\x81\xfe\x03\xe9" + KEY,
        "binary of a byte too many": b"\x82\xfe\x03\xe9" + KEY,
        "4 GiB": b"\x82\xff\x00\x00\x00\x01\x00\x00\x00\x00" + KEY,
        "2**63 - 1 bytes": b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + KEY,
        "a first fragment": b"\x02\xfe\x03\xe9" + KEY,
        "fragments": b"\x02\xfe\x02\x58" + KEY + b"x" * 600 + b"\x00\xfe\x01\x91" + KEY,
        "fragments, the last by 2**63 - 1": b"\x02\x81" + KEY + b"x" + b"\x80\xff\x7f" + b"\xff" * 7 + KEY,
    },
}

FIRST = {code: next(iter(rows.values())) for code, rows in WRONG.items()}

each_violation = pytest.mark.parametrize(
    ("code", "data"),
    [pytest.param(code, data, id=f"{code}, {name}") for code, rows in WRONG.items() for name, data in rows.items()],
)

# More than the buffers of both sockets hold, and than a server reads at once
MORE = frame(2, bytes(100)) * 60_000


async def assert_fails(client, service, code: int) -> None:
    """The close frame is the last that comes, and `on_close` learns the same code."""
    sent, reason = await client.close_frame()
    assert sent == code
    assert await client.rest() == []
    assert await service.next() == ("closed", code, reason)


@each_violation
async def test_what_breaks_the_protocol_fails_the_connection(serve, connect, code, data):
    async with bystander(serve, connect) as (server, service):
        client = await connect(server, fields=ORIGIN)
        client.write(data)
        await assert_fails(client, service, code)


@pytest.mark.parametrize("code", WRONG)
async def test_what_follows_a_violation_is_ignored(serve, connect, code):
    async with bystander(serve, connect) as (server, service):
        client = await connect(server, fields=ORIGIN)
        client.write(FIRST[code] + frame(1, b"more") + frame(9) + b"\xff" * 100)
        await assert_fails(client, service, code)


@pytest.mark.parametrize("code", WRONG)
async def test_the_close_frame_arrives_although_the_client_still_sends(serve, connect, code):
    async with bystander(serve, connect) as (server, service):
        client = await connect(server, fields=ORIGIN)
        client.write(FIRST[code] + MORE)
        await within(client.writer.drain())
        await assert_fails(client, service, code)


@pytest.mark.parametrize("code", WRONG)
async def test_who_does_not_leave_after_a_violation_is_dropped(serve, connect, code):
    async with bystander(serve, connect, close_timeout=0.05) as (server, service):
        client = await connect(server, fields=ORIGIN)
        client.write(FIRST[code])
        await assert_fails(client, service, code)

        def dropped() -> bool | None:
            return client.transport.is_closing() or client.write(frame(9))

        await until(dropped)


async def test_a_violation_behind_a_message_fails_after_its_reply(serve, connect):
    async with bystander(serve, connect) as (server, service):
        client = await connect(server, fields=ORIGIN)
        client.write(frame(1, b"a message") + b"\x81\x05hello")
        assert await client.text() == "a message"
        await assert_fails(client, service, 1002)
        assert service.handled == ["a message"]
        service.handled.clear()


async def test_a_message_of_the_largest_size_is_welcome_in_one_frame_and_in_many(serve, connect):
    async with bystander(serve, connect) as (server, service):
        client = await connect(server, fields=ORIGIN)
        assert await client.asks("x" * LIMIT) == "x" * LIMIT
        client.write(frame(1, b"", fin=False) + frame(0, b"y", fin=False) * LIMIT + frame(0))
        assert await client.text() == "y" * LIMIT
        service.handled.clear()
        await client.close()


@pytest.mark.parametrize(
    "after",
    [frame(1, b"more"), frame(8, close_payload(1001)), b"\x81\x05hello", b"\xff" * 100, MORE],
    ids=["message", "second close", "violation", "garbage", "megabytes"],
)
async def test_bytes_behind_the_close_frame_are_ignored(serve, connect, after):
    async with bystander(serve, connect) as (server, service):
        client = await connect(server, fields=ORIGIN)
        client.write(b"\x88\x85" + KEY + b"\x03\xe8bye" + after)
        assert await client.rest() == [(CLOSE, b"\x03\xe8")]
        assert await service.next() == ("closed", 1000, "bye")


async def test_the_close_frame_of_the_service_arrives_although_the_client_still_sends(serve, connect):
    async with bystander(serve, connect) as (server, service):
        client = await connect(server, fields=ORIGIN)
        await until(lambda: len(service.connections) == 2)
        client.write(MORE)
        service.connections[1].close(4000, "enough")
        assert await client.close_frame() == (4000, "enough")
        await within(client.writer.drain())
        client.send_close(4000)
        assert await client.rest() == []
        assert await service.next() == ("closed", 4000, "")
        service.handled.clear()


async def test_who_leaves_within_a_message_leaves_nothing(serve, connect):
    async with bystander(serve, connect) as (server, service):
        for leave in ("abort", "reset"):
            for data in (b"\x81", b"\x81\xfe\x01", b"\x81\xfe\x01\x00" + KEY + b"abc", b"\x01\x83" + KEY + b"abc"):
                client = await connect(server, fields=ORIGIN)
                client.write(data)
                if leave == "reset":
                    client.reset()
                else:
                    client.transport.close()
                assert await service.next() == ("closed", 1006, "")
