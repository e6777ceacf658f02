"""What one turn of the loop does for all HTTP connections together."""

from __future__ import annotations

import asyncio

import pytest

from fastws import http
from fastws.net.turns import ANSWERS_OF_TURN, Turns

from ..kit.client import turns as some_turns
from ..kit.client import until, within


class Worker:
    """Does some work whenever it is its turn, until all is done."""

    def __init__(self, turns: Turns, log: list[str], name: str, work: int) -> None:
        self.turns = turns
        self.log = log
        self.name = name
        self.left = work

    def go_on(self) -> None:
        self.log.append(self.name)
        self.turns.spend(min(self.left, ANSWERS_OF_TURN // 2))
        self.left -= ANSWERS_OF_TURN // 2
        if self.left > 0:
            self.turns.wait(self.go_on)


async def test_who_has_much_to_do_goes_on_behind_all_others():
    turns = Turns(asyncio.get_running_loop())
    log: list[str] = []
    for name in "abc":
        turns.wait(Worker(turns, log, name, ANSWERS_OF_TURN).go_on)
    assert log == []
    await some_turns(1)
    assert log == ["a", "b"], "a turn does so much for all"
    await some_turns(1)
    assert log == ["a", "b", "c", "a"]
    await some_turns(2)
    assert log == ["a", "b", "c", "a", "b", "c"]


async def test_the_budget_is_used_up_and_comes_back_with_the_next_turn():
    turns = Turns(asyncio.get_running_loop())
    assert turns.has_room()
    turns.spend(ANSWERS_OF_TURN)
    assert not turns.has_room()
    await some_turns(1)
    assert turns.has_room()


async def test_an_error_of_one_does_not_keep_the_others_waiting():
    loop = asyncio.get_running_loop()
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context["exception"]))
    turns = Turns(loop)
    log = []

    def fail():
        raise LookupError

    turns.wait(fail)
    turns.wait(lambda: log.append("me"))
    await until(lambda: log == ["me"])
    assert [type(error) for error in contexts] == [LookupError]
    contexts.clear()


@http.base_path("/")
class Counter:
    """Counts what it answers."""

    def __init__(self) -> None:
        self.answered = 0

    @http.get("/count")
    def count(self) -> str:
        self.answered += 1
        return str(self.answered)


@pytest.mark.plain("raw requests")
async def test_a_crowd_of_requests_is_answered_in_turns(serve):
    counter = Counter()
    server = await serve(counter)
    port = server.addresses[0][1]
    writers = []
    readers = []
    for _ in range(40):
        reader, writer = await within(asyncio.open_connection("127.0.0.1", port))
        readers.append(reader)
        writers.append(writer)
    request = b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n"
    for writer in writers:
        writer.write(request * 20 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    most = 0
    while counter.answered < 40 * 21:
        before = counter.answered
        await asyncio.sleep(0)
        most = max(most, counter.answered - before)
    assert 8 <= most <= 2 * ANSWERS_OF_TURN, "a turn of ours may see parts of two of the loop's"
    for reader, writer in zip(readers, writers, strict=True):
        assert (await within(reader.read())).count(b"HTTP/1.1 200 ") == 21
        writer.close()
