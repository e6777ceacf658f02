"""Measure the parts in process, all test_*.py here, and keep what report.py needs of it; arguments go to pytest.

Without a file to look at, `pytest benchmarks` does the same and prints its own tables.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import HERE, record

CORE = "1"
STATS = ("min", "q1", "median", "q3")


def sample(measured: dict) -> dict:
    """One row: what was measured, and its times in seconds for one message."""
    facts, stats = measured["extra_info"], measured["stats"]
    times = {name: stats[name] / facts["messages"] for name in STATS}
    return facts | times | {"rounds": stats["rounds"], "iterations": stats["iterations"]}


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        found = Path(directory, "found.json")
        pytest = [sys.executable, "-m", "pytest", str(HERE), "--benchmark-only", f"--benchmark-json={found}", "-q"]
        subprocess.run(["taskset", "-c", CORE, *pytest, *sys.argv[1:]], check=True, cwd=HERE.parent)
        samples = [sample(measured) for measured in json.loads(found.read_text())["benchmarks"]]
    print(record("parts", samples, None))


if __name__ == "__main__":
    main()
