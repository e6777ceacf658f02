"""What is shown of what was found: the table, the picture, the line while it runs."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from fastws.load import progress as progress_module
from fastws.load.findings import Findings
from fastws.load.generator import bottlenecks
from fastws.load.plan import Plan
from fastws.load.plot import plot
from fastws.load.progress import Progress
from fastws.load.report import excesses, table, values
from fastws.load.run import Snapshot

PLAN = Plan(url="ws://localhost/chat", question="fanout", connections=1000, rate=20.0)
TIMES = {800: 160_000, 4_000: 39_000, 12_000: 980, 500_096: 20}


def found(**given: Any) -> Findings:
    usual: dict[str, Any] = {
        "seconds": 10.0,
        "sent": 200,
        "due": 200_000,
        "delivered": 200_000,
        "latencies": dict(TIMES),
        "opened": 1000,
        "opening_seconds": 1.0,
        "lateness": {80: 200},
        "busiest": 0.25,
    }
    return Findings(**usual | given)


def plan(**given: Any) -> Plan:
    return Plan(**vars(PLAN) | given)


def test_the_table_says_what_came_and_how_late():
    assert (
        table(PLAN, found())
        == """\
fanout ws://localhost/chat
1,000 connections, 20 a second, for 10 s

200 messages published, 20.0 a second
200,000 of 200,000 deliveries, 20,000.0 a second

         lost       missed      doubled out of order
            0            0            0            0

latency     since it was due, in milliseconds
          p50          p90          p99        p99.9       p99.99          max
          0.8            4            4           12           12          500

