"""Services in memory: what their clients see, what comes in which order, and what fails a test."""

from __future__ import annotations

import asyncio
import re

import pytest

from fastws import http, ws
from fastws.testing import ExpectationError, Refused, serve

from ..kit.services import AsyncEcho, Echo, at


@pytest.mark.parametrize("service", [Echo, AsyncEcho])
async def test_messages_go_there_and_back(no_task_left, service):
    async with serve(service) as server:
        client = await server.connect("/")
        await client.send("hello ☃")
        assert await client.expect_text("hello ☃") == "hello ☃"
        for length in (0, 125, 126, 65535, 65536, 300_000):
            await client.send("x" * length)
            await client.expect_text("x" * length)
        assert server.delivered == 7
        await client.expect_nothing()
        await client.close(4000, "enough")
        assert (client.close_code, client.was_clean, client.is_open) == (4000, True, False)
