"""`fanout` and `slow`: one message to very many, some of whom may not read.

A connection of its own publishes, and is not measured: a delivery to it says nothing about a fan-out. With several
rooms the messages go to them in turns. With `--passive` the server publishes by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import LoadError
from .connections import Dialer, end
from .messages import Messages, explain
from .receiver import Stalled
from .recording import Stream, add

if TYPE_CHECKING:
    from .. import ws
    from .findings import Findings
    from .run import Run

__all__ = ["Fanout"]


class Fanout(Messages):
    """Messages at a fixed rate to all connections, or to those of one room after the other."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, run.plan.rate)
        self._publisher: ws.Connection | None = None
        self._stalled = Stalled(sum(map(self._is_stalled, run.numbers)))

    @property
    def publishes(self) -> bool:
        """Whether this process publishes."""
        return self.run.is_first and not self.plan.passive

    async def open(self) -> None:
        """Open all connections, and then the one that publishes."""
        await super().open()
        if self.publishes:
            self._publisher = await self._open_publisher()

    async def _open_publisher(self) -> ws.Connection:
        dialer = Dialer(self.plan, self.plan.publisher or self.plan.url, ())
        connection = await dialer.open(self.receiver, self.plan.connections)
        if connection is None:
            raise LoadError(f"the connection that publishes could not be opened: {explain(dialer)}")
        for template in self.plan.subscriptions:
            # It may have to be in a room in order to speak there
            for room in range(self.plan.rooms if "room" in template.names else 1):
                connection.push_text(template.render(n=self.plan.connections, room=room))
        return connection

    def listener_of(self, number: int) -> object:
        """Return the listener of a connection, which may be one that does not read."""
        return self._stalled if self._is_stalled(number) else self.receiver

    def _is_stalled(self, number: int) -> bool:
        return number < self.plan.stalled_count

    def stream_of(self, number: int) -> Stream:
        """Return what a connection is to get: every message of its room."""
        return Stream(self.plan.rooms, number % self.plan.rooms)

    def prepare(self, number: int, connection: ws.Connection) -> None:
        """Expect what a new connection is to get, if it reads."""
        if not self._is_stalled(number):
            super().prepare(number, connection)

    def send(self, seq: int) -> None:
        """Publish a message."""
        publisher = self._publisher
        assert publisher is not None
        if not publisher.is_open:
            code = self.receiver.closed.get(publisher, publisher.close_code)
            raise LoadError(f"the connection that publishes was closed with {code} {publisher.close_reason}".rstrip())
        self.push(publisher, seq, self.due(seq) or 0.0, self.plan.connections, seq % self.plan.rooms)

    async def wait_for_rest(self) -> None:
        """Wait for what is under way, and see what became of those who did not read."""
        await super().wait_for_rest()
        self._stalled.may_read.set()
        if self._stalled.count:
            await self.within_patience(self._stalled.all_ended.wait())

    def findings(self) -> Findings:
        """Return what was found, also of those who did not read."""
        found = super().findings()
        found.stalled = self._stalled.count
        for code in self._stalled.closed.values():
            add(found.stalled_closed, {code: 1})
        return found

    async def close(self) -> None:
        """Close all connections, the one that publishes, too."""
        self._stalled.may_read.set()
        await super().close()
        if self._publisher is not None:
            await end([self._publisher])
