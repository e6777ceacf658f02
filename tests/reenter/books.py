"""What was pushed to whom, and whether a client's stream can have come of it.

Others run in the middle of a push and push, too. So what holds of the order is: a push that had returned before another
began comes before it.
"""

from __future__ import annotations

import itertools
import sys
import zlib
from dataclasses import dataclass, field

from tests.kit.client import take_frame
from tests.kit.reference import CLOSE, TEXT, parse_close

NEVER = 1 << 62


def payload(serial: int, length: int) -> bytes:
    """The message of a push: its number, over and over."""
    word = b"%d," % serial
    return word + (word * (length // len(word) + 1))[:length]


@dataclass
class Push:
    """One call that was made."""

    serial: int
    length: int
    begun: int
    key: str | None
    call: str
    ended: int = NEVER
    recipients: frozenset[int] = frozenset()


@dataclass
class Books:
    """All calls of an episode, and what every connection should have got."""

    pushes: dict[int, Push] = field(default_factory=dict)
    uncounted: set[int] = field(default_factory=set)  # connections of which nobody knows what was pushed to them
    serials: itertools.count = field(default_factory=itertools.count)
    clock: itertools.count = field(default_factory=itertools.count)

    def begin(self, length: int, key: str | None = None) -> tuple[Push, bytes]:
        """Note a push that begins."""
        push = Push(next(self.serials), length, next(self.clock), key, sys._getframe(1).f_code.co_name)
        self.pushes[push.serial] = push
        return push, payload(push.serial, length)

    def end(self, push: Push, recipients: set[int] | frozenset[int]) -> None:
        """Note who the push went to."""
        push.recipients = frozenset(recipients)
        push.ended = next(self.clock)

    def check(self, number: int, received: list[tuple[int, bytes]]) -> list[Push]:
        """Check the messages that a connection got; returns their pushes."""
        got = [self._push_of(number, data) for opcode, data in received if opcode <= 2]
        assert len({push.serial for push in got}) == len(got), f"{number} got a message twice"
        latest = Push(-1, 0, -1, None, "")
        for push in got:
            if push.key is not None:
                continue  # it may have taken the place of an earlier one
            assert push.ended >= latest.begun, f"{number} got {push} behind {latest}"
            latest = max(latest, push, key=lambda each: each.begun)
        return got

    def _push_of(self, number: int, data: bytes) -> Push:
        serial = int(data[: data.index(b",")])
        push = self.pushes[serial]
        assert data == payload(serial, push.length), f"{number} got {push} damaged: {data[:60]!r}"
        assert number in push.recipients or push.ended == NEVER, f"{number} got {push}"
        return push

    def check_count(self, number: int, got: list[Push], dropped: int) -> None:
        """Check that all that was pushed to a connection arrived, but for what was counted as dropped."""
        due = [push for push in self.pushes.values() if number in push.recipients]
        missing = len(due) - len(got)
        if number not in self.uncounted:
            assert missing == dropped, f"{number} misses {missing} of {len(due)} messages, {dropped} were dropped"


def frames(stream: bytes, *, takeover: bool) -> tuple[list[tuple[int, bytes]], bytes]:
    """The frames that a client got, as they were before they were compressed, and the bytes behind the last of them."""
    rest, found, inflater = bytearray(stream), [], None
    while rest:
        compressed = rest[0] & 0x40
        rest[0] &= ~0x40
        taken = take_frame(rest)
        if taken is None:
            break
        opcode, data = taken
        if compressed:
            if inflater is None or not takeover:
                inflater = zlib.decompressobj(-15)
            data = inflater.decompress(data + b"\0\0\xff\xff")
        if opcode == TEXT:
            data.decode()
        found.append((opcode, data))
        if opcode == CLOSE:
            parse_close(data)
            assert not rest, "bytes behind the close frame"
    return found, bytes(rest)
