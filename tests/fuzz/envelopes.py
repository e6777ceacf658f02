"""A node takes whatever others say without an error, and what comes twice it takes once, whatever came before.

Choices: two bytes, the subjects that messages come on, in turn. The cuts are the lengths of the messages.
"""

from __future__ import annotations

import asyncio
import logging

from fastws._speedups import hub_of_thread
from fastws.backplane.relay import Relay
from fastws.testing import connected_pair

from ..kit import envelopes
from ..kit.cluster import Exchange
from ..kit.envelopes import BINARY, CLAIM, CLOSE, CONFLATE, CONTINUES, CONTROL, FORGET, GOES_ON, TEXT, envelope, record
from ..kit.services import at
from .inputs import join, pieces, split

SUBJECTS = (b"p.g.g", b"p.n.ada", b"p.s.=2F", b"p.c.all")
OTHER = 0x1111111111111111
loop = asyncio.new_event_loop()


@at()
class Member:
    """Is in everything."""


@at("/hears")
class Other:
    """Hears what comes."""


class Node(Relay):
    """Knows others for ever: whose goodbye is believed, and who then speaks on, is heard as anybody new."""

    def _lose(self, node: str, *, well: bool = False) -> None:
        pass


class Errors(logging.Handler):
    """What was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, entry: logging.LogRecord) -> None:
        self.messages.append(self.format(entry))


def check(data: bytes) -> None:
    choices, wire, cuts = split(data, 2)
    subjects = [SUBJECTS[choice >> shift & 3] for choice in choices for shift in (0, 2, 4, 6)]
    messages = [(subjects[place % 8], payload) for place, payload in enumerate(pieces(wire, cuts))]
    errors = Errors()
    logging.getLogger("fastws").addHandler(errors)
    try:
        loop.run_until_complete(take(messages))
    finally:
        logging.getLogger("fastws").removeHandler(errors)
    assert not errors.messages, errors.messages[0]


async def take(messages: list[tuple[bytes, bytes]]) -> None:
    async with connected_pair(Member, Other) as (connection, _):
        part = Exchange().part()
        node = Node(hub_of_thread(loop, dict, dict), part, b"p.", None)
        node.begin()
        await part.open(node)
        node.go_up()
        connection.join("g")
        connection.store("ada")
        try:
            for message in messages:
                node.received(*message)
            heard = node.heard
            for message in messages:
                node.received(*message)
            assert node.heard == heard
            await asyncio.sleep(0)
        finally:
            node.end()


def seeds() -> list[bytes]:
    push, key = record(TEXT, b"hello"), {"policy": CONFLATE, "key_kind": envelopes.KEY_TEXT, "key": b"k"}
    hello = b'{"op": "hello", "since": 1, "digest": 7, "reads": 1, "ask": true, "anew": 0.5}'
    words = b'{"op": "table", "words": [["g", 5, true], ["h", 6, false], [1, 2, 3]], "more": false}'
    streams = [
        (0x00, [envelope(OTHER, push, record(BINARY, b"\xff", **key)), envelope(OTHER, push, sequence=9, flags=1)]),
        (0x00, [envelope(OTHER, push, sequence=5), envelope(OTHER, push, epoch=2), envelope(OTHER, push, sequence=6)]),
        (0x00, [envelope(OTHER, record(TEXT, b"a", part=GOES_ON), record(TEXT, b"b", part=CONTINUES | GOES_ON))]),
        (0x00, [envelope(OTHER, record(CLOSE, b"\x03\xe8bye")), envelope(OTHER, push, count=2)]),
        (0x55, [envelope(OTHER, record(CLAIM, bytes(8)), record(FORGET, b"\xff" * 8), record(CLAIM, b"\xff" * 8))]),
        (0xFF, [envelope(OTHER, record(CONTROL, hello)), envelope(OTHER, record(CONTROL, words), sequence=2)]),
        (0xFF, [envelope(OTHER, record(CONTROL, b'{"op": "count", "number": 1, "name": "group:g"}'))]),
        (0xFF, [envelope(OTHER, record(CONTROL, b'{"op": "table?"}'), record(CONTROL, b'{"op": "bye"}'))]),
    ]
    return [
        join(bytes([on, on]), b"".join(messages), *[len(message) & 255 for message in messages])
        for on, messages in streams
    ]
