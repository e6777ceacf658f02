"""The invariants, each a function from a history to what breaks it, as sentences.

What is promised and what not. A push that a node made in a callback, to a group that a client is in for sure, reaches
the client while nothing is broken, at most once, and behind what the same node pushed there before. A client is in for
sure from `settled` seconds after it was told so, since other nodes hear a moment later that somebody is there, until it
asks to be out. What is lost is told to the node of the client: by a gap that may concern it, or since that node, too,
is cut off, which it notices a moment later, and comes up again. Only of what a node says that is cut off and ends
before it comes up again nobody knows but he who was told that it was not published.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from .history import SERVICE, Answered, Asked, History, Message, Push, Session, State, Target

ENTERING = {"join": "group", "store": "connection"}
LEAVING = {"leave": "group", "remove": "group", "forget": "connection"}


class Rules(NamedTuple):
    """Seconds.

    Attributes:
        settled: until other nodes know that somebody is there.
        delivery: that a message takes at most.
        calm: after the end of all that was broken, until nothing of it is noticed any more.
        told: until a loss is told, likewise.
        noticed: that an engine may stand still before a node says that it is away.
        after_up: that messages may still be lost when a node has come up.
    """

    settled: float = 1.5
    delivery: float = 6.0
    calm: float = 12.0
    told: float = 15.0
    noticed: float = 6.0
    after_up: float = 0.0


def check(history: History, rules: Rules) -> list[str]:
    """Return all that is wrong with a history."""
    return [
        *outsiders(history),
        *out_of_order(history),
        *refused_and_delivered(history),
        *not_published(history, rules),
        *undelivered(history, rules),
        *disagreements(history),
        *wrong_words(history, rules),
        *wrong_holders(history, rules),
    ]


# --- What a client gets.


def outsiders(history: History) -> Iterator[str]:
    """Find messages to whoever is not meant, or was left out."""
    for session in history.sessions:
        inside: set[Target] = {SERVICE}
        asked: dict[int, Asked] = {}
        for event in session.events:
            if isinstance(event, Asked):
                asked[event.number] = event
                if event.verb in ENTERING:
                    inside.add(event.target)
            elif isinstance(event, Answered):
                before = asked.pop(event.number, None)
                if before is not None and before.verb in LEAVING and event.result is not False:
                    inside.discard(before.target)
            elif event.target not in inside:
                yield f"{session.id} is not in {event.target} and got {_name(event)}"
            elif event.but == session.id:
                yield f"{session.id} was left out and got {_name(event)}"


def out_of_order(history: History) -> Iterator[str]:
    """Find what came twice, or after what was pushed behind it."""
    for session in history.sessions:
        last: dict[tuple[str, Target], int] = {}
        for message in _messages(session):
            before = last.get((message.node, message.target), 0)
            if message.number == before:
                yield f"{session.id} got {_name(message)} twice"
            elif message.number < before:
                yield f"{session.id} got {_name(message)} after {before}"
            last[message.node, message.target] = max(before, message.number)


def refused_and_delivered(history: History) -> Iterator[str]:
    """Find messages that came to another node although they were said to be not published."""
    refused = {(push.node, push.number) for push in history.pushes if push.published is False}
    for session in history.sessions:
        for message in _messages(session):
            if message.node != session.node and (message.node, message.number) in refused:
                yield f"{session.id} got {_name(message)}, which was not published"


def not_published(history: History, rules: Rules) -> Iterator[str]:
    """Find pushes that were refused while nothing was broken."""
    for push in history.pushes:
        if push.published is False and _is_calm(history, rules, push.at):
            yield f"{_name(push)} was not published at {push.at:.3f}, while nothing was broken"


# --- What a client does not get.


def undelivered(history: History, rules: Rules) -> Iterator[str]:
    """Find losses while nothing was broken, and those that nobody was told of."""
    reports = defaultdict(list)
    for state in history.states:
        reports[state.node].append(state)
    pushes = _by_target(history)
    for session in history.sessions:
        got = {(message.node, message.number) for message in _messages(session)}
        for target, begin, end in _certain(history, session, rules):
            for push in pushes.get(target, ()):
                if begin <= push.at <= end and (push.node, push.number) not in got and not _left_out(push, session):
                    yield from _explain(history, rules, session, push, reports[session.node])


def _explain(history: History, rules: Rules, session: Session, push: Push, reports: list[State]) -> Iterator[str]:
    what = f"{session.id} at {session.node} did not get {_name(push)} of {push.at:.3f}"
    if push.node == session.node:
        yield f"{what}, of its own node"
    elif _is_calm(history, rules, push.at):
        yield f"{what}, while nothing was broken"
    elif _is_down(reports, push.at) or _was_told_alone(history, push):
        return
    elif not any(_tells(report, push, rules, _deadline(history, rules, push.at)) for report in reports):
        yield f"{what}, and nobody was told"


def _was_told_alone(history: History, push: Push) -> bool:
    """Tell whether only he who pushed can know: his node was cut off, and ended so."""
    came_up = any(state.node == push.node and state.state == "up" and state.at > push.at for state in history.states)
    return push.published is False and not came_up


def _is_down(reports: list[State], at: float) -> bool:
    """Tell whether a node knows at a moment that it gets nothing, and has not come up since."""
    states = [report.state for report in reports if report.at <= at and report.state != "gap"]
    return states[-1:] == ["down"]


def _tells(report: State, push: Push, rules: Rules, deadline: float) -> bool:
    if report.state == "gap":
        concerned = report.whose in (None, push.node) and report.target in (None, push.target)
        return concerned and push.at <= report.at <= deadline
    # A node that ends before it comes up was told all the same
    slack = rules.after_up if report.state == "up" else 0.0
    return push.at - slack <= report.at <= deadline


def _deadline(history: History, rules: Rules, at: float) -> float:
    ends = [
        broken.end for broken in history.broken if broken.begin <= at + rules.told and broken.end >= at - rules.calm
    ]
    return max([at, *ends]) + rules.told


def _certain(history: History, session: Session, rules: Rules) -> Iterator[tuple[Target, float, float]]:
    """From when to when a session is in something for sure."""
    end = _end(history, session)
    yield SERVICE, session.opened + rules.settled, end - rules.delivery
    since: dict[Target, float] = {}
    entering: dict[int, Asked] = {}
    for event in session.events:
        if isinstance(event, Asked) and event.verb in ENTERING:
            entering[event.number] = event
        elif isinstance(event, Asked) and event.target in since and event.verb in LEAVING:
            yield event.target, since.pop(event.target) + rules.settled, event.at - rules.delivery
        elif isinstance(event, Answered) and event.number in entering and event.result != "removed":
            target = entering[event.number].target
            if target not in history.fickle:
                since.setdefault(target, _heard_of(history, rules, event.at))
    for target, begin in since.items():
        yield target, begin + rules.settled, end - rules.delivery


def _heard_of(history: History, rules: Rules, at: float) -> float:
    """Until when an engine knows of whom a node wants to hear: a connection that stands still carries that later."""
    is_broken = any(broken.begin <= at + rules.settled and broken.end >= at for broken in history.broken)
    return at + rules.noticed if is_broken else at


def _end(history: History, session: Session) -> float:
    ends = [session.closed, history.finale.at if history.finale is not None else None]
    return min((end for end in ends if end is not None), default=math.inf)


def _is_calm(history: History, rules: Rules, at: float) -> bool:
    return not any(
        broken.begin < at + rules.delivery and broken.end > at - rules.calm - rules.settled for broken in history.broken
    )


# --- What all agree on in the end.


def disagreements(history: History) -> Iterator[str]:
    """Find what nodes see differently when all is mended."""
    finale = history.finale
    if finale is None:
        return
    for name, holders in finale.holders.items():
        found = {tuple(sorted(sessions)) for sessions in holders.values()}
        if len(found) > 1 or any(len(sessions) > 1 for sessions in found):
            yield f"nodes do not agree on who is {name}: {holders}"
    for name, joins in finale.joins.items():
        if len(set(joins.values())) > 1:
            yield f"nodes do not agree on whether group {name} was removed: {joins}"
    for node, (count, complete) in finale.counts.items():
        if (count, complete) != (finale.sessions, True):
            yield f"{node} counts {count} of {finale.sessions} connections, {complete=}"
    if len(finale.leaders) != 1:
        yield f"not one node is the one: {finale.leaders}"


def wrong_words(history: History, rules: Rules) -> Iterator[str]:
    """Find groups that can be joined although they were removed last, or the other way round."""
    finale = history.finale
    for name, joins in finale.joins.items() if finale is not None else ():
        words = [word for word in history.words if word.name == name]
        # What a node said that has ended since may have been lost with it
        last = max((word.at for word in words if word.node in finale.nodes), default=math.inf)
        late = {word.removed for word in words if word.at >= last - rules.settled}
        if len(late) == 1 and set(joins.values()) == late:
            yield f"the last word on group {name} is forgotten: removed={late}, and now it can be joined: {joins}"


def wrong_holders(history: History, rules: Rules) -> Iterator[str]:
    """Find names that nobody has although the one who stored it last is there still, or that another one has."""
    finale = history.finale
    for name, holders in finale.holders.items() if finale is not None else ():
        claims = _claims(history, name)
        if not claims or (len(claims) > 1 and claims[-2][0] >= claims[-1][0] - rules.settled):
            continue
        _, verb, session = claims[-1]
        is_there = session.closed is None or session.closed > finale.at
        expected = [session.id] if verb == "store" and is_there else None
        found = {tuple(sessions) for sessions in holders.values()}
        if expected is not None and found != {tuple(expected)}:
            yield f"{name} was stored last by {expected}, and is {holders}"


def _claims(history: History, name: str) -> list[tuple[float, str, Session]]:
    """All that was asked of a name, and answered or not: what waits for an answer may have been done."""
    claims = [
        (event.at, event.verb, session)
        for session in history.sessions
        for asked in [{event.number: event for event in session.events if isinstance(event, Asked)}]
        for event in _ends(session, asked)
        if event.target == ("connection", name) and event.verb in ("store", "forget")
    ]
    return sorted(claims, key=lambda claim: claim[0])


def _ends(session: Session, asked: dict[int, Asked]) -> Iterator[Asked]:
    answers = {event.number: event.at for event in session.events if isinstance(event, Answered)}
    for event in asked.values():
        yield event._replace(at=answers.get(event.number, event.at))


# --- Helpers.


def _messages(session: Session) -> Iterator[Message]:
    return (event for event in session.events if isinstance(event, Message))


def _by_target(history: History) -> dict[Target, list[Push]]:
    found: dict[Target, list[Push]] = defaultdict(list)
    for push in history.pushes:
        found[push.target].append(push)
    return found


def _left_out(push: Push, session: Session) -> bool:
    return push.but and push.by == session.id


def _name(event: Message | Push) -> str:
    return f"{event.node}#{event.number} to {event.target}"
