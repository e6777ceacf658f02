"""What a client may send in pieces, and how often: `max_fragments` and `max_message_rate`."""

from __future__ import annotations

import pytest

from fastws import ConfigurationError

from ...kit.client import BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame
from ...kit.services import Echo, at


@at("/", max_fragments=3, max_message_rate=20)
class Strict(Echo):
    pass


async def test_as_many_messages_as_a_second_allows_may_come_at_once(serve, connect):
    client = await connect(await serve(Strict))
    client.send(*[str(number) for number in range(20)])
    assert await client.texts(20) == [str(number) for number in range(20)]


@pytest.mark.parametrize("one", [frame(TEXT, b"a"), frame(BINARY, b""), frame(PING), frame(PONG)])
async def test_more_messages_pings_or_pongs_fail_the_connection_with_a_reason(serve, connect, one):
    service = Strict()
    client = await connect(await serve(service))
    client.write(one * 60)
    assert (await client.rest())[-1] == (CLOSE, close_payload(1008, "too many messages"))
    assert await service.next() == ("closed", 1008, "too many messages")


async def test_a_slow_rate_still_lets_one_message_pass(serve, connect):
    @at("/", max_message_rate=0.01)
    class Slow(Echo):
        pass

    client = await connect(await serve(Slow))
    assert await client.asks("first") == "first"
    client.send("second")
    assert await client.rest() == [(CLOSE, close_payload(1008, "too many messages"))]


async def test_the_rate_of_one_client_is_not_that_of_another(serve, connect):
    server = await serve(Strict)
    flood, other = await connect(server), await connect(server)
    flood.write(frame(PING) * 60)
    await flood.rest()
    assert await other.asks("still here?") == "still here?"


async def test_a_message_in_too_many_fragments_fails_the_connection_with_a_reason(serve, connect):
    service = Strict()
    client = await connect(await serve(service))
    client.write(frame(TEXT, b"a", fin=False) + frame(0, b"b", fin=False) + frame(0, b"c"))
    assert await client.text() == "abc"
    client.write(frame(TEXT, b"a", fin=False) + frame(0, b"", fin=False) * 3)
    assert await client.close_frame() == (1008, "too many fragments")
    assert await service.next() == ("closed", 1008, "too many fragments")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_fragments": 0}, "max_fragments=0: give a number of frames, an int above 0"),
        (
            {"max_message_rate": 0},
            "max_message_rate=0: give messages a second, a number above 0, or None to turn it off",
        ),
        ({"overflow_code": 1006}, "overflow_code=1006: give 1000 to 1003, 1007 to 1014 or 3000 to 4999"),
        ({"overflow_code": 1 << 64}, "overflow_code=18446744073709551616: give 1000 to 1003, "),
        ({"overflow_code": True}, "overflow_code=True: give a close code, such as 1013 or one from 3000 to 4999"),
        ({"compression": "best"}, 'compression=\'best\': give "shared", "dedicated" or None'),
        ({"compression_level": 0}, "compression_level=0: give an int from 1 to 9"),
        ({"compression_window_bits": 8}, "compression_window_bits=8: give an int from 9 to 15"),
        ({"compression_threshold": -1}, "compression_threshold=-1: give an int from 0 to "),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ConfigurationError) as wrong:
        at("/", **options)(Echo)
    assert str(wrong.value).startswith(f"ws.upgrade_path: {message}")
