"""Real servers of engines, and sessions that lose patience sooner."""

from __future__ import annotations

import contextlib

import pytest

from fastws.backplane import session
from fastws.backplane.redis import scout

from ..kit.engines import ENGINES, EngineServer


@pytest.fixture
def server_of(tmp_path):
    """Make servers, which are ended with the test: `server = server_of(NatsServer, "--user", "u")`."""
    with contextlib.ExitStack() as stack:

        def server_of(kind: type[EngineServer], *options: str, **more) -> EngineServer:
            if why := kind.missing():
                pytest.skip(why)
            server = kind(tmp_path, *options, **more)
            stack.callback(server.kill)
            return server

        yield server_of


@pytest.fixture(params=ENGINES, ids=[kind.__name__ for kind in ENGINES])
async def engine(request, server_of, no_task_left) -> EngineServer:
    """A server of each engine, in which nobody else is."""
    server = server_of(request.param)
    await server.start()
    return server


@pytest.fixture
def hasty(monkeypatch):
    """Have sessions find out within 0.5 s what takes them 5 otherwise."""
    for name in ("GREETING_TIMEOUT", "PING_INTERVAL", "LAST_PATIENCE", "MAX_BACK_OFF"):
        monkeypatch.setattr(session, name, getattr(session, name) / 10)
    monkeypatch.setattr(scout, "ASK_TIMEOUT", scout.ASK_TIMEOUT / 10)
