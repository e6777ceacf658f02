"""The command, and programs of one's own, as processes."""

from __future__ import annotations

import pytest

from ..kit.workers import starting


@pytest.fixture
async def start(tmp_path):
    """Start the command: `workers = await start("--workers", "2")`; what else it can is told by `starting`."""
    async with starting(tmp_path) as start:
        yield start
