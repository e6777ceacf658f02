"""The checker finds what breaks an invariant, and nothing where all is as it is promised."""

from __future__ import annotations

import pytest

from .checker import Rules, check
from .history import SERVICE, Answered, Asked, Broken, Finale, History, Message, Push, Session, State, Word

RULES = Rules(settled=1.0, delivery=2.0, calm=5.0, told=5.0)
GROUP = ("group", "g")
BROKEN = Broken(90.0, 110.0, "cut")


def message(number: int, at: float = 100.0, *, node: str = "b", target=GROUP, but: str | None = None) -> Message:
    return Message(at, node, number, target, but)


def push(number: int, at: float = 100.0, *, node: str = "b", target=GROUP, published: bool | None = True) -> Push:
    return Push(at, node, number, target, published, "c9", False)


def session(*events, closed: float | None = 200.0) -> Session:
    """A client of node a that has been in a group for long."""
    entered = [Asked(1.0, 1, "join", GROUP), Answered(2.0, 1, None)]
    return Session("c1", "a", 0.0, closed, [*entered, *events])


def history(*sessions: Session, **more) -> History:
    return History(list(sessions), **more)


def assert_finds(history: History, *parts: str) -> None:
    found = check(history, RULES)
    assert len(found) == len(parts), found
    for finding, part in zip(found, parts, strict=True):
        assert part in finding


def test_what_comes_once_in_order_and_to_members_is_right():
    whole = session(message(1), message(2), message(1, node="c"), message(3, target=SERVICE))
    pushes = [push(1), push(2), push(1, node="c"), push(3, target=SERVICE)]
    assert_finds(history(whole, pushes=pushes))


# --- What a client gets.


def test_a_message_of_a_group_that_a_client_never_joined():
    assert_finds(history(session(message(1, target=("group", "other")))), "is not in ('group', 'other')")


@pytest.mark.parametrize("verb", ["leave", "remove"])
def test_a_message_behind_the_answer_that_the_client_is_out(verb):
    out = [Asked(50.0, 2, verb, GROUP), Answered(60.0, 2, True)]
    assert_finds(history(session(*out, message(1))), "is not in")
    assert_finds(history(session(out[0], message(1), out[1])))
    again = [Asked(70.0, 3, "join", GROUP), Answered(71.0, 3, None)]
    assert_finds(history(session(*out, *again, message(1))))


def test_a_message_to_who_was_left_out():
    assert_finds(history(session(message(1, but="c1"))), "was left out")


def test_a_message_that_comes_twice():
    assert_finds(history(session(message(1), message(1))), "twice")


def test_a_message_that_comes_behind_a_later_one():
    assert_finds(history(session(message(2), message(1))), "after 2")


def test_a_message_that_comes_although_it_was_not_published():
    assert_finds(history(session(message(1)), pushes=[push(1, published=False)], broken=[BROKEN]), "was not published")
    assert_finds(history(session(message(1, node="a")), pushes=[push(1, node="a", published=False)], broken=[BROKEN]))


def test_a_push_that_is_refused_while_nothing_is_broken():
    # Nobody is there who could miss it
    assert_finds(history(pushes=[push(1, published=False)]), "while nothing was broken")
    assert_finds(history(pushes=[push(1, published=False)], broken=[BROKEN]))


# --- What a client does not get.


def test_a_message_that_is_lost_while_nothing_was_broken():
    assert_finds(history(session(), pushes=[push(1)], broken=[Broken(10.0, 20.0, "cut")]), "while nothing was broken")


def test_a_message_that_is_lost_and_nobody_is_told():
    assert_finds(history(session(), pushes=[push(1)], broken=[BROKEN]), "nobody was told")


@pytest.mark.parametrize(
    ("state", "explains"),
    [
        (State(101.0, "a", "gap", "b", GROUP), True),
        (State(101.0, "a", "gap", "b", None), True),
        (State(101.0, "a", "gap", None, None), True),
        (State(101.0, "a", "up"), True),
        (State(101.0, "a", "down"), True),
        (State(99.0, "a", "down"), True),
        (State(99.0, "a", "gap", "b", GROUP), False),
        (State(99.0, "a", "up"), False),
        (State(101.0, "a", "gap", "c", GROUP), False),
        (State(101.0, "a", "gap", "b", ("group", "other")), False),
        (State(101.0, "b", "gap", "b", GROUP), False),
        (State(130.0, "a", "gap", "b", GROUP), False),
    ],
)
def test_a_loss_is_told_by_what_may_concern_it_and_comes_behind_it_in_time(state, explains):
    lost = history(session(), pushes=[push(1)], broken=[BROKEN], states=[state])
    assert_finds(lost, *([] if explains else ["nobody was told"]))


