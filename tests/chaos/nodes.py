"""The nodes of a schedule: processes of two workers each, which are killed, frozen and begun again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from ..kit.client import until
from ..kit.engines import free_port
from .service import FOLDER

TAKEN = "Address already in use"
ROOT = Path(__file__).parents[2]
# The tests' own tree comes last: fastws is the one that is tested
PROGRAM = """
import sys
root, workers, backplane, port = sys.argv[1:]
sys.path.append(root)
import fastws
if __name__ == "__main__":
    options = {"backplane": backplane, "cluster": "chaos"} if backplane else {}
    fastws.run("tests.chaos.service:Chat", workers=int(workers), port=int(port), close_timeout=1.0, **options)
"""


class Node:
    """A supervisor and its workers, at a port that stays.

    Args:
        folder: for what it says and writes down.
        workers: how many.
        url: of the backplane; "": the workers are all that there is.
    """

    def __init__(self, folder: Path, workers: int, url: str) -> None:
        self.folder = folder
        self.workers = workers
        self.url = url
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    async def begin(self) -> None:
        """Start for the first time; at another port where somebody else has come to this one first."""
        try:
            await self.start()
        except AssertionError:
            if TAKEN not in self.log():
                raise
            self.port = free_port()
            await self.start()

    async def start(self) -> None:
        """Start, and wait until all workers serve."""
        with (self.folder / f"{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(ROOT), str(self.workers), self.url, str(self.port)],
                env={**os.environ, FOLDER: str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await self.serves()

    async def serves(self) -> None:
        """Wait until all workers do."""
        await until(lambda: len(self.pids()) == self.workers and all(map(self._has_begun, self.pids())))

    def _has_begun(self, pid: int) -> bool:
        path = self.folder / f"{pid}.jsonl"
        return path.exists() and path.stat().st_size > 0

    def pids(self) -> list[int]:
        """Return the processes of the workers."""
        assert self._process is not None
        assert self._process.poll() is None, "the supervisor has ended: " + self.log()
        number = self._process.pid
        return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]

    def log(self) -> str:
        """Return what it has said."""
        return (self.folder / f"{self.port}.log").read_text("utf-8", "replace")

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def stop(self) -> None:
        """End it well."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None)

    def kill(self) -> None:
        """End it as a loss of power would."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None
