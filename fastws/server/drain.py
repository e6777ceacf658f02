"""Going away slowly: clients are closed one by one over a time, each with a hint when to come back.

Theory of operation. First the server says that it is not ready, and goes on as before for a moment, until balancers
have asked. Then it opens no WebSocket any more, and closes those that are there, in random order and evenly over the
time: all of them at once would overwhelm whoever serves them next. Who is in the middle of something gets more time, up
to the end of all.

The hint is the reason of the close frame, ``reconnect in 3500 ms``, and ``Retry-After`` of an upgrade that is refused.
Where clients are served elsewhere meanwhile, it is a random moment soon. Else nobody serves them before this server has
ended and begun again, and those that come back then are spread, too.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._speedups import Connection
    from ..http1.site import Site

__all__ = ["DRAIN_CODE", "DRAIN_TIME", "Drain"]

DRAIN_CODE: Final = 1012  # Service Restart, of the registry of RFC 6455 section 11.7
DRAIN_TIME: Final = 60.0  # seconds, where nobody says how long

GRACE_PART: Final = 0.1  # of the time, until upgrades are refused
LONGEST_GRACE: Final = 5.0  # seconds
PACED_PART: Final = 0.9  # of what is left; the rest is for those that are busy
LOOK_AGAIN: Final = 0.25  # seconds, at one that was busy
AT_ONCE: Final = 100  # goodbyes, before others have their turn

JITTER: Final = 1.0  # seconds in which clients come back that are served elsewhere
RESTART_TIME: Final = 2.0  # seconds that a server needs until it is there again
RETURN_PART: Final = 0.25  # of the time, in which clients come back to it


class Drain:
    """Closes the WebSockets of a server over a time.

    Args:
        site: of the server.
        over: seconds until the last one is closed.
        accepts: whether newcomers come here still: balancers are to notice first, and then upgrades are refused.
        elsewhere: whether clients are served elsewhere meanwhile.

    Attributes:
        elsewhere: likewise; it may turn out otherwise.
    """

    def __init__(self, site: Site, over: float, *, accepts: bool, elsewhere: bool) -> None:
        self.elsewhere = elsewhere
        self._site = site
        self._over = over
        self._now = site.loop.time
        begin = self._now()
        self._accepts = accepts
        self._noticed = begin + min(GRACE_PART * over, LONGEST_GRACE) if accepts else begin
        self._end = begin + over
        self._hurried: asyncio.Future[None] = site.loop.create_future()

    async def run(self) -> None:
        """Close them all; their closing handshakes are not waited for."""
        site = self._site
        site.is_ready = False
        site.retry_after = self._retry_after
        await self._until(self._noticed)
        site.refuses_upgrades |= self._accepts
        # Again for the few whose handshakes were under way
        while (connections := list(self._open_ones())) and not self._hurried.done():
            await self._close_paced(connections)

    def hurry(self) -> None:
        """Close at once who is still there."""
        if not self._hurried.done():
            self._hurried.set_result(None)
        for connection in list(self._open_ones()):
            self._close(connection)

    def hint(self) -> str:
        """Return what is said to a client: when to come back."""
        return f"reconnect in {round(1000 * self._delay())} ms"

    # --- When they come back.

    def _delay(self) -> float:
        if self.elsewhere:
            return JITTER * random.random()
        left = max(0.0, self._end - self._now())
        return left + RESTART_TIME + RETURN_PART * self._over * random.random()

    def _retry_after(self) -> int:
        return math.ceil(self._delay())

    # --- When they go.

    def _open_ones(self) -> Iterator[Connection]:
        for endpoint in self._site.endpoints.values():
            yield from (connection for connection in endpoint.members if connection.is_open)

    async def _close_paced(self, connections: list[Connection]) -> None:
        waiting = self._schedule(connections)
        while waiting and not self._hurried.done():
            await self._until(waiting[0][0])
            for _ in range(AT_ONCE):
                if waiting and waiting[0][0] <= self._now():
                    self._close_next(waiting)

    def _schedule(self, connections: list[Connection]) -> list[tuple[float, int, Connection]]:
        """Return a heap of the moments at which to close them."""
        random.shuffle(connections)
        begin = self._now()
        step = PACED_PART * max(0.0, self._end - begin) / max(1, len(connections))
        # Each in a span of its own: moments drawn freely would come in bursts
        return [(begin + step * (place + random.random()), place, one) for place, one in enumerate(connections)]

    def _close_next(self, waiting: list[tuple[float, int, Connection]]) -> None:
        due, place, connection = waiting[0]
        if connection.is_busy and due < self._end:
            heapq.heapreplace(waiting, (min(self._now() + LOOK_AGAIN, self._end), place, connection))
        else:
            heapq.heappop(waiting)
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        connection.close(DRAIN_CODE, self.hint())

    async def _until(self, moment: float) -> None:
        """Wait for a moment, or until somebody is in a hurry; others have their turn in any case."""
        await asyncio.wait([self._hurried], timeout=max(0.0, moment - self._now()))
