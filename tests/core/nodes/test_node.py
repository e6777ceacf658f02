"""What one node takes of what others say: envelopes as bytes, good and bad."""

from __future__ import annotations

import asyncio
import itertools
import struct

import pytest

from fastws import ws
from fastws._speedups import hub_of_thread
from fastws.backplane.relay import Relay

from ...kit.client import turns, until
from ...kit.cluster import Exchange
from ...kit.services import at

OTHER = 7
TEXT, BINARY, CLOSE, CLAIM, FORGET, CONTROL = 1, 2, 8, 16, 17, 32
AS_SERVICE, CONFLATE = 4, 3


def record(data: bytes, kind: int = TEXT, policy: int = AS_SERVICE, key_kind: int = 0, part: int = 0, key: bytes = b""):
    return struct.pack("<BBBBII", kind, policy, key_kind, part, len(key), len(data)) + key + data


def envelope(*records: bytes, sequence: int = 1, node: int = OTHER, epoch: int = 1, version: int = 1, flags: int = 0):
    head = struct.pack("<2sBBQIIQ", b"FW", version, flags, node, epoch, len(records), sequence)
    return head + b"".join(records)


@at()
class Member:
    pass


@at("/reads")
class Reader:
    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.closed: tuple[int, str] | None = None

    @ws.on_text_message
    def text(self, text: str) -> None:
        self.messages.append(text)

    @ws.on_binary_message
    def binary(self, data: bytes) -> None:
        self.messages.append(data)

    @ws.on_close
    def close(self, code: int, reason: str) -> None:
        self.closed = code, reason


