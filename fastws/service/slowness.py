"""Handlers outside of the core that keep the loop for long: HTTP resources and `on_upgrade`, timed call by call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..logs import SLOW_HANDLER, Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Handler

__all__ = ["SlowHandlers"]

logger = Log("fastws")


class SlowHandlers:
    """Calls handlers, and says once of each that it kept the loop for too long.

    Args:
        seconds: what is too long; None is nothing.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._told: set[str] = set()

    def call(self, handler: Handler, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, in which the handler runs."""
        if self._seconds is None:
            return function(*args)
        began = time.monotonic()
        try:
            return function(*args)
        finally:
            taken = time.monotonic() - began
            if taken >= self._seconds and handler.label not in self._told:
                self._told.add(handler.label)
                logger.warning(SLOW_HANDLER, handler.label, taken)
