"""The RESP reader comes to what its plain twin says, whole and in any pieces, under any limit.

Choices: one byte, the limit.
"""

from __future__ import annotations

from fastws._speedups import RespError

from ..kit.resp import decode, encode, plain, seen
from .inputs import join, pieces, split

LIMITS = (8, 10, 100, 1 << 20)  # bytes of a string


def check(data: bytes) -> None:
    choices, wire, cuts = split(data, 1)
    limit = LIMITS[choices[0] & 3]
    events, malformed = decode(wire, limit)
    expected = plain(in_order(events)), malformed
    for parts in ([wire], pieces(wire, cuts)):
        assert seen(*parts, max_length=limit) == expected


def in_order(events: list[object]) -> list[object]:
    """Those that are dropped last: a reader only counts them."""
    dropped = ("message", None)
    return [event for event in events if event != dropped] + [event for event in events if event == dropped]


def seeds() -> list[bytes]:
    """Each type, a conversation with a server, and what the limits are for."""
    wires = [
        b"".join(map(encode, stream))
        for stream in (
            [(b"message", b"channel", b"payload"), (b"smessage", b"c", b""), [b"message", b"c", b"p"], 3],
            [{b"server": b"redis", b"proto": 3, b"role": b"master", b"modules": []}, "OK", "PONG"],
            [(b"subscribe", b"c", 1), (b"sunsubscribe", b"c", 0), [b"pong", b""]],
            [[[0, 5460, [b"127.0.0.1", 7000, b"id", [b"hostname", b"h"]]], None], True, False, 1.5, float("inf")],
            [RespError(b"MOVED 866 127.0.0.1:7002"), RespError(b"NOPERM no"), -(1 << 63)],
        )
    ]
    wires += [
        b"!5\r\nERR x\r\n=5\r\ntxt:y\r\n(123\r\n|1\r\n+a\r\n~1\r\n:1\r\n$-1\r\n",
        b"*1\r\n" * 9,
        b"*0\r\n>0\r\n|0\r\n%0\r\n",
    ]
    return [join(bytes([limit]), wire, *cuts) for wire in wires for limit, cuts in ((3, ()), (2, (1,)), (1, (7, 2)))]
