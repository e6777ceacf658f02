"""What others may say to a node, and do in the middle of what it does, without harm."""

from __future__ import annotations

import asyncio
import json

import pytest

import fastws
from fastws import http, ws
from fastws._speedups import LinkReader, link_frame, link_message
from fastws.backplane import relay as relays

from ..kit.client import turns, until
from ..kit.cluster import PATH, Chat, Exchange, Part
from ..kit.envelopes import CLAIM, CONFLATE, CONTROL, GOES_ON, KEY_BYTES, KEY_INT, KEY_TEXT, TEXT, envelope, record

ALL = b"fastws.c.c.all"
GROUP = b"fastws.c.g.g"
OTHER, THIRD = 0x1111111111111111, 0x2222222222222222


def name_of(number: int) -> str:
    return number.to_bytes(8, "little").hex()


def control(**message: object) -> bytes:
    return record(CONTROL, json.dumps(message).encode())


def hello(*, digest: int = 0, anew: float | None = None) -> bytes:
    return control(op="hello", since=1, digest=digest, reads=1, ask=False, anew=anew)


class Heard:
    """A node, what reaches it, and what it says."""

    def __init__(self, server: fastws.Server, part: Part, chat: Chat) -> None:
        self.server, self.part, self.chat = server, part, chat
        self.relay = server._relay

    def hear(self, subject: bytes, *records: bytes, node: int = OTHER, **more: int) -> None:
        self.part.receiver.received(subject, envelope(node, *records, **more))

    def said(self, op: str) -> int:
        """How often it said something."""
        self.relay.flush()
        return sum(payload.count(b'"op": "%s"' % op.encode()) for _, payload in self.part.published)


@pytest.fixture
async def heard(serve):
    part, chat = Exchange().part(), Chat()
    return Heard(await serve(chat, backplane=part, cluster="c"), part, chat)


# --- What is foreign.


@pytest.mark.parametrize(
    "wrong",
    [
        record(TEXT, b"m", policy=CONFLATE, key_kind=KEY_INT, key=b"no number"),
        record(TEXT, b"m", policy=CONFLATE, key_kind=KEY_TEXT, key=b"\xff"),
        record(TEXT, b"m", policy=CONFLATE, key_kind=9, key=b"k"),
        record(TEXT, b"m", policy=99),
        record(TEXT, b"\xff"),
        record(0x7F, b"of a later version"),
        control(op="hello", since=-1, digest=0, reads=1, ask=False),
        control(op="hello", since=1 << 64, digest=0, reads=1, ask=True),
        record(CONTROL, b"[" * 100_000),
        record(CONTROL, b"\xff"),
    ],
)
async def test_a_record_that_means_nothing_is_counted_and_those_behind_it_are_read(heard, connect, wrong):
    client = await connect(heard.server, PATH)
    client.send("join g")
    assert await client.text() == "> None"
    subject = ALL if wrong[0] == CONTROL else GROUP
    heard.hear(subject, wrong)
    heard.hear(GROUP, wrong, record(TEXT, b"read"), sequence=2 if subject == GROUP else 1)
    assert await client.text() == "read"
    assert heard.relay.foreign >= 2


async def test_a_key_reaches_the_connection_as_it_was_given(heard, connect):
    client = await connect(heard.server, PATH)
    client.send("join g")
    assert await client.text() == "> None"
    for number, (kind, key) in enumerate(((KEY_INT, b"-7"), (KEY_TEXT, "é".encode()), (KEY_BYTES, b"\xff"))):
        heard.hear(GROUP, record(TEXT, b"m", policy=CONFLATE, key_kind=kind, key=key), sequence=number + 1)
        assert await client.text() == "m"
    assert heard.relay.foreign == 0


# --- Nodes that come and go.


async def test_strangers_do_not_take_the_place_of_nodes_for_good(heard, connect):
    client = await connect(heard.server, PATH)
    client.send("join g")
    assert await client.text() == "> None"
    for number in range(5000):
        heard.hear(GROUP, record(TEXT, b""), node=number + 1)
    assert await client.texts(4096) == [""] * 4096
    heard.hear(GROUP, record(TEXT, b"unheard"), node=OTHER)
    heard.relay.forget_strangers(set())
    heard.hear(GROUP, record(TEXT, b""), node=7, sequence=2)
    assert await client.text() == ""
    heard.relay.forget_strangers(set())
    heard.hear(GROUP, record(TEXT, b"heard"), node=OTHER)
    heard.hear(GROUP, record(TEXT, b"twice"), node=7, sequence=2)  # this one spoke meanwhile, and is known still
    heard.hear(GROUP, record(TEXT, b"last"), node=7, sequence=3)
    assert await client.texts(2) == ["heard", "last"]


