"""Lines that begin with a slash."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .._speedups import check_close_code
from ..errors import ConfigurationError

__all__ = ["HELP", "Close", "Help", "Ping", "Send", "parse"]

HELP: Final = """\
/ping               send a ping, and show how long its pong takes
/close [CODE [WHY]] close the connection, with 1000 or another code
/help               show this
//TEXT              send /TEXT
Ctrl-D closes, too"""

_CLOSE: Final = re.compile(r"([0-9]{1,9})?(?:\s+(.*))?")


class Send(NamedTuple):
    """A message."""

    message: str | bytes


class Ping(NamedTuple):
    """A ping whose pong is shown."""


class Close(NamedTuple):
    """The end."""

    code: int = 1000
    reason: str = ""


class Help(NamedTuple):
    """What can be typed."""


def parse(line: str) -> Send | Ping | Close | Help:
    """Read a line that was typed.

    Raises:
        ConfigurationError: there is no such command, or it cannot be done.
    """
    if not line.startswith("/"):
        return Send(line)
    if line.startswith("//"):
        return Send(line[1:])
    command, _, rest = line[1:].strip().partition(" ")
    if command == "close":
        return _close(rest.strip())
    if not rest.strip():
        if command == "ping":
            return Ping()
        if command == "help":
            return Help()
    raise ConfigurationError(f"there is no command {line!r}; /help shows them, and //{line[1:]} sends it")


def _close(rest: str) -> Close:
    found = _CLOSE.fullmatch(rest)
    if found is None:
        raise ConfigurationError("/close takes a code and a reason: /close 4000 good night")
    code = int(found[1] or 1000)
    try:
        check_close_code(code)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{code} may not be sent: give 1000 to 1003, 1007 to 1014 or 3000 to 4999") from None
    return Close(code, found[2] or "")
