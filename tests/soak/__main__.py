"""Open and end very many connections in every manner, and see whether memory comes back.

    python -m tests.soak [--connections N] [--loop asyncio|uvloop]

A fifth of the connections is the warm-up, after which it is noted what the process holds. After all of them it may hold
`growth.ALLOWED` bytes more; else this exits with 1.
"""

from __future__ import annotations

import argparse
import sys
import time

import fastws
from fastws import _speedups

from .endings import LIMITS, SERVICES, connections_in_all_manners
from .growth import on_each_loop, resident

STEPS = 10
WARM_UP = 2  # of these


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
    return on_each_loop(parser, lambda arguments: soak(arguments.connections))


if __name__ == "__main__":
    sys.exit(main())
