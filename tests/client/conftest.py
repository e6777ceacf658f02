from __future__ import annotations

import asyncio

import pytest

from fastws.client import endpoints


@pytest.fixture(autouse=True)
async def nothing_of_a_client_left(no_task_left):
    """No Endpoint outlives the connections that share it, and no timer of ours the test."""
    yield
    for _ in range(1000):
        if not endpoints._endpoints:
            break
        await asyncio.sleep(0.001)
    assert endpoints._endpoints == {}
