"""Clients that reconnect, and a server that is killed and started again: memory is flat, and all of them come back.

    python -m tests.soak.reconnects [--clients N] [--kills N] [--loop asyncio|uvloop]

A fifth of the kills is the warm-up, after which it is noted what the process of the clients holds. After all of them it
may hold `growth.ALLOWED` bytes more; else this exits with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator

import fastws
from fastws import _speedups

from ..kit.client import until
from .growth import on_each_loop, resident

WARM_UP = 5  # a part of all kills

SERVER = """
import asyncio, sys, fastws, fastws.process.run
from fastws import http, ws

@http.base_path("/")
@ws.upgrade_path("/")
class Echo:
    @ws.on_text_message
    def said(self, text): return text

async def main():
    async with fastws.serve(Echo, port=int(sys.argv[1])) as server:
        print(server.addresses[0][1], flush=True)
        await asyncio.Event().wait()

fastws.process.run.runner()(main())
"""


class Killed:
    """A server in a process of its own, to be killed.

    Attributes:
        port: where it listens, all the time.
    """

    port = 0

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVER, str(self.port), stdout=asyncio.subprocess.PIPE
        )
        self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        self._process.kill()
        await self._process.communicate()


class Clients:
    """Each connects for ever, and asks as fast as it is answered.

    Attributes:
        opened: connections so far, of each.
        answers: so far, of all.
    """

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self.opened = [0] * count
        self.answers = 0

    async def run(self, number: int) -> None:
        async for connection in fastws.reconnect(self._url, max_delay=0.05):
            self.opened[number] += 1
            with contextlib.suppress(fastws.ConnectionClosed):
                while True:
                    await connection.send("once more")
                    await connection.receive()
                    self.answers += 1
                    await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.ensure_future(self.run(number)) for number in range(len(self.opened))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def kill_again_and_again(count: int, kills: int) -> AsyncIterator[tuple[int, Clients]]:
    """Have so many clients see so many kills; yields after each, when all are back and were answered."""
    server = Killed()
    await server.start()
    clients = Clients(f"ws://127.0.0.1:{server.port}/", count)
    try:
        async with clients.running():
            for kill in range(kills + 1):
                await until(lambda kill=kill: min(clients.opened) > kill)
                answers = clients.answers
                await until(lambda answers=answers: clients.answers > answers + count)
                yield kill, clients
                if kill < kills:
                    await server.kill()
                    await server.start()
    finally:
        await server.kill()


async def soak(count: int, kills: int) -> int:
    """Return by how many bytes memory grew since the warm-up."""
    first = memory = 0
    async with contextlib.aclosing(kill_again_and_again(count, kills)) as rounds:
        async for kill, clients in rounds:
            memory = resident()
            if kill == kills // WARM_UP:
                first = memory
            print(f"{kill:5} kills, {sum(clients.opened):7} connections: {memory >> 10} KiB", flush=True)
    gc.collect()
    print(f"{memory - first >> 10:+} KiB since the warm-up; left: {_speedups.live_objects()}")
    return memory - first


def main() -> int:
    """Soak on one loop or on each; return 1 if memory grows."""
    parser = argparse.ArgumentParser(description="Kill the server of clients that reconnect.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    return on_each_loop(parser, lambda arguments: soak(arguments.clients, arguments.kills))


if __name__ == "__main__":
    sys.exit(main())
