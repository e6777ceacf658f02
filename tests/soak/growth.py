"""How much a process holds, and whether that grows, on each event loop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

ALLOWED = 400 << 10  # bytes
PAGE = 4096  # bytes
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def resident() -> int:
    """Bytes of memory in use, after everything that can be given back is."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def on_each_loop(
    parser: argparse.ArgumentParser, soak: Callable[[argparse.Namespace], Coroutine[Any, Any, int]]
) -> int:
    """Soak on one loop or on each, as the arguments say; 1 if memory grew by more than it may, else 0."""
    parser.add_argument("--loop", choices=LOOPS, action="append", help="the event loop; both by default")
    arguments = parser.parse_args()
    logging.disable()
    growths = []
    for name in arguments.loop or LOOPS:
        print(f"== {name}")
        with contextlib.closing(LOOPS[name]()) as loop:
            growths.append(loop.run_until_complete(soak(arguments)))
    return 1 if max(growths) > ALLOWED else 0
