from __future__ import annotations

import asyncio

import pytest

from fastws.net.deadlines import Deadlines


class Clock:
    """A loop of which only the time matters, and it passes when we say so."""

    def __init__(self) -> None:
        self.now = 1000.2
        self.timer: tuple[float, object] | None = None
        self.failures: list[dict[str, object]] = []
        self.ready = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay, callback):
        assert self.timer is None, "one timer for all"
        self.timer = (self.now + delay, callback)
        return self

    def call_soon(self, callback):
        self.ready.append(callback)
        return self

    def turn(self) -> None:
        ready, self.ready = self.ready, []
        for callback in ready:
            callback()

    def cancel(self) -> None:
        self.timer = None
        self.ready.clear()

    def call_exception_handler(self, context) -> None:
        self.failures.append(context)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timer is not None and self.timer[0] <= end:
            self.now, callback = self.timer
            self.timer = None
            callback()
        self.now = end

    def hold_up(self, seconds: float) -> None:
        """Nothing is called meanwhile, and then what is late."""
        self.now += seconds
        _, callback = self.timer
        self.timer = None
        callback()


class Waiting:
    def __init__(self, then=None) -> None:
        self.then = then
        self.calls = 0

    def on_deadline(self) -> None:
        self.calls += 1
        if self.then is not None:
            self.then()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def deadlines(clock):
    return Deadlines(clock, resolution=0.5)


def test_a_deadline_is_never_early_and_at_most_two_ticks_late(clock, deadlines):
    waiting = Waiting()
    deadlines.set(waiting, 10)
    clock.advance(10)
    assert waiting.calls == 0
    clock.advance(1)
    assert waiting.calls == 1
    clock.advance(100)
    assert waiting.calls == 1


def test_a_cleared_deadline_does_not_come(clock, deadlines):
    waiting = Waiting()
    deadlines.set(waiting, 1)
    deadlines.clear(waiting)
    deadlines.clear(waiting)
    clock.advance(10)
    assert waiting.calls == 0


def test_setting_again_replaces_the_deadline(clock, deadlines):
    waiting = Waiting()
    deadlines.set(waiting, 1)
    deadlines.set(waiting, 20)
    clock.advance(19)
    assert (waiting.calls, len(deadlines)) == (0, 1)
    clock.advance(2)
    assert (waiting.calls, len(deadlines)) == (1, 0)


def test_the_timer_runs_only_while_somebody_waits(clock, deadlines):
    assert clock.timer is None
    deadlines.set(Waiting(), 1)
    assert clock.timer is not None
    clock.advance(5)
    assert clock.timer is None


def test_a_deadline_may_be_set_and_cleared_by_another(clock, deadlines):
    victim = Waiting()
    again = Waiting()
    first = Waiting(lambda: (deadlines.clear(victim), deadlines.set(again, 3)))
    deadlines.set(first, 1)
    deadlines.set(victim, 1)
    clock.advance(2)
    assert (first.calls, victim.calls, again.calls) == (1, 0, 0)
    clock.advance(4)
    assert again.calls == 1


def test_a_deadline_that_fails_is_reported_and_disturbs_no_other(clock, deadlines):
    failing, other = Waiting(lambda: 1 / 0), Waiting()
    deadlines.set(failing, 1)
    deadlines.set(other, 1)
    clock.advance(2)
    assert other.calls == 1
    assert [type(failure["exception"]) for failure in clock.failures] == [ZeroDivisionError]


def test_a_deadline_that_ends_the_loop_stops_the_clock_of_nobody_else(clock, deadlines):
    def end() -> None:
        raise asyncio.CancelledError

    ends, other = Waiting(then=end), Waiting()
    deadlines.set(ends, 1)
    deadlines.set(other, 1)
    with pytest.raises(asyncio.CancelledError):
        clock.advance(10)
    clock.advance(1)
    assert (ends.calls, other.calls) == (1, 1)


def test_time_in_which_the_loop_was_held_up_does_not_count(clock, deadlines):
    waiting = Waiting()
    deadlines.set(waiting, 10)
    for _ in range(3):
        clock.hold_up(100)
        clock.turn()
        clock.turn()
        assert waiting.calls == 0
    clock.advance(8)
    assert waiting.calls == 0
    clock.advance(4)
    assert waiting.calls == 1


def test_whoever_is_due_is_looked_at_when_the_loop_has_read_once(clock, deadlines):
    waiting, leaving = Waiting(), Waiting()
    deadlines.set(waiting, 0.1)
    deadlines.set(leaving, 0.1)
    clock.hold_up(100)
    clock.turn()
    assert (waiting.calls, leaving.calls) == (0, 0)
    deadlines.clear(leaving)
    clock.turn()
    clock.advance(1)
    assert (waiting.calls, leaving.calls) == (1, 0)


def test_a_clock_that_is_closed_while_it_waits_for_a_reading_stays_closed(clock, deadlines):
    waiting = Waiting()
    deadlines.set(waiting, 0.1)
    clock.hold_up(100)
    deadlines.close()
    clock.turn()
    clock.turn()
    assert clock.timer is None
    assert waiting.calls == 0


def test_closing_forgets_everything(clock, deadlines):
    waiting = Waiting()
    deadlines.set(waiting, 1)
    deadlines.close()
    assert clock.timer is None
    clock.advance(5)
    assert (waiting.calls, len(deadlines)) == (0, 0)


async def test_a_deadline_comes_on_a_real_loop():
    come = asyncio.Event()
    deadlines = Deadlines(asyncio.get_running_loop(), resolution=0.01)
    deadlines.set(Waiting(come.set), 0.02)
    await asyncio.wait_for(come.wait(), 5)
    deadlines.close()
