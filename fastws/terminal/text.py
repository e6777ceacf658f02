"""What came, as text for a terminal: JSON indented, bytes as hexadecimal, and nothing that a terminal would obey.

JSON is set anew token by token and not by value, so that what is read is what came: ``1.0``, ``1e400`` and a name that
stands there twice stay as they are.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

__all__ = ["hexdump", "printable", "readable", "rows", "width_of"]

MAX_SHOWN: Final = 256  # bytes of a binary message
INDENT: Final = 2  # columns
SHORT: Final = 60  # characters of a JSON text that stays on one line

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s"\[\]{},:]+', re.DOTALL)
_PAIRS: Final = {"{": "}", "[": "]"}


def readable(text: str) -> str:
    """Return a text as it is shown: an object or an array of JSON in lines, everything else as it is; printable."""
    return printable(_indented(text) if _is_json(text) else text)


def printable(text: str) -> str:
    """Return a text with escapes for what is no letter of it: control characters could move a cursor, or type."""
    return "".join(letter if letter.isprintable() or letter == "\n" else _escaped(letter) for letter in text)


def hexdump(data: bytes) -> str:
    """Return bytes as lines of 16, hexadecimal and, where they are ASCII, as letters; of many only the first."""
    lines = []
    for place in range(0, min(len(data), MAX_SHOWN), 16):
        part = data[place : place + 16]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{place:08x}  {part.hex(' '):<47}  {letters}")
    if len(data) > MAX_SHOWN:
        lines.append(f"... and {len(data) - MAX_SHOWN} more")
    return "\n".join(lines)


def rows(text: str, width: int) -> Iterator[str]:
    """Cut a printable text into what a terminal of that width shows in one row each."""
    for line in text.split("\n"):
        row, left = "", width
        for letter in line:
            if width_of(letter) > left:
                yield row
                row, left = "", width
            row += letter
            left -= width_of(letter)
        yield row


def width_of(letter: str) -> int:
    """Return how many columns a printable letter takes."""
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _indented(text: str) -> str:
    tokens = _TOKEN.findall(text)
    if sum(map(len, tokens)) <= SHORT:
        return "".join(_on_one_line(tokens))
    shown, depth = "", 0
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if token in _PAIRS:
            depth += 1
        if following in ("}", "]"):
            depth -= 1
        shown += token + _gap(token, following, depth)
    return shown


def _on_one_line(tokens: list[str]) -> Iterator[str]:
    for token in tokens:
        yield f"{token} " if token in (",", ":") else token


def _gap(token: str, following: str, depth: int) -> str:
    """Return what stands between two tokens."""
    if token == ":":
        return " "
    is_empty = _PAIRS.get(token) == following
    if (token in ("{", "[", ",") or following in ("}", "]")) and not is_empty:
        return "\n" + " " * INDENT * depth
    return ""
