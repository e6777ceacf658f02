"""Every coroutine test runs on each event loop that a server may run on."""

from __future__ import annotations

import asyncio
import sys


def pytest_asyncio_loop_factories(config, item):
    factories = {"asyncio": asyncio.new_event_loop}
    if sys.platform != "win32":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories
