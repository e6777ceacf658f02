"""Open and end very many connections in every manner, and see whether memory comes back.

    python -m tests.soak [--connections N] [--loop asyncio|uvloop]

A fifth of the connections is the warm-up, after which it is noted what the process holds. After all of them it may hold
`ALLOWED` bytes more; else this exits with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import sys
import time
from pathlib import Path

import uvloop

import fastws
from fastws import _speedups

from .endings import LIMITS, SERVICES, connections_in_all_manners

ALLOWED = 400 << 10  # bytes
STEPS = 10
WARM_UP = 2  # of these
PAGE = 4096  # bytes
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def resident() -> int:
    """Bytes of memory in use, after everything that can be given back is."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


async def soak(connections: int) -> int:
    """Open and end so many connections; returns by how many bytes memory grew since the warm-up."""
    started = time.monotonic()
    first = memory = 0
    async with fastws.serve(*SERVICES, port=0, **LIMITS) as server:
        for step in range(1, STEPS + 1):
            await connections_in_all_manners(server, connections // STEPS)
            memory = resident()
            if step == WARM_UP:
                first = memory
            seconds = time.monotonic() - started
            print(f"{connections // STEPS * step:7} connections, {seconds:4.0f} s: {memory >> 10} KiB", flush=True)
        print(f"{memory - first >> 10:+} KiB since the warm-up; left: {_speedups.live_objects()}")
    return memory - first


def main() -> int:
    """Soak on one loop or on each; return 1 if memory does not come back."""
    parser = argparse.ArgumentParser(description="Open and end very many connections in every manner.")
    parser.add_argument("--connections", type=int, default=100_000, help="on each loop")
    parser.add_argument("--loop", choices=LOOPS, action="append", help="the event loop; both by default")
    arguments = parser.parse_args()
    logging.disable()
    growths = []
    for name in arguments.loop or LOOPS:
        print(f"== {name}")
        with contextlib.closing(LOOPS[name]()) as loop:
            growths.append(loop.run_until_complete(soak(arguments.connections)))
    return 1 if max(growths) > ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
