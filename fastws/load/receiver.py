"""The listener of all connections of a question: what comes, for whom, and how late.

One message comes to very many, so what it says is found in it once and kept until another comes.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .. import ws
from .recording import Latencies, Stream
from .timing import Clock, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from .template import Expectation

__all__ = ["Receiver"]

_SHOWN: int = 80  # characters of a message that nobody expected


class Receiver:
    """Notes deliveries.

    Args:
        expectation: what they look like.
        due: says when a message was due; None has the message say it, if it can.
        answered: called with a connection to which something came that counts, or None.

    Attributes:
        streams: what each connection gets that counts.
        closed: how those ended that have, by close code.
        latencies: from when a delivery was due until it came.
        highest: the highest number that came.
        count: deliveries that count.
        foreign: how many messages came in which there is no number, and `first_foreign` the first of them, shortened.
        all_heard: set once each of those in `streams` has had something, or has ended.
    """

    def __init__(
        self,
        expectation: Expectation,
        due: Callable[[int], float | None] | None,
        answered: Callable[[ws.Connection], None] | None = None,
    ) -> None:
        self.streams: dict[ws.Connection, Stream] = {}
        self.latencies = Latencies()
        self.closed: dict[ws.Connection, int] = {}
        self.reading = Reading()
        self.highest = -1
        self.count = 0
        self.foreign = 0
        self.first_foreign = ""
        self.all_heard = asyncio.Event()
        self._expectation = expectation
        self._due_of = due
        self._answered = answered
        self._unheard: set[ws.Connection] = set()
        self._clock = Clock()
        self._end: int | None = None
        self._end_of: Callable[[ws.Connection], int] = lambda connection: 0
        self._unsettled: set[ws.Connection] = set()
        self._settled = asyncio.Event()
        # The last message, and what it says
        self._message: str | bytes | None = None
        self._seq = -1
        self._due: float | None = None

    @ws.on_text_message
    def text_came(self, connection: ws.Connection, text: str) -> None:
        """Note a delivery."""
        self._take(connection, text)

    @ws.on_binary_message
    def binary_came(self, connection: ws.Connection, data: bytes) -> None:
        """Note a delivery."""
        self._take(connection, data)

    @ws.on_close
    def ended(self, connection: ws.Connection, code: int) -> None:
        """Note how a connection ended."""
        self.closed[connection] = code
        self._hear(connection)
        self._settle(connection)

    def expect(self, connection: ws.Connection, stream: Stream) -> None:
        """Count what comes to a connection, once counting has begun."""
        self.streams[connection] = stream
        self._unheard.add(connection)

    def _take(self, connection: ws.Connection, message: str | bytes) -> None:
        moment = now()
        if message != self._message:
            self._read(message, moment)
        stream = self.streams.get(connection)
        if stream is None:
            return  # the one that publishes
        seq = self._seq
        if seq == stream.next and seq >= 0:
            stream.next = seq + stream.step
        elif not self._take_unexpected(connection, stream, seq):
            return
        self.count += 1
        self.reading.last = moment
        if self._due is not None:
            self.latencies.note(moment - self._due)
        if self._answered is not None:
            self._answered(connection)
        if self._unsettled:
            self._settle(connection)

    def _take_unexpected(self, connection: ws.Connection, stream: Stream, seq: int) -> bool:
        """Take what is not the next one; whether it counts."""
        if seq < 0:
            self.foreign += seq == -1
            return False
        self._hear(connection)
        return stream.take(seq)

    def _read(self, message: str | bytes, moment: float) -> None:
        """Read what a message says; what is not one of ours has no number."""
        self._message = message
        self._seq, self._due = -1, None
        found = self._expectation.find(message)
        if found is None:
            self.first_foreign = self.first_foreign or repr(message[:_SHOWN])
            return
        self._seq, stamp = found
        self.highest = max(self.highest, self._seq)
        if self._end is not None and self._seq >= self._end:
            self._seq = -2
        elif self._due_of is not None:
            self._due = self._due_of(self._seq)
        elif stamp is not None:
            self._due = self._clock.moment(stamp)
        self.reading.begin(moment)

    def begin(self, first: int) -> None:
        """Count from this number on, also what nobody expects: before that it may be greetings."""
        self.foreign = 0
        for stream in self.streams.values():
            stream.begin(first)

    def end(self, end: int) -> None:
        """Count only what has a lower number."""
        self._end = end
        self._message = None

    async def rest(self, end_of: Callable[[ws.Connection], int]) -> None:
        """Wait until all that are there have had everything.

        Args:
            end_of: says the first number that a connection does not get any more.
        """
        self._end_of = end_of
        self._unsettled.update(self.streams)
        for connection in self.streams:
            self._settle(connection)
        if self._unsettled:
            await self._settled.wait()

    def _settle(self, connection: ws.Connection) -> None:
        """See whether a connection has had everything, or is gone."""
        stream = self.streams.get(connection)
        if stream is None or connection not in self._unsettled:
            return
        if connection in self.closed or not (stream.behind(self._end_of(connection)) or stream.lost()):
            self._unsettled.discard(connection)
            if not self._unsettled:
                self._settled.set()

    def _hear(self, connection: ws.Connection) -> None:
        """Have heard of a connection; who is gone gets nothing any more."""
        self._unheard.discard(connection)
        if not self._unheard:
            self.all_heard.set()


class Stalled:
    """A listener that reads nothing until it may: its first message is not handled to the end, and holds up the others.

    Attributes:
        closed: how those ended that have, by close code.
        may_read: set when they are to read again, so that it shows how they have ended.
        all_ended: set once they have.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.closed: dict[ws.Connection, int] = {}
        self.all_ended = asyncio.Event()
        self.may_read = asyncio.Event()

    @ws.on_text_message
    async def text_came(self) -> None:
        """Handle nothing yet."""
        await self.may_read.wait()

    @ws.on_binary_message
    async def binary_came(self) -> None:
        """Handle nothing yet."""
        await self.may_read.wait()

    @ws.on_close
    def ended(self, connection: ws.Connection, code: int) -> None:
        """Note how a connection ended."""
        self.closed[connection] = code
        if len(self.closed) == self.count:
            self.all_ended.set()


class Reading:
    """How busy we are between the first and the last delivery of a message, when a server waits for us.

    Attributes:
        last: when the last delivery came.
        count: of messages.
        seconds: that all of them took together.
    """

    def __init__(self) -> None:
        self.last = self.seconds = 0.0
        self.count = 0
        self._first = self._cpu = self._busy = 0.0

    def begin(self, moment: float) -> None:
        """Begin with a message, and have done with the one before it."""
        cpu = time.process_time()
        taken = self.last - self._first
        if self._first and taken > 0:
            self.count += 1
            self.seconds += taken
            # Behind the last delivery there was nothing to do
            self._busy += min(taken, cpu - self._cpu)
        self._first = self.last = moment
        self._cpu = cpu

    @property
    def share(self) -> float:
        """The share of that time that was ours."""
        return self._busy / self.seconds if self.seconds else 0.0

    @property
    def mean(self) -> float:
        """How long it takes to read all deliveries of a message, in seconds."""
        return self.seconds / self.count if self.count else 0.0
