"""Whoever runs in the middle of something does no harm, for a moment; `make reenter` goes on for longer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The tests' own tree comes last: fastws is the one that is tested
PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from tests.reenter.__main__ import main; sys.exit(main())"


@pytest.mark.parametrize("seed", [3, 10])
async def test_an_episode_of_everybody_running_in_the_middle_of_everything_does_no_harm(seed, tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(ROOT), "--seconds", "0", "--seed", str(seed)]
    # In a process of its own: signals, profilers and the collector's thresholds are everybody's
    played = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.endswith("1 episodes\n")
