"""Questions about messages: what is common to `echo`, `fanout` and `slow`.

Theory of operation. First all connections are opened. Then messages are sent on schedule, until each connection has had
one: now every subscription is known to be in force, and from some number on, the same for all, it counts. Once the last
of these numbers was due, what is still under way gets some time. What has not come then is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any, Final

from ..errors import LoadError
from .connections import Crowd, Dialer
from .findings import Findings
from .generator import Effort
from .receiver import Receiver
from .recording import Latencies, Stream, add
from .run import Snapshot
from .timing import Clock, Schedule, keep_pace, now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .. import ws
    from .run import Run

__all__ = ["Messages"]

_LEAD: Final = 0.1  # seconds for all processes to learn when it begins, and from which number on it counts


class Messages:
    """A question about messages; a class below says who sends which, and who gets them.

    Attributes:
        rate: messages a second that this process schedules.
        receiver: the listener of the connections that are measured.
        schedule: when they are due; None until all connections are open.
        end: the first number that does not count any more; None until that is known.
    """

    def __init__(self, run: Run, rate: float, answered: Callable[[ws.Connection], None] | None = None) -> None:
        plan = run.plan
        self.run = run
        self.plan = plan
        self.rate = rate
        self.receiver = Receiver(plan.expectation, None if plan.passive else self.due, answered)
        self.dialer = Dialer(plan, plan.url, run.prepare(len(run.numbers) + 1, plan.connections))
        self.crowd = Crowd(plan, self.dialer, self.listener_of, run.numbers)
        self.schedule: Schedule | None = None
        self.end: int | None = None
        self.sent = 0
        self.lateness = Latencies()
        self._template = plan.template
        self._clock = Clock()
        self._first: int | None = None
        self._phase = "opening"
        self._effort: Effort | None = None

    # --- What classes below decide.

    @property
    def publishes(self) -> bool:
        """Whether this process sends on schedule."""
        return True

    async def open(self) -> None:
        """Open all connections."""
        await self.crowd.open(self.prepare)
        if not self.crowd.opened:
            raise LoadError(f"no connection could be opened: {explain(self.dialer)}")
        gc.freeze()  # all of this stays, and to look through it again and again would hold up what is measured

    def listener_of(self, number: int) -> object:
        """Return the listener of a connection."""
        return self.receiver

    def stream_of(self, number: int) -> Stream:
        """Return what a connection is to get."""
        raise NotImplementedError

    def send(self, seq: int) -> None:
        """Send a message."""
        raise NotImplementedError

    def end_of(self, connection: ws.Connection) -> int:
        """Return the first number that a connection does not get any more."""
        assert self.end is not None
        return self.end

    # --- The course of it.

    async def find(self) -> Findings:
        """Ask the question, and return what was found.

        Raises:
            LoadError: it cannot be answered; the message says why.
        """
        self.run.watch(self)
        await self.open()
        self.schedule = Schedule(await self.run.together(now()) + _LEAD, self.rate)
        pace = asyncio.ensure_future(self._publish(self.schedule)) if self.publishes else None
        try:
            await self._warm_up(pace)
            await self._measure(pace)
            self._phase = "waiting for the rest"
            await self.wait_for_rest()
            return self.findings()
        finally:
            if pace is not None:
                pace.cancel()
            await self.close()

    async def _publish(self, schedule: Schedule) -> None:
        await keep_pace(schedule, self._send_due, lambda: self.end)

    async def _warm_up(self, pace: asyncio.Future[None] | None) -> None:
        self._phase = "warming up"
        heard: asyncio.Future[Any] = asyncio.ensure_future(self.receiver.all_heard.wait())
        waiting = {heard} if pace is None else {heard, pace}
        await asyncio.wait(waiting, timeout=self.plan.warmup, return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()
        if pace is not None and pace.done():
            pace.result()
        if self.receiver.highest < 0:
            raise LoadError(self._nothing_came())

    def _nothing_came(self) -> str:
        receiver = self.receiver
        ended = f"; {len(receiver.closed)} connections were closed" if receiver.closed else ""
        others = f"; the first of {receiver.foreign} others is {receiver.first_foreign}" if receiver.foreign else ""
        option = "--payload" if self.plan.expect is None else "--expect"
        return (
            f"within {self.plan.warmup:g} s (--warmup) no message came that looks like {option} says{ended}{others}; "
            f"see --subscribe for what makes the server send, and --expect for what it sends"
        )

    async def _measure(self, pace: asyncio.Future[None] | None) -> None:
        assert self.schedule is not None
        passive = self.plan.passive
        ahead = self.receiver.highest + self.plan.processes if passive else self.schedule.count(now() + _LEAD)
        first = int(await self.run.together(ahead))
        self.begin(first)
        if passive:
            await asyncio.sleep(self.plan.duration)
            self.end = int(await self.run.together(self.receiver.highest + 1))
        else:
            self.end = first + round(self.rate * self.plan.duration)
            await (asyncio.sleep(self.schedule.due(self.end) - now()) if pace is None else pace)
        self.receiver.end(self.end)

    def begin(self, first: int) -> None:
        """Count from this number on."""
        self._phase = "measuring"
        self._effort = Effort()
        self._first = first
        self.receiver.begin(first)

    async def wait_for_rest(self) -> None:
        """Wait until all has come that is due to those who are there, or for as long as that may take."""
        await self.within_patience(self.receiver.rest(self.end_of))

    async def within_patience(self, waiting: Awaitable[object]) -> None:
        """Wait for what may never come."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(waiting, self.plan.patience)

    async def close(self) -> None:
        """Close all connections."""
        self._phase = "closing"
        await self.crowd.close()

    # --- What happens meanwhile.

    def prepare(self, number: int, connection: ws.Connection) -> None:
        """Expect what a new connection is to get."""
        self.receiver.expect(connection, self.stream_of(number))

    def due(self, seq: int) -> float | None:
        """Return when a message is due."""
        assert self.schedule is not None
        return self.schedule.due(seq)

    def _send_due(self, seq: int) -> None:
        assert self.schedule is not None
        if self._first is not None and seq >= self._first:
            self.sent += 1
            self.lateness.note(now() - self.schedule.due(seq))
        self.send(seq)

    def push(self, connection: ws.Connection, seq: int, due: float, number: int, room: int) -> None:
        """Send a message over a connection."""
        text = self._template.render(seq=seq, due=self._clock.microseconds(due), n=number, room=room)
        if self.plan.binary:
            connection.push_binary(text.encode())
        else:
            connection.push_text(text)

    # --- What came of it.

    def snapshot(self) -> Snapshot:
        """Tell how far it is."""
        if self._effort is not None:
            self._effort.look()
        receiver = self.receiver
        open_now = len(self.crowd.opened) - len(receiver.closed)
        return Snapshot(self._phase, open_now, self.sent, receiver.count, receiver.latencies.take())

    def findings(self) -> Findings:
        """Return what was found."""
        receiver, dialer = self.receiver, self.dialer
        found = Findings(
            seconds=self.plan.duration,
            sent=self.sent,
            foreign=receiver.foreign,
            first_foreign=receiver.first_foreign,
            latencies=receiver.latencies.total(),
            earliest=receiver.latencies.earliest,
            opened=len(self.crowd.opened),
            opening_seconds=self.crowd.seconds,
            refused=dialer.refused,
            failed=dialer.failed,
            lateness=self.lateness.total(),
            busiest=self._effort.busiest if self._effort is not None else 0.0,
            reading_share=receiver.reading.share,
            reading_time=receiver.reading.mean,
        )
        for connection, stream in receiver.streams.items():
            self._count(found, connection, stream)
        for code in receiver.closed.values():
            add(found.closed, {code: 1})
        return found

    def _count(self, found: Findings, connection: ws.Connection, stream: Stream) -> None:
        """Count what a connection got, and what it did not."""
        end = self.end_of(connection)
        due, lost, behind = stream.due(end), stream.lost(), stream.behind(end)
        found.due += due
        found.delivered += due - lost - behind
        found.lost += lost
        if connection in self.receiver.closed:
            found.missed += behind
        else:
            found.lost += behind
        found.doubled += stream.doubled
        found.out_of_order += stream.out_of_order
        found.astray += stream.astray


def explain(dialer: Dialer) -> str:
    """Say why connections could not be opened, the most frequent reason first."""
    reasons = {**{f"answered with {status}": count for status, count in dialer.refused.items()}, **dialer.failed}
    return "; ".join(
        f"{reason} ({reasons[reason]})" for reason in sorted(reasons, key=reasons.__getitem__, reverse=True)
    )
