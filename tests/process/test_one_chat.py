"""Several workers are one chat: what groups, names and services mean does not depend on who is connected where."""

from __future__ import annotations

import asyncio
import os
import re
import signal

import pytest

from ..kit.cluster import PATH, Talker
from ..kit.workers import HAS_PROC, Workers

pytestmark = [
    pytest.mark.skipif(not HAS_PROC, reason="needs /proc"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),
]

SERVICE = """
import os
from fastws import http, ws
from tests.kit.cluster import Chat as Base

@http.base_path("/chat")
@ws.upgrade_path("/ws", max_backlog=1 << 26)
class Chat(Base):
    def pid(self, _):
        return os.getpid()

    def heard_of(self, _):
        return [state for state, *_ in self.states]

    @ws.on_start(once=True)
    async def alone_here(self) -> None:
        os.write(1, b"alone %d\\n" % os.getpid())
        await super().alone_here()
"""


@pytest.fixture
def chat(start):
    """Start the chat with so many workers; a client of each, by its process."""

    async def chat(count: int) -> tuple[Workers, dict[int, Talker]]:
        workers = await start("--workers", str(count), service=SERVICE)
        said = sorted([await workers.says(), await workers.says()])
        workers.alone = int(said[0].split()[1])
        announced = re.match(r"ws://127\.0\.0\.1:(\d+)/chat/ws", said[1])
        assert announced is not None, said
        workers.port = int(announced[1])
        workers.count = count
        return workers, await client_of_each(workers)

    return chat


async def client_of_each(workers: Workers) -> dict[int, Talker]:
    found: dict[int, Talker] = {}
    while set(found) != set(workers.pids()):
        client = await Talker.connect(workers.port, PATH)
        workers.clients.append(client)
        pid = int(await client.ask("pid"))
        if found.setdefault(pid, client) is not client:
            await client.close()
    return found


async def test_workers_are_one_chat(chat):
    _, clients = await chat(3)
    one, two, three = clients.values()
    await one.ask("join g")
    await two.ask("join g")
    assert await three.ask("group g hello") == "True"
    assert await one.hears() == await two.hears() == "hello"
    await one.ask("store bob")
    await three.ask("name bob hello")
    assert await one.hears() == "hello"
    await two.ask("all everybody")
    assert await one.hears() == await three.hears() == "everybody"
    assert await one.ask("count g") == "Count(2, complete=True)"
    assert await two.ask("remove g") == "True"
    assert await three.ask("remove g") == "False"
    await three.ask("close_name bob")
    assert await one.close_frame() == (4001, "by name")


async def test_what_a_killed_worker_had_is_gone_at_once_and_its_successor_is_one_of_them(chat):
    workers, clients = await chat(2)
    (killed, lost), (_, one) = clients.items()
    await lost.ask("join g")
    await lost.ask("store bob")
    assert await one.ask("count g") == "Count(1, complete=True)"
    await one.ask("join h")
    await one.ask("remove h")
    os.kill(killed, signal.SIGKILL)
    await asyncio.wait_for(_counts_nobody(one), 1)
    assert await one.ask("locate bob") == "Location(node=None, complete=True, here=False)"
    await workers.replaced(killed)
    again = next(client for pid, client in (await client_of_each(workers)).items() if pid not in clients)
    await again.ask("join g")
    await one.ask("group g again")
    assert await again.hears() == "again"
    # It knows what was removed before it began
    again.send("join h")
    assert (await again.close_frame())[0] == 1011


async def _counts_nobody(client: Talker) -> None:
    while await client.ask("count g") != "Count(0, complete=True)":
        await asyncio.sleep(0.01)


async def test_what_is_done_once_is_done_by_another_worker_when_one_ends(chat):
    workers, _ = await chat(3)
    os.kill(workers.alone, signal.SIGKILL)
    word, pid = (await workers.says()).split()
    assert word == "alone"
    assert int(pid) in workers.pids()


async def test_a_worker_that_stands_still_holds_up_nobody_and_learns_what_it_missed(chat):
    _, clients = await chat(2)
    (frozen, slow), (_, one) = clients.items()
    await slow.ask("join g")
    await one.ask("join g")
    os.kill(frozen, signal.SIGSTOP)
    try:
        text = "x" * 65536
        for _ in range(600):  # 40 MB: more than may wait for a worker
            await one.ask(f"group g {text}")
        assert await one.ask("group g last") == "False"
    finally:
        os.kill(frozen, signal.SIGCONT)
    # What it was sent before is old, but in order; then it hears what is said now
    heard = asyncio.ensure_future(_hears(slow, "on"))
    while not heard.done():
        await one.ask("group g on")
        await asyncio.sleep(0.01)
    assert 0 < heard.result() < 600


async def test_a_worker_that_stands_still_keeps_nothing_from_the_others(chat):
    _, clients = await chat(3)
    (frozen, slow), (_, one), (_, other) = clients.items()
    for client in (slow, other):
        await client.ask("join g")
    os.kill(frozen, signal.SIGSTOP)
    try:
        text = "x" * 65536
        for _ in range(400):  # 26 MB: more than may wait for a worker
            assert await one.ask(f"group g {text}") == "True"
            assert await other.hears() == text
    finally:
        os.kill(frozen, signal.SIGCONT)
    await asyncio.wait_for(until_asked(slow, "heard_of", "gap"), 20)


async def until_asked(client: Talker, text: str, part: str) -> None:
    """Ask until an answer has a part."""
    while part not in await client.ask(text):
        await asyncio.sleep(0.01)


async def _hears(client: Talker, text: str) -> int:
    """Wait for a text; how many others came before."""
    count = 0
    while await client.hears() != text:
        count += 1
    return count