async def test_nodes_that_are_known_stay_so_however_quiet_they_are(heard, connect):
    client = await connect(heard.server, PATH)
    client.send("join g")
    assert await client.text() == "> None"
    heard.hear(GROUP, record(TEXT, b"first"))
    for _ in range(3):
        heard.relay.forget_strangers({name_of(OTHER).encode()})
    heard.hear(GROUP, record(TEXT, b"first"), record(TEXT, b"second"))
    assert await client.texts(2) == ["first", "second"]


async def test_who_went_without_a_word_and_comes_again_has_lost_something(heard):
    heard.hear(ALL, hello())
    heard.relay.left(name_of(OTHER).encode())
    await until(lambda: len(heard.chat.states) == 2)
    heard.hear(ALL, hello(), sequence=9, epoch=2)
    await until(lambda: len(heard.chat.states) == 3)
    assert heard.chat.states[1:] == [("gap", name_of(OTHER), None, 0)] * 2
    heard.hear(ALL, hello(), sequence=10, epoch=2)
    await turns()
    assert len(heard.chat.states) == 3


async def test_what_a_node_lost_before_it_was_known_is_told_to_those_who_were_there(heard):
    await asyncio.sleep(0.05)
    heard.hear(ALL, hello(anew=0.01), epoch=2)
    heard.hear(ALL, hello(anew=9.0), epoch=2, node=THIRD)  # before this node was there
    heard.hear(ALL, hello(anew=0.02), epoch=2, sequence=2)
    await until(lambda: len(heard.chat.states) == 2)
    assert heard.chat.states[1] == ("gap", name_of(OTHER), None, 0)


async def test_a_node_says_how_long_ago_it_began_anew(heard):
    heard.part.cut()
    heard.part.heal()
    heard.relay.flush()
    said = [payload for _, payload in heard.part.published if b'"op": "hello"' in payload]
    assert b'"anew": null' in said[0]
    assert b'"anew": 0.0' in said[-1]


async def test_who_said_goodbye_and_comes_again_has_lost_nothing(heard):
    heard.hear(ALL, hello(), control(op="bye"), hello())
    await turns()
    assert [state for state, *_ in heard.chat.states] == ["up"]


async def test_a_gap_whose_size_nobody_knows_has_none(heard, connect):
    client = await connect(heard.server, PATH)
    client.send("join g")
    assert await client.text() == "> None"
    heard.hear(GROUP, record(TEXT, b""))
    heard.hear(GROUP, record(TEXT, b""), sequence=3)
    heard.hear(GROUP, record(TEXT, b""), sequence=9, flags=1)
    heard.hear(GROUP, record(TEXT, b""), sequence=11)
    await until(lambda: len(heard.chat.states) == 2)
    assert heard.chat.states[1] == ("gap", name_of(OTHER), ("group", "g"), 0)


async def test_who_speaks_again_where_nobody_is_any_more_here_has_lost_nothing(exchanging):
    nodes, (one, two) = await exchanging.serve(2)
    for client in (one, two):
        await client.ask("join g")
    await one.ask("group g first")
    assert await two.hears() == "first"
    await one.ask("leave g")
    nodes[0].call(lambda: nodes[0].relay.linger(over=True))
    await one.ask("group g second")
    assert await two.hears() == "second"
    await two.ask("group g unheard")
    nodes[1].call(nodes[1].relay.flush)
    await one.ask("join g")
    await two.ask("group g heard")
    assert await one.hears() == "heard"  # and what was said while nobody was here is none of its affair
    await turns()
    assert [[state for state, *_ in node.service.states] for node in nodes] == [["up"], ["up"]]


async def test_a_table_that_does_not_come_is_asked_for_again(heard, monkeypatch):
    monkeypatch.setattr(relays, "TABLE_PATIENCE", 0.05)
    heard.hear(ALL, hello(digest=7))
    heard.hear(ALL, hello(digest=7), sequence=2)
    assert heard.said("table?") == 1
    await asyncio.sleep(0.06)
    heard.hear(ALL, hello(digest=7), sequence=3)
    heard.hear(ALL, hello(digest=7), sequence=4)
    assert heard.said("table?") == 2


async def test_names_are_claimed_again_when_there_is_room_again(heard, connect):
    client = await connect(heard.server, PATH)
    heard.part.full = True
    client.send("store bob")
    assert await client.text() == "> None"
    heard.relay.take_claimed()
    heard.part.full = False
    await until(lambda: any(b".n.bob" in subject for subject, _ in heard.part.published))
    _, payload = next(told for told in heard.part.published if b".n.bob" in told[0])
    assert payload[28] == CLAIM


