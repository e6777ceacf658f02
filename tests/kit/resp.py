"""RESP written plainly: what the reader of the core is measured against, and replies for servers that play a part."""

from __future__ import annotations

from fastws._speedups import RespError, RespProtocolError, RespReader

MAX_DEPTH = 8
MAX_LINE = 1024
MAX_STRING = 1 << 30
MAX_COUNT = 1 << 25
INT64 = range(-(1 << 63), 1 << 63)


class NeedMore(Exception):
    """The value goes on behind the end."""


class Malformed(Exception):
    """There is no such value."""


class Dropped:
    """What comes of attributes."""


def decode(wire: bytes, max_length: int) -> tuple[list[object], bool]:
    """What a reader hands over of these bytes, and whether they end in something malformed.

    A message is its channel and payload after the word itself, all else the value; a message that is dropped is None
    after the word, and a number by itself is not handed over.
    """
    events: list[object] = []
    try:
        while wire:
            value, wire = _value(wire, max_length, 0)
            if value is not Dropped and type(value) is not int:
                events.append(_event(value))
    except (Malformed, NeedMore) as end:
        return events, isinstance(end, Malformed)
    return events, False


def value_of(wire: bytes) -> object:
    """The value that these bytes begin with; NeedMore while it is not complete."""
    return _value(wire, MAX_STRING, 0)[0]


def _event(value: object) -> object:
    match value:
        case (b"message" | b"smessage", bytes() as channel, bytes() as payload):
            return "message", channel, payload
        case (b"message" | b"smessage", _, _):
            return "message", None
    return value


def _value(wire: bytes, max_length: int, depth: int) -> tuple[object, bytes]:
    line, rest = _line(wire)
    kind, text = line[:1], line[1:]
    match kind:
        case b"+" | b"(":
            return text, rest
        case b"-":
            return RespError(text), rest
        case b"_" if not text:
            return None, rest
        case b"#" if text in (b"t", b"f"):
            return text == b"t", rest
        case b",":
            return _double(text), rest
    number = _number(text)
    if kind == b":":
        return number, rest
    if kind in (b"$", b"*") and number == -1:
        return None, rest
    if kind in (b"$", b"!", b"="):
        return _string(kind, number, rest, max_length)
    if kind in (b"*", b"~", b"%", b"|") or (kind == b">" and not depth):
        return _container(kind, number, rest, max_length, depth)
    raise Malformed


def _line(wire: bytes) -> tuple[bytes, bytes]:
    line, end, rest = wire.partition(b"\n")
    if len(line + end) > MAX_LINE:
        raise Malformed
    if not end:
        raise NeedMore
    if len(line) < 2 or not line.endswith(b"\r"):
        raise Malformed
    return line[:-1], rest


def _number(text: bytes) -> int:
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    if not digits.isdigit() or len(digits) > 19 or int(text) not in INT64:
        raise Malformed
    return int(text)


def _double(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        raise Malformed from None


def _string(kind: bytes, length: int, rest: bytes, max_length: int) -> tuple[object, bytes]:
    if not 0 <= length <= MAX_STRING:
        raise Malformed
    end = rest[length : length + 2]
    if not b"\r\n".startswith(end):
        raise Malformed
    if len(end) < 2:
        raise NeedMore
    text = rest[:length]
    if length > max_length:
        value: object = None
    else:
        value = RespError(text) if kind == b"!" else text[4:] if kind == b"=" else text
    return value, rest[length + 2 :]


def _container(kind: bytes, count: int, rest: bytes, max_length: int, depth: int) -> tuple[object, bytes]:
    if not 0 <= count <= MAX_COUNT or (count and depth == MAX_DEPTH):
        raise Malformed
    values: list[object] = []
    wanted = count * 2 if kind in (b"%", b"|") else count
    while len(values) < wanted:
        value, rest = _value(rest, max_length, depth + 1)
        if value is not Dropped:
            values.append(value)
    if kind == b"|":
        return Dropped, rest
    return tuple(values) if kind == b">" else values, rest


def encode(value: object) -> bytes:
    """A value as a server sends it: a tuple is a push, a str a simple string."""
    match value:
        case None:
            return b"_\r\n"
        case bool():
            return b"#t\r\n" if value else b"#f\r\n"
        case int():
            return b":%d\r\n" % value
        case float():
            return b",%s\r\n" % repr(value).encode()
        case str():
            return b"+%s\r\n" % value.encode()
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(value), value)
        case RespError():
            return b"-%s\r\n" % value.message
        case dict():
            return b"%%%d\r\n" % len(value) + b"".join(encode(part) for pair in value.items() for part in pair)
        case tuple():
            return b">%d\r\n" % len(value) + b"".join(map(encode, value))
        case list():
            return b"*%d\r\n" % len(value) + b"".join(map(encode, value))
    raise TypeError(value)


def seen(*pieces: bytes, max_length: int = 1 << 20) -> tuple[list[object], bool]:
    """What the reader of the core makes of these pieces, as `decode` tells it, but for messages that are dropped.

    They come last: a reader only counts them.
    """
    events: list[object] = []
    reader = RespReader(
        lambda channel, payload: events.append(("message", channel, payload)), events.append, max_length=max_length
    )
    malformed = False
    try:
        for piece in pieces:
            reader.feed(piece)
    except RespProtocolError:
        malformed = True
    return plain([*events, *[("message", None)] * reader.skipped]), malformed


def plain(value: object) -> object:
    """A value in which errors can be compared."""
    match value:
        case RespError():
            return "error", value.message
        case float() if value != value:
            return "nan"
        case list():
            return [plain(part) for part in value]
        case tuple():
            return tuple(plain(part) for part in value)
    return value