def test_a_message_of_the_own_node_that_is_lost_whatever_was_broken():
    states = [State(101.0, "a", "up")]
    assert_finds(history(session(), pushes=[push(1, node="a")], broken=[BROKEN], states=states), "of its own node")


def test_nobody_but_who_pushed_knows_of_a_node_that_never_came_up():
    lost = history(session(), pushes=[push(1, published=False)], broken=[BROKEN])
    assert_finds(lost)
    lost.states.append(State(105.0, "b", "up"))
    assert_finds(lost, "nobody was told")


@pytest.mark.parametrize(
    "unsure",
    [
        {"closed": 101.0},
        {"events": [Asked(101.0, 2, "leave", GROUP)]},
        {"events": [Asked(98.0, 2, "leave", GROUP), Answered(98.1, 2, None), Asked(99.0, 3, "join", GROUP)]},
    ],
)
def test_who_may_be_out_or_gone_misses_nothing(unsure):
    events = unsure.pop("events", [])
    assert_finds(history(session(*events, **unsure), pushes=[push(1)]))


def test_who_joins_while_something_is_broken_is_in_for_sure_when_that_would_be_noticed():
    entered = [Asked(95.0, 1, "join", GROUP), Answered(95.1, 1, None)]
    joined = Session("c1", "a", 0.0, 200.0, entered)
    assert_finds(history(joined, pushes=[push(1, 100.0)], broken=[BROKEN]))
    assert_finds(history(joined, pushes=[push(1, 103.0)], broken=[BROKEN]), "nobody was told")


def test_whoever_is_in_nothing_for_sure_misses_nothing():
    assert_finds(history(session(), pushes=[push(1)], fickle={GROUP}))


# --- What all agree on.


def finale(**more) -> Finale:
    return Finale(**{"at": 150.0, "nodes": ["a", "b"], "leaders": ["a"], **more})


def test_nodes_that_agree():
    agreed = finale(
        holders={"ada": {"a": ["c1"], "b": ["c1"]}, "bob": {"a": [], "b": []}},
        joins={"g": {"a": True, "b": True}},
        counts={"a": (1, True), "b": (1, True)},
        sessions=1,
    )
    assert_finds(history(finale=agreed))


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"holders": {"ada": {"a": ["c1"], "b": ["c2"]}}}, "who is ada"),
        ({"holders": {"ada": {"a": ["c1", "c2"], "b": ["c1", "c2"]}}}, "who is ada"),
        ({"holders": {"ada": {"a": ["c1"], "b": []}}}, "who is ada"),
        ({"counts": {"a": (0, False)}}, "counts 0 of 0"),
        ({"counts": {"a": (1, True)}}, "counts 1 of 0"),
        ({"leaders": []}, "not one node"),
        ({"leaders": ["a", "b"]}, "not one node"),
    ],
)
def test_nodes_that_do_not_agree(wrong, part):
    assert_finds(history(finale=finale(**wrong)), part)


def test_groups_that_are_removed_here_only():
    words = [Word(100.0, "a", "g", True)]
    assert_finds(
        history(finale=finale(joins={"g": {"a": False, "b": True}}), words=words), "whether group g was removed"
    )
    assert_finds(history(finale=finale(joins={"g": {"a": False, "b": False}}), words=words))


def test_a_last_word_that_is_forgotten():
    joins = {"g": {"a": True, "b": True}}
    words = [Word(90.0, "b", "g", False), Word(100.0, "a", "g", True)]
    assert_finds(history(finale=finale(joins=joins), words=words), "the last word on group g")
    words.append(Word(100.5, "b", "g", False))  # either may have been the last one
    assert_finds(history(finale=finale(joins=joins), words=words))
    words[2] = Word(120.0, "ended", "g", False)  # and what this one said it may have told nobody
    assert_finds(history(finale=finale(joins=joins), words=words))


def test_a_name_that_its_last_holder_does_not_have():
    stored = session(Asked(100.0, 2, "store", ("connection", "ada")), Answered(101.0, 2, None), closed=None)
    assert_finds(history(stored, finale=finale(holders={"ada": {"a": [], "b": []}})), "was stored last by ['c1']")
    assert_finds(history(stored, finale=finale(holders={"ada": {"a": ["c1"], "b": ["c1"]}})))
    stored.closed = 120.0
    assert_finds(history(stored, finale=finale(holders={"ada": {"a": [], "b": []}})))
