"""Which nodes there are, as they tell it themselves, and which one of them does what one alone shall do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SILENCE", "Hello", "Members"]

SILENCE: Final = 6.0  # seconds without a word from a node until it counts as gone
MAX_MEMBERS: Final = 4096


class Hello(NamedTuple):
    """What a node tells of itself.

    Attributes:
        since: the stamp of its beginning.
        digest: of what it knows of removed groups.
        reads: the latest version of messages that it reads.
        anew: seconds since it lost some of what it said, and began anew; None where it never did.
    """

    since: int
    digest: int
    reads: int
    anew: float | None = None


class Members:
    """The other nodes.

    Args:
        node: this one's id.
        since: the stamp of its beginning.
    """

    def __init__(self, node: str, since: int) -> None:
        self._node = node
        self.since = since
        self._hellos: dict[str, Hello] = {}
        self._heard: dict[str, float] = {}
        self._expected: set[str] = set()

    def __contains__(self, node: object) -> bool:
        return node in self._hellos

    @property
    def nodes(self) -> Iterable[str]:
        """The ids of all others."""
        return tuple(self._hellos)

    @property
    def are_complete(self) -> bool:
        """Whether all have told of themselves that an engine has told of."""
        return self._expected <= self._hellos.keys()

    def expect(self, node: str) -> None:
        """Note that there is a node that will tell of itself."""
        if len(self._expected) < MAX_MEMBERS:
            self._expected.add(node)

    def note(self, node: str, hello: Hello, now: float) -> bool:
        """Note what a node told of itself; returns whether that may change who is first."""
        before = self._hellos.get(node)
        if before is None and len(self._hellos) >= MAX_MEMBERS:
            return False
        self._hellos[node] = hello
        self._heard[node] = now
        return before is None or before.since != hello.since

    def hear_all(self, now: float) -> None:
        """Give all of them time: nobody could be heard for a while."""
        self._heard = dict.fromkeys(self._heard, now)

    def remove(self, node: str) -> bool:
        """Forget a node; returns whether it was one."""
        self._expected.discard(node)
        self._heard.pop(node, None)
        return self._hellos.pop(node, None) is not None

    def silent(self, now: float) -> list[str]:
        """Return those that have said nothing for too long."""
        return [node for node, heard in self._heard.items() if now - heard > SILENCE]

    def is_first(self) -> bool:
        """Tell whether this node is the one that has been here longest."""
        mine = (self.since, self._node)
        return all(mine < (hello.since, node) for node, hello in self._hellos.items())
