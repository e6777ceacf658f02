"""Compressed messages come to what zlib makes of them, within the limit, in any fragments and in any pieces.

Choices: one byte, the role, the limit, and whether the peer's window lasts. The wire: messages between `SEPARATOR`s, of
which the first byte says whether it is text and compressed and how it is cut into fragments, the rest is its payload.
"""

from __future__ import annotations

import zlib

from fastws._speedups import FrameReader

from ..kit import reference
from ..kit.reference import BINARY, CONTINUATION, TEXT
from .frames import KEY, LIMITS
from .inputs import join, pieces, split

SEPARATOR = b"\xff\xfe\xfd"
RSV1 = 0x40
TAIL = b"\x00\x00\xff\xff"
FINALS = 16  # final blocks of a message
IS_TEXT, IS_PLAIN = 1, 2  # and the other bits: bytes of a fragment


def check(data: bytes) -> None:
    choices, wire, cuts = split(data, 1)
    client, takeover, limit = choices[0] & 1, choices[0] >> 1 & 1, LIMITS[choices[0] >> 2 & 7]
    messages = [message for message in wire.split(SEPARATOR) if message]
    stream = b"".join(_frames(message, client) for message in messages)
    expected = outcomes(messages, takeover, limit)
    for parts in ([stream], pieces(stream, cuts)):
        reader = FrameReader(client=bool(client), max_message_size=limit, window_bits=15, takeover=bool(takeover))
        agrees(reader, parts, expected)


def agrees(reader: FrameReader, parts, expected: list) -> None:
    events = []
    for part in parts:
        events += reader.feed(part)
        if events and events[-1][1] is None:
            break
    failed = bool(events) and events[-1][1] is None
    last = expected[-1] if expected and isinstance(expected[-1], set) else None
    if last is None:
        assert events == expected, (events, expected)
    else:
        assert failed, (events, expected)
        assert events[:-1] == expected[:-1], (events, expected)
        assert events[-1][0] in last, (events, expected)


def _frames(message: bytes, client: int) -> bytes:
    """A message in fragments; the first has RSV1 if it is compressed."""
    size = message[0] >> 2 or len(message)
    payload = message[1:]
    parts = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    opcode = (TEXT if message[0] & IS_TEXT else BINARY) | (0 if message[0] & IS_PLAIN else RSV1)
    key = None if client else KEY
    return b"".join(
        reference.frame(CONTINUATION if number else opcode, part, fin=number == len(parts) - 1, key=key)
        for number, part in enumerate(parts)
    )


def outcomes(messages: list[bytes], takeover: int, limit: int) -> list:
    """The messages that are read; last the set of codes of which one ends it, if one does."""
    events: list = []
    stream = zlib.decompressobj(-15)
    for message in messages:
        is_text, payload, broken = message[0] & IS_TEXT, message[1:], False
        if not message[0] & IS_PLAIN:
            stream = stream if takeover else zlib.decompressobj(-15)
            payload, broken, stream = inflate(stream, payload, limit)
        valid = reference.is_utf8(payload) if is_text else True
        codes = {1009} if len(payload) > limit else set()
        if broken or valid is False or (valid is None and not codes):
            codes.add(1007)
        if codes:
            return [*events, codes]
        events.append((TEXT, payload.decode()) if is_text else (BINARY, payload))
    return events


def inflate(stream, payload: bytes, limit: int):
    """What a payload is inflated to, one byte beyond the limit at most; whether zlib objects; and how it goes on.

    Byte by byte, so that it is known what comes out before zlib objects.
    """
    output, finals, start = b"", 0, stream.copy()
    try:
        for place in range(len(payload + TAIL)):
            if place == len(payload) and stream.eof:
                break  # it ended with its final block: nothing is to be made up for
            if stream.eof:
                stream = zlib.decompressobj(-15)
            output += stream.decompress((payload + TAIL)[place : place + 1], limit + 1 - len(output))
            finals += stream.eof and place < len(payload)
            if len(output) > limit or finals > FINALS:
                return output, finals > FINALS or objects(start, payload), stream
    except zlib.error:
        return output, True, stream
    return output, False, zlib.decompressobj(-15) if stream.eof else stream


def objects(stream, payload: bytes) -> bool:
    """Whether zlib may object before it has given all that comes before: it reads ahead."""
    try:
        stream.decompress(payload)
    except zlib.error:
        return True
    return stream.eof


def _deflated(*parts: bytes, finish: int = zlib.Z_SYNC_FLUSH) -> list[bytes]:
    compressor = zlib.compressobj(wbits=-15)
    payloads = [compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH) for part in parts[:-1]]
    payloads.append(compressor.compress(parts[-1]) + compressor.flush(finish))
    return [payload.removesuffix(TAIL) for payload in payloads]


def seeds() -> list[bytes]:
    first, again = _deflated(b"Hello", b"Hello")
    [final] = _deflated(b"Hello", finish=zlib.Z_FINISH)
    [text] = _deflated("é€😀".encode() * 9)
    [bomb] = _deflated(bytes(200_000))
    [exact] = _deflated(b"0123456789" * 100)
    [stored] = [b"\x00\x05\x00\xfa\xffHello\x00"]
    streams = [
        [b"\1" + first, b"\1" + again, b"\3plain", b"\0" + stored],
        [b"\1" + final, b"\1" + final + b"\0", b"\1" + final * 20],
        [b"\5" + text, b"\x0d" + text],
        [b"\0" + bomb],
        [b"\0" + exact, b"\0" + _deflated(b"0" * 1001)[0]],
        [b"\0", b"\1\xff", b"\1" + _deflated(b"\xed\xa0")[0]],
    ]
    return [
        join(bytes([choice]), SEPARATOR.join(messages), *cuts)
        for messages in streams
        for choice, cuts in ((0x1C, ()), (0x16, (1,)), (0x1F, (7, 3)), (0x15, (5,)))
    ]
