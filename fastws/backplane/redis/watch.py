"""A connection to one of the Sentinels, which tells of another master as soon as there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ..address import Server
from ..session import Conversation as AnyConversation
from ..session import ConversationError, Session, Wire
from .conversation import Conversation, Listener
from .scout import Scout

__all__ = ["Watch"]

_SWITCHED: Final = b"+switch-master"


class Watch(Listener):
    """The `Speaker` of the session, and the `Listener` of what Sentinels say.

    Args:
        scout: knows the Sentinels.
        news: called when there may be another master.
    """

    def __init__(self, scout: Scout, news: Callable[[], None]) -> None:
        self._scout = scout
        self._news = news
        self._session = Session(self, "the Sentinels", scout.tls)

    def open(self) -> None:
        """Begin."""
        self._opening = asyncio.ensure_future(self._session.open())

    async def close(self) -> None:
        """End."""
        self._opening.cancel()
        await self._session.close()

    # --- As a speaker.

    async def servers(self) -> Sequence[Server]:
        """Return the Sentinels."""
        return self._scout.sentinels

    def converse(self, wire: Wire) -> AnyConversation:
        """Begin to talk."""
        return Conversation(wire, self, self._told)

    def subscriptions(self) -> Iterable[bytes]:
        """Return the channel on which they tell."""
        return (_SWITCHED,)

    def adopt(self, conversation: AnyConversation) -> None:
        """Note what nothing is sent over."""

    def up(self) -> None:
        """Ask again: it may have been told meanwhile."""
        self._news()

    def down(self, reason: str) -> None:
        """Note what hinders nothing: the Sentinels are asked now and then, too."""

    # --- As a listener.

    def wants(self, channel: bytes) -> bool:
        """Tell that it is wanted."""
        return True

    def check(self, mode: bytes, role: bytes) -> None:
        """Talk to Sentinels only."""
        if mode != b"sentinel":
            raise ConversationError("the server is no Sentinel")

    def _told(self, channel: bytes, payload: bytes) -> None:
        self._news()  # of whichever master it is
