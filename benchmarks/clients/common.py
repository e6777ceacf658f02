"""What every client's program begins with: `python CLIENT.py --port N ...` measures itself and prints one JSON object.

With `--size` it keeps `--window` text messages under way at an echo server; without, it opens `--connections` that say
nothing. CPU time is the program's own clock, read when counting begins, a fifth of `--seconds` after the start, and
ends. No message is too large, and nothing is compressed; all else is as the library has it by default.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop

MAX_SIZE = 1 << 30
WARM_CONNECTIONS = 128  # before memory is read the first time

_parser = argparse.ArgumentParser(description=__doc__)
_parser.add_argument("--port", type=int, required=True)
_parser.add_argument("--size", type=int, default=0, help="bytes of a message")
_parser.add_argument("--window", type=int, default=1, help="messages under way")
_parser.add_argument("--seconds", type=float, default=1.0, help="that are counted")
_parser.add_argument("--connections", type=int, default=1)
_parser.add_argument("--variant", default="", help="which of the library's own ways")
OPTIONS = _parser.parse_args()

URL = f"ws://127.0.0.1:{OPTIONS.port}/"
TEXT = "x" * OPTIONS.size


class Counter:
    """Messages that came, in the time that counts."""

    def __init__(self) -> None:
        self.messages = 0

    async def measure(self) -> dict[str, float]:
        await asyncio.sleep(OPTIONS.seconds / 5)
        messages, cpu, clock = self.messages, time.process_time(), time.perf_counter()
        await asyncio.sleep(OPTIONS.seconds)
        messages, cpu = self.messages - messages, time.process_time() - cpu
        if not messages:
            sys.exit("no message came")
        passed = time.perf_counter() - clock
        return {
            "messages_per_second": messages / passed,
            "cpu_us": cpu / messages * 1e6,
            "client_share": cpu / passed,
        }


def memory() -> int:
    """Resident bytes."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


async def hold(connect: Callable[[], Awaitable[object]]) -> dict[str, float]:
    kept = [await connect() for _ in range(WARM_CONNECTIONS)]
    before = memory()
    kept += [await connect() for _ in range(OPTIONS.connections)]
    return {"bytes_per_connection": (memory() - before) / OPTIONS.connections}


def run(connect: Callable[[], Awaitable[object]], echo: Callable[[Counter], Awaitable[None]]) -> None:
    """Measure on uvloop: connections that are held, or messages that `echo` counts as they come back."""

    async def main() -> None:
        if not OPTIONS.size:
            found = await hold(connect)
        else:
            counter = Counter()
            echoing = asyncio.ensure_future(echo(counter))
            measuring = asyncio.ensure_future(counter.measure())
            await asyncio.wait([echoing, measuring], return_when=asyncio.FIRST_COMPLETED)
            if echoing.done() and echoing.exception():
                echoing.result()
            found = await measuring
        print(json.dumps(found), flush=True)
        os._exit(0)

    uvloop.run(main())
