"""What Autobahn needs, and the sum of what it said."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

INSTALL = Path(__file__).parents[2] / "tools" / "autobahn.sh"
NOTHING_TO_RUN_IT = 3  # INSTALL's exit status

TOTALS = pytest.StashKey[Counter]()


@pytest.fixture(scope="session")
def wstest() -> Path:
    """The program, installed now if it was not; without Python 2.7 and Docker the tests are skipped."""
    done = subprocess.run([INSTALL], capture_output=True, text=True, check=False)
    if done.returncode == NOTHING_TO_RUN_IT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def totals(pytestconfig) -> Counter:
    """How often each verdict was given in this session."""
    return pytestconfig.stash.setdefault(TOTALS, Counter())


def pytest_terminal_summary(terminalreporter, config) -> None:
    totals = config.stash.get(TOTALS, Counter())
    if totals:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in totals.most_common())
        terminalreporter.write_line(f"Autobahn: {totals.total()} verdicts: {counts}")
