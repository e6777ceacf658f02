"""What a process that serves shows of itself to the command: a few numbers in memory, found below ``/proc``.

They say that it is one of ours, what it does, and how restarts went, so that ``fastws reload PID`` knows what it waits
for. Only the same user can read them; nobody but the process itself has them open for writing. Where there is no
``/proc``, or no such memory, nothing is shown.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Kind", "Status", "Told", "read_status"]

_NAME: Final = "fastws-status"
_LINK: Final = f"/memfd:{_NAME}"
_LAYOUT: Final = struct.Struct("4q")


class Kind(enum.IntEnum):
    """What a process does."""

    SERVER = 1
    SUPERVISOR = 2
    WORKER = 3


class Told(NamedTuple):
    """What a process shows.

    Attributes:
        kind: what it does.
        asked: how many times it was asked to restart its workers.
        answered: how many of these times are over.
        failed: the last of them that failed.
    """

    kind: int
    asked: int = 0
    answered: int = 0
    failed: int = 0


class Status:
    """The numbers of this process.

    Args:
        kind: what it does.
    """

    def __init__(self, kind: Kind) -> None:
        self._told = Told(kind)
        self._memory: mmap.mmap | None = None
        self._descriptor = -1
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create(_NAME)
            os.ftruncate(self._descriptor, _LAYOUT.size)
            self._memory = mmap.mmap(self._descriptor, _LAYOUT.size)
            self._show(self._told)

    def ask(self) -> None:
        """Note that somebody asked for a restart."""
        self._show(self._told._replace(asked=self._told.asked + 1))

    @property
    def asked(self) -> int:
        """How many times somebody did."""
        return self._told.asked

    def answer(self, asked: int, *, failed: bool) -> None:
        """Note that all that was asked for so far is over."""
        self._show(self._told._replace(answered=asked, failed=asked if failed else self._told.failed))

    def _show(self, told: Told) -> None:
        self._told = told
        if self._memory is not None:
            self._memory[:] = _LAYOUT.pack(*told)

    def __enter__(self) -> Self:
        """Show it, until the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Show nothing more."""
        if self._memory is not None:
            self._memory.close()
            os.close(self._descriptor)
            self._memory = None


def read_status(process: int) -> Told | None:
    """Return what a process shows; None if it is none of ours.

    Raises:
        FileNotFoundError: there is no such process, or this system shows nothing of it.
        PermissionError: it is another user's.
    """
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is closed meanwhile
            if os.readlink(entry).startswith(_LINK):
                return Told(*_LAYOUT.unpack(entry.read_bytes()))
    return None
