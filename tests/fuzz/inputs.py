"""What an input is made of: first the choices of its target, then the bytes of the wire, and last how they are cut."""

from __future__ import annotations

from collections.abc import Iterator

CUTS = 4  # bytes at the end


def join(choices: bytes, wire: bytes, *cuts: int) -> bytes:
    """An input whose wire comes in pieces of these lengths, in turn."""
    return choices + wire + bytes((cuts or (0,)) * CUTS)[:CUTS]


def split(data: bytes, choices: int = 0) -> tuple[bytes, bytes, bytes]:
    """The choices of an input, the bytes of the wire, and the cuts; what is missing is zero."""
    padded = data + bytes(max(0, choices + CUTS - len(data)))
    return padded[:choices], padded[choices:-CUTS], padded[-CUTS:]


def pieces(wire: bytes, cuts: bytes) -> Iterator[bytes]:
    """The wire in pieces whose lengths are the cuts, in turn; 0 is all that is left."""
    start = turn = 0
    while start < len(wire):
        end = start + (cuts[turn % CUTS] or len(wire))
        yield wire[start:end]
        start, turn = end, turn + 1
