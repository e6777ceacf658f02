"""`fastws bench` as a user runs it, against servers whose faults are known."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

COMMAND = [sys.executable, "-m", "fastws", "bench"]
TIMEOUT = 60  # seconds; a run takes two


def bench(*arguments: object, url: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [*COMMAND, url, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)


def findings(*arguments: object, url: str) -> dict[str, Any]:
    """Run the command, which is to succeed; what it found."""
    done = bench(*arguments, "--json", "-", "--quiet", url=url)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@contextlib.contextmanager
def faulty_server(fault: str) -> Iterator[str]:
    """Run a server with a fault; yields its URL, without a slash at the end."""
    command = [sys.executable, "-m", "tests.kit.faulty", fault]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"ws://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()