# --- What is larger than a node keeps.


async def test_a_message_that_is_dropped_before_it_is_whole_is_missed(heard, connect, monkeypatch):
    client = await connect(heard.server, PATH)
    client.send("join g")
    assert await client.text() == "> None"
    part = record(TEXT, bytes(1 << 24), part=GOES_ON)
    for number in range(4):  # 64 MiB is all that may wait
        heard.hear(GROUP, part, node=number + 1)
    await until(lambda: len(heard.chat.states) == 2)
    assert heard.chat.states[1] == ("gap", name_of(4), ("group", "g"), 1)


async def test_the_keys_of_messages_that_are_not_whole_count_too(heard, connect):
    client = await connect(heard.server, PATH)
    client.send("join g")
    assert await client.text() == "> None"
    part = record(TEXT, b"", policy=CONFLATE, key_kind=KEY_BYTES, key=bytes(1 << 24), part=GOES_ON)
    for number in range(5):
        heard.hear(GROUP, part, node=number + 1)
    assert heard.relay.foreign >= 1


# --- In the middle of something.


@http.base_path("/")
@ws.upgrade_path("/")
class Quiet:
    """Does nothing."""

    @ws.on_text_message
    def said(self, text: str) -> None:
        pass


async def test_a_question_that_outlives_the_server_is_answered_by_those_who_did(serve):
    part = Exchange().part()
    server = await serve(Quiet, backplane=part, cluster="c")
    part.receiver.received(ALL, envelope(OTHER, hello()))
    asked = [asyncio.ensure_future(ws.count(**what, timeout=0.5)) for what in ({"to": Quiet}, {"group": "g"})]
    asked.append(asyncio.ensure_future(ws.locate("bob", timeout=0.5)))
    await turns()
    await server.close()
    assert [bool(answer) for answer in await asyncio.gather(*asked)] == [False] * 3
    assert not any([(await answer).complete for answer in asked])


async def test_an_engine_may_tell_of_what_happens_after_the_end(serve):
    part = Exchange().part()
    server = await serve(Quiet, backplane=part, cluster="c")
    node = part.receiver
    await server.close()
    node.gap("late")
    node.received(ALL, envelope(OTHER, hello()))
    node.joined(name_of(OTHER).encode())
    node.left(name_of(OTHER).encode())
    node.left(b"nobody")
    node.say_all(b"{}")
    node.say_to(node.node, b"{}")
    node.claim_again(["bob"])
    node.retire("g", 1)
    node.revive("g")
    node.linger(over=True)
    node.flush()
    assert (node.count_here("group", "g"), node.count_here("service", "/")) == (0, 0)


def test_what_is_pushed_is_sent_whoever_flushes_in_between():
    class Loop(asyncio.SelectorEventLoop):
        def call_soon(self, *args, **options):
            handle = super().call_soon(*args, **options)
            between()
            return handle

    async def main() -> None:
        nonlocal between
        part = Exchange().part()
        async with fastws.serve(Quiet, port=0, backplane=part, cluster="c") as server:
            node = server._relay
            between = node.flush
            for number in range(2):
                assert ws.push_text_to_group("g", f"number {number}").published
                await turns()
            between = lambda: None  # noqa: E731
            sent = [payload for subject, payload in part.published if subject == GROUP]
            assert [payload[-8:] for payload in sent] == [b"number 0", b"number 1"]

    between = lambda: None  # noqa: E731
    loop = Loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


# --- What a worker reads from another.


def test_what_is_read_while_a_frame_is_handled_is_handled_behind_it():
    told: list[tuple[bytes, bytes]] = []

    def message(subject: bytes, payload: bytes) -> None:
        told.append((subject, payload))
        if payload == b"1":
            reader.feed(wire[cut:])

    wire = b"".join(link_message(b"s", b"%d" % number) for number in range(1, 6))
    for cut in range(len(link_message(b"s", b"1")), len(wire)):
        told.clear()
        reader = LinkReader(message, lambda kind, data: None)
        reader.feed(wire[:cut])
        assert told == [(b"s", b"%d" % number) for number in range(1, 6)]


def test_nothing_is_read_behind_what_is_no_frame():
    told: list[bytes] = []
    reader = LinkReader(lambda subject, payload: told.append(payload), lambda kind, data: None)
    with pytest.raises(ValueError, match="a frame of 0 bytes"):
        reader.feed(link_message(b"s", b"1") + bytes(4))
    reader.feed(link_frame(3, b"s") + link_message(b"s", b"2"))
    assert told == [b"1"]
