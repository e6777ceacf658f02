"""Latencies, and what a subscriber got of numbered messages."""

from __future__ import annotations

import random

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from fastws.load.recording import Latencies, Stream, add, percentile, to_histogram


def latencies(*seconds: float) -> dict[int, int]:
    noted = Latencies()
    for each in seconds:
        noted.note(each)
    return noted.total()


def stream(*numbers: int, first: int = 0, step: int = 1, phase: int = 0) -> Stream:
    made = Stream(step, phase)
    made.begin(first)
    for number in numbers:
        made.take(number)
    return made


# --- Latencies.


def test_times_are_kept_in_microseconds_and_three_digits():
    assert latencies(0.000001, 0.002047, 0.0040965, 1.0005) == {1: 1, 2047: 1, 4096: 1, 1000448: 1}


def test_what_was_taken_is_still_in_the_total():
    noted = Latencies()
    noted.note(0.001)
    assert noted.take() == {1000: 1}
    noted.note(0.001)
    assert noted.take() == {1000: 1}
    assert noted.total() == {1000: 2}


def test_a_time_before_it_was_due_counts_as_none_and_is_told():
    noted = Latencies()
    noted.note(-0.003)
    assert (noted.total(), noted.earliest) == ({0: 1}, -3000)


@given(st.lists(st.integers(1, 3_599_000_000), min_size=1, max_size=200), st.sampled_from([1, 50, 75, 99, 100]))
def test_a_percentile_is_the_least_time_that_so_many_do_not_exceed_as_a_histogram_rounds_it(times, percent):
    counts = latencies(*(time / 1e6 + 1e-9 for time in times))
    expected = next(time for time in sorted(times) if 100 * sum(each <= time for each in times) >= percent * len(times))
    assert percentile(counts, percent) == to_histogram({}).get_lowest_equivalent_value(expected)


def test_there_is_no_percentile_of_nothing():
    assert percentile({}, 99) == 0


def test_a_histogram_can_be_written_and_read_again():
    histogram = HdrHistogram.decode(to_histogram({100: 99, 5000: 1}).encode())
    assert histogram.get_total_count() == 100
    assert histogram.get_value_at_percentile(99) == 100
    assert histogram.get_value_at_percentile(100) == pytest.approx(5000, rel=0.001)


def test_what_takes_longer_than_an_hour_counts_as_an_hour():
    assert to_histogram({7_200_000_000: 1}).get_max_value() == pytest.approx(3_600_000_000, rel=0.001)


def test_counts_of_several_add_up():
    total = {1: 1}
    add(total, {1: 2, 3: 4})
    assert total == {1: 3, 3: 4}


# --- Streams.


def told(got: Stream, end: int) -> dict[str, int]:
    return {
        "lost": got.lost(),
        "behind": got.behind(end),
        "doubled": got.doubled,
        "out of order": got.out_of_order,
        "astray": got.astray,
    }


def nothing_but(**given: int) -> dict[str, int]:
    return dict.fromkeys(("lost", "behind", "doubled", "out of order", "astray"), 0) | given


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ([0, 1, 2, 3], {}),
        ([0, 1, 3], {"lost": 1}),
        ([3], {"lost": 3}),
        ([0, 1], {"behind": 2}),
        ([], {"behind": 4}),
        ([0, 1, 1, 2, 3], {"doubled": 1}),
        ([0, 2, 1, 3], {"out of order": 1}),
        ([3, 2, 1, 0], {"out of order": 3}),
        ([0, 2, 1, 1, 3], {"out of order": 1, "doubled": 1}),
        ([0, 2, 2], {"lost": 1, "doubled": 1, "behind": 1}),
    ],
)
def test_each_number_is_accounted_for(numbers, what):
    assert told(stream(*numbers), 4) == nothing_but(**{name.replace("_", " "): count for name, count in what.items()})


def test_what_came_before_it_counts_is_passed_over():
    assert told(stream(7, 8, 9, 10, 11, first=10), 12) == nothing_but()


def test_nothing_counts_before_it_begins():
    got = Stream()
    assert not got.take(5)
    assert told(got, 10) == nothing_but()
    assert got.due(10) == 0


def test_a_room_gets_every_second_message():
    got = stream(11, 13, 17, first=10, step=2, phase=1)
    assert told(got, 20) == nothing_but(lost=1, behind=1)
    assert got.due(20) == 5


def test_a_message_for_another_room_is_astray():
    assert told(stream(11, 12, 13, first=10, step=2, phase=1), 14) == nothing_but(astray=1)


def test_of_very_many_missing_ones_the_oldest_are_given_up():
    got = stream(0, 1000)
    assert got.lost() == 999
    assert got.take(999)
    assert got.lost() == 998
    assert not got.take(1)
    assert got.lost() == 998


@given(st.integers(1, 60), st.randoms(use_true_random=False), st.integers(1, 3))
def test_whatever_becomes_of_messages_the_sums_are_right(count, chance: random.Random, step):
    sent = list(range(0, count * step, step))
    gone = {number for number in sent if chance.random() < 0.2}
    came = [number for number in sent if number not in gone]
    twice = [number for number in came if chance.random() < 0.2]
    given = came + twice
    chance.shuffle(given)
    got = stream(*given, step=step)
    end = count * step
    assert got.due(end) == count
    assert got.lost() + got.behind(end) == len(gone)
    assert got.doubled == len(twice)
