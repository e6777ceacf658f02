"""`fastws connect URL`: lines in, frames out; what comes is shown.

Theory of operation. The main thread waits for lines, since readline may leave a terminal in disorder anywhere else. The
connection lives on the loop in the background, where what comes is shown as it comes. When it ends while a line is
awaited, a signal whose handler raises wakes the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from ..client.background import Background
from ..client.connect import connect, unchecked_context
from ..client.url import parse as parse_url
from ..errors import ConfigurationError, ConnectionClosed, FastWSError
from . import commands
from .screen import Screen
from .text import printable

if TYPE_CHECKING:
    from .._speedups import ClientConnection
    from ..options import ConnectOptions

__all__ = ["Talk", "talk"]

_T = TypeVar("_T")

# How it ended
WELL: Final = 0  # with 1000 or 1001, or as the user wanted it
NOT_CONNECTED: Final = 1
MISUSED: Final = 2
CLOSED: Final = 3  # by the server, with another code; or before the message came that --once waits for
LOST: Final = 4  # without a close frame
INTERRUPTED: Final = 130  # by Ctrl-C

PONG_TIME: Final = 10.0  # seconds that answers to what a pipe said have
WAKING: Final = signal.SIGUSR1
WAKE_AGAIN: Final = 0.05  # seconds


@dataclass(frozen=True)
class Talk:
    """What was asked for.

    Attributes:
        url: of the server.
        headers: names and values that are sent with the request.
        subprotocols: those that are offered.
        origin: what ``Origin`` says, None for nothing.
        insecure: whether the server's certificate is not looked at.
        binary: whether lines are sent as binary messages.
        ping: seconds between pings that are shown, None for none.
        once: whether it ends with the first message that comes.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    subprotocols: tuple[str, ...] = ()
    origin: str | None = None
    insecure: bool = False
    binary: bool = False
    ping: float | None = None
    once: bool = False


def talk(asked: Talk) -> int:
    """Connect, and pass messages between the server and who is there; returns the exit status."""
    _open_standard_streams()
    try:
        connection = Background.shared().call("connect", lambda: _open(asked))
        return _Conversation(connection, asked).run()
    except ConfigurationError as error:
        status = MISUSED
        _complain(error)
    except FastWSError as error:
        status = NOT_CONNECTED
        _complain(error)
    except KeyboardInterrupt:
        status = INTERRUPTED
    return status


def _complain(error: Exception) -> None:
    Screen(sys.stdout, sys.stderr, prompts=False).complain(error)


async def _open(asked: Talk) -> ClientConnection:
    return await connect(asked.url, **_options(asked))


def _open_standard_streams() -> None:
    """Have all three lead somewhere, also where the program was started without."""
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _options(asked: Talk) -> ConnectOptions:
    options: ConnectOptions = {"headers": list(asked.headers), "subprotocols": asked.subprotocols}
    if asked.origin is not None:
        options["origin"] = asked.origin
    if asked.insecure and parse_url(asked.url).secure:
        options["ssl"] = unchecked_context()
    return options


class _EndedError(BaseException):
    """Raised by a signal's handler: the connection has ended while the main thread waited for a line."""


