"""When to try again, and when not to: exponential back-off with full jitter, hints of servers, and errors for good.

Values in, values out. The bound doubles from one attempt to the next up to a cap, and the delay is drawn evenly from
none to the bound ("full jitter"): so clients that lost their server in one moment come back spread over the whole time.
A server that says when to come back knows better: ``reconnect in 3500 ms`` as the reason of a close frame, as one of
fastws says it that drains, or ``Retry-After`` of a refusal (RFC 9110 section 10.2.3).
"""

from __future__ import annotations

import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ..errors import ConnectError, ConnectionClosed, InvalidStatus, ProxyError, RedirectError
from ..handshake.fields import seconds_of

__all__ = ["Backoff", "hint_of", "is_permanent"]

FIRST_BOUND: Final = 1.0  # seconds, of the delay before the first attempt again
STEADY: Final = 10.0  # seconds that a connection lives before the one after it begins with the first bound again
LONGEST_HINT: Final = 3600.0  # seconds; a server that names more is asked once an hour

# Statuses from 400 to 499 that may be another in a while: Request Timeout, Too Early, Too Many Requests
_PASSING: Final = frozenset({408, 425, 429})
_HINT: Final = re.compile(r"reconnect in ([0-9]{1,9}) ms")


class Backoff:
    """How long to wait before each attempt.

    Args:
        cap: seconds that no bound exceeds.
        draw: a number from 0 to 1, another one each time.

    Attributes:
        attempt: of how many attempts since the last connection that lived for a while this one is the last; 0 before
            the first one.
        delay: seconds that were waited before it.
    """

    def __init__(self, cap: float, draw: Callable[[], float] = random.random) -> None:
        self._cap = cap
        self._draw = draw
        self._bound = min(FIRST_BOUND, cap)
        self.attempt = 0
        self.delay = 0.0

    def begin(self) -> None:
        """Note the first attempt, before which nobody waits."""
        self.attempt = 1

    def lived(self, seconds: float) -> None:
        """Note how long a connection lived."""
        if seconds >= STEADY:
            self._bound = min(FIRST_BOUND, self._cap)
            self.attempt = 0

    def next(self, error: Exception) -> float:
        """Return how long to wait before the next attempt.

        Args:
            error: what became of the last one.
        """
        jitter = self._draw()
        hint = hint_of(error)
        if hint is None:
            self.delay = self._bound * jitter
            self._bound = min(2 * self._bound, self._cap)
        else:
            # What is said in whole seconds is said to many; what is said in a close frame was drawn for us
            self.delay = hint if isinstance(error, ConnectionClosed) else hint + FIRST_BOUND * jitter
        self.attempt += 1
        return self.delay


def hint_of(error: BaseException) -> float | None:
    """Return after how many seconds the server wants us to come back; None where it does not say."""
    if isinstance(error, ConnectionClosed):
        found = _HINT.fullmatch(error.reason)
        seconds = int(found[1]) / 1000 if found else None
    else:
        seconds = _retry_after(error.headers) if isinstance(error, InvalidStatus) else None
    return None if seconds is None else min(seconds, LONGEST_HINT)


def is_permanent(error: Exception) -> bool:
    """Tell whether the same attempt would end the same in a while."""
    if not isinstance(error, (ConnectError, ConnectionClosed)) or isinstance(error, RedirectError):
        return True
    if isinstance(error, (InvalidStatus, ProxyError)):
        status = error.status or 0
        if 400 <= status < 500 and status not in _PASSING:
            return True
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds, or a date, which is compared with the server's own clock where it tells that."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    then, now = seconds_of(value), seconds_of(headers.get("Date"))
    if then is None:
        return None
    return max(0.0, then - (time.time() if now is None else now))