opened      1,000 in 1.0 s
generator   25% of a core at most, sent late by 0.08 ms (p99)"""
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"refused": {503: 7, 429: 8}}, "refused     8 with 429, 7 with 503"),
        ({"failed": {"timeout": 3}}, "failed      3 timeout"),
        ({"closed": {1013: 2, 1006: 1}}, "closed      2 with 1013, 1 with 1006, not by us"),
        ({"stalled": 10, "stalled_closed": {1013: 9}}, "stalled     9 closed with 1013, 1 still open"),
        ({"stalled": 10}, "stalled     10 still open"),
        ({"astray": 5}, "astray      5 deliveries were for another room"),
        ({"foreign": 5, "first_foreign": "'hi'"}, "foreign     5 messages without a number of ours, the first 'hi'"),
        ({"earliest": -2500}, "clocks      deliveries came up to 2.5 ms before they were due: the clocks differ"),
        ({"latencies": {}}, "latency     unknown: the messages do not say when they were due"),
        (
            {"is_closed_loop": True},
            "latency     since it was sent, which waited for an earlier answer, in milliseconds",
        ),
        ({"busiest": 0.97}, "generator   the bottleneck: it took 97% of a core in its busiest second"),
    ],
)
def test_what_is_not_as_usual_has_a_line_of_its_own(given, line):
    assert line in table(PLAN, found(**given)).splitlines()
    assert line not in table(PLAN, found()).splitlines()


def test_a_time_before_it_is_due_within_a_millisecond_is_the_grain_of_timers():
    assert "clocks" not in table(PLAN, found(earliest=-900))


# --- The generator as the bottleneck.


def test_a_generator_that_has_time_left_is_none():
    assert bottlenecks(found()) == []


def test_a_generator_that_reads_without_pause_is_one_where_that_takes_long():
    assert bottlenecks(found(reading_share=0.95, reading_time=0.0005)) == []
    assert bottlenecks(found(reading_share=0.95, reading_time=0.02)) == [
        "it was busy for 95% of the 20 ms between the first and the last delivery of a message: they waited for it"
    ]


def test_a_generator_that_sends_late_is_one_where_that_counts():
    assert bottlenecks(found(lateness={700: 100})) == []  # less than a millisecond
    assert bottlenecks(found(lateness={3_000: 100})) == [
        "one message in a hundred left it 3 ms late, beside a p99 of 4 ms"
    ]
    assert bottlenecks(found(lateness={3_000: 100}, latencies={500_000: 1})) == []


# --- JSON, and limits.


def test_the_values_are_those_of_json_and_say_what_was_asked():
    told = json.loads(json.dumps(values(PLAN, found(closed={1013: 2}))))
    assert told["plan"]["connections"] == 1000
    assert told["latency_us"] == {"p50": 800, "p90": 4000, "p99": 4000, "p99.9": 12000, "p99.99": 12000, "max": 500096}
    assert (told["delivered"], told["closed"], told["bottlenecks"], told["exceeded"]) == (200_000, {"1013": 2}, [], [])


def test_nothing_that_came_has_no_percentiles():
    told = values(PLAN, found(latencies={}))
    assert (told["latency_us"], told["latency_hdr"]) == ({}, None)


@pytest.mark.parametrize(
    ("limits", "given", "wrong"),
    [
        ({"max_p99": 4.0}, {}, []),
        ({"max_p99": 3.9}, {}, ["the p99 is 4 ms, and --max-p99 is 3.9"]),
        ({"max_p99": 3.9}, {"latencies": {}}, ["the p99 is unknown: nothing came, and --max-p99 is 3.9"]),
        ({"max_lost": 0}, {}, []),
        ({"max_lost": 4}, {"lost": 2, "missed": 3}, ["5 never came, and --max-lost is 4"]),
        ({}, {"lost": 5}, []),
    ],
)
def test_what_is_worse_than_it_may_be_is_said(limits, given, wrong):
    assert excesses(plan(**limits), found(**given)) == wrong


# --- Several processes.


def test_what_several_processes_found_is_put_together():
    total = found()
    more = found(lost=3, refused={503: 1}, busiest=0.5, latencies={800: 1}, earliest=-5, first_foreign="'x'", foreign=1)
    total.include(Findings.of_values(json.loads(json.dumps(more.to_values()))))
    assert (total.due, total.lost, total.refused, total.busiest) == (400_000, 3, {503: 1}, 0.5)
    assert (total.seconds, total.sent, total.earliest, total.first_foreign) == (10.0, 400, -5, "'x'")
    assert total.latencies[800] == 160_001


# --- The picture.


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG\r\n\x1a\n")])
def test_the_latencies_are_drawn(tmp_path, name, begins):
    path = tmp_path / name
    plot(PLAN, found(), str(path))
    drawn = path.read_bytes()
    assert drawn.startswith(begins)
    plot(PLAN, found(), str(path))
    assert path.read_bytes() == drawn


# --- While it runs.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    times = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(progress_module, "now", lambda: next(times))


SNAPSHOTS = [
    Snapshot("measuring", 500, 10, 2500, {800: 109, 12_000: 1}),
    Snapshot("measuring", 500, 0, 2500, {900: 100}),
]
LINE = "   1 s  measuring  1,000 open  10 sent  5,000 came (5,000 a second)  p50 0.8 ms  p99 0.9 ms"


def test_a_line_a_second_says_how_far_all_processes_are(clock):
    stream = io.StringIO()
    shown = Progress(stream)
    shown.show(SNAPSHOTS)
    shown.show([Snapshot("closing", 0, 10, 5000)])
    shown.end()
    assert stream.getvalue() == f"{LINE}\n   2 s  closing  0 open  10 sent  5,000 came\n"


def test_on_a_terminal_it_is_always_the_same_line(clock):
    stream = Terminal()
    shown = Progress(stream)
    shown.show(SNAPSHOTS)
    shown.end()
    assert stream.getvalue() == f"\r\x1b[K{LINE}\r\x1b[K"


def test_who_wants_it_quiet_is_shown_nothing():
    stream = io.StringIO()
    shown = Progress(stream, quiet=True)
    shown.show(SNAPSHOTS)
    shown.end()
    assert stream.getvalue() == ""
