"""What every peer's program begins with: `python PEER.py MODE` listens at a free port of 127.0.0.1 and prints it.

MODE is echo (send every message back) or broadcast (send every message to all connections). Compression is off and no
message too large, and nobody logs that load goes away without a word; all else is as the library has it by default.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable

import uvloop

HOST = "127.0.0.1"
BACKLOG = 4096
MODE = sys.argv[1]

logging.disable()


def run(listen: Callable[[], Awaitable[int]]) -> None:
    """Serve on uvloop until killed; `listen` returns the port."""

    async def main() -> None:
        print(await listen(), flush=True)
        await asyncio.Event().wait()

    uvloop.run(main())
