"""Servers with faults that are known: the generator finds them, with the right figures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess

import pytest
import websockets.asyncio.server
from hdrh.histogram import HdrHistogram

from ..kit.bench import COMMAND, TIMEOUT, bench, faulty_server, findings
from ..kit.faulty import STALL

# A window of so many messages has so many of each hundred, wherever it begins
CONNECTIONS, MESSAGES = 20, 200
LOAD = ("--connections", CONNECTIONS, "--rate", 400, "--duration", 0.5)
# What is lost is waited for; nothing else takes a second
LOSES = ("--patience", 1)
TICKS = ("--passive", "--expect", '"number": {seq}, "at": {due}', "--connections", CONNECTIONS)
FAULTS = ("lost", "missed", "doubled", "out_of_order", "astray", "foreign")


def faults(found: dict) -> dict[str, int]:
    return {name: found[name] for name in FAULTS if found[name]}


@pytest.fixture(scope="module", params=["fanout", "echo"])
def question(request):
    """The same faults are found whether messages go to all others or come back."""
    return request.param


def ask(fault: str, question: str, *more: object) -> dict:
    with faulty_server(fault) as url:
        load = (*LOAD, *more)
        if question == "echo":
            # So that each connection has as many messages as each has with fanout
            load = ("--connections", 2, "--rate", 800, "--duration", 0.5, *more)
        return findings(question, *load, url=url + ("/echo" if question == "echo" else "/"))


def subscribers(question: str) -> int:
    return 2 if question == "echo" else CONNECTIONS


def test_a_server_without_faults_has_none(question):
    found = ask("none", question)
    assert faults(found) == {}
    assert found["delivered"] == found["due"] == MESSAGES * subscribers(question)
    assert found["sent"] == found["due"] // (1 if question == "echo" else CONNECTIONS)
    assert (found["opened"], found["refused"], found["failed"], found["closed"]) == (subscribers(question), {}, {}, {})


def test_what_a_server_loses_is_counted(question):
    found = ask("lose", question, *LOSES)
    assert faults(found) == {"lost": 2 * subscribers(question)}
    assert found["delivered"] == found["due"] - found["lost"]


def test_what_a_server_doubles_is_counted(question):
    assert faults(ask("double", question)) == {"doubled": 2 * subscribers(question)}


def test_what_a_server_sends_in_another_order_is_counted(question):
    assert faults(ask("reorder", question)) == {"out_of_order": 2 * subscribers(question)}


def test_a_stall_shows_in_the_latency_of_all_that_was_due_meanwhile():
    """In 0.5 s 100 of the 200 messages are due, and the first of them is late by all of it, the last by nothing."""
    found = ask("stall", "fanout", "--rate", 200, "--duration", 1)
    histogram = HdrHistogram.decode(found["latency_hdr"])
    assert histogram.get_total_count() == MESSAGES * CONNECTIONS
    late = [
        item.count_added_in_this_iter_step
        for item in histogram.get_recorded_iterator()
        if item.value_iterated_to > 250_000
    ]
    assert sum(late) / CONNECTIONS == pytest.approx(50, abs=12)
    assert found["latency_us"]["max"] / 1e6 == pytest.approx(STALL, abs=0.15)
    assert found["latency_us"]["p99"] > 0.9 * STALL * 1e6
    assert faults(found) == {}


def test_who_waits_for_each_answer_hardly_notices_the_same_stall():
    """Which is why there is a fixed rate: one message of each connection is late; those not sent meanwhile are not."""
    with faulty_server("stall") as url:
        found = findings("echo", "--connections", 2, "--under-way", 1, "--duration", 1, url=url + "/echo")
    assert found["latency_us"]["max"] / 1e6 == pytest.approx(STALL, abs=0.15)
    assert found["latency_us"]["p99"] < 50_000
    assert found["is_closed_loop"]


def test_deliveries_to_clients_that_a_server_closes_are_missed():
    found = ask("close", "fanout")
    closed = CONNECTIONS // 10
    assert found["closed"] == {"4000": pytest.approx(closed, abs=1)}  # the one that publishes is among those counted
    assert faults(found).keys() == {"missed"}
    assert 0 < found["missed"] <= found["closed"]["4000"] * MESSAGES
    assert found["delivered"] == found["due"] - found["missed"]


def test_refusals_are_counted_by_their_status():
    found = ask("refuse", "fanout")
    # One of them may be the connection that publishes
    assert found["refused"] == {"503": 4}
    assert found["opened"] == CONNECTIONS - 4


def test_a_storm_counts_refusals_as_well():
    with faulty_server("refuse") as url:
        found = findings("storm", "--connections", 10, "--rate", 200, "--duration", 0.5, url=url + "/")
    assert (found["sent"], found["delivered"], found["lost"], found["refused"]) == (100, 80, 20, {"503": 20})
    assert found["latency_us"]["p50"] > 0


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("none", {}),
        ("lose", {"lost": CONNECTIONS}),
        ("double", {"doubled": CONNECTIONS}),
        ("reorder", {"out_of_order": CONNECTIONS}),
    ],
)
def test_what_a_server_sends_by_itself_is_counted(fault, expected):
    with faulty_server(fault) as url:
        found = findings("fanout", *TICKS, *(LOSES if fault == "lose" else ()), "--duration", 1, url=url + "/ticks")
    # A second has 100 ticks but for one at either end, so there may be one fault more or less
    assert faults(found).keys() == expected.keys() or not faults(found)
    for name in expected:
        assert found[name] in (0, CONNECTIONS, 2 * CONNECTIONS)
    assert found["latency_us"]["p50"] < 50_000


def test_readers_that_stall_are_told_apart_from_the_others():
    load = ("--connections", 4, "--rate", 200, "--duration", 1, "--size", 50_000, *LOSES)
    with faulty_server("none") as url:
        found = findings("slow", *load, "--stalled", 0.25, url=url + "/")
    assert (found["stalled"], found["stalled_closed"]) == (1, {"1013": 1})
    assert found["due"] == found["delivered"] == MESSAGES * 3
    assert faults(found) == {}


def test_several_processes_echo_as_much_as_one_does():
    with faulty_server("none") as url:
        load = ("--connections", 4, "--rate", 400, "--duration", 0.5, "--processes", 2)
        found = findings("echo", *load, url=url + "/echo")
        assert (found["sent"], found["due"], found["delivered"]) == (200, 200, 200)
        found = findings("storm", *load, url=url + "/")
        assert (found["sent"], found["delivered"]) == (200, 200)


def test_several_processes_find_what_one_does():
    with faulty_server("lose") as url:
        found = findings("fanout", *LOAD, *LOSES, "--processes", 2, url=url + "/")
    assert faults(found) == {"lost": 2 * CONNECTIONS}
    assert found["sent"] == MESSAGES
    assert found["due"] == MESSAGES * CONNECTIONS


async def test_a_server_of_another_make_is_loaded_the_same_way():
    everybody = set()

    async def handle(connection: websockets.asyncio.server.ServerConnection) -> None:
        everybody.add(connection)
        async for message in connection:
            websockets.asyncio.server.broadcast(everybody, message)

    async with websockets.asyncio.server.serve(handle, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        found = await asyncio.to_thread(findings, "fanout", *LOAD, "--binary", url=url)
    assert faults(found) == {}
    assert found["delivered"] == MESSAGES * CONNECTIONS


# --- Exit status.


def test_it_fails_where_more_is_lost_than_may_be():
    with faulty_server("lose") as url:
        done = bench("fanout", *LOAD, *LOSES, "--quiet", "--max-lost", 39, url=url + "/")
        assert (done.returncode, done.stderr) == (1, "fastws: 40 never came, and --max-lost is 39\n")
        assert bench("fanout", *LOAD, *LOSES, "--quiet", "--max-lost", 40, url=url + "/").returncode == 0


def test_it_fails_where_a_delivery_is_later_than_it_may_be():
    with faulty_server("stall") as url:
        done = bench("fanout", *LOAD, "--json", "-", "--quiet", "--max-p99", 100, url=url + "/")
    assert done.returncode == 1
    assert done.stderr.endswith("ms, and --max-p99 is 100\n")
    assert json.loads(done.stdout)["exceeded"] == [done.stderr.removeprefix("fastws: ").rstrip()]


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_ends_it_without_a_word(processes):
    with faulty_server("none") as url:
        command = [*COMMAND, url + "/", "fanout", *LOAD, "--duration", 60, "--processes", processes]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            list(map(str, command)), stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as process:
            assert "measuring" in next(line for line in process.stderr if "measuring" in line)
            os.killpg(process.pid, signal.SIGINT)
            out, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in errors


def test_a_server_that_is_not_there_is_no_answer():
    done = bench("fanout", *LOAD, "--quiet", url="ws://127.0.0.1:1/")
    assert done.returncode == 1
    assert done.stderr.startswith("fastws: no connection could be opened: ")
    assert "Connection refused" in done.stderr
    assert done.stderr.endswith("(20)\n")


def test_messages_that_nobody_expects_are_shown():
    with faulty_server("none") as url:
        done = bench("fanout", *LOAD, "--quiet", "--warmup", 0.3, "--expect", "no. {seq}", url=url + "/")
    assert done.returncode == 1
    assert "within 0.3 s (--warmup) no message came that looks like --expect says" in done.stderr
    assert "the first of " in done.stderr
    assert "others is 'fastws 0 " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["fanout", "--rate", "0"], "--rate 0.0: give a number above 0"),
        (["fanout", "--payload", "{x}"], "{x} means nothing here"),
        (["fanout", "--payload", "hello"], "there has to be {seq} in it"),
        (["storm", "--plot", "a.pdf"], "--plot a.pdf: give a file whose name ends with .svg or .png"),
        (["storm", "--stalled", "1"], "unrecognized arguments: --stalled 1"),
        (["fanout", "--connections", "many"], "invalid int value: 'many'"),
    ],
)
def test_wrong_arguments_have_a_status_of_their_own(arguments, complaint):
    done = bench(*arguments, url="ws://127.0.0.1:1/")
    assert done.returncode == 2
    assert complaint in done.stderr
