"""What is said to a server of Redis, Valkey or Sentinel on one connection.

It begins with HELLO, which tells who we are, and makes the server tell its mode and its role. The same command is the
sign of life: any user may say it, even one who may not PING, and the answer tells at once of a master that has become a
replica and would take what is published for itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from ..._speedups import RespError, RespProtocolError, RespReader, RespWriter
from ..session import ConversationError, Wire
from .slots import slot_of

__all__ = ["Conversation", "Listener", "pairs", "readable"]

MAX_SHOWN: Final = 200  # characters of a server's error
_NAME: Final = b"fastws"  # as CLIENT LIST shows it
_PUSHES: Final = (b"subscribe", b"unsubscribe", b"ssubscribe", b"sunsubscribe")
# By these a server says that it is none to publish on, or not yet: whoever is the master now is looked for
_ELSEWHERE: Final = (b"READONLY", b"LOADING", b"MASTERDOWN", b"NOAUTH")
_REFUSALS: Final = {
    b"WRONGPASS": "the server refuses the user or the password",
    b"NOAUTH": "the server wants a user or a password",
    b"LOADING": "the server is loading its data",
}


class Listener:
    """Whom a conversation tells what comes, and asks; this one talks to anybody, and wants nothing but answers."""

    @property
    def sharded(self) -> bool:
        """Whether channels have slots."""
        return False

    def has(self, channel: bytes) -> bool:
        """Tell whether the slot of a channel is here; asked where channels have slots."""
        return True

    def wants(self, channel: bytes) -> bool:
        """Tell whether we are to be subscribed to a channel."""
        return False

    def unsubscribed(self, channel: bytes) -> None:
        """Note that the server has unsubscribed us from a channel, asked or not."""

    def refused(self, error: RespError) -> None:
        """Note that the server has refused a command."""

    def check(self, mode: bytes, role: bytes) -> None:
        """Judge what a server says of itself, at the beginning and with each sign of life.

        Raises:
            ConversationError: it is not whom we want to talk to.
        """


class Conversation:
    """All that is said on one connection.

    Args:
        wire: the connection.
        listener: whom to tell.
        received: takes the messages.

    Attributes:
        wire: the connection.
        mode: of the server: standalone, sentinel or cluster.
        role: of the server: master or replica; empty for a Sentinel.
    """

    def __init__(self, wire: Wire, listener: Listener, received: Callable[[bytes, bytes], object]) -> None:
        self.wire = wire
        self.mode = b""
        self.role = b""
        self._listener = listener
        self._reader = RespReader(received, self._replied)
        self._answer: asyncio.Future[Any] | None = None  # to what was asked
        self._ping = command(b"HELLO", b"3")

    # --- For the session.

    def feed(self, data: bytes) -> None:
        """Take bytes that came."""
        try:
            self._reader.feed(data)
        except RespProtocolError as error:
            raise ConversationError(f"the server does not speak RESP: {error}") from error

    async def greet(self) -> None:
        """Introduce ourselves."""
        await self._introduce()
        self._listener.check(self.mode, self.role)

    def ping(self) -> bytes:
        """Return a sign of life."""
        return self._ping

    def subscribing(self, subjects: Sequence[bytes]) -> bytes:
        """Return what subscribes to those subjects that are wanted, and unsubscribes from the others."""
        sharded = self._listener.sharded
        here = tuple(filter(self._listener.has, subjects)) if sharded else subjects
        wanted = tuple(filter(self._listener.wants, here))
        others = () if len(wanted) == len(here) else tuple(itertools.filterfalse(self._listener.wants, here))
        writer = RespWriter()
        if sharded:
            _by_slot(writer, b"SUNSUBSCRIBE", others)
            _by_slot(writer, b"SSUBSCRIBE", wanted)
        else:
            _at_once(writer, b"UNSUBSCRIBE", others)
            _at_once(writer, b"SUBSCRIBE", wanted)
        return writer.take()

    @property
    def skipped(self) -> int:
        """How many messages were too long for us."""
        return self._reader.skipped

    # --- For who has a question.

    async def ask(self, *arguments: bytes) -> Any:
        """Return the answer to a command, which may be an error; one at a time, before there are subscriptions."""
        self._answer = asyncio.get_running_loop().create_future()
        self.wire.write(command(*arguments))
        try:
            return await self.wire.while_alive(self._answer)
        finally:
            self._answer = None

    async def demand(self, *arguments: bytes) -> Any:
        """Return the answer to a command.

        Raises:
            ConversationError: it was refused.
        """
        answer = await self.ask(*arguments)
        if isinstance(answer, RespError):
            raise ConversationError(f"the server refuses {readable(b' '.join(arguments))}: {readable(answer.message)}")
        return answer

    # --- Who we are, and who the server is.

    async def _introduce(self) -> None:
        user, password = self.wire.server.user, self.wire.server.password
        credentials = () if password is None else ((user or "default").encode(), password.encode())
        answer = await self.ask(b"HELLO", b"3", *((b"AUTH", *credentials) if credentials else ()), b"SETNAME", _NAME)
        if isinstance(answer, RespError) and answer.code in (b"ERR", b"NOPROTO"):
            await self._introduce_in_resp2(credentials)
        else:
            self._note(_accepted(answer))

    async def _introduce_in_resp2(self, credentials: tuple[bytes, ...]) -> None:
        """Talk to a server older than Redis 6, which knows no HELLO."""
        self._ping = command(b"PING")
        if credentials:
            _accepted(await self.ask(b"AUTH", *(credentials if self.wire.server.user else credentials[1:])))
        role = _accepted(await self.ask(b"ROLE"))
        if isinstance(role, list) and role and role[0] in (b"master", b"sentinel"):
            self.role = role[0]
            self.mode = b"sentinel" if self.role == b"sentinel" else b"standalone"

    def _note(self, hello: object) -> None:
        told = pairs(hello)
        self.mode, self.role = told.get(b"mode", b""), told.get(b"role", b"")

    # --- What comes besides messages.

    def _replied(self, value: object) -> None:
        if isinstance(value, tuple) or (isinstance(value, list) and value and value[0] in _PUSHES):
            self._pushed(value)
        elif self._answer is not None:
            if not self._answer.done():
                self._answer.set_result(value)
        elif isinstance(value, RespError):
            self._refused(value)
        else:
            self._lives(value)

    def _pushed(self, value: Sequence[object]) -> None:
        match value:
            case [b"sunsubscribe", bytes() as channel, *_]:
                self._listener.unsubscribed(channel)

    def _refused(self, error: RespError) -> None:
        if error.code in _ELSEWHERE:
            raise ConversationError(_REFUSALS.get(error.code, f"the server is no master: {readable(error.code)}"))
        self._listener.refused(error)

    def _lives(self, value: object) -> None:
        if isinstance(value, list) and value[:1] != [b"pong"]:
            self._note(value)
            self._listener.check(self.mode, self.role)
        self.wire.answered()


def command(*arguments: bytes) -> bytes:
    """Return a command as it is sent."""
    writer = RespWriter()
    writer.command(*arguments)
    return writer.take()


def pairs(value: object) -> dict[bytes, Any]:
    """Return what a list of names and values in turn says; nothing of what is none."""
    if not isinstance(value, list):
        return {}
    names = ((name, value[i + 1]) for i, name in enumerate(value[:-1]) if i % 2 == 0)
    return {name: told for name, told in names if isinstance(name, bytes)}


def readable(text: bytes) -> str:
    """Return a server's words as they can be shown."""
    return text[:MAX_SHOWN].decode("ascii", "backslashreplace")


def _accepted(answer: Any) -> Any:
    """Return an answer that is no error; the text of one is not shown, since it may repeat what we said.

    Raises:
        ConversationError: it is one.
    """
    if isinstance(answer, RespError):
        raise ConversationError(_REFUSALS.get(answer.code, f"the server refuses us: {readable(answer.code)}"))
    return answer


def _at_once(writer: RespWriter, verb: bytes, channels: Iterable[bytes]) -> None:
    if channels:  # without one it would mean all
        writer.command(verb, *channels)


def _by_slot(writer: RespWriter, verb: bytes, channels: Iterable[bytes]) -> None:
    """Write one command for each slot: a server refuses channels of two, also where it has both."""
    for _, some in itertools.groupby(sorted(channels, key=slot_of), slot_of):
        writer.command(verb, *some)
