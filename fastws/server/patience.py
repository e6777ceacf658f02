"""Waiting for others at the end of a server, for a bounded time, which becomes short when somebody is in a hurry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["Patience", "closing_time"]


class Patience:
    """Waits for futures.

    Args:
        on_hurry: called when nobody shall be waited for any longer.

    Attributes:
        grace: seconds that are waited beyond what deadlines add up to, and in a hurry.
        is_lost: whether somebody is in a hurry.
    """

    grace = 5.0

    def __init__(self, on_hurry: Callable[[], object]) -> None:
        self._on_hurry = on_hurry
        self.is_lost = False

    def lose(self) -> None:
        """Be in a hurry from now on."""
        self.is_lost = True
        self._on_hurry()

    async def wait(self, futures: Collection[asyncio.Future[Any]], seconds: float) -> bool:
        """Wait until all are done, and tell whether they are.

        Who cancels us meanwhile, as a loop does that ends, wants no end of what is left, but an end in a hurry.
        """
        now = asyncio.get_running_loop().time
        end = now() + seconds
        while (left := [future for future in futures if not future.done()]) and now() < end:
            if not await self._wait_once(left, end - now()):
                end = min(end, now() + self.grace)
        return not left

    async def _wait_once(self, futures: Collection[asyncio.Future[Any]], seconds: float) -> bool:
        try:
            await asyncio.wait(futures, timeout=seconds)
        except asyncio.CancelledError:
            self.lose()
            return False
        return True


def closing_time(close_timeout: float) -> float:
    """Return how many seconds the end of a server may take: its clients, then its services, and what comes on top."""
    return 2 * close_timeout + Patience.grace
