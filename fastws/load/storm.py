"""`storm`: opening handshakes at a fixed rate, as when all clients come back at once.

Each is due at its time, however long those before it take; from then on its latency counts, until the answer is there.
So many connections stay open: the oldest is closed when there is one more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from .. import ws
from .connections import Dialer, end
from .findings import Findings
from .generator import Effort
from .recording import Latencies, add
from .run import Snapshot
from .timing import Schedule, keep_pace, now

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Storm"]

_LEAD: Final = 0.1  # seconds for all processes to learn when it begins


class Storm:
    """Opening handshakes at a fixed rate."""

    def __init__(self, run: Run) -> None:
        plan = run.plan
        self._run = run
        self._rate = plan.rate * len(run.numbers) / plan.connections
        self._total = max(1, round(self._rate * plan.duration))
        addresses = run.prepare(len(run.numbers), round(plan.rate * plan.duration))
        self._dialer = Dialer(plan, plan.url, addresses)
        self._listener = _Listener()
        self._latencies, self._lateness = Latencies(), Latencies()
        self._open: deque[ws.Connection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._effort = Effort()
        self._begun = 0
        self._at_once = len(run.numbers)

    async def find(self) -> Findings:
        """Ask the question, and return what was found."""
        self._run.watch(self)
        schedule = Schedule(await self._run.together(now()) + _LEAD, self._rate)
        try:
            await keep_pace(schedule, lambda seq: self._begin(schedule.due(seq)), lambda: self._total)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._run.plan.open_timeout)
            return self._findings()
        finally:
            for task in self._tasks:
                task.cancel()
            await end(list(self._open))

    def _begin(self, due: float) -> None:
        self._lateness.note(now() - due)
        task = asyncio.ensure_future(self._open_one(self._begun, due))
        self._begun += 1
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_one(self, number: int, due: float) -> None:
        connection = await self._dialer.open(self._listener, number)
        if connection is None:
            return
        self._latencies.note(now() - due)
        self._open.append(connection)
        if len(self._open) > self._at_once:
            oldest = self._open.popleft()
            self._listener.ours.add(oldest)
            oldest.close()

    def snapshot(self) -> Snapshot:
        """Tell how far it is."""
        self._effort.look()
        return Snapshot("opening", len(self._open), self._begun, self._dialer.opened, self._latencies.take())

    def _findings(self) -> Findings:
        opened = self._dialer.opened
        found = Findings(
            seconds=self._run.plan.duration,
            sent=self._begun,
            due=self._begun,
            delivered=opened,
            lost=self._begun - opened,
            latencies=self._latencies.total(),
            opened=opened,
            opening_seconds=self._run.plan.duration,
            refused=self._dialer.refused,
            failed=self._dialer.failed,
            lateness=self._lateness.total(),
            busiest=self._effort.busiest,
        )
        for code in self._listener.closed.values():
            add(found.closed, {code: 1})
        return found


class _Listener:
    """Notes how connections end that we did not close.

    Attributes:
        ours: those that we did.
        closed: the others, by close code.
    """

    def __init__(self) -> None:
        self.ours: set[ws.Connection] = set()
        self.closed: dict[ws.Connection, int] = {}

    @ws.on_close
    def ended(self, connection: ws.Connection, code: int) -> None:
        """Note how a connection ended."""
        if connection in self.ours:
            self.ours.discard(connection)
        else:
            self.closed[connection] = code
