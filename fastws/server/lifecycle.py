"""What services do besides their connections: `on_start` before the first, `on_stop` after the last, `on_backplane`."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from ..logs import UNUSED_RESULT, Log
from ..service.signature import is_awaitable

if TYPE_CHECKING:
    from ..http1.site import Site
    from ..service.model import Handler, Service
    from .patience import Patience

__all__ = ["Lifecycle"]

logger = Log("fastws")


class Lifecycle:
    """Starts the services of a server and stops them.

    Args:
        server: what the handlers are given.
        site: of the server.
        patience: of the server.

    Attributes:
        background: the tasks of `async` ones of `on_start` and `on_backplane`.
    """

    def __init__(self, server: object, site: Site, patience: Patience) -> None:
        self._server = server
        self._site = site
        self._patience = patience
        self._started: list[Service] = []  # those whose on_stop is due
        self.background: set[asyncio.Future[Any]] = set()
        self._once: set[asyncio.Future[Any]] = set()  # of these, those of `lead`

    def start(self) -> None:
        """Run every `on_start`; what one of them raises ends it here."""
        for service in self._site.services:
            self._start_service(service)

    def lead(self, leads: bool) -> None:
        """Do what one node alone shall do, or stop it."""
        if not leads:
            for task in list(self._once):
                task.cancel()
            return
        for service in self._started:
            handler = service.handlers.get("on_start_once")
            if handler is not None and (begun := self._begin(service, handler)) is not None:
                self._once.add(begun)
                begun.add_done_callback(self._once.discard)

    def tell(self, state: str, node: str | None, target: tuple[str, str] | None, missing: int) -> None:
        """Tell the services what became of the way to other nodes."""
        told = {"state": state, "node": node, "target": target, "missing": missing, "server": self._server}
        for service in self._started:
            handler = service.handlers.get("on_backplane")
            if handler is not None:
                self._begin(service, handler, told)

    def _begin(
        self, service: Service, handler: Handler, given: dict[str, Any] | None = None
    ) -> asyncio.Future[Any] | None:
        """Call a handler of which nobody waits for the end; what it raises is logged."""
        try:
            task = self._call(service, handler, given)
        except Exception:
            logger.exception("%s failed", handler.label)
            return None
        if task is not None:
            self._keep(handler, task)
        return task

    def _keep(self, handler: Handler, task: asyncio.Future[Any]) -> None:
        self.background.add(task)
        task.add_done_callback(functools.partial(_log_failure, handler.label))
        task.add_done_callback(self.background.discard)

    async def stop(self, timeout: float) -> None:
        """Run every `on_stop` that is due; what shall end the program does so when all have run.

        Args:
            timeout: seconds for an `async` one.
        """
        last: BaseException | None = None
        for service in self._started:
            handler = service.handlers.get("on_stop")
            if handler is not None:
                try:
                    await self._stop_service(service, handler, timeout)
                except (KeyboardInterrupt, SystemExit) as error:
                    last = error
        if last is not None:
            raise last

    def _start_service(self, service: Service) -> None:
        handler = service.handlers.get("on_start")
        task = None if handler is None else self._call(service, handler)
        self._started.append(service)
        if handler is not None and task is not None:
            self._keep(handler, task)

    async def _stop_service(self, service: Service, handler: Handler, timeout: float) -> None:
        try:
            task = self._call(service, handler)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a CancelledError, too, is the affair of this service alone
            logger.exception("%s failed", handler.label)
            return
        if task is None:
            return
        if not await self._patience.wait([task], timeout):
            logger.error("%s took longer than %s seconds (close_timeout) and is cancelled", handler.label, timeout)
            task.cancel()
            await self._patience.wait([task], self._patience.grace)
        elif task.cancelled():
            logger.error("%s was cancelled, and did not run to its end", handler.label)
        else:
            _log_failure(handler.label, task)

    def _call(
        self, service: Service, handler: Handler, given: dict[str, Any] | None = None
    ) -> asyncio.Future[Any] | None:
        """Call a handler; what it awaits becomes a task that broadcasts to its own service."""
        context = self._site.context_of(service)
        given = {"server": self._server} if given is None else given
        arguments = {name: given[name] for name in handler.keywords}
        result = context.run(handler.function, *(given[name] for name in handler.positional), **arguments)
        if is_awaitable(result):
            task: asyncio.Future[Any] = context.run(asyncio.ensure_future, result)
            return task
        if result is not None:
            logger.warning(UNUSED_RESULT, handler.label, type(result).__name__)
        return None


def _log_failure(label: str, task: asyncio.Future[Any]) -> None:
    # What ends the program is no failure, and told by the loop
    if not task.cancelled() and isinstance(task.exception(), Exception):
        logger.error("%s failed", label, exc_info=task.exception())
