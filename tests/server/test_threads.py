"""Other threads than the server's: they are refused, and shown the way."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fastws import WrongThreadError, ws
from fastws._speedups import hub_of_thread
from fastws.handshake.deflate import Deflate

from ..kit.client import until, within
from ..kit.services import AsyncCommanded, Echo, Watch
from ..kit.wires import PacketWire, wired


async def test_another_thread_is_refused_and_told_the_way(serve, connect):
    def calls():
        connection = server.stored["me"]
        yield from (ws.push_text, connection.push_text, connection.broadcast_text, ws.store_connection)
        yield from (ws.add_connection_to_group, connection.join, connection.leave, connection.store)
        yield from (ws.remove_stored_connection, ws.create_connection_group, ws.remove_connection_group)
        yield from (ws.close_stored_connection, ws.close_connection_group)
        yield from (lambda text: ws.push_text_to_connection("me", text), lambda text: ws.push_text_to_group("g", text))
        yield from (lambda text: connection.push_binary(b""), lambda text: connection.close(), ws.broadcast_text)

    def from_thread() -> int:
        refused = 0
        for call in calls():
            with pytest.raises(WrongThreadError, match=r"use server.call_from_thread\("):
                call("x")
            refused += 1
        return refused

    async def ask() -> str:
        ws.store_connection("me")
        return str(await asyncio.to_thread(from_thread))

    server = await serve(AsyncCommanded(ask=ask))
    client = await connect(server)
    assert await client.asks("ask") == "18"


async def test_a_thread_that_knows_no_connection_is_told_of_the_thread_first(serve):
    def refused(call: Callable[[], object]) -> bool:
        with pytest.raises(WrongThreadError, match=r"use server.call_from_thread\("):
            call()
        return True

    await serve(Watch())
    calls = [
        lambda: ws.push_text("x"),
        lambda: ws.push_binary(b"x"),
        lambda: ws.broadcast_text("x"),
        lambda: ws.broadcast_binary(b"x"),
        lambda: ws.store_connection("x"),
        lambda: ws.add_connection_to_group("x"),
        lambda: ws.remove_connection_from_group("x"),
        lambda: ws.close_connection(999),
        lambda: ws.close_stored_connection("x", 999),
        lambda: ws.close_connection_group("x", 999),
        lambda: ws.push_text_to_group("", b"x"),
    ]
    pool = concurrent.futures.ThreadPoolExecutor(1)
    with pool:
        assert await within(
            asyncio.gather(*[asyncio.get_running_loop().run_in_executor(pool, refused, call) for call in calls])
        )


async def test_call_from_thread_runs_on_the_loop_with_the_current_connection(serve, connect):
    def from_thread() -> str:
        delivery = server.call_from_thread(ws.push_text, "from a thread")
        assert delivery == ws.Delivery(1, 1, 0)
        with pytest.raises(ZeroDivisionError):
            server.call_from_thread(divmod, 1, 0)
        return str(server.call_from_thread(threading.get_ident) == ident)

    async def ask() -> str:
        return await asyncio.to_thread(from_thread)

    ident = threading.get_ident()
    server = await serve(AsyncCommanded(ask=ask))
    client = await connect(server)
    client.send("ask")
    assert await client.texts(2) == ["from a thread", "True"]


async def test_call_from_thread_serves_threads_that_know_no_connection(serve, connect):
    server = await serve(Watch())
    client = await connect(server)
    await until(lambda: len(server.connections(Watch)))
    (connection,) = server.connections(Watch)
    connection.join("g")
    delivery = await within(asyncio.to_thread(server.call_from_thread, ws.push_text_to_group, "g", "hello"))
    assert delivery == ws.Delivery(1, 1, 0)
    assert await client.text() == "hello"
    assert server.call_from_thread(ws.push_text_to_group, "g", "also here")


@contextlib.contextmanager
def never_interrupted() -> Iterator[None]:
    """Let no thread have the GIL before the one that has it gives it up of its own accord."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Let another thread count, and give up the GIL after each step; yields what tells how far it is."""

    def count() -> None:
        while not stopping.is_set():
            steps.append(None)
            time.sleep(0)

    steps: list[None] = []
    stopping = threading.Event()
    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield steps.__len__
    finally:
        stopping.set()
        thread.join()


@pytest.mark.parametrize("by_ring", [False, True])
async def test_other_threads_run_while_a_fanout_is_sent(by_ring):
    async with wired(Echo(), PacketWire, 300) as (connections, wires):
        hub = hub_of_thread(asyncio.get_running_loop(), dict, dict)
        hub.send_with(by_ring=by_ring)
        steps_meanwhile = 0
        end = time.monotonic() + 30
        with never_interrupted(), counting() as steps:
            # One fan-out takes a millisecond or two, which a busy system may not give to the other thread
            while not steps_meanwhile and time.monotonic() < end:
                connections[0].broadcast_binary(b"x" * 16384)
                before = steps()
                hub._flush()
                steps_meanwhile = steps() - before
                for wire in wires:
                    wire.packets()
        assert steps_meanwhile


def test_who_is_left_out_in_one_thread_is_so_whatever_another_sends():
    one, two = (random.Random(seed).randbytes(3000).hex() for seed in (1, 2))  # compressing it gives up the GIL
    received_by_the_excluded = []

    async def serve() -> None:
        extensions = (Deflate(b"", 15, 15, False, False),) * 6
        async with wired(Echo(), PacketWire, 6, extensions=extensions) as (connections, wires):
            for _ in range(300):
                connections[0].broadcast_text(one)
                connections[0].broadcast_text(two, exclude=connections[1])
                await asyncio.sleep(0)
                to_all, to_all_but_one = (sum(map(len, wire.packets())) for wire in (wires[0], wires[1]))
                if to_all_but_one == to_all:
                    received_by_the_excluded.append(two)
                for wire in wires[2:]:
                    wire.packets()

    threads = [threading.Thread(target=lambda: asyncio.run(serve())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not received_by_the_excluded
