"""The engine: the masters that there are now, and who of them has a subject.

It looks for the masters, connects to each of them, and looks again whenever something does not fit: a connection ends,
a slot is elsewhere, Sentinels tell of another master. A single server is the simplest case of it, a master that has all
slots. Messages flow while each master is there, since any of them may have what a node wants:

::

    looking ──masters──> connecting ──all are up──> up ──one is not, or is another──> looking, at once
       ^                     │                       │
       └─ none, or too long ─┘                       └─ a slot has moved: looking, and its subjects follow; then a gap
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Final

from ..._speedups import RespError
from ...logs import Log
from .. import session
from ..address import Server
from ..base import Backplane, Receiver
from .conversation import readable
from .node import CONNECTING, MAX_PAYLOAD, Node
from .scout import Scout, Topology
from .slots import SLOTS, slot_of
from .watch import Watch

__all__ = ["Redis"]

LOOK_AGAIN: Final = 10.0  # seconds after which it is asked whether the masters are still the same
SLICE: Final = 1000  # subjects that are looked at in one go
_TOLD: Final = 32  # kinds of errors that are logged

_log = Log("fastws.backplane")


class Redis(Backplane):
    """Messages over Redis or Valkey, by PUBLISH and SUBSCRIBE, in a cluster by SPUBLISH and SSUBSCRIBE.

    Args:
        url: ``redis://``, with ``rediss`` for TLS, and ``+sentinel`` or ``+cluster`` behind it. Of servers without
            these the first that is a master is taken, and where they turn out to be Sentinels or nodes of a cluster
            they are taken for that. The path is a database's number, which means nothing, or the name by which
            Sentinels know the master; their own credentials are the parameters sentinel_user and sentinel_password.

    Attributes:
        sharded: whether messages have slots.
        tls: how servers are checked; None without TLS.
        refusals: commands that a server has refused.
        skipped: messages that were too long for us, over the connections that there are.

    Raises:
        ConfigurationError: something is wrong with the URL.
    """

    max_payload = MAX_PAYLOAD

    def __init__(self, url: str) -> None:
        self._scout = Scout(url)
        self.tls = self._scout.tls
        self.sharded = False
        self.refusals = 0
        self.received: Callable[[bytes, bytes], object] = _nobody
        self._receiver: Receiver
        self._nodes: dict[Server, Node] = {}
        self._owners: list[Node | None] = [None] * SLOTS
        self._sole: Node | None = None  # who has all slots, where there are none
        self._is_up = False
        self._doubt: str | None = CONNECTING  # why the masters may be others
        self._reason: str | None = None  # why it is down, as it was told
        self._lost: set[int] = set()  # slots that were found to be elsewhere
        self._missed = False  # something of them may have been, and that is not told yet
        self._errors: set[bytes] = set()  # that were logged
        self._watch: Watch | None = None
        self._news = asyncio.Event()  # it is worth to look again
        self._tried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()  # masters that are none any more

    # --- As an engine.

    async def open(self, receiver: Receiver) -> None:
        """Begin."""
        self._receiver, self.received = receiver, receiver.received
        self._task = asyncio.ensure_future(self._follow())
        with contextlib.suppress(asyncio.TimeoutError):
            await session.wait_for(self._tried.wait(), session.OPEN_TIMEOUT)

    async def close(self) -> None:
        """End."""
        self.flush()
        self._is_up = False
        if self._task is not None:
            await session.cancelled(self._task)
        if self._watch is not None:
            await self._watch.close()
        await asyncio.gather(*(node.close() for node in self._nodes.values()), *self._closing)

    def has_room(self) -> bool:
        """Tell whether there is room for what a node publishes in a turn."""
        return all(node.has_room for node in self._nodes.values())

    def publish(self, subject: bytes, payload: bytes) -> bool:
        """Hand a message over."""
        node = self.owner(subject)
        if not self._is_up or node is None:
            return False
        return node.commands.publish(node.verb, subject, payload) or node.publish_again(subject, payload)

    def subscribe(self, subject: bytes) -> None:
        """Want a subject."""
        node = self.owner(subject)
        if node is not None:
            node.change(subject)

    def unsubscribe(self, subject: bytes) -> None:
        """Want it no longer."""
        self.subscribe(subject)

    def flush(self) -> None:
        """Send."""
        for node in self._nodes.values():
            node.flush()

    @property
    def skipped(self) -> int:
        """How many messages were too long, as documented above."""
        return sum(node.skipped for node in self._nodes.values())

    # --- What the masters ask and tell.

    def subscriptions(self) -> Iterable[bytes]:
        """Return all subjects that are wanted."""
        return self._receiver.subscriptions()

    def wants(self, subject: bytes) -> bool:
        """Tell whether a subject is wanted."""
        return self._receiver.wants(subject)

    def owner(self, subject: bytes) -> Node | None:
        """Return the master of a subject, if there is one."""
        return self._sole or self._owners[slot_of(subject)]

    def changed(self) -> None:
        """Look whether all masters are there."""
        reason = self._doubt or next(filter(None, map(self._why_down, self._nodes.values())), None)
        if reason is None:
            self._tell_up()
        else:
            self._tell_down(reason)

    def lost(self, node: Node, channel: bytes) -> None:
        """Look where a slot has gone, of which a master has unsubscribed us."""
        self._look_for(slot_of(channel), node)

    def refused(self, node: Node, error: RespError) -> None:
        """Note that a command was refused: it is not repeated."""
        self.refusals += 1
        if error.code == b"CLUSTERDOWN":
            self._doubt = "the cluster is down"
            self.changed()
        elif error.code == b"MOVED":
            slot = error.message.split()[1:2]
            self._look_for(int(slot[0]) % SLOTS if slot and slot[0].isdigit() else 0, node)
        else:
            self._log_once(node, error)

    def _look_for(self, slot: int, node: Node) -> None:
        self._lost.add(slot)
        self._scout.ask_first(node.server)
        self._news.set()

    def _log_once(self, node: Node, error: RespError) -> None:
        if error.code not in self._errors and len(self._errors) < _TOLD:
            self._errors.add(error.code)
            _log.error(
                "backplane %s: it refuses a command: %s; it is told once, and what follows is counted",
                node.server,
                readable(error.message),
            )

    # --- Up and down.

    def _why_down(self, node: Node) -> str | None:
        return f"{node.server}: {node.reason}" if self.sharded and node.reason else node.reason

    def _tell_up(self) -> None:
        if not self._is_up:
            self._is_up = True
            self._missed = False
            self._reason = None
            self._tried.set()
            self._receiver.up()

    def _tell_down(self, reason: str) -> None:
        if not reason.endswith(CONNECTING):
            self._news.set()
            self._tried.set()
        elif not self._is_up:
            return
        if self._is_up or reason != self._reason:
            self._is_up = False
            self._reason = reason
            self._receiver.down(reason)

    # --- Looking for the masters.

    async def _follow(self) -> None:
        back_off = 0.0
        while True:
            self._news.clear()
            lost, self._lost = self._lost, set()
            try:
                await self._apply(await self._scout.find(), lost)
            except Exception as error:
                self._lost |= lost
                reason = session.reason_of(error)
                self._doubt = self._doubt and reason
                self.changed()
            back_off = 0.0 if self._is_up else min(max(2 * back_off, session.FIRST_BACK_OFF), session.MAX_BACK_OFF)
            await self._rest(back_off)

    async def _rest(self, back_off: float) -> None:
        """Wait until it is worth to look again."""
        await asyncio.sleep(back_off + session.JITTER * random.random())
        if self._is_up:
            with contextlib.suppress(asyncio.TimeoutError):
                await session.wait_for(self._news.wait(), None if self._scout.is_settled else LOOK_AGAIN)

    async def _apply(self, topology: Topology, lost: set[int]) -> None:
        """Have the masters that there are now."""
        self._connect(topology)
        before, self._owners = self._owners, self._owners_of(topology)
        self._sole = None if topology.is_cluster else self._owners[0]
        self._doubt = None
        self.changed()
        if self._scout.sentinels and self._watch is None:
            self._watch = Watch(self._scout, self._news.set)
            self._watch.open()
        if topology.is_cluster and any(before):
            moved = {slot for slot in range(SLOTS) if before[slot] is not self._owners[slot]}
            await self._follow_slots(lost | moved)

    def _connect(self, topology: Topology) -> None:
        masters = topology.masters
        # What has become a cluster, or is none any more, is another server in the place of this one
        for server in self._nodes.keys() - (masters if topology.is_cluster == self.sharded else ()):
            task = asyncio.ensure_future(self._nodes.pop(server).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self.sharded = topology.is_cluster
        for server in masters:
            if server not in self._nodes:
                self._nodes[server] = node = Node(server, self)
                node.open()

    def _owners_of(self, topology: Topology) -> list[Node | None]:
        owners: list[Node | None] = [None] * SLOTS
        for first, last, server in topology.ranges:
            owners[first : last + 1] = [self._nodes[server]] * (last + 1 - first)
        return owners

    async def _follow_slots(self, moved: set[int]) -> None:
        """Subscribe again to what was in these slots, and tell that something may have been missed."""
        subjects = list(self._receiver.subscriptions()) if moved else ()
        for start in range(0, len(subjects), SLICE):
            for subject in subjects[start : start + SLICE]:
                if slot_of(subject) in moved:
                    self._missed = True
                    self.subscribe(subject)
            self.flush()
            await asyncio.sleep(0)
        await asyncio.gather(*(node.settled() for node in self._nodes.values()))
        if self._missed and self._is_up and not self._lost:
            self._missed = False
            self._receiver.gap("slots have moved to another master")


def _nobody(channel: bytes, payload: bytes) -> None:
    """Take what comes before there is a receiver: nothing does."""
