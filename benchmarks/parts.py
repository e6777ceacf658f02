"""Measure the parts in process, all test_*.py here, and keep what `report.py` and `--benchmark-compare` need.

`pytest benchmarks` does the same, keeps nothing and prints tables of its own. The last line of the output is the file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from recording import HERE, RESULTS, circumstances, target, write

# What pytest says of a file that it cannot import, why, and of all that did not work in its summary
HEADING = re.compile(r"_+ ERROR collecting (\S+) _+")
REASON = re.compile("E +(.+)")
COMPLAINT = re.compile(r"(?:FAILED|ERROR) (\S+)(?: - (.+))?")

# `-m pytest` would look into the working directory first, where the sources may lie and not be built
PYTEST = "import sys; del sys.path[0]; import pytest; sys.exit(pytest.main())"

# How long one measurement may go on
FULL = ["--benchmark-max-time=0.4"]
QUICK = ["--benchmark-max-time=0.05", "--benchmark-min-rounds=3", "--sizes=64,65536"]


def pytest(core: str, arguments: list[str]) -> list[str]:
    """Run it, show what it says, and return what it says of tests that did not work."""
    command = ["taskset", "-c", core, sys.executable, "-c", PYTEST, str(HERE), "--benchmark-only"]
    command.append("--continue-on-collection-errors")  # who misses one library has the rest
    complaints, reasons, heading = [], {}, ""
    with subprocess.Popen([*command, *arguments], cwd=HERE.parent, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            if found := HEADING.match(line):
                heading = found[1]
            elif found := REASON.match(line):
                reasons[heading] = found[1]
            elif found := COMPLAINT.match(line):
                complaints.append(f"{found[1]}: {found[2] or reasons.get(found[1], 'no word of why')}")
    return complaints


def measure(core: str, arguments: list[str]) -> dict:
    """What pytest-benchmark writes, without every single time, and what is missing."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "found.json")
        complaints = pytest(core, [f"--benchmark-json={file}", "-v", *arguments])
        found = json.loads(file.read_text()) if file.exists() else {"benchmarks": []}
    for measured in found["benchmarks"]:
        measured["stats"].pop("data", None)
    return found | {"not_measured": complaints}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", default="1", help="where it runs (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="two sizes, and short")
    options, others = parser.parse_known_args()  # the others go to pytest
    run = circumstances("parts") | measure(options.core, (QUICK if options.quick else FULL) + others)
    file = target(run, options.results)
    write(file, run, "benchmarks", run.pop("benchmarks"))
    print(file)


if __name__ == "__main__":
    main()
