"""What systemd wants to know of a service of ``Type=notify``: that it is ready, reloads, stops, and still lives.

Datagrams to the socket that NOTIFY_SOCKET names, as sd_notify(3) describes them. Without it nothing is said.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

from ..logs import Log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import MutableMapping

__all__ = ["Notifier"]

logger = Log("fastws")

BEATS: Final = 3  # in the time after which the watchdog bites: one may be lost, and one be late
LONGEST_WATCHDOG: Final = 86_400.0  # seconds


class Notifier:
    """Tells systemd; the main process of a service makes one.

    Args:
        address: of its socket; None where there is none.
        watchdog: seconds of silence after which it ends us; 0 is never.
    """

    def __init__(self, address: str | None = None, watchdog: float = 0.0) -> None:
        self._address = address
        self._watchdog = watchdog
        self._timer: asyncio.TimerHandle | None = None
        self._stops = False

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """Take what the environment says out of it: processes that we start have nothing to tell."""
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "0")
        process = environment.pop("WATCHDOG_PID", str(os.getpid()))
        if not address or address[0] not in "/@":
            return cls()
        is_ours = microseconds.isascii() and microseconds.isdigit() and process == str(os.getpid())
        return cls(address, min(int(microseconds) / 1e6, LONGEST_WATCHDOG) if is_ours else 0.0)

    def ready(self, status: str = "serving") -> None:
        """Say that it serves, for the first time or again."""
        if not self._stops:
            self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that it is about to be another one; `ready` says that it is."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}", "STATUS=restarting")

    def stopping(self, seconds: float) -> None:
        """Say that it ends, once.

        Args:
            seconds: that this may take.
        """
        if not self._stops:
            self._stops = True
            self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", "STATUS=stopping")

    def live(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say again and again that a loop runs, as long as it does."""
        if self._watchdog and self._address is not None:
            self._tell("WATCHDOG=1")
            self._timer = loop.call_later(self._watchdog / BEATS, self.live, loop)

    def end(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            logger.debug("systemd could not be told: %s", error)
