"""A program at a terminal, that a test types at and reads the screen of."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios

from .client import within


class Terminal:
    """A process whose standard streams are a terminal of 80 columns.

    Attributes:
        shown: all that the program has written, with the codes that move the cursor and colour it.
    """

    def __init__(self) -> None:
        self.shown = ""
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def run(cls, *command: str, **environment: str) -> Terminal:
        terminal = cls()
        terminal._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.set_blocking(terminal._master, False)
        terminal._loop.add_reader(terminal._master, terminal._read)
        # asyncio's way to start a process makes no terminal its own
        terminal._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm", **environment},
        )
        os.close(slave)
        return terminal

    def type(self, text: str) -> None:
        """Type; a line break is Enter, ``\\x03`` Ctrl-C and ``\\x04`` Ctrl-D."""
        os.write(self._master, text.encode())

    async def says(self, line: str, answer: str) -> None:
        """Type a line, and wait for an answer and for the prompt behind it, in whichever order."""
        begin = len(self.shown)
        self.type(f"{line}\n")
        await self._until(lambda: answer in self.shown[begin:] and ">" in self.shown[begin:])
        self._seen = len(self.shown)

    async def interrupt(self, answer: str) -> None:
        """Press Ctrl-C, as a person does: again if nothing happens, since readline may just not be looking."""
        while answer not in self.shown[self._seen :]:
            self.type("\x03")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.shows(answer), 1)
                return

    async def shows(self, text: str) -> str:
        """Wait until the program has shown a text since the last time; returns what it showed up to there."""

        await self._until(lambda: text in self.shown[self._seen :])
        before, self._seen = self._seen, self.shown.index(text, self._seen) + len(text)
        return self.shown[before : self._seen]

    async def ends(self) -> int:
        """Wait for the end of the program, and return its status."""
        status = await within(asyncio.to_thread(self._process.wait))
        self.close()
        return status

    def close(self) -> None:
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            os.close(self._master)
            self._master = -1
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def _until(self, condition) -> None:
        async def wait() -> None:
            while not condition():
                self._news.clear()
                await self._news.wait()

        try:
            await within(wait())
        except asyncio.TimeoutError:
            raise AssertionError(f"it shows {self.shown[self._seen :]!r}") from None

    _seen = 0
    _master = -1

    def _read(self) -> None:
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # the last one that had it open has gone
            self._loop.remove_reader(self._master)
            return
        self.shown += data.decode()
        self._news.set()
