"""The reader of what workers say to each other comes to what a slow one says, whole and in any pieces.

What is no frame is so at the same place, told once, and nothing is read behind it.
"""

from __future__ import annotations

import struct

from fastws._speedups import LinkReader, link_frame, link_message

from .inputs import join, pieces, split

MESSAGE = 1
LONGEST = 67108864  # bytes
NO_FRAME = ("no frame",)


def check(data: bytes) -> None:
    _, wire, cuts = split(data)
    expected = list(meaning(wire))
    for parts in ([wire], pieces(wire, cuts)):
        assert (told := read(parts)) == expected, (told, expected)


def read(parts) -> list[tuple]:
    told: list[tuple] = []
    reader = LinkReader(
        lambda subject, payload: told.append(("message", subject, payload)),
        lambda kind, data: told.append(("frame", kind, data)),
    )
    for part in parts:
        told += feed(reader, part)
    return told


def feed(reader: LinkReader, part: bytes) -> list[tuple]:
    """What this adds besides what the reader tells."""
    try:
        reader.feed(part)
    except ValueError:
        return [NO_FRAME]
    return []


def meaning(wire: bytes):
    """What all of the bytes mean, frame by frame."""
    while len(wire) >= 4:
        (length,) = struct.unpack_from("<I", wire)
        if not 1 <= length <= LONGEST:
            yield NO_FRAME
            return
        frame, wire = wire[4 : 4 + length], wire[4 + length :]
        if len(frame) < length:
            return
        if frame[0] != MESSAGE:
            yield "frame", frame[0], frame[1:]
            continue
        end = 3 + struct.unpack_from("<H", frame, 1)[0] if length >= 3 else length + 1
        if end > length:
            yield NO_FRAME
            return
        yield "message", frame[3:end], frame[end:]


def seeds() -> list[bytes]:
    streams = [
        link_frame(2, b"1 0123456789abcdef") + link_frame(3, b"fastws.c.g.g") + link_frame(6, b""),
        link_message(b"s", b"hello") + link_message(b"", b"") + link_message(b"x" * 300, b"y" * 300),
        link_message(b"s", b"1") + struct.pack("<I", 0) + link_message(b"s", b"2"),
        struct.pack("<I", LONGEST) + b"x",
        struct.pack("<I", LONGEST + 1) + b"x",
        struct.pack("<IBH", 3, MESSAGE, 1),
        struct.pack("<IB", 2, MESSAGE) + b"x",
        struct.pack("<IB", 1, MESSAGE),
    ]
    return [join(b"", stream, *cuts) for stream in streams for cuts in ((), (1,), (3, 20))]
