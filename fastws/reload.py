"""Start a service again when its code changes: the ``--reload`` of the command.

Two processes. The parent runs nothing of the user's: it starts the command as a child and looks twice a second when the
files were changed. The child tells which files it has loaded, in a file whose name it is given, and ends at SIGTERM as
it always does. A child that fails, on a syntax error for instance, is started again after the next change.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["report", "watch"]

_REPORT: Final = "FASTWS_RELOAD_REPORT"
POLL: Final = 0.5  # seconds
STOP_TIMEOUT: Final = 3.0  # seconds that the child may take to end; who waits for a reload is impatient

_INSTALLED: Final = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def report(error: BaseException | None = None) -> None:
    """In the child: tell the parent, if there is one, which files of the project are loaded and how old they are.

    Args:
        error: why loading failed, if it did; the files in its traceback are not among the loaded modules.
    """
    target = os.environ.get(_REPORT)
    if target:
        files = {*_loaded_files(), *_files_of(error)}
        lines = [f"{_changed_at(file)} {file}" for file in sorted(files) if _is_of_project(file)]
        # Whole or not at all: the parent may read at any moment.
        draft = Path(target + ".draft")
        draft.write_text("\n".join(lines), encoding="utf-8")
        draft.replace(target)


def _loaded_files() -> Iterator[str]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file:
            yield os.path.abspath(file)


def _files_of(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield from (os.path.abspath(frame.filename) for frame in traceback.extract_tb(error.__traceback__))
        if isinstance(error, SyntaxError) and error.filename:
            yield os.path.abspath(error.filename)
        error = error.__context__


def _is_of_project(file: str) -> bool:
    return os.path.isfile(file) and not file.startswith(_INSTALLED)


def _changed_at(file: str) -> int:
    """Return when a file was changed, 0 when there is none."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0


def watch(arguments: Sequence[str], files: Sequence[Path], descriptors: Sequence[int] = ()) -> int:
    """In the parent: run the command, again after each change, until SIGINT or SIGTERM.

    Args:
        arguments: of the command, without ``--reload``.
        files: what to watch even if the child never gets as far as to report.
        descriptors: of ours, that each child inherits.

    Returns:
        The exit status.
    """
    # A handler that raises, so that a sleep ends at once.
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    with tempfile.TemporaryDirectory(prefix="fastws-") as folder:
        watcher = _Watcher(arguments, files, Path(folder, "files"), descriptors)
        try:
            watcher.run()
        except KeyboardInterrupt:
            return 0
        finally:
            watcher.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


class _Watcher:
    def __init__(
        self, arguments: Sequence[str], files: Sequence[Path], reported: Path, descriptors: Sequence[int]
    ) -> None:
        self._descriptors = descriptors
        self._command = [sys.executable, "-m", "fastws", *arguments]
        self._reported = reported
        # The files that any child has loaded, and when they were changed as the present child found them.
        self._times = {os.path.abspath(file): 0 for file in files}
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> NoReturn:
        while True:
            self._start()
            self._wait_for_change()
            print("fastws: code changed, starting again", file=sys.stderr)
            self.stop()

    def _start(self) -> None:
        self._reported.unlink(missing_ok=True)
        self._times = {file: _changed_at(file) for file in self._times}
        environment = {**os.environ, _REPORT: str(self._reported)}
        self._child = subprocess.Popen(self._command, env=environment, pass_fds=self._descriptors)

    def _wait_for_change(self) -> None:
        ended = False
        while True:
            time.sleep(POLL)
            self._times.update(self._read_report())
            if any(_changed_at(file) != before for file, before in self._times.items()):
                return
            if not ended and self._child is not None and self._child.poll() is not None:
                ended = True
                print("fastws: ended; waiting for a change", file=sys.stderr)

    def _read_report(self) -> dict[str, int]:
        try:
            lines = self._reported.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        return {file: int(changed) for changed, _, file in (line.partition(" ") for line in lines)}

    def stop(self) -> None:
        """End the child as SIGTERM does, or by force if that takes too long."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
