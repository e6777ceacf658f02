"""Start a service again when its code changes: the ``--reload`` of the command.

Two processes. The parent runs nothing of the user's: it starts the command as a child and looks twice a second when the
files were changed. The child tells which files it has loaded, in a file whose name it is given. A child that fails, on
a syntax error for instance, is started again after the next change.

No child outlives its parent. Each holds an end of a pipe on which nothing is ever said: when the parent closes its own,
or is killed, the child reads the end of it and closes its server. It is no signal, because at a terminal a Ctrl-C goes
to both of them, and a second signal means something else. A child that does not end in time is killed, and one that has
not ended at a second signal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .saying import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Lifeline", "report", "watch"]

_REPORT: Final = "FASTWS_RELOAD_REPORT"
_LIFELINE: Final = "FASTWS_RELOAD_LIFELINE"
POLL: Final = 0.5  # seconds
STOP_TIMEOUT: Final = 3.0  # seconds that the child may take to end; who waits for a reload is impatient
ORPHAN_TIMEOUT: Final = 30.0  # seconds that it may take when there is no parent any more

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
        # Whole or not at all: the parent may read at any moment, and workers report each
        draft = Path(f"{target}.{os.getpid()}")
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


class Lifeline:
    """In the child: what ends it with its parent; without a parent nothing.

    Until it serves SIGTERM ends it.
    """

    def __init__(self) -> None:
        self._close: Callable[[], object] | None = None
        descriptor = os.environ.pop(_LIFELINE, None)
        if descriptor is not None:
            threading.Thread(target=self._follow, args=(int(descriptor),), name="fastws reload", daemon=True).start()

    def serves(self, close: Callable[[], object]) -> None:
        """Note what ends it from now on; called in a thread of ours."""
        self._close = close

    def _follow(self, descriptor: int) -> None:
        os.read(descriptor, 1)
        if self._close is None:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._close()
        time.sleep(ORPHAN_TIMEOUT)
        os.kill(os.getpid(), signal.SIGKILL)


def watch(arguments: Sequence[str], files: Sequence[Path], descriptors: Sequence[int] = ()) -> int:
    """In the parent: run the command, again after each change, until SIGINT, SIGTERM or SIGHUP.

    Args:
        arguments: of the command, without ``--reload``.
        files: what to watch even if the child never gets as far as to report.
        descriptors: of ours, that each child inherits.

    Returns:
        The exit status.
    """
    with tempfile.TemporaryDirectory(prefix="fastws-") as folder:
        watcher = _Watcher(arguments, files, Path(folder, "files"), descriptors)
        # For good: the process ends behind it, and one signal more must not end it in another way
        for number in _ENDING:
            signal.signal(number, watcher.on_signal)
        try:
            watcher.run()
        finally:
            watcher.stop()
    return 0


_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
        self._lifeline = -1  # our end of it
        self._ending = False

    def on_signal(self, _number: int, _frame: object) -> None:
        """End when whoever runs looks next; the second time the child at once."""
        # Nothing is raised here: the child might have been started, and nobody know of it yet
        if self._ending and self._child is not None:
            self._child.kill()
        self._ending = True

    def run(self) -> None:
        while not self._ending:
            self._start()
            self._wait_for_change()
            if not self._ending:
                say("fastws: code changed, starting again", sys.stderr)
                self.stop()

    def _start(self) -> None:
        self._reported.unlink(missing_ok=True)
        self._times = {file: _changed_at(file) for file in self._times}
        theirs, self._lifeline = os.pipe()
        environment = {**os.environ, _REPORT: str(self._reported), _LIFELINE: str(theirs)}
        inherited = (*self._descriptors, theirs)
        try:
            self._child = subprocess.Popen(self._command, env=environment, pass_fds=inherited)
        finally:
            os.close(theirs)

    def _wait_for_change(self) -> None:
        ended = False
        while True:
            time.sleep(POLL)
            self._times.update(self._read_report())
            if self._ending or any(_changed_at(file) != before for file, before in self._times.items()):
                return
            if not ended and self._child is not None and self._child.poll() is not None:
                ended = True
                say("fastws: ended; waiting for a change", sys.stderr)

    def _read_report(self) -> dict[str, int]:
        try:
            lines = self._reported.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        return {file: int(changed) for changed, _, file in (line.partition(" ") for line in lines)}

    def stop(self) -> None:
        """Have the child end, or end it by force if that takes too long."""
        if self._child is None:
            return
        os.close(self._lifeline)
        try:
            self._child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None
