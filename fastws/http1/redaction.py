"""Secrets in queries: what a client proves itself with is not to be read in a log.

A parameter is known by its name: by the last word of it, whichever way words are told apart, so that ``token``,
``access_token``, ``accessToken`` and ``X-Amz-Security-Token`` are one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote_plus

from ..errors import ConfigurationError

__all__ = ["REDACTION", "Redaction"]

SECRETS: Final = frozenset(
    "apikey auth authorization bearer code credential credentials jwt key otp pass passphrase passwd password pin pwd "  # noqa: SIM905
    "secret session sessionid sid sig signature ticket token".split()
)
_REDACTED: Final = "***"
_WORD: Final = re.compile(r"[A-Z]?[^\W_A-Z]+|[A-Z]+(?![^\W_A-Z])")


class Redaction:
    """Takes secrets out of request targets.

    Args:
        names: of parameters, besides those that everybody uses, as a list or between commas.

    Raises:
        ConfigurationError: they are no names.
    """

    __slots__ = ("_names",)

    def __init__(self, names: str | Iterable[str] = ()) -> None:
        self._names = SECRETS.union(map(_joined, _read_names(names)))

    def redact(self, target: str) -> str:
        """Return a request target in which the values of secret parameters are replaced."""
        path, mark, query = target.partition("?")
        return f"{path}?{'&'.join(map(self._redact_pair, query.split('&')))}" if mark else target

    def _redact_pair(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        return f"{name}={_REDACTED}" if equals and value and self._is_secret(unquote_plus(name)) else pair

    def _is_secret(self, name: str) -> bool:
        words = _WORD.findall(name)
        return bool(words) and (words[-1].lower() in self._names or _joined(name) in self._names)


def _read_names(names: object) -> list[str]:
    given: list[Any] = [names]
    if isinstance(names, Iterable):
        given = names.split(",") if isinstance(names, str) else list(names)
    for name in given:
        if not isinstance(name, str) or not _joined(name):
            raise ConfigurationError(f"redacted_parameters={names!r}: give a list of names of query parameters")
    return given


def _joined(name: str) -> str:
    return "".join(_WORD.findall(name)).lower()


REDACTION: Final = Redaction()
"""Takes out what everybody calls a secret: for texts that may come into any log."""
