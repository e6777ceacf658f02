"""A worker as its supervisor sees it: one process, from its start to its end.

Theory of operation. It is a new interpreter, which inherits one end of a control socket (`control.py`). What it says
comes on the loop. Its end is noticed by a thread that waits for it, and comes on the loop, too, behind all that it has
said. One that does not read what it is told is killed, and so is one that says what nobody understands.
"""

from __future__ import annotations

import asyncio
import enum
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from ..errors import StartError
from ..server.signals import hold_back
from .control import Control, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Child", "Stage"]

# Not -m, which would look first into the working directory, for modules of the standard library, too
_MAIN: Final = "import sys; sys.path[:] = {path!r}; from fastws.process.worker import main; sys.exit(main())"


class Stage(enum.IntEnum):
    """How far a worker is."""

    STARTED = 1
    LOADED = 2
    READY = 3
    ENDED = 4


class Child:
    """A process, from its start to its end.

    Args:
        loop: of the supervisor.
        number: from 0 on; a successor has the same.
        row: of the table of all.
        sockets: that it listens at and others do not, which are ours until it ends.
        heard: called with what it says.
        went: called when it has ended.

    Attributes:
        stage: how far it is.
        ready: done when it serves.
        relieved: done when it has a successor.
        ended: how it ended, as the rest of a sentence.
        lifetime: seconds that it lived, once it has ended.
        failure: what it said of why it cannot start.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        row: int,
        sockets: list[socket.socket],
        heard: Callable[[Child, Message], None],
        went: Callable[[Child], None],
    ) -> None:
        self._loop = loop
        self._heard = heard
        self._went = went
        self._born = time.monotonic()
        self.number = number
        self.row = row
        self.sockets = sockets
        self.name = f"worker {number + 1}"
        self.stage = Stage.STARTED
        self.ready: asyncio.Future[None] = loop.create_future()
        self.relieved: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.lifetime = 0.0
        self.failure: Exception | None = None
        self._control, theirs = Control.pair()
        try:
            self._process = _spawn(theirs)
        except OSError:
            self._control.close()
            raise
        finally:
            theirs.close()
        loop.add_reader(self._control.sock, self._read)
        threading.Thread(target=self._wait, name=f"fastws {self.name}", daemon=True).start()

    def send(self, name: str, descriptors: Sequence[int] = (), /, **told: object) -> None:
        """Tell it something; one that has not read for so long that this does not fit is killed."""
        if self.stage is Stage.ENDED:
            return
        try:
            self._control.send(name, descriptors, **told)
        except OSError:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def why_not(self) -> Exception:
        """Return why one that has ended did not serve."""
        return self.failure or StartError(f"{self.name} {self.ended.result()} before it served")

    def _read(self) -> None:
        try:
            messages = self._control.receive()
        except ValueError:  # somebody else has written there
            messages = None
            self.kill()
        if messages is None:
            self._loop.remove_reader(self._control.sock)
        for message in messages or ():
            self._heard(self, message)

    def _wait(self) -> None:
        status = self._process.wait()
        self._loop.call_soon_threadsafe(self._end, status)

    def _end(self, status: int) -> None:
        if self._loop.remove_reader(self._control.sock):
            self._read()  # what it said last
            self._loop.remove_reader(self._control.sock)
        self._control.close()
        for sock in self.sockets:
            sock.close()
        self.stage = Stage.ENDED
        self.lifetime = time.monotonic() - self._born
        self.ended.set_result(_how(status))
        self._went(self)


def _spawn(control: socket.socket) -> subprocess.Popen[bytes]:
    descriptor = control.fileno()
    with hold_back():
        command = [sys.executable, "-c", _MAIN.format(path=sys.path), str(descriptor)]
        return subprocess.Popen(command, pass_fds=[descriptor])


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
