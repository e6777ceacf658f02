"""Where it is shown what comes and what happens.

On a terminal all of it goes to stdout: messages with their direction, kind and colour, in rows above the line that is
being typed, which stays as it is. Elsewhere stdout has the messages alone, as they came, a line each, and stderr what
happens. Colours are left out where ``NO_COLOR`` is set (no-color.org), and on a terminal that has none.
"""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING, BinaryIO, Final

from .text import hexdump, printable, readable, rows

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Screen"]

IN: Final = "36"  # cyan
OUT: Final = "32"  # green
BINARY: Final = "35"  # magenta
EVENT: Final = "33"  # yellow
WRONG: Final = "31"  # red

# Above the line that is typed: keep the cursor, open a row, show in it, and go back one row further down
_ABOVE: Final = "\x1b7\n\x1b[A\x1b[L{}\n\x1b8\x1b[B"


class Screen:
    """What a person, or a pipe, sees.

    Args:
        out: `sys.stdout`.
        err: `sys.stderr`.
        prompts: whether a line is being typed all the time.

    Attributes:
        is_terminal: whether `out` is one.
    """

    def __init__(self, out: TextIO, err: TextIO, *, prompts: bool) -> None:
        self._out = out
        self._err = err
        self._prompts = prompts
        self._lock = threading.Lock()
        self.is_terminal = out.isatty()
        self._has_colours = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def received(self, message: str | bytes) -> None:
        """Show a message of the server's."""
        if not self.is_terminal:
            self._write_plainly(message)
        elif isinstance(message, str):
            self._show("<", readable(message), IN)
        else:
            self._show("<", f"binary, {len(message)} bytes\n{hexdump(message)}".rstrip(), IN, BINARY)

    def sent(self, message: str | bytes) -> None:
        """Show a message that was sent, and that nobody typed here."""
        if self.is_terminal:
            text = printable(message) if isinstance(message, str) else f"binary, {len(message)} bytes"
            self._show(">", text, OUT)

    def happened(self, event: str) -> None:
        """Tell of what is no message."""
        if self.is_terminal:
            self._show("*", event, EVENT, EVENT)
        else:
            print(event, file=self._err, flush=True)

    def complain(self, error: object) -> None:
        """Tell of what is wrong."""
        if self.is_terminal:
            self._show("!", printable(str(error)), WRONG, WRONG)
        else:
            print(f"error: {printable(str(error))}", file=self._err, flush=True)

    def prompt(self) -> str:
        """Return what stands before the line that is typed; readline counts what is between the marks as no columns."""
        return f"\x01\x1b[{OUT}m\x02>\x01\x1b[0m\x02 " if self._has_colours else "> "

    def leave(self) -> None:
        """Note that no line is being typed any more: what stands there of it goes."""
        if self._prompts:
            self._prompts = False
            self._out.write("\r\x1b[K")

    def _write_plainly(self, message: str | bytes) -> None:
        binary: BinaryIO = self._out.buffer
        with self._lock:
            binary.write(message.encode() if isinstance(message, str) else message)
            binary.write(b"\n")
            binary.flush()

    def _show(self, mark: str, text: str, colour: str, of_text: str = "") -> None:
        width = max(20, shutil.get_terminal_size().columns) - 2
        with self._lock:
            for place, row in enumerate(rows(text, width)):
                shown = f"{self._in(colour, ' ' if place else mark)} {self._in(of_text, row)}"
                self._out.write(_ABOVE.format(shown) if self._prompts else f"{shown}\n")
            self._out.flush()

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and self._has_colours else text
