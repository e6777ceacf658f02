"""This node among others: what all nodes agree on, over an engine.

The core below (`Node`) does what happens per push and per message. Here is what nodes tell each other of themselves, as
JSON that both older and newer versions read: what one does not know it skips.

    hello                     a node is there, since when, how long ago it began anew as it had lost something, and what
                              it knows: every `HEARTBEAT` seconds, and to who asks
    bye                       it ends
    table, table?             words on groups that were removed or created, and the asking for all of them
    count, locate, answer     questions, and their answers

Who begins asks all others for a hello, and waits a moment for what it does not know yet. A node of which nothing is
heard for `SILENCE` seconds is gone; one whose own loop stood still for as long is late, and behaves as if it came anew:
its names may be another's, and others will say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from .._speedups import Node
from ..errors import ConfigurationError
from ..logs import Log
from .engines import engine_of
from .members import MAX_MEMBERS, SILENCE, Hello, Members
from .questions import Count, Location, Questions
from .retirement import Retirements, Word
from .session import wait_for

if TYPE_CHECKING:
    from .._speedups import Hub
    from .base import Backplane

__all__ = ["Relay", "relay_of"]

logger = Log("fastws")

TICK: Final = 1.0  # seconds
HEARTBEAT: Final = 2  # ticks
TAKE_OVER: Final = 0.2  # seconds from the end of who was the one until this node is
SETTLE: Final = 0.5  # seconds that a beginner waits for what others know
NAMES_A_TURN: Final = 500  # that are claimed again before others have their turn
MAX_GAPS: Final = 100  # that are told of one by one; more are told of by node
TABLE_PATIENCE: Final = 5.0  # seconds until a table that did not come is asked for again; twice as many each time
STRANGERS: Final = 10  # ticks; a node that does not tell of itself for as long is forgotten
READS: Final = 1  # the latest version of messages that this fastws reads

Target = tuple[str, str]
Told = Callable[[str, "str | None", "Target | None", int], None]


class Relay(Node):
    """The node of a loop's hub; all servers on the loop share it.

    Args:
        hub: of the loop.
        engine: carries the messages; it is the relay's from here on.
        prefix: of all subjects.
        name: of the engine and the cluster: servers on one loop have to agree on it.
    """

    def __init__(self, hub: Hub, engine: Backplane, prefix: bytes, name: object) -> None:
        self.name = name
        self.users = 0
        self.id = self.node.decode()
        self.members = Members(self.id, self.next_stamp())
        self._loop = asyncio.get_running_loop()
        self._retirements = Retirements()
        self._questions = Questions()
        self._told: list[Told] = []
        self._leads: list[Callable[[bool], None]] = []
        self.leads = False
        self._gaps: dict[tuple[str | None, Target | None], int] = {}
        self._tables_asked: dict[int, tuple[float, float]] = {}  # digest -> when to ask again, and how long that waited
        self._tables_awaited = 0
        self._settled = asyncio.Event()
        self._ticks = 0
        self._ticked_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._lost_before = 0
        self._opening: asyncio.Future[None] | None = None
        self._was_up = False
        self._up_at = self._loop.time()
        self._anew_at: float | None = None  # when it began an epoch that was not its first
        self._tasks: set[asyncio.Task[None]] = set()
        self._missing: dict[str, None] = {}  # nodes that went without a word

    # --- Its life.

    async def open(self) -> None:
        """Begin; returns when the engine has tried to connect, and others have told what they know."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
        await asyncio.shield(self._opening)

    async def _open(self) -> None:
        self._tick()
        await self.engine.open(self)
        if self.is_up:
            self._check_settled()
            with contextlib.suppress(asyncio.TimeoutError):
                await wait_for(self._settled.wait(), SETTLE)
        self._settled.set()
        self._elect(at_once=True)

    async def close(self) -> None:
        """Let go of it for one server; with the last one say goodbye and end the engine."""
        self.users -= 1
        if self.users:
            return
        if self._timer is not None:
            self._timer.cancel()
        for task in [*self._tasks, *filter(None, [self._opening])]:
            task.cancel()
        self._tell_all({"op": "bye"})
        self.end()
        await self.engine.close()

    def listen(self, told: Told, leads: Callable[[bool], None]) -> None:
        """Have somebody told of what happens, and whether this node is the one that does what one alone shall do."""
        self._told.append(told)
        self._leads.append(leads)
        told("up" if self.is_up else "down", None, None, 0)
        if self.leads:
            leads(True)

    def ignore(self, told: Told, leads: Callable[[bool], None]) -> None:
        """Tell them no more; who has nobody to tell leaves it to another node to be the one."""
        if told not in self._told:
            return
        self._told.remove(told)
        self._leads.remove(leads)
        if not self._told:
            self.members.since = self.next_stamp()
            self._say_hello()

    # --- What the engine tells.

    def up(self) -> None:
        """Begin, or go on: nobody knows what was missed."""
        if self.is_up or self.hub is None:
            return
        self.go_up()
        self._up_at = self._loop.time()
        self.members.hear_all(self._loop.time())
        if self._was_up:
            self._resume()
        self._was_up = True
        self._say_hello(ask=True)
        self._loop.call_later(SETTLE, self._elect)
        self._tell("up")

    def down(self, reason: str) -> None:
        """Note that nobody can be told anything."""
        if self.is_up:
            self.is_up = False
            logger.warning("the backplane is away: %s", reason)
            self._tell("down")

    def gap(self, reason: str) -> None:
        """Note that messages to this node were lost."""
        if self.hub is None:
            return
        logger.warning("messages of other nodes were lost: %s", reason)
        self._note_gap(None, None, 0)
        self._claim_all()
        self._say_hello(ask=True)

    def joined(self, node: bytes) -> None:
        """Expect a node to tell of itself."""
        self.members.expect(node.decode())

    def left(self, node: bytes) -> None:
        """Forget a node that the engine saw go."""
        self._lose(node.decode())

    def _resume(self) -> None:
        """Have others know that what was said before may be missing, and whose names these are."""
        self.next_epoch()
        self._lost_before = self.lost
        self._anew_at = self._loop.time()
        self._claim_all()

    def _claim_all(self) -> None:
        task = self._loop.create_task(self._claim_in_slices(list(self.hub.stored)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _claim_in_slices(self, names: list[str]) -> None:
        for start in range(0, len(names), NAMES_A_TURN):
            self.claim_again(names[start : start + NAMES_A_TURN])
            await asyncio.sleep(0)

    # --- Time.

    def _tick(self) -> None:
        now = self._loop.time()
        late, self._ticked_at = now - self._ticked_at, now
        self._timer = self._loop.call_later(TICK, self._tick)
        self.linger()
        if not self.engine.sees_nodes:
            # Another node may have claimed one at once, and neither have been subscribed when the other spoke
            self.claim_again(self.take_claimed())
        if late > SILENCE:
            self._be_late()
        if self.lost != self._lost_before and self.is_up and self.engine.has_room():
            self._resume()
            self._say_hello()
        self._ticks += 1
        if self._ticks % STRANGERS == 0:
            self.forget_strangers({node.encode() for node in self.members.nodes})
        if self._ticks % HEARTBEAT == 0:
            self._say_hello()
        if self.is_up:
            for node in self.members.silent(now):
                logger.warning("nothing is heard of node %s", node)
                self._lose(node)

    def _be_late(self) -> None:
        """Behave like a beginner: nobody may have believed that this node is still there."""
        logger.warning("this node stood still for more than %d seconds", SILENCE)
        self.members.since = self.next_stamp()
        self.members.hear_all(self._loop.time())
        self._elect()
        self._resume()
        self._say_hello(ask=True)
        self._note_gap(None, None, 0)

    # --- Who there is.

    def _say_hello(self, *, ask: bool = False, to: str | None = None) -> None:
        anew = None if self._anew_at is None else round(self._loop.time() - self._anew_at, 3)
        digest = self._retirements.digest
        hello = {"op": "hello", "since": self.members.since, "digest": digest, "reads": READS, "ask": ask, "anew": anew}
        if to is None:
            self._tell_all(hello)
        else:
            self._tell_one(to, hello)

    def _on_hello(self, node: str, hello: Hello, ask: bool) -> None:
        self.note_stamp(hello.since)
        is_new = node not in self.members
        news = self.members.note(node, hello, self._loop.time())
        if is_new and news:
            self._welcome(node, hello)
        if ask:
            self._say_hello(to=node)
        self._ask_for_table(node, hello.digest)
        if news:
            self._elect()
        self._check_settled()

    def _welcome(self, node: str, hello: Hello) -> None:
        """Tell of what a node lost that was there all the while, unknown here: its epoch is the first that is heard."""
        was_away = hello.anew is not None and hello.anew < self._loop.time() - self._up_at
        if node in self._missing or was_away:
            self._note_gap(node, None, 0)
        self._missing.pop(node, None)

    def _ask_for_table(self, node: str, digest: int) -> None:
        """Ask for what a node knows and we may not; seldom for the same state of knowledge, as it may not be ours."""
        now = self._loop.time()
        again, patience = self._tables_asked.get(digest, (0.0, TABLE_PATIENCE))
        if digest in (0, self._retirements.digest) or now < again:
            return
        if len(self._tables_asked) >= MAX_GAPS:
            self._tables_asked.clear()
        self._tables_asked[digest] = now + patience, 2 * patience
        self._tables_awaited += 1
        self._tell_one(node, {"op": "table?"})

    def _check_settled(self) -> None:
        if self.engine.sees_nodes and self.members.are_complete and not self._tables_awaited:
            self._settled.set()

    def _lose(self, node: str, *, well: bool = False) -> None:
        """Forget a node; of one that did not say goodbye the last words may be missing."""
        self._questions.leave(node, well=well)
        self.forget_peer(node.encode())
        if self.members.remove(node):
            if not well:
                self._miss(node)
            self._elect()
        self._check_settled()

    def _miss(self, node: str) -> None:
        """Tell of a node that went without a word, and expect that it may come again."""
        self._note_gap(node, None, 0)
        if len(self._missing) >= MAX_MEMBERS:
            self._missing.clear()
        self._missing[node] = None

    def _elect(self, at_once: bool = False) -> None:
        """See whether this node is the one; while the engine is away nobody can know better than before."""
        if self.hub is None or not self._settled.is_set() or not self.is_up:
            return
        leads = self.members.is_first()
        if leads and not self.leads and not at_once:
            # Those who end together do not pass it on to each other
            self._loop.call_later(TAKE_OVER, self._elect, True)
            return
        if leads != self.leads:
            self.leads = leads
            for tell in list(self._leads):
                tell(leads)

    # --- What nodes tell each other.

    def _tell_all(self, message: dict[str, Any]) -> None:
        self.say_all(json.dumps(message).encode())

    def _tell_one(self, node: str, message: dict[str, Any]) -> None:
        self.say_to(node.encode(), json.dumps(message).encode())

    def on_control(self, node: bytes, data: bytes) -> None:
        """Take what a node told."""
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            message = None
        if not (isinstance(message, dict) and self._on_message(node.decode(), message)):
            self.foreign += 1

    def _on_message(self, node: str, message: dict[str, Any]) -> bool:
        """Do what a message says; returns whether it was understood."""
        match message:
            case {"op": "hello", "since": int(since), "digest": int(digest), "reads": int(reads), "ask": bool(ask)} if (
                0 <= since < 1 << 64
            ):
                anew = message.get("anew")
                self._on_hello(node, Hello(since, digest, reads, anew if isinstance(anew, float) else None), ask)
            case {"op": "bye"}:
                self._lose(node, well=True)
            case {"op": "table?"}:
                self._send_table(node)
            case {"op": "table", "words": list(words), "more": bool(more)}:
                self._on_table(words, more)
            case {"op": "count" | "locate" as op, "number": int(number), "name": str(name)}:
                self._tell_one(node, {"op": "answer", "number": number, "value": self._answer(op, name)})
            case {"op": "answer", "number": int(number), "value": value}:
                self._questions.answer(node, number, value)
            case _:
                return False
        return True

    # --- Which groups were removed.

    def on_group_removed(self, name: str) -> None:
        """Tell all nodes, those that begin later, too."""
        self._spread(Word(name, self.hub.retired[name], True))

    def on_group_created(self, name: str) -> None:
        """Likewise that a name may be joined again."""
        self._spread(Word(name, self.next_stamp(), False))

    def _spread(self, word: Word) -> None:
        self._retirements.take(word)
        self._tell_all({"op": "table", "words": [word], "more": True})

    def _on_table(self, words: list[Any], more: bool) -> None:
        for word in words:
            match word:
                case [str(name), int(stamp), bool(retired)] if name and 0 <= stamp < 1 << 64:
                    self._take_word(Word(name, stamp, retired))
                case _:
                    self.foreign += 1
        if not more:
            self._tables_awaited = max(0, self._tables_awaited - 1)
            self._check_settled()

    def _take_word(self, word: Word) -> None:
        self.note_stamp(word.stamp)
        if not self._retirements.take(word):
            return
        if word.retired:
            self.retire(word.name, word.stamp)
        else:
            self.revive(word.name)

    def _send_table(self, node: str) -> None:
        for words in self._retirements.tables():
            self._tell_one(node, {"op": "table", "words": words, "more": True})
        self._tell_one(node, {"op": "table", "words": [], "more": False})

    # --- Questions.

    def _answer(self, op: str, name: str) -> object:
        if op == "locate":
            return name in self.hub.stored
        kind, _, name = name.partition(":")
        return self.count_here(kind, name)

    async def count(self, kind: str, name: str, timeout: float) -> Count:
        """Count the connections of a group or a service on all nodes."""
        answers, complete = await self._ask({"op": "count", "name": f"{kind}:{name}"}, timeout)
        numbers = [answer for answer in answers.values() if isinstance(answer, int)]
        return Count(self.count_here(kind, name) + sum(numbers), complete)

    async def locate(self, name: str, timeout: float) -> Location:
        """Find the node that has a stored connection."""
        if name in self.hub.stored:
            return Location(self.id, True, True)
        answers, complete = await self._ask({"op": "locate", "name": name}, timeout)
        return Location(next((node for node, has in answers.items() if has is True), None), complete, False)

    async def _ask(self, question: dict[str, Any], timeout: float) -> tuple[dict[str, object], bool]:
        def send(number: int) -> bool:
            self._tell_all({**question, "number": number})
            return self.is_up

        return await self._questions.ask(self.members.nodes, send, timeout)

    # --- What is missing.

    def on_gap(self, node: bytes, target: Target | None, missing: int) -> None:
        """Note that some of what a node said is missing, and tell of it when more is known."""
        self._note_gap(node.decode(), target, missing)

    def _note_gap(self, node: str | None, target: Target | None, missing: int) -> None:
        if not self._gaps:
            self._loop.call_soon(self._tell_gaps)
        if len(self._gaps) >= MAX_GAPS:
            target = None
        before = self._gaps.get((node, target))
        # One of which nobody knows how large it is makes all of it so
        self._gaps[node, target] = missing if before is None else before + missing if before and missing else 0

    def _tell_gaps(self) -> None:
        gaps, self._gaps = self._gaps, {}
        for (node, target), missing in gaps.items():
            self._tell("gap", node, target, missing)

    def _tell(self, state: str, node: str | None = None, target: Target | None = None, missing: int = 0) -> None:
        for tell in list(self._told):
            tell(state, node, target, missing)


def relay_of(hub: Hub, backplane: str | Backplane, cluster: str) -> Relay:
    """Return the relay of a hub for one more server, made for the first; each server closes it.

    Args:
        hub: of the loop.
        backplane: the URL of an engine, or one.
        cluster: separates deployments on one engine.

    Raises:
        ConfigurationError: another server on this loop has another backplane; or there is no such engine.
    """
    name = (backplane, cluster)
    relay = hub.node
    if relay is None:
        engine = engine_of(backplane) if isinstance(backplane, str) else backplane
        relay = Relay(hub, engine, f"fastws.{cluster}.".encode(), name)
        relay.begin()
    assert isinstance(relay, Relay)
    if relay.name != name:
        raise ConfigurationError("backplane: another server on this event loop has another one; they share all names")
    relay.users += 1
    return relay
