"""A large fan-out goes out in slices, and nobody else waits for its end."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from fastws import ws
from fastws._speedups import hub_of_thread

from ...kit.client import TEXT, frame, turns
from ...kit.services import Echo
from ...kit.wires import PacketWire, texts, wired

pytestmark = pytest.mark.usefixtures("senders")

SLICE = 10  # sends
MEMBERS = 45


@contextlib.asynccontextmanager
async def crowd(count: int = MEMBERS):
    """Connections that are sent to a few at a time."""
    async with wired(Echo(), PacketWire, count) as (connections, wires):
        hub = hub_of_thread(asyncio.get_running_loop(), dict, dict)
        hub.slice_sends = SLICE
        hub.slice_usecs = 60_000_000  # however busy the machine is
        yield connections, wires


async def begin_for(members: list[ws.Connection]) -> None:
    """Send a message to these alone, and its first slice."""
    for member in members:
        member.join("members")
    ws.push_text_to_group("members", "all")
    await turns(1)


def heard(wires: list[PacketWire]) -> list[list[list[str]]]:
    return [texts(wire.packets()) for wire in wires]


async def test_each_turn_sends_one_slice():
    async with crowd() as (connections, wires):
        assert connections[0].broadcast_text("all").queued == MEMBERS
        for number in range(5):
            await turns(1)
            served = min(SLICE, MEMBERS - SLICE * number)
            assert heard(wires).count([["all"]]) == served
        await turns()
        assert heard(wires) == [[]] * MEMBERS


async def test_a_push_to_another_does_not_wait_for_the_end():
    async with crowd() as (connections, wires):
        *members, other = connections
        await begin_for(members)
        other.push_text("at once")
        other.push_text("in this turn")
        assert texts(wires[-1].packets()) == [["at once"]]
        await turns(1)
        assert texts(wires[-1].packets()) == [["in this turn"]]
        assert heard(wires).count([["all"]]) == 2 * SLICE


async def test_a_push_to_one_who_waits_brings_what_is_before_it():
    async with crowd() as (connections, wires):
        connections[0].broadcast_text("all")
        await turns(1)
        connections[-1].push_text("you")
        assert texts(wires[-1].packets()) == [["all", "you"]]
        await turns()
        assert texts(wires[-1].packets()) == []


async def test_a_reply_does_not_wait_either():
    async with crowd() as (connections, wires):
        connections[0].broadcast_text("all")
        await turns(1)
        wires[-1].send(frame(TEXT, b"hello"))
        assert texts(wires[-1].packets()) == [["all", "hello"]]


async def test_pushes_to_others_in_a_handler_go_before_the_rest():
    async with crowd() as (connections, wires):
        connections[0].broadcast_text("all")
        await turns(1)
        for connection in connections[-5:]:
            connection.push_text("a")
            connection.push_text("b")
        await turns(1)
        assert heard(wires[-5:]) == [[["all", "a"], ["b"]]] * 5
        await turns()
        assert heard(wires[-5:]) == [[]] * 5


async def test_what_two_lists_know_of_is_sent_once():
    async with crowd() as (connections, wires):
        connections[0].broadcast_text("all")
        await turns(1)
        for connection in reversed(connections[-SLICE - 1 :]):
            connection.push_text("a")
            connection.push_text("b")
        await turns()
        assert heard(wires[-SLICE - 1 :]) == [[["all", "a"], ["b"]]] * (SLICE + 1)


async def test_members_are_those_of_the_call():
    async with crowd() as (connections, wires):
        *members, late = connections
        await begin_for(members)
        members[-1].leave("members")
        late.join("members")
        members[-2].close()
        await turns()
        assert texts(wires[-1].packets()) == []
        assert texts(wires[-2].packets()) == [["all"]]


async def test_a_second_broadcast_joins_those_who_still_wait():
    async with crowd() as (connections, wires):
        connections[0].broadcast_text("first")
        await turns(1)
        connections[0].broadcast_text("second")
        await turns(10)
        said = heard(wires)
        assert said.count([["first"], ["second"]]) == SLICE
        assert said.count([["first", "second"]]) == MEMBERS - SLICE


async def test_connections_may_end_while_they_wait():
    async with crowd() as (connections, wires):
        connections[0].broadcast_text("all")
        await turns(1)
        for wire in wires[-5:]:
            wire.connection_lost()
        await turns()
        assert [text for text in heard(wires[:-5]) if text != [["all"]]] == []


async def test_a_hub_may_go_while_slices_are_left():
    async with crowd() as (connections, _):
        connections[0].broadcast_text("all")
        await turns(1)


@pytest.mark.parametrize("seed", range(10))
async def test_everybody_hears_everything_in_order_whatever_happens_between(seed):
    dice = random.Random(seed)
    async with crowd() as (connections, wires):
        expected = [[] for _ in connections]
        for connection in connections[:30]:
            connection.join("some")
        for number in range(80):
            text = str(number)
            what = dice.randrange(4)
            if what == 0:
                connections[0].broadcast_text(text)
                targets = range(MEMBERS)
            elif what == 1:
                ws.push_text_to_group("some", text)
                targets = range(30)
            elif what == 2:
                targets = dice.sample(range(MEMBERS), 5)
                for target in targets:
                    connections[target].push_text(text)
            else:
                targets = ()
                await turns(dice.randrange(3))
            for target in targets:
                expected[target].append(text)
        await turns(20)
        assert [[text for packet in packets for text in packet] for packets in heard(wires)] == expected
