"""Several nodes in memory, in the loop of a test, and the links between them, which the test cuts, delays and heals.

Each node is a server of `serve` with a hub of its own. What carries its messages is an engine as any other
(`backplane.base`), a `_Line` to all other nodes. What is said on it comes in a later turn of the loop, or when its
delay is over; on a link that is cut it is lost. So nodes find each other, and lose each other, as over a real one.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import itertools
import math
from typing import TYPE_CHECKING, Any

from ..backplane.base import Backplane
from ..errors import ConfigurationError
from ..options import ServeOptions, takes
from .clock import Clock
from .server import MemoryServer, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ..backplane.base import Receiver

__all__ = ["Cluster", "cluster"]


class _Line(Backplane):
    """The line of one node to all others.

    Args:
        cluster: all of them.
    """

    sees_nodes = True

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._receiver: Receiver | None = None  # while it is open
        self._subjects: set[bytes] = set()
        self._coming: collections.deque[tuple[float, bytes, bytes]] = collections.deque()  # when, subject, payload
        self._context: contextvars.Context
        self._is_opening = False  # the node waits for what it is told
        self.is_cut = False

    @property
    def is_up(self) -> bool:
        """Whether anything passes."""
        return self._receiver is not None and not self.is_cut

    async def open(self, receiver: Receiver) -> None:
        """Meet the nodes that are there."""
        self._receiver = receiver
        self._context = contextvars.copy_context()
        if not self.is_cut:
            self._is_opening = True
            self._connect()
            self._is_opening = False
            receiver.up()

    async def close(self) -> None:
        """Leave them, once what was said has come."""
        if self.is_up:
            self._leave_all()
        self._receiver = None

    def subscribe(self, subject: bytes) -> None:
        """Have messages on a subject come here."""
        self._subjects.add(subject)
        if self.is_up:
            for other in self._others():
                other.hear_of(subject)

    def unsubscribe(self, subject: bytes) -> None:
        """Have them come no more."""
        self._subjects.discard(subject)

    def publish(self, subject: bytes, payload: bytes) -> bool:
        """Send a message to all who want it."""
        if not self.is_up:
            return False
        for other in self._others():
            if subject in other._subjects:
                other.expect(subject, payload)
        return True

    def flush(self) -> None:
        """Nothing to do: what was published is on its way."""

    def audience(self, subject: bytes) -> bool:
        """Tell whether another node that can be reached wants a subject."""
        return any(subject in other._subjects for other in self._others())

    def catch_up(self) -> None:
        """Take what has come already."""
        self._take()

    def _others(self) -> list[_Line]:
        return [line for line in self._cluster.lines if line is not self and self.reaches(line)]

    def reaches(self, other: _Line) -> bool:
        """Tell whether there is a link."""
        return self.is_up and other.is_up and frozenset((self, other)) not in self._cluster.cut_links

    # --- The link to another node.

    def expect(self, subject: bytes, payload: bytes) -> None:
        """Have a message come, behind those that are under way."""
        delay = self._cluster.seconds
        due = self._cluster.clock.time() + delay
        if self._coming:
            due = max(due, self._coming[-1][0])
        self._coming.append((due, subject, payload))
        if delay:
            self._cluster.clock.call_later(delay, self._take, context=self._context)
        else:
            asyncio.get_running_loop().call_soon(self._take, context=self._context)

    def _take(self) -> None:
        now = self._cluster.clock.time()
        while self._coming and self._coming[0][0] <= now and self._receiver is not None:
            _, subject, payload = self._coming.popleft()
            self._receiver.received(subject, payload)

    def tell(self, event: str, *args: Any) -> None:
        """Call a method of the node, in its own context: in a later turn, or now where it is the one that runs."""
        if self._is_opening:
            self._tell(event, args)
            return
        asyncio.get_running_loop().call_soon(self._tell, event, args, context=self._context)

    def _tell(self, event: str, args: tuple[Any, ...]) -> None:
        if self._receiver is not None:
            getattr(self._receiver, event)(*args)

    def hear_of(self, subject: bytes) -> None:
        """Note that another node wants a subject."""
        self.tell("wanted", subject)

    def meet(self, other: _Line) -> None:
        """Have a link to another node, of which both are told."""
        for one, another in ((self, other), (other, self)):
            assert another._receiver is not None
            one.tell("joined", another._receiver.node)
            for subject in another._subjects:
                one.hear_of(subject)

    def part(self, other: _Line) -> None:
        """Lose the link to another node; both notice."""
        for one, another in ((self, other), (other, self)):
            if one._receiver is not None and another._receiver is not None:
                one.tell("left", another._receiver.node)

    def _connect(self) -> None:
        assert self._receiver is not None
        self._subjects = set(self._receiver.subscriptions())
        for other in self._others():
            self.meet(other)

    def _leave_all(self) -> None:
        for other in self._others():
            assert self._receiver is not None
            other.tell("left", self._receiver.node)

    def cut(self) -> None:
        """Be cut off from all."""
        if self.is_up:
            for other in self._others():
                self.part(other)
            self._coming.clear()
            self.tell("down", "the link is cut")
        self.is_cut = True

    def heal(self) -> None:
        """Be connected again."""
        if self.is_cut:
            self.is_cut = False
            if self._receiver is not None:
                self._connect()
                self.tell("up")


class Cluster:
    """Nodes in memory; made by `cluster`, used as an async context manager, once. `cluster[0]` is the first node.

    Attributes:
        seconds: that a message takes from one node to another, by the clock.
    """

    def __init__(self, count: int, *services: object, **options: Any) -> None:
        if count < 1:
            raise ConfigurationError(f"cluster({count!r}): give a number of nodes, 1 or more")
        self.lines = [_Line(self) for _ in range(count)]
        self.nodes = [serve(*services, **options, backplane=line) for line in self.lines]
        self.cut_links: set[frozenset[_Line]] = set()
        self.seconds = 0.0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin, one node after the other; all know each other then."""
        async with contextlib.AsyncExitStack() as stack:
            for node in self.nodes:
                await stack.enter_async_context(node)
            await self.settle()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close every node, the last first, as `MemoryServer` closes."""
        await self._stack.__aexit__(kind, error, traceback)

    @property
    def clock(self) -> Clock:
        """The time of all nodes."""
        return self.nodes[0].clock

    async def settle(self) -> None:
        """Run everything that is under way, on all nodes."""
        await self.clock.settle()

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, number: int) -> MemoryServer:
        return self.nodes[number]

    def __iter__(self) -> Iterator[MemoryServer]:
        return iter(self.nodes)

    # --- The links.

    def cut(self, *numbers: int) -> None:
        """Cut links: what is said on them is lost, and what is under way to a node that is cut off.

        Args:
            numbers: one node, which is cut off from all others and notices that; or several, between each two of which
                the link is cut.
        """
        if not numbers:
            raise ConfigurationError("cluster.cut(): name a node, or those between which the link is cut")
        lines = [self.lines[number] for number in numbers]
        if len(lines) == 1:
            lines[0].cut()
        for one, other in itertools.combinations(lines, 2):
            if one.reaches(other):
                one.part(other)
            self.cut_links.add(frozenset((one, other)))

    def delay(self, seconds: float) -> None:
        """Have each message take so long from now on, by the clock; 0 is a turn of the loop."""
        if not 0 <= seconds < math.inf:
            raise ConfigurationError(f"cluster.delay({seconds!r}): give a number of seconds, 0 or more")
        self.seconds = seconds

    def heal(self) -> None:
        """Mend every link that was cut; nodes find each other again, and learn what they may have missed."""
        links, self.cut_links = self.cut_links, set()
        for link in links:
            one, other = link
            if one.reaches(other):
                one.meet(other)
        for line in self.lines:
            line.heal()


@takes(ServeOptions)
def cluster(count: int, *services: object, patience: float = 1.0, **options: Unpack[ServeOptions]) -> Cluster:
    """Serve annotated classes on several nodes in memory; an async context manager.

    ::

        async with fastws.testing.cluster(2, Chat) as nodes:
            alice, bob = await nodes[0].connect("/chat"), await nodes[1].connect("/chat")
            await alice.send("hello")
            await bob.expect_text("hello")

    Args:
        count: how many nodes.
        services: classes, of which each node makes its own instance; an instance is shared by all nodes.
        patience: as for `serve`.
        options: likewise.

    Raises:
        ConfigurationError: as `serve`.
    """
    return Cluster(count, *services, patience=patience, **options)
