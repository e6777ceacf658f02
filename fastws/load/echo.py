"""`echo`: what each connection sends comes back to it.

At a fixed rate, in which all connections take part by turns; or with so many messages under way on each, as fast as
they are answered. The second finds out how many a server can answer, and says little about latency: whoever waits for
an answer before asking again does not notice what a stall does to those who do not wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .messages import Messages
from .recording import Stream
from .timing import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from .. import ws
    from .findings import Findings
    from .run import Run

__all__ = ["Echo", "Pipeline"]


class Echo(Messages):
    """Messages at a fixed rate, the connections by turns."""

    def __init__(self, run: Run, answered: Callable[[ws.Connection], None] | None = None) -> None:
        plan = run.plan
        super().__init__(run, plan.rate * len(run.numbers) / plan.connections, answered)
        self.count = len(run.numbers)

    def place(self, number: int) -> int:
        """Return the place of a connection among those of this process."""
        return number - self.run.numbers[0]

    def stream_of(self, number: int) -> Stream:
        """Return what a connection is to get: what it sends."""
        return Stream(self.count, self.place(number))

    def send(self, seq: int) -> None:
        """Send a message, if the connection whose turn it is could be opened and has not ended."""
        number = self.run.numbers[seq % self.count]
        connection = self.crowd.opened.get(number)
        if connection is not None:
            self.push(connection, seq, self.due(seq) or 0.0, number, 0)


class Pipeline(Echo):
    """So many messages under way on each connection, as fast as they are answered."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, self._send_another)
        self._numbers: dict[ws.Connection, int] = {}
        self._next: dict[ws.Connection, int] = {}
        self._sent_at: dict[int, float] = {}
        self._stop = 0.0

    def prepare(self, number: int, connection: ws.Connection) -> None:
        """Expect what a new connection is to get."""
        super().prepare(number, connection)
        self._numbers[connection] = number
        self._next[connection] = self.place(number)

    def due(self, seq: int) -> float | None:
        """Return when a message was sent."""
        return self._sent_at.pop(seq, None)

    def end_of(self, connection: ws.Connection) -> int:
        """Return the first number that a connection has not sent."""
        return self._next[connection]

    async def find(self) -> Findings:
        """Ask the question, and return what was found."""
        self.run.watch(self)
        await self.open()
        await self.run.together(now())
        try:
            await self._keep_under_way()
            await self.wait_for_rest()
            return self.findings()
        finally:
            await self.close()

    async def _keep_under_way(self) -> None:
        self.begin(0)
        self._stop = now() + self.plan.duration
        for connection in self._numbers:
            for _ in range(self.plan.under_way or 1):
                self._send_next(connection)
        await asyncio.sleep(self.plan.duration)

    def _send_another(self, connection: ws.Connection) -> None:
        """Send the next message where one has come back."""
        if now() < self._stop:
            self._send_next(connection)

    def _send_next(self, connection: ws.Connection) -> None:
        seq = self._next[connection]
        self._next[connection] = seq + self.count
        self._sent_at[seq] = moment = now()
        self.sent += 1
        self.push(connection, seq, moment, self._numbers[connection], 0)

    def findings(self) -> Findings:
        """Return what was found."""
        found = super().findings()
        found.is_closed_loop = True
        return found
