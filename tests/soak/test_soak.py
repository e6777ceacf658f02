"""Connections that end in every manner leave nothing behind; `make soak` does it a hundred thousand times."""

from __future__ import annotations

import contextlib
import gc
import logging

import pytest

from fastws import _speedups

from .endings import LIMITS, MANNERS, SERVICES, connections_in_all_manners
from .reconnects import kill_again_and_again


async def test_connections_that_end_in_every_manner_leave_nothing(serve, monkeypatch):
    monkeypatch.setattr(logging.getLogger("fastws"), "disabled", True)  # pytest would keep what a record knows
    server = await serve(*SERVICES, **LIMITS)
    await connections_in_all_manners(server, 10 * len(MANNERS))
    gc.collect()
    left = _speedups.live_objects()
    assert (left["connections"], left["backlogs"], left["partials"]) == (0, 0, 0)
    assert left["chunks"] <= 1, "the one that the hub lends for replies"
    assert not server.groups
    assert not server.stored


@pytest.mark.plain("the server is another process")
async def test_clients_of_a_server_that_is_killed_come_back_and_leave_nothing(no_task_left):
    async with contextlib.aclosing(kill_again_and_again(count=10, kills=2)) as rounds:
        seen = [(kill, min(clients.opened)) async for kill, clients in rounds]
    assert [kill for kill, _ in seen] == [0, 1, 2]
    assert seen[-1][1] >= 3
