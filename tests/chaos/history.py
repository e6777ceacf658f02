"""What happened in a schedule, as clients and nodes have written it down."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

Target = tuple[str, str]  # ("group", name), ("connection", name) or ("service", path)
SERVICE: Target = ("service", "/")


class Message(NamedTuple):
    """A message that a client got: whose, which of all that this node pushed, to whom, and who was left out."""

    at: float
    node: str
    number: int
    target: Target
    but: str | None


class Asked(NamedTuple):
    """A client asks for something; `number` leads to the answer."""

    at: float
    number: int
    verb: str
    target: Target


class Answered(NamedTuple):
    """And is told what came of it."""

    at: float
    number: int
    result: object


@dataclass
class Session:
    """A connection of a client, and all that it said and heard, in order.

    Attributes:
        closed: when it ended; None: it was there when the schedule ended.
    """

    id: str
    node: str
    opened: float
    closed: float | None = None
    events: list[Message | Asked | Answered] = field(default_factory=list)


class Push(NamedTuple):
    """A push, as the node knows it that made it."""

    at: float
    node: str
    number: int
    target: Target
    published: bool | None
    by: str
    but: bool


class State(NamedTuple):
    """What `on_backplane` told a node: "up", "down" or "gap", and of that whose messages and to whom."""

    at: float
    node: str
    state: str
    whose: str | None = None
    target: Target | None = None


class Word(NamedTuple):
    """A group was removed, or created."""

    at: float
    node: str
    name: str
    removed: bool


class Broken(NamedTuple):
    """What was done to the nodes and the engine, and for how long."""

    begin: float
    end: float
    what: str


@dataclass
class Finale:
    """What was found when all was mended and quiet.

    Attributes:
        at: when it began.
        nodes: the ids of all that there are.
        holders: of each name, by the node that pushed to it: the sessions that got it.
        joins: for each group, by node: whether it could be joined.
        counts: the connections of the service by the node that was asked, and whether all had answered it.
        sessions: how many there were.
        leaders: the nodes that were the one.
    """

    at: float = 0.0
    nodes: list[str] = field(default_factory=list)
    holders: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    joins: dict[str, dict[str, bool]] = field(default_factory=dict)
    counts: dict[str, tuple[int, bool]] = field(default_factory=dict)
    sessions: int = 0
    leaders: list[str] = field(default_factory=list)


@dataclass
class History:
    """All of it.

    Attributes:
        fickle: groups that are removed, and names that several want: nobody is sure to be in them.
    """

    sessions: list[Session] = field(default_factory=list)
    pushes: list[Push] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    fickle: set[Target] = field(default_factory=set)
    finale: Finale | None = None

    def read(self, folder: Path) -> None:
        """Take in what nodes have written."""
        lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
        leading: dict[str, bool] = {}
        for line in sorted(lines, key=lambda line: line["at"]):
            at, node = line["at"], line["node"]
            if line["what"] == "push":
                kind, name = line["to"]
                push = Push(at, node, line["number"], (kind, name), line["published"], line["by"], line["but"])
                self.pushes.append(push)
            elif line["what"] == "state":
                target = tuple(line["target"]) if line["target"] else None
                self.states.append(State(at, node, line["state"], line["whose"], target))
            elif line["what"] == "word":
                self.words.append(Word(at, node, line["name"], line["removed"]))
            else:
                leading[node] = line["what"] == "leads"
        if self.finale is not None:
            self.finale.leaders = [node for node in self.finale.nodes if leading.get(node)]
