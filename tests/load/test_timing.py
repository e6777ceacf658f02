"""When messages are due, and that they are sent then, neither earlier nor never."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.load import alarm, timing
from fastws.load.alarm import alarm as make_alarm
from fastws.load.timing import Clock, Schedule, keep_pace, now

from ..kit.client import within


@given(st.floats(0, 1e6), st.floats(0.01, 1e6), st.integers(0, 10**6))
def test_what_is_due_is_counted_when_it_is(start, rate, number):
    schedule = Schedule(start, rate)
    due = schedule.due(number)
    assert schedule.count(due) >= number + 1
    assert schedule.due(schedule.count(due)) > due


def test_nothing_is_due_before_the_start():
    assert Schedule(10.0, 5.0).count(9.99) == 0
    assert Schedule(10.0, 5.0).count(10.0) == 1


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9])
def test_a_time_since_1970_is_understood_in_each_unit(unit):
    assert Clock().moment(time.time() * unit) == pytest.approx(now(), abs=0.5)


def test_a_time_that_was_given_is_found_again():
    clock = Clock()
    assert clock.moment(clock.microseconds(1234.5)) == pytest.approx(1234.5, abs=1e-5)


@pytest.fixture(params=["kernel", "loop"])
def each_alarm(request, monkeypatch):
    if request.param == "loop":
        monkeypatch.setattr(alarm.sys, "platform", "elsewhere")


async def test_it_rings_at_its_moment_and_not_before(each_alarm):
    rang = asyncio.Event()
    with make_alarm(rang.set) as clock:
        for seconds in (0.02, 0.001, 0.0, -1.0, -1e9):
            moment = now() + seconds
            rang.clear()
            clock.set(moment)
            await within(rang.wait())
            assert now() >= moment - 0.002  # timers of the loop count milliseconds


async def test_of_two_times_the_later_one_counts(each_alarm):
    rung = []
    rang = asyncio.Event()

    def ring() -> None:
        rung.append(now())
        rang.set()

    with make_alarm(ring) as clock:
        clock.set(now() + 0.001)
        moment = now() + 0.02
        clock.set(moment)
        await within(rang.wait())
    assert len(rung) == 1
    assert rung[0] >= moment - 0.002


async def test_what_sending_raises_ends_it():
    def send(seq: int) -> None:
        raise ValueError(seq)

    with pytest.raises(ValueError, match="0"):
        await within(keep_pace(Schedule(now(), 100.0), send, lambda: None))


async def test_each_message_is_sent_once_in_order_and_not_before_it_is_due():
    schedule = Schedule(now(), 1000.0)
    sent = []
    await within(keep_pace(schedule, lambda seq: sent.append((seq, now() - schedule.due(seq))), lambda: 50))
    assert [seq for seq, _ in sent] == list(range(50))
    assert all(late >= 0 for _, late in sent)


async def test_what_a_busy_loop_has_missed_is_sent_at_once_and_keeps_its_time():
    schedule = Schedule(now(), 1000.0)
    sent = []

    def send(seq: int) -> None:
        if seq == 5:
            time.sleep(0.05)
        sent.append(now() - schedule.due(seq))

    await within(keep_pace(schedule, send, lambda: 60))
    assert len(sent) == 60
    assert sent[6] >= 0.04
    assert sent[50] < sent[6]


async def test_more_than_can_be_sent_does_not_keep_others_from_running(monkeypatch):
    """The clock goes on by a second at each look: whatever is sent, more is due."""
    clock = iter(range(10**6))
    monkeypatch.setattr(timing, "now", lambda: next(clock))
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, True)
    await within(keep_pace(Schedule(0.0, 10.0), lambda seq: None, lambda: 20 if ran else None))
    assert ran
