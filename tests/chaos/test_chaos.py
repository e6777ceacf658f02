"""A short schedule over each engine that is here finds nothing; `make chaos` plays long ones."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from .stages import STAGES

ROOT = Path(__file__).parents[2]
# The tests' own tree comes last: fastws is the one that is tested
PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from tests.chaos.__main__ import main; sys.exit(main())"


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["asyncio"])  # the nodes have their own
@pytest.mark.parametrize("engine", STAGES)
async def test_a_schedule_finds_nothing(engine, tmp_path):
    if why := STAGES[engine].missing():
        pytest.skip(why)
    options = ["--seconds", "0", "--seed", "7", "--broken", "5", "--engine", engine]
    command = [sys.executable, "-c", PROGRAM, str(ROOT), *options]
    played = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.endswith("1 schedules, 0 of which found something\n")
