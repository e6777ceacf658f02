"""Workers that accept at the same sockets: how many connections each of them may have."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest

from fastws.net.share import PATIENCE, SLACK, Share, Table

from ..kit import certificates
from ..kit.client import within
from ..kit.workers import HAS_PROC, Workers, crowd, starting, visit

# ---------------------------------------------------------------------------------------------------------------------
# The rule


class One:
    """A worker that knows how many connections it has."""

    def __init__(self, table: Table, number: int) -> None:
        self.open = 0
        self.share = Share(table, number)
        self.share.begin(lambda: self.open)

    def has(self, count: int) -> None:
        self.open = count
        self.share.refresh()

    def accepts(self, now: float = 0.0) -> bool:
        """Take one connection if it is ours."""
        if not self.share.room(now):
            return False
        self.has(self.open + 1)
        return True


@pytest.fixture
def several():
    """Make workers that share: `first, second = several(2)`."""

    def several(count: int) -> list[One]:
        descriptor = Table.create(count)
        table = Table(descriptor)
        workers = [One(table, number) for number in range(count)]
        os.close(descriptor)
        return workers

    return several


def test_one_who_is_alone_takes_all(several):
    (worker,) = several(1)
    assert all(worker.accepts() for _ in range(1000))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_one_who_asks_first_gets_no_more_than_the_share_and_a_little(several, count):
    first, *others = several(count)
    for _ in range(1000):
        assert first.accepts() or any(other.accepts() for other in others)
    assert 1000 / count <= first.open <= 1000 / count * 1.02 + SLACK + 1


def test_there_is_always_one_who_may(several):
    workers = several(3)
    for _ in range(300):
        assert any(worker.accepts() for worker in workers)
    assert max(worker.open for worker in workers) - min(worker.open for worker in workers) <= 3 * SLACK


def test_what_ends_makes_room(several):
    first, second = several(2)
    first.has(20)
    assert not first.accepts()
    first.has(2)
    second.has(1)
    assert first.accepts()


def test_one_who_does_not_accept_is_passed_over_and_comes_back_when_it_does(several):
    first, hangs, other = several(3)
    first.has(20)
    other.has(20)
    assert not first.accepts(1.0)
    assert not first.accepts(1.0 + PATIENCE / 2)
    assert first.accepts(1.0 + PATIENCE)
    assert first.accepts(1.0 + PATIENCE), "nobody waits a second time"
    first.has(40)
    other.has(40)
    assert first.accepts(2.0)
    assert hangs.accepts(2.0)
    assert not first.accepts(2.0)


def test_while_others_accept_nobody_is_passed_over(several):
    first, second = several(2)
    first.has(50)
    for turn in range(10):
        assert not first.accepts(turn * PATIENCE)
        assert second.accepts(turn * PATIENCE)


def test_what_others_took_in_time_is_forgotten(several):
    first, _ = several(2)
    first.has(50)
    assert not first.accepts(1.0)
    first.share.nobody_waits()
    assert not first.accepts(1.0 + 2 * PATIENCE)


def test_one_who_has_ended_counts_no_more(several):
    first, second = several(2)
    first.has(50)
    assert not first.accepts()
    second.share.end()
    assert first.accepts()


def test_one_who_died_is_struck_out_by_another(several):
    descriptor = Table.create(2)
    table = Table(descriptor)
    os.close(descriptor)
    first, _ = One(table, 0), One(table, 1)
    first.has(50)
    assert not first.accepts()
    table.clear(1)
    assert first.accepts()


# ---------------------------------------------------------------------------------------------------------------------
# Processes

processes = [
    pytest.mark.skipif(not HAS_PROC, reason="needs /proc"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # which makes no difference to other processes
]


@pytest.fixture
async def start(tmp_path):
    """Start so many workers: `workers = await start(2)`."""
    async with starting(tmp_path) as start_command:

        async def start(count: int, *arguments: str) -> Workers:
            workers = await start_command("--workers", str(count), *arguments)
            await workers.listens()
            return workers

        yield start


def assert_even(found: Counter[int], workers: int) -> None:
    mean = found.total() / workers
    assert len(found) == workers, found
    assert all(abs(count - mean) <= mean / 10 for count in found.values()), found


class TestProcesses:
    pytestmark = processes

    @pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
    async def test_a_crowd_is_spread_evenly(self, start, count):
        workers = await start(count)
        assert_even(await crowd(workers.port, 1000), count)

    async def test_websockets_count_as_well(self, start):
        workers = await start(2)
        found = Counter([int(await (await workers.connect()).asks("who")) for _ in range(60)])
        assert max(found.values()) <= 30 + SLACK, found

    async def test_clients_of_one_who_is_stopped_are_served_by_others(self, start):
        workers = await start(2)
        stopped, runs = workers.pids()
        os.kill(stopped, signal.SIGSTOP)
        assert await crowd(workers.port, 100) == {runs: 100}
        os.kill(stopped, signal.SIGCONT)

    async def test_one_who_was_stopped_gets_its_share_again(self, start):
        workers = await start(2)
        stopped, runs = workers.pids()
        os.kill(stopped, signal.SIGSTOP)
        stay: list[asyncio.StreamWriter] = []
        assert [await visit(workers.port, stay) for _ in range(30)] == [runs] * 30
        os.kill(stopped, signal.SIGCONT)
        found = Counter([await visit(workers.port, stay) for _ in range(60)])
        assert found[stopped] >= 30, found
        for writer in stay:
            writer.transport.abort()

    async def test_what_the_kernel_has_queued_is_not_lost_with_a_worker(self, start):
        workers = await start(2)
        killed, lives = workers.pids()
        for pid in (killed, lives):
            os.kill(pid, signal.SIGSTOP)
        visitors: list[asyncio.StreamWriter] = []
        visits = [asyncio.create_task(visit(workers.port, visitors)) for _ in range(500)]
        while len(visitors) < 500:
            await asyncio.sleep(0.01)
        os.kill(killed, signal.SIGKILL)
        os.kill(lives, signal.SIGCONT)
        served = Counter(await within(asyncio.gather(*visits)))
        assert served.total() == 500
        assert killed not in served
        for writer in visitors:
            writer.transport.abort()

    async def test_over_tls_it_is_spread_evenly_too(self, start, tmp_path):
        files = certificates.Files(tmp_path)
        workers = await start(2, "--certfile", str(files.certfile), "--keyfile", str(files.keyfile))
        found = await crowd(workers.port, 100, ssl=certificates.client_context(), server_hostname="localhost")
        assert_even(found, 2)
