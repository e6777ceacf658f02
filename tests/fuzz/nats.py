"""The reader of the NATS protocol comes to what a slow one says, whole and in any pieces.

What is malformed is so at the same place, told once, and nothing is read behind it.
"""

from __future__ import annotations

import re

from fastws._speedups import NatsProtocolError, NatsReader

from .inputs import join, pieces, split

LINE = 65536  # bytes, with the end of it
PAYLOAD = 64 << 20  # bytes
MALFORMED = ("malformed",)


def check(data: bytes) -> None:
    _, wire, cuts = split(data)
    expected = list(meaning(wire))
    for parts in ([wire], pieces(wire, cuts)):
        assert (told := read(parts)) == expected, (told, expected)


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def received(self, subject: bytes, payload: bytes) -> None:
        self.told.append(("message", subject, payload))

    def on_status(self, subject: bytes, status: bytes) -> None:
        self.told.append(("status", subject, status))

    def on_info(self, text: bytes) -> None:
        self.told.append(("info", text))

    def on_error(self, text: bytes) -> None:
        self.told.append(("error", text))

    def on_ping(self) -> None:
        self.told.append(("ping",))

    def on_pong(self) -> None:
        self.told.append(("pong",))


def read(parts) -> list[tuple]:
    reader, listener = NatsReader(), Listener()
    try:
        for part in parts:
            reader.feed(part, listener)
    except NatsProtocolError:
        listener.told.append(MALFORMED)
    return listener.told


def meaning(wire: bytes):
    """What all of the bytes mean, event by event."""
    while wire:
        line, feed, wire = wire.partition(b"\n")
        if len(line + feed) > LINE or (feed and not line.endswith(b"\r")):
            yield MALFORMED
            return
        if not feed:
            return
        line = line[:-1]
        if match := re.fullmatch(rb"(H?)MSG (.*)", line, re.DOTALL):
            event, wire = message(bool(match[1]), [word for word in match[2].split(b" ") if word], wire)
        else:
            event = operation(line)
        if event:
            yield event
        if event == MALFORMED:
            return


def operation(line: bytes) -> tuple | None:
    if line in (b"PING", b"PONG"):
        return (line.decode().lower(),)
    if line.startswith(b"+OK"):
        return None
    for begin, name in ((b"INFO ", "info"), (b"-ERR", "error")):
        if line.startswith(begin):
            return name, line[len(begin) :]
    return MALFORMED


def message(with_headers: bool, words: list[bytes], wire: bytes) -> tuple[tuple | None, bytes]:
    """The event, None while it is not complete, and what is left."""
    lengths = words[-1 - with_headers :]
    if len(words) not in (3 + with_headers, 4 + with_headers):
        return MALFORMED, b""
    if not all(re.fullmatch(rb"\d{1,8}", word) and int(word) <= PAYLOAD for word in lengths):
        return MALFORMED, b""
    headers, length = (int(lengths[0]) if with_headers else 0), int(lengths[-1])
    if with_headers and not 12 <= headers <= length:
        return MALFORMED, b""
    block, end, left = wire[:length], wire[length : length + 2], wire[length + 2 :]
    if not b"\r\n".startswith(end):
        return MALFORMED, b""
    return (content(words[0], block, headers) if len(end) == 2 else None), left


def content(subject: bytes, block: bytes, length: int) -> tuple:
    if not length:
        return "message", subject, block
    headers = block[:length]
    if not (headers.startswith(b"NATS/1.0") and headers.endswith(b"\r\n\r\n")):
        return MALFORMED
    status = headers[8:].partition(b"\r\n")[0].strip()
    return ("status", subject, status) if status else ("message", subject, block[length:])


def seeds() -> list[bytes]:
    streams = [
        b'INFO {"server_id":"A","max_payload":1048576}\r\nPONG\r\nPING\r\n+OK\r\n',
        b"MSG a a 5\r\nhello\r\nMSG a a 0\r\n\r\nMSG a  b reply 2\r\n\r\n\r\n",
        b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nHMSG a 1 r 22 24\r\nNATS/1.0\r\nKey: Val\r\n\r\nhi\r\n",
        b"-ERR 'Authorization Violation'\r\nPIN\r\n",
        b"MSG a a 3\r\nhello\r\n",
        b"MSG a 3\r\nabc\r\n",
        b"MSG a a -1\r\n\r\n",
        b"MSG a a 67108864\r\nabc",
        b"MSG a a 67108865\r\nabc",
        b"HMSG a a 13 12\r\nNATS/1.0\r\n\r\n\r\n",
        b"INFO " + b"x" * 70000,
        b"INFO " + b"x" * 65529 + b"\r\nPING\r\n",
        b"INFO " + b"x" * 65530 + b"\r\nPING\r\n",
        b"PING\nPING\r\n",
    ]
    return [join(b"", stream, *cuts) for stream in streams for cuts in ((), (1,), (3, 20))]
