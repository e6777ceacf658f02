"""A master: a connection to publish on, one to be subscribed, and what waits for the end of the turn."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from ..._speedups import RespError, RespWriter
from ..address import Server
from ..session import Conversation as AnyConversation
from ..session import ConversationError, Session, Wire
from .conversation import Conversation, Listener

__all__ = ["CONNECTING", "MAX_PAYLOAD", "Cluster", "Link", "Node"]

MAX_PAYLOAD: Final = 512 << 10  # bytes of a message
CONNECTING: Final = "not connected yet"  # the reason of who has not tried
BARRIER_TIMEOUT: Final = 2.0  # seconds


class Cluster(Protocol):
    """What a master asks and tells of the others: `engine.Redis`.

    Attributes:
        sharded: whether messages have slots.
        tls: how servers are checked; None without TLS.
        received: takes the messages.
    """

    sharded: bool
    tls: ssl.SSLContext | None
    received: Callable[[bytes, bytes], object]

    def subscriptions(self) -> Iterable[bytes]:
        """Return all subjects that are wanted."""

    def wants(self, subject: bytes) -> bool:
        """Tell whether a subject is wanted."""

    def owner(self, subject: bytes) -> Node | None:
        """Return the master of a subject, if there is one."""

    def changed(self) -> None:
        """Note that a master has come up or gone down."""

    def lost(self, node: Node, channel: bytes) -> None:
        """Note that a master has unsubscribed us from what is wanted of it."""

    def refused(self, node: Node, error: RespError) -> None:
        """Note that a master has refused a command."""


class Link(Listener):
    """One of the two connections; the `Speaker` of its session, and the `Listener` of what is said.

    Args:
        node: the master.
        cluster: what it belongs to.
        subscribes: whether it is the one that is subscribed.

    Attributes:
        session: keeps the connection.
        conversation: what is said on it now, or was last.
        reason: why it is down; None while it is up.
    """

    def __init__(self, node: Node, cluster: Cluster, *, subscribes: bool) -> None:
        self._node = node
        self._cluster = cluster
        self._subscribes = subscribes
        name = f"{node.server} ({'subscriptions' if subscribes else 'commands'})"
        self.session = Session(self, name, cluster.tls)
        self.conversation: Conversation | None = None
        self.reason: str | None = CONNECTING

    # --- As a speaker.

    async def servers(self) -> Sequence[Server]:
        """Return the master: where another one is, is for the engine to find."""
        return (self._node.server,)

    def converse(self, wire: Wire) -> AnyConversation:
        """Begin to talk."""
        return Conversation(wire, self, self._cluster.received)

    def subscriptions(self) -> Iterable[bytes]:
        """Return what is wanted, also of other masters: `Conversation.subscribing` finds them, slice by slice."""
        return self._cluster.subscriptions() if self._subscribes else ()

    def adopt(self, conversation: AnyConversation) -> None:
        """Note over which connection is sent."""
        assert isinstance(conversation, Conversation)
        self.conversation = conversation

    def up(self) -> None:
        """Note that it is up."""
        self.reason = None
        self._cluster.changed()

    def down(self, reason: str) -> None:
        """Note that it is down."""
        self.reason = reason
        if not self._subscribes:
            self._node.drop()
        self._cluster.changed()

    # --- As a listener.

    @property
    def sharded(self) -> bool:
        """Whether channels have slots."""
        return self._cluster.sharded

    def has(self, channel: bytes) -> bool:
        """Tell whether this master has the slot of a channel."""
        return self._cluster.owner(channel) is self._node

    def wants(self, channel: bytes) -> bool:
        """Tell whether a channel is wanted."""
        return self._cluster.wants(channel)

    def unsubscribed(self, channel: bytes) -> None:
        """Note that the server does not have a channel any more, where we have not asked for that."""
        if self.wants(channel) and self.has(channel):
            self._cluster.lost(self._node, channel)

    def refused(self, error: RespError) -> None:
        """Note that a command was refused."""
        self._cluster.refused(self._node, error)

    def check(self, mode: bytes, role: bytes) -> None:
        """Talk to a master of the kind that was found here only."""
        if role != b"master":
            raise ConversationError("the server is no master")
        if (mode == b"cluster") != self.sharded:
            raise ConversationError("the server belongs to a cluster" if mode == b"cluster" else "there is no cluster")


class Node:
    """A master.

    Args:
        server: where it is.
        cluster: what it belongs to.

    Attributes:
        commands: what was published since the last flush.
        verb: how messages are published.
    """

    def __init__(self, server: Server, cluster: Cluster) -> None:
        self.server = server
        self.commands = RespWriter()
        self.verb = b"SPUBLISH" if cluster.sharded else b"PUBLISH"
        self.commands.max_payload = MAX_PAYLOAD
        self._changed: dict[bytes, None] = {}  # subjects, since the last flush
        self._publishing = Link(self, cluster, subscribes=False)
        self._subscribing = Link(self, cluster, subscribes=True)
        self._links = (self._publishing, self._subscribing)

    @property
    def reason(self) -> str | None:
        """Why it is down, None while it is up."""
        return self._publishing.reason or self._subscribing.reason

    @property
    def has_room(self) -> bool:
        """Whether much more may be published."""
        return self._publishing.session.has_room

    @property
    def skipped(self) -> int:
        """How many messages were too long for us, over the connection that there is."""
        conversation = self._subscribing.conversation
        return 0 if conversation is None else conversation.skipped

    def publish_again(self, subject: bytes, payload: bytes) -> bool:
        """Look whether there is room by now: it was measured with the last `flush`."""
        self.commands.limit = self._publishing.session.room
        return self.commands.publish(self.verb, subject, payload)

    def change(self, subject: bytes) -> None:
        """Note that a subject is to be subscribed or unsubscribed."""
        self._changed[subject] = None
        self._subscribing.session.changed(subject)

    def flush(self) -> None:
        """Send what was published, and what became of subscriptions."""
        if self._changed:
            changed, self._changed = tuple(self._changed), {}
            if self._subscribing.conversation is not None:
                self._subscribing.session.send(self._subscribing.conversation.subscribing(changed))
        if self.commands.size:
            session = self._publishing.session
            session.send(self.commands.take())
            self.commands.limit = session.room

    def drop(self) -> None:
        """Drop what was published and has not left: later it would be old."""
        self.commands.take()
        self.commands.limit = 0

    async def settled(self) -> None:
        """Wait until the server has seen all subscriptions, as long as it is there."""
        if self.reason is None and self._subscribing.conversation is not None:
            with contextlib.suppress(ConversationError, asyncio.TimeoutError):
                await self._subscribing.conversation.wire.barrier(BARRIER_TIMEOUT)

    def open(self) -> None:
        """Begin."""
        self._opening = asyncio.ensure_future(asyncio.gather(*(link.session.open() for link in self._links)))

    async def close(self) -> None:
        """End; what was sent arrives, if it can."""
        self._opening.cancel()
        await asyncio.gather(*(link.session.close() for link in self._links))
