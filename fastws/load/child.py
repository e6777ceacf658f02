"""One of several processes that ask a question together: `python -m fastws.load.child`; see `processes`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from ..errors import ConfigurationError, LoadError
from .command import run
from .plan import Plan
from .processes import ask_here
from .run import Snapshot


async def _main() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    async def together(value: float) -> float:
        _say(say=value)
        return float(json.loads(await lines.readline())["agreed"])

    part = json.loads(await lines.readline())
    plan = Plan.of_values(part["plan"])
    try:
        found = await ask_here(plan, range(part["start"], part["stop"]), together, _show)
    except ConfigurationError as error:
        _say(refused=str(error))
    except LoadError as error:
        _say(failed=str(error))
    else:
        _say(found=found.to_values())


def _show(snapshot: Snapshot) -> None:
    _say(at=vars(snapshot))


def _say(**values: Any) -> None:
    try:
        print(json.dumps(values), flush=True)
    except BrokenPipeError:
        os._exit(1)  # nobody wants it any more, and there is nobody to tell


if __name__ == "__main__":
    # A Ctrl-C is for all processes of a terminal, and the one that started this ends it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(_main())
