"""Measure the parts in process, all test_*.py here, and keep what `report.py` and `--benchmark-compare` need.

`pytest benchmarks` does the same, keeps nothing and prints tables of its own. The last line of the output is the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from recording import HERE, RESULTS, circumstances, target

# How long one measurement may go on
FULL = ["--benchmark-max-time=0.4"]
QUICK = ["--benchmark-max-time=0.05", "--benchmark-min-rounds=3", "--sizes=64,65536"]


def slim(found: dict) -> dict:
    """What pytest-benchmark wrote, without every single time."""
    for measured in found["benchmarks"]:
        measured["stats"].pop("data", None)
    return found


def measure(core: str, arguments: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as directory:
        found = Path(directory, "found.json")
        pytest = [sys.executable, "-m", "pytest", str(HERE), "--benchmark-only", f"--benchmark-json={found}", "-q"]
        subprocess.run(["taskset", "-c", core, *pytest, *arguments], check=True, cwd=HERE.parent, stdout=sys.stderr)
        return slim(json.loads(found.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", default="1", help="where it runs (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="two sizes, and short")
    options, others = parser.parse_known_args()  # the others go to pytest
    run = circumstances("parts") | measure(options.core, (QUICK if options.quick else FULL) + others)
    file = target(run, options.results)
    file.write_text(json.dumps(run, indent=1) + "\n")
    print(file)


if __name__ == "__main__":
    main()
