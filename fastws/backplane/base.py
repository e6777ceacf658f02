"""The contract between fastws and what carries its messages to other nodes.

An engine moves bytes under subjects and knows nothing of connections, groups or names. Everything is called on the
event loop that opened the engine, and neither side blocks or raises: what an engine cannot do now it says by its
result, and what happens to it by the calls of `Receiver`.

Delivery is at most once. A node that is subscribed gets what others publish in the order in which each of them
published it on that subject, as far as the engine keeps it: what comes late or twice is dropped above, and what is
missing noticed. So an engine never repeats a publish, and keeps nothing for later while it is away.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import Protocol

__all__ = ["Backplane", "Receiver"]


class Receiver(Protocol):
    """Whom an engine tells what comes, and how it is.

    Attributes:
        node: the id of this node, the same as long as it lives; 16 hexadecimal digits.
    """

    node: bytes

    def received(self, subject: bytes, payload: bytes) -> None:
        """Take a message of another node; one's own may come, too, and is dropped."""

    def subscriptions(self) -> Iterable[bytes]:
        """Return all subjects that are wanted: what an engine subscribes to, in slices, after it has connected."""

    def wants(self, subject: bytes) -> bool:
        """Tell whether a subject is among them still; asked by who subscribes to many in slices."""

    def up(self) -> None:
        """Note that messages flow from now on: connected, and every subscription in place."""

    def down(self, reason: str) -> None:
        """Note that none does, until `up`."""

    def gap(self, reason: str) -> None:
        """Note that messages to this node were lost while the engine was up."""

    def wanted(self, subject: bytes) -> None:
        """Note that another node is subscribed from now on; by engines that see it."""

    def joined(self, node: bytes) -> None:
        """Note that a node is there; likewise."""

    def left(self, node: bytes) -> None:
        """Note that a node has ended; likewise."""


class Backplane(abc.ABC):
    """An engine. Third parties register theirs as an entry point of the group ``fastws.backplanes``.

    The name of the entry point is the scheme of its URLs, and it is called with the URL as its only argument. What is
    wrong with that raises `ConfigurationError`, without a word of the password.

    Attributes:
        max_payload: bytes that one message may have; it may change with `up`.
        sees_nodes: whether it tells the receiver of all nodes that there are, before it is up.
    """

    max_payload: int = 1 << 20
    sees_nodes: bool = False

    @abc.abstractmethod
    async def open(self, receiver: Receiver) -> None:
        """Begin. Returns after the first attempt to connect, in 5 s at most; if it fails, others follow for ever."""

    @abc.abstractmethod
    async def close(self) -> None:
        """End, and send before what was published, in 2 s at most."""

    @abc.abstractmethod
    def subscribe(self, subject: bytes) -> None:
        """Want a subject, of which `Receiver.subscriptions` tells already. While it is away there is nothing to do."""

    @abc.abstractmethod
    def unsubscribe(self, subject: bytes) -> None:
        """Want it no longer."""

    @abc.abstractmethod
    def publish(self, subject: bytes, payload: bytes) -> bool:
        """Hand a message over, to leave with `flush`; False if it is away or too much waits for it already."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Send what was published and subscribed since: called at the end of a turn of the loop, if anything was."""

    def has_room(self) -> bool:
        """Tell whether `publish` would take 4 MiB now, by when it is asked again."""
        return True

    def catch_up(self) -> None:  # noqa: B027
        """Give the receiver what has come already, by engines that see nodes; called before much is decided here."""

    def audience(self, subject: bytes) -> bool | None:
        """Tell whether another node is subscribed; asked before each publish, of engines that see nodes."""
        return None