class Heard(Relay):
    """A node that notes what it is told of others."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.gaps: list[tuple[bytes, object, int]] = []
        self.told: list[bytes] = []

    def on_gap(self, node: bytes, target: object, missing: int) -> None:
        self.gaps.append((node, target, missing))

    def on_control(self, node: bytes, data: bytes) -> None:
        self.told.append(data)


@pytest.fixture
async def node(pair):
    """A node that is up, with a member of group g, stored as ada, and what its client reads."""
    reader = Reader()
    connection, _ = await pair(Member, reader)
    part = Exchange().part()
    node = Heard(hub_of_thread(asyncio.get_running_loop(), dict, dict), part, b"p.", None)
    node.begin()
    node.reader, node.part = reader, part
    await part.open(node)
    node.go_up()
    connection.join("g")
    connection.store("ada")
    yield node
    node.end()


async def reads(node: Heard, *messages: str | bytes) -> None:
    await until(lambda: len(node.reader.messages) >= len(messages))
    await turns()
    assert node.reader.messages == list(messages)


async def test_records_of_an_envelope_are_pushed_in_order(node):
    node.received(b"p.g.g", envelope(record(b"one"), record("zw\u00f6lf".encode()), record(b"\xff", BINARY)))
    node.received(b"p.n.ada", envelope(record(b"for ada")))
    await reads(node, "one", "zwölf", b"\xff", "for ada")
    assert node.heard == 4


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"FW",
        b"hello, this is no message of ours at all",
        envelope(record(b"x"), version=2),
        envelope(record(b"x"), version=0),
        envelope(record(b"x"))[:-1],
        envelope(record(b"x"))[:30],
        struct.pack("<2sBBQIIQ", b"FW", 1, 0, OTHER, 1, 0xFFFFFFFF, 1),
        envelope(struct.pack("<BBBBII", TEXT, AS_SERVICE, 0, 0, 0, 0xFFFFFFFF)),
        envelope(struct.pack("<BBBBII", TEXT, AS_SERVICE, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF)),
        envelope(record(b"\xff\xfe")),
        envelope(record(b"\xe2\x82")),
        envelope(record(b"x", policy=5)),
        envelope(record(b"x", policy=CONFLATE)),
        envelope(record(b"x", key_kind=1, key=b"k")),
        envelope(record(b"x", policy=CONFLATE, key_kind=3, key=b"seven")),
        envelope(record(b"x", policy=CONFLATE, key_kind=1, key=b"\xff")),
        envelope(record(b"x", policy=CONFLATE, key_kind=9, key=b"k")),
        envelope(record(b"x", kind=99)),
        envelope(record(b"x" * 8, kind=CLAIM)),
        envelope(record(b"\x00", kind=CLOSE)),
        envelope(record(b"\x03\xed", kind=CLOSE)),
    ],
    ids=itertools.count(),
)
async def test_what_no_node_says_is_skipped_and_counted(node, message):
    node.received(b"p.g.g", message)
    node.received(b"p.g.g", envelope(record(b"still here"), sequence=2))
    await reads(node, "still here")
    assert node.foreign == 1
    assert node.reader.closed is None


async def test_a_kind_that_a_later_version_says_costs_the_others_nothing(node):
    node.received(b"p.g.g", envelope(record(b"?", kind=77), record(b"known")))
    await reads(node, "known")
    assert (node.foreign, node.gaps) == (1, [])


async def test_what_comes_twice_or_late_is_dropped(node):
    for sequence in (1, 1, 2, 1, 2):
        node.received(b"p.g.g", envelope(record(b"%d" % sequence), sequence=sequence))
    node.received(b"p.g.g", envelope(record(b"2"), record(b"3"), sequence=2))
    await reads(node, "1", "2", "3")
    assert (node.late, node.gaps) == (4, [])


async def test_what_is_missing_is_told_once(node):
    node.received(b"p.g.g", envelope(record(b"1"), sequence=10))
    node.received(b"p.g.g", envelope(record(b"2"), sequence=14))
    node.received(b"p.g.g", envelope(record(b"3"), sequence=15))
    node.received(b"p.g.g", envelope(record(b"late"), sequence=12))
    await reads(node, "1", "2", "3")
    assert node.gaps == [(b"%016x" % int.from_bytes(OTHER.to_bytes(8, "little"), "big"), ("group", "g"), 3)]


async def test_nodes_are_heard_apart(node):
    node.received(b"p.g.g", envelope(record(b"a"), sequence=5, node=1))
    node.received(b"p.g.g", envelope(record(b"b"), sequence=1, node=2))
    node.received(b"p.g.g", envelope(record(b"c"), sequence=6, node=1))
    await reads(node, "a", "b", "c")
    assert node.gaps == []


async def test_a_new_epoch_tells_that_something_is_missing_and_begins_anew(node):
    node.received(b"p.g.g", envelope(record(b"1"), sequence=10))
    node.received(b"p.g.g", envelope(record(b"2"), sequence=1, epoch=2))
    node.received(b"p.g.g", envelope(record(b"old"), sequence=11, epoch=1))
    await reads(node, "1", "2")
    assert [target for _, target, _ in node.gaps] == [None]
    assert node.late == 1


async def test_numbers_that_begin_anew_may_hide_a_gap(node):
    node.received(b"p.g.g", envelope(record(b"1"), sequence=10))
    node.received(b"p.g.g", envelope(record(b"2"), sequence=90, flags=1))
    await reads(node, "1", "2")
    assert [(target, missing) for _, target, missing in node.gaps] == [(("group", "g"), 0)]


async def test_what_this_node_said_itself_is_not_taken(node):
    ws.push_text_to_group("g", "mine")
    await reads(node, "mine")
    for subject, payload in node.part.published:
        node.received(subject, payload)
    await reads(node, "mine")


async def test_a_message_for_whom_nobody_is_here_is_counted(node):
    node.received(b"p.g.nobody", envelope(record(b"x")))
    assert node.unwanted == 1


async def test_parts_are_put_together_and_never_those_whose_beginning_is_missing(node):
    node.received(b"p.g.g", envelope(record(b"tail", part=2)))
    node.received(b"p.g.g", envelope(record(b"he", part=1), sequence=2))
    node.received(b"p.g.g", envelope(record(b"ll", part=3), sequence=3))
    node.received(b"p.g.g", envelope(record(b"o", part=2), record(b"next"), sequence=4))
    node.received(b"p.g.g", envelope(record(b"lost", part=1), sequence=6))
    node.received(b"p.g.g", envelope(record(b"end", part=2), sequence=9))
    await reads(node, "hello", "next")


async def test_parts_that_others_come_between_are_a_gap(node):
    node.received(b"p.g.g", envelope(record(b"outer", part=1)))
    node.received(b"p.g.g", envelope(record(b"in", part=1), record(b"ner", part=2), sequence=2))
    node.received(b"p.g.g", envelope(record(b"rest", part=2), record(b"next"), sequence=4))
    await reads(node, "inner", "next")
    assert [(target, missing) for _, target, missing in node.gaps] == [(("group", "g"), 0)]


async def test_parts_that_never_end_are_bounded(node):
    piece = record(b"x" * (1 << 24), part=1)
    node.received(b"p.g.g", envelope(piece, sequence=1))
    for sequence in range(2, 12):
        node.received(b"p.g.g", envelope(record(b"x" * (1 << 24), part=3), sequence=sequence))
    assert node.foreign == 1
    node.received(b"p.g.g", envelope(record(b"whole"), sequence=12))
    await reads(node, "whole")


async def test_peers_that_are_forgotten_leave_nothing(node):
    node.received(b"p.g.g", envelope(record(b"x", part=1), sequence=5))
    peer = b"%016x" % int.from_bytes(OTHER.to_bytes(8, "little"), "big")
    node.forget_peer(peer)
    node.received(b"p.g.g", envelope(record(b"1"), sequence=1))
    await reads(node, "1")
    assert node.gaps == []


async def test_a_close_is_for_all_members(node):
    node.received(b"p.g.g", envelope(record(struct.pack("!H", 4000) + b"bye", kind=CLOSE)))
    await until(lambda: node.reader.closed)
    assert node.reader.closed == (4000, "bye")


async def test_a_claim_that_is_greater_takes_the_name_and_a_lesser_one_is_answered(node):
    before = len(node.part.published)
    node.received(b"p.n.ada", envelope(record(struct.pack("<Q", 5), kind=CLAIM)))
    node.flush()
    assert "ada" in node.hub.stored
    assert [subject for subject, _ in node.part.published[before:]].count(b"p.n.ada") >= 1
    node.received(b"p.n.ada", envelope(record(struct.pack("<Q", node.next_stamp() + 10**9), kind=CLAIM), sequence=2))
    assert "ada" not in node.hub.stored


async def test_a_clock_that_is_far_ahead_is_not_followed(node):
    node.note_stamp((1 << 64) - 2)
    assert node.next_stamp() < 1 << 63


async def test_policy_and_key_of_a_push_travel(node):
    ws.push_text_to_group("g", "a", key="k")
    ws.push_text_to_group("g", "b", key=7)
    ws.push_text_to_group("g", "c", key=b"\xff")
    ws.push_text_to_group("g", "d", overflow="drop_old")
    node.flush()
    said = b"".join(payload for subject, payload in node.part.published if subject == b"p.g.g")
    for expected in (
        record(b"a", policy=CONFLATE, key_kind=1, key=b"k"),
        record(b"b", policy=CONFLATE, key_kind=3, key=b"7"),
        record(b"c", policy=CONFLATE, key_kind=2, key=b"\xff"),
        record(b"d", policy=2),
    ):
        assert expected in said


async def test_messages_with_a_key_are_pushed_as_others_are(node):
    messages = [record(b"%d" % number, policy=CONFLATE, key_kind=1, key=b"k") for number in range(5)]
    node.received(b"p.g.g", envelope(*messages))
    await until(lambda: node.reader.messages)
    assert node.reader.messages[-1] == "4"


async def test_an_engine_that_raises_is_told_in_the_log_and_costs_nothing_else(node, failures):
    def fail(*_: object) -> bool:
        raise RuntimeError("broken")

    node.part.publish = fail
    ws.push_text_to_group("g", "here")
    await reads(node, "here")
    assert any("failed" in message for message in failures.messages())


async def test_a_node_that_has_ended_takes_nothing(node):
    node.end()
    node.received(b"p.g.g", envelope(record(b"x")))
    ws.push_text_to_group("g", "alone")
    await reads(node, "alone")
