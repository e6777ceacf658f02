"""Messages with placeholders, and how what was filled in is found again in what a server delivers.

A template is text with `{seq}`, `{due}`, `{n}`, `{room}` and `{pad}` in it; other braces mean themselves, so JSON may
be written as it is. A delivery has to carry the number of its message, or nobody could say what is missing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Expectation", "Template"]

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
_PAD: Final = "{pad}"
_FILLING: Final = "fastws"  # of {pad}, again and again
_PATTERNS: Final = {
    "seq": r"(?P<seq>\d+)",
    "due": r"(?P<due>\d+(?:\.\d+)?)",
    "n": r"\d+",
    "room": r"\d+",
}


class Template:
    """Text to be sent, with placeholders.

    Args:
        text: what to send.
        option: how the user gave it, for errors, such as ``"--payload"``.
        allowed: the placeholders that mean something here.
        size: bytes of a message, which `{pad}` fills up to; None has `{pad}` be nothing.

    Raises:
        ConfigurationError: a placeholder is unknown here, or there is `{pad}` more than once.
    """

    def __init__(self, text: str, option: str, allowed: Iterable[str], size: int | None = None) -> None:
        self.text = text
        self.names = frozenset(_PLACEHOLDER.findall(text))
        _check(self.names, text, option, sorted(allowed))
        head, *tail = text.split(_PAD)
        self._head = _Form(head)
        self._tail = _Form("".join(tail))
        self._filling = _FILLING * ((size or 0) // len(_FILLING) + 1)
        self._size = size if tail and size is not None else 0

    def render(self, **values: object) -> str:
        """Return the text with the values in their places."""
        head, tail = self._head.render(values), self._tail.render(values)
        missing = self._size - len(head) - len(tail)
        return f"{head}{self._filling[:missing]}{tail}" if missing > 0 else head + tail


class _Form:
    """A part of a template without `{pad}`."""

    def __init__(self, text: str) -> None:
        self._names = _PLACEHOLDER.findall(text)
        self._form = _PLACEHOLDER.sub("%s", text.replace("%", "%%"))

    def render(self, values: dict[str, object]) -> str:
        return self._form % tuple([values[name] for name in self._names])


class Expectation:
    """What a delivery looks like, anywhere in it: the text around the placeholders, up to the last that counts.

    Args:
        template: the message, or the part of it that says its number.
        option: how the user gave it, for errors.

    Raises:
        ConfigurationError: there is no `{seq}` in it.
    """

    def __init__(self, template: Template, option: str) -> None:
        if "seq" not in template.names:
            raise ConfigurationError(
                f"{option} {template.text!r}: there has to be {{seq}} in it, the number by which a delivery is known"
            )
        pattern = _pattern_of(template.text.partition(_PAD)[0])
        self._of_text = re.compile(pattern)
        self._of_bytes = re.compile(pattern.encode())
        self.has_due = "(?P<due>" in pattern

    def find(self, message: str | bytes) -> tuple[int, float | None] | None:
        """Return the number in a delivery, and when it says that it was due, as it says it; None: it is no delivery."""
        found = self._of_text.search(message) if isinstance(message, str) else self._of_bytes.search(message)
        if found is None:
            return None
        return int(found["seq"]), float(found["due"]) if self.has_due else None


def _check(names: frozenset[str], text: str, option: str, allowed: list[str]) -> None:
    unknown = sorted(names - set(allowed))
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in allowed)
        raise ConfigurationError(f"{option} {text!r}: {{{unknown[0]}}} means nothing here; there are {known}")
    repeated = [name for name in (*_PATTERNS, "pad") if name in ("seq", "due", "pad") and text.count(f"{{{name}}}") > 1]
    if repeated:
        raise ConfigurationError(f"{option} {text!r}: give {{{repeated[0]}}} once")


def _pattern_of(text: str) -> str:
    """Return an expression that matches from the text before the first placeholder to the last number that counts."""
    pieces = _PLACEHOLDER.split(text)  # literal, name, literal, name, ...
    last = max(place for place, name in enumerate(pieces) if place % 2 and name in ("seq", "due"))
    pattern = "".join(
        _PATTERNS[piece] if place % 2 else re.escape(piece) for place, piece in enumerate(pieces[: last + 1])
    )
    return pattern if pieces[0] else rf"(?<!\d){pattern}"