class _Conversation:
    """A connection, and who sits before it."""

    def __init__(self, connection: ClientConnection, asked: Talk) -> None:
        self._connection = connection
        self._asked = asked
        self._there = Background.shared()
        self._is_typed = sys.stdin.isatty() and sys.stdout.isatty()
        self._screen = Screen(sys.stdout, sys.stderr, prompts=self._is_typed)
        self._tasks: list[asyncio.Task[None]] = []
        self._listens = True  # for what is typed
        self._closed_here = False
        self._heard = False

    def run(self) -> int:
        status = None
        signal.signal(WAKING, self._wake)
        try:
            self._screen.happened(_greeting(self._connection, self._asked.url))
            self._call(self._begin)
            self._listen()
        except _EndedError:
            pass
        except KeyboardInterrupt:
            status = INTERRUPTED
        except ConfigurationError as error:
            self._screen.complain(error)
            status = MISUSED
        self._listens = False
        self._screen.leave()
        self._close(1000)
        self._tell_end()
        return self._status() if status is None else status

    def _call(self, function: Callable[[], Awaitable[_T]]) -> _T:
        return self._there.call("connect", function)

    # --- The main thread.

    def _listen(self) -> None:
        try:
            for line in self._typed() if self._is_typed else self._piped():
                self._do(line)
        except ConnectionClosed:
            return
        if self._asked.once and not self._closed_here:
            self._call(self._all_received)
        elif not self._is_typed:
            self._await_answers()

    def _typed(self) -> Iterator[commands.Send | commands.Ping | commands.Close | commands.Help]:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  what `input` edits lines with, and keeps their history in
        with contextlib.suppress(EOFError):
            while not self._closed_here:
                if (command := self._parse(input(self._screen.prompt()))) is not None:
                    yield command

    def _parse(self, line: str) -> commands.Send | commands.Ping | commands.Close | commands.Help | None:
        try:
            return commands.parse(line)
        except ConfigurationError as error:
            self._screen.complain(error)
            return None

    def _piped(self) -> Iterator[commands.Send]:
        for number, line in enumerate(sys.stdin.buffer, 1):
            message = _message(line.removesuffix(b"\n"), number, self._asked.binary)
            yield commands.Send(message)
            self._screen.sent(message)

    def _do(self, command: commands.Send | commands.Ping | commands.Close | commands.Help) -> None:
        if isinstance(command, commands.Send):
            message = command.message
            data = message.encode() if self._asked.binary and isinstance(message, str) else message
            self._call(lambda: self._connection.send(data))
        elif isinstance(command, commands.Ping):
            self._call(self._ping)
        elif isinstance(command, commands.Close):
            self._close(command.code, command.reason)
        else:
            self._screen.happened(commands.HELP)

    def _close(self, code: int, reason: str = "") -> None:
        self._closed_here = self._closed_here or self._connection.is_open
        self._call(lambda: self._connection.close(code, reason))
        self._call(self._all_received)

    def _await_answers(self) -> None:
        """Give the server time for its answers to what a pipe has said: they come before the pong."""
        with contextlib.suppress(ConnectionClosed, asyncio.TimeoutError):
            self._call(lambda: asyncio.wait_for(self._connection.ping(), PONG_TIME))

    def _wake(self, *_: object) -> None:
        if self._listens:
            self._listens = False
            raise _EndedError

    # --- The loop.

    async def _begin(self) -> None:
        self._tasks = [asyncio.ensure_future(self._receive())]
        if self._asked.ping is not None:
            self._tasks.append(asyncio.ensure_future(self._ping_regularly(self._asked.ping)))

    async def _receive(self) -> None:
        try:
            async for message in self._connection:
                self._screen.received(message)
                self._heard = True
                if self._asked.once:
                    break
        except ConnectionClosed:
            pass  # how it was closed is told at the end
        except OSError:  # whoever reads what is shown has gone
            self._heard = True
        while self._listens:
            signal.pthread_kill(threading.main_thread().ident or 0, WAKING)
            # One that comes just before it waits for a line does not wake it
            await asyncio.sleep(WAKE_AGAIN)

    async def _all_received(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks[:1])

    async def _ping_regularly(self, seconds: float) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while True:
                await asyncio.sleep(seconds)
                await self._ping()

    async def _ping(self) -> None:
        self._screen.happened(f"pong after {1000 * await self._connection.ping():.1f} ms")

    # --- The end.

    def _tell_end(self) -> None:
        code, reason = self._connection.close_code, self._connection.close_reason
        with contextlib.suppress(OSError):
            self._screen.happened(f"closed with {code}" + (f": {printable(reason)}" if reason else ""))

    def _status(self) -> int:
        code = self._connection.close_code
        if self._asked.once:
            return WELL if self._heard else CLOSED
        if self._closed_here or code in (1000, 1001):
            return WELL
        return LOST if code == 1006 else CLOSED


def _message(line: bytes, number: int, binary: bool) -> str | bytes:
    if binary:
        return line
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"line {number} is not UTF-8; --binary sends it as it is") from None


def _greeting(connection: ClientConnection, url: str) -> str:
    known = [f"connected to {parse_url(url)}"]
    if connection.subprotocol:
        known.append(f"subprotocol {connection.subprotocol}")
    if connection.compression:
        known.append(f"compression {connection.compression}")
    return ", ".join(known)
