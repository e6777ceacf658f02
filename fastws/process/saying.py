"""Words of the command, as far as there is anybody to hear them.

Standard streams may be closed, replaced, or a pipe whose reader has gone. None of that is a reason not to serve.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["say"]


def say(text: str, stream: TextIO | None) -> None:
    """Write a text and a line break, at once.

    Args:
        text: without a line break at its end.
        stream: `sys.stdout` or `sys.stderr`; None, or what cannot be written to, is passed over.
    """
    if stream is None:
        return
    try:
        # In one write, which nothing that other processes say can come into
        print(f"{text}\n", end="", file=stream, flush=True)
    except BrokenPipeError:
        _silence(stream)
    except Exception:
        return  # whatever stands in for the stream may raise anything, and there is nobody to tell


def _silence(stream: TextIO) -> None:
    """Let what is in its buffer go nowhere: the interpreter ends with an error where it cannot be written."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
