"""The frame reader comes to what the reference says, in both roles, under any limit, whole and in any pieces.

Choices: one byte, the role and the limit.
"""

from __future__ import annotations

from fastws._speedups import FrameReader

from ..kit import reference
from ..kit.reference import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from .inputs import join, pieces, split

LIMITS = (0, 1, 10, 125, 126, 1000, 65536, 1 << 20)  # bytes of a message
KEY = b"\x37\xfa\x21\x3d"


def check(data: bytes) -> None:
    choices, wire, cuts = split(data, 1)
    role = {"client": choices[0] & 1 == 1, "max_message_size": LIMITS[choices[0] >> 1 & 7]}
    expected = reference.decode(wire, **role)
    for parts in ([wire], pieces(wire, cuts)):
        events, code = read(parts, role)
        assert events == expected.events, (events, expected)
        assert code == expected.code or (expected.code is None and code == expected.early), (code, expected)


def read(parts, role) -> tuple[list[tuple[int, str | bytes]], int | None]:
    reader = FrameReader(**role)
    events = []
    for part in parts:
        events += reader.feed(part)
        if events and events[-1][1] is None:
            return events[:-1], events[-1][0]
    return events, None


def seeds() -> list[bytes]:
    """Some of each kind of frame, for both roles."""
    frames = [
        [(TEXT, b"Hello", True), (PING, b"", True), (BINARY, b"\x00\xff", True), (CLOSE, b"\x03\xe8bye", True)],
        [(TEXT, b"caf\xc3", False), (PONG, b"x" * 125, True), (CONTINUATION, b"\xa9", True)],
        [(BINARY, b"", False), (CONTINUATION, b"", False), (CONTINUATION, b"z" * 130, True)],
        [(TEXT, "é€😀".encode() * 30, True)],
        [(BINARY, b"0123456789" * 13, True), (BINARY, b"a" * 1000, True)],
        [(TEXT, b"\xed\xa0\x80", True)],
        [(BINARY, b"y" * 65536, True)],
    ]
    whole = [
        join(bytes([client | limit << 1]), b"".join(_frame(*parts, client) for parts in stream), *cuts)
        for stream in frames
        for client, limit, cuts in ((0, 7, ()), (1, 7, (1,)), (0, 4, (3, 70)))
    ]
    # Lengths on both sides of what each form of a header is for
    lengths = [(126, 125, 2), (126, 126, 2), (127, 65535, 8), (127, 65536, 8), (127, 1 << 63, 8)]
    return whole + [join(b"\x0f", bytes([0x82, form]) + length.to_bytes(size, "big")) for form, length, size in lengths]


def _frame(opcode: int, payload: bytes, fin: bool, client: int) -> bytes:
    return reference.frame(opcode, payload, fin=fin, key=None if client else KEY)
