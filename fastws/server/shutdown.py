"""The end of a server, step by step: goodbyes, deadlines, `on_stop`. No step depends on the success of another."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ..logs import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..http1.site import Site
    from ..net.listening import Listener
    from ..net.sockets import ListeningSockets
    from .lifecycle import Lifecycle
    from .patience import Patience

__all__ = ["Shutdown", "do_all"]

logger = Log("fastws")


class Shutdown:
    """Ends a server.

    Args:
        site: of the server.
        listener: likewise.
        sockets: that it listens at.
        lifecycle: of its services.
        patience: how long anything may take.
    """

    def __init__(
        self, site: Site, listener: Listener, sockets: ListeningSockets, lifecycle: Lifecycle, patience: Patience
    ) -> None:
        self._site = site
        self._listener = listener
        self._sockets = sockets
        self._lifecycle = lifecycle
        self._patience = patience

    async def run(self, code: int, reason: str) -> None:
        """Close every connection, wait for their ends, and stop the services."""
        site, patience = self._site, self._patience
        timeout: float = site.options.close_timeout
        do_all(self._goodbyes(code, reason))
        await patience.wait(self._listener.give_up(), timeout)
        await self._drain(timeout)
        do_all(connection.give_up for connection in list(site.http_connections))
        await self._drain(timeout + patience.grace)
        if patience.is_lost:
            await self._drain(patience.grace)
        if not site.is_empty():
            count = site.connection_count()
            logger.warning("the server stops, but %d connections have handlers that run", count)
        if not await patience.wait(self._lifecycle.background, timeout):
            logger.warning("the server stops, but %d tasks of on_start run", len(self._lifecycle.background))
        await self._lifecycle.stop(timeout)

    def _goodbyes(self, code: int, reason: str) -> Iterator[Callable[[], object]]:
        yield self.stop_listening
        for refused in self._site.refusals:
            yield refused.on_deadline
        for task in list(self._lifecycle.background):
            yield task.cancel
        for connection in list(self._site.http_connections):
            yield connection.shutdown
        for endpoint in self._site.endpoints.values():
            for websocket in endpoint.members:
                yield functools.partial(websocket.close, code, reason)

    def stop_listening(self) -> None:
        """Accept nobody any more."""
        do_all((self._listener.stop, self._sockets.close))

    async def _drain(self, seconds: float) -> None:
        """Wait until every connection has ended, for so many seconds at most, or until somebody is in a hurry."""
        patience = self._patience
        if not self._site.is_empty():
            await patience.wait([self._site.emptied()], min(seconds, patience.grace) if patience.is_lost else seconds)


def do_all(steps: Iterable[Callable[[], object]]) -> None:
    """Take every step, whatever becomes of the others."""
    for step in steps:
        _do(step)


def _do(step: Callable[[], object]) -> None:
    try:
        step()
    except Exception:
        logger.exception("a step of the shutdown failed: %s", repr(step))  # a record may be kept, and would keep it
