"""Connections that end in every manner leave nothing behind; `make soak` does it a hundred thousand times."""

from __future__ import annotations

import gc
import logging

from fastws import _speedups

from .endings import LIMITS, MANNERS, SERVICES, connections_in_all_manners


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
