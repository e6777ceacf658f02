"""A program at a terminal, that a test types at and reads the screen of."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
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
        terminal._process = await asyncio.create_subprocess_exec(
            *command,
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

    async def shows(self, text: str) -> str:
        """Wait until the program has shown a text since the last time; returns what it showed up to there."""

        async def wait() -> None:
            while text not in self.shown[self._seen :]:
                self._news.clear()
                await self._news.wait()

        try:
            await within(wait())
        except asyncio.TimeoutError:
            raise AssertionError(f"{text!r} is not in {self.shown[self._seen :]!r}") from None
        before, self._seen = self._seen, self.shown.index(text, self._seen) + len(text)
        return self.shown[before : self._seen]

    async def ends(self) -> int:
        """Wait for the end of the program, and return its status."""
        status = await within(self._process.wait())
        self.close()
        return status

    def close(self) -> None:
        if self._master >= 0:
            self._loop.remove_reader(self._master)
            os.close(self._master)
            self._master = -1
        if self._process.returncode is None:
            self._process.kill()

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
