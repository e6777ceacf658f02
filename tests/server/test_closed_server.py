"""A server that is closed holds nothing of what it served, although somebody still holds the server."""

from __future__ import annotations

import fastws
from fastws import _speedups

from ..kit.client import Client
from ..kit.services import Echo

FRAMES = ("chunks", "backlogs", "partials")


async def test_a_closed_server_keeps_no_frame():
    before = _speedups.live_objects()
    async with fastws.serve(Echo(), port=0, close_timeout=5.0) as server:
        client = await Client.connect(server.addresses[0][1])
        assert await client.asks("hello") == "hello"
        client.end_stream()
        assert await client.rest() == []
    client.transport.abort()
    after = _speedups.live_objects()
    assert [after[kind] for kind in FRAMES] == [before[kind] for kind in FRAMES]
    assert server.closing
