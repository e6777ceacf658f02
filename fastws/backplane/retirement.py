"""Which groups were removed, on which all nodes agree in the end: of two words on a name the later one holds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Retirements", "Word"]

MAX_WORDS: Final = 100_000  # that are remembered, of removed groups and of those that were created anew
TABLE_WORDS: Final = 1000  # of one message


class Word(NamedTuple):
    """That a group was removed, or created."""

    name: str
    stamp: int
    retired: bool

    def digest(self) -> int:
        """Return 64 bits that stand for it."""
        raw = f"{self.stamp} {self.retired:d} {self.name}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


class Retirements:
    """The last word on each name.

    Attributes:
        digest: the same on all nodes that know the same; 0 where nothing is known.
    """

    def __init__(self) -> None:
        self._words: OrderedDict[str, Word] = OrderedDict()
        self.digest = 0

    def take(self, word: Word) -> bool:
        """Note a word; returns whether it is news."""
        before = self._words.get(word.name)
        if before is not None and (before.stamp, before.retired) >= (word.stamp, word.retired):
            return False
        if before is not None:
            self._drop(before)
        self._words[word.name] = word
        self.digest ^= word.digest()
        if len(self._words) > MAX_WORDS:
            self._drop(next(iter(self._words.values())))
        return True

    def _drop(self, word: Word) -> None:
        del self._words[word.name]
        self.digest ^= word.digest()

    def tables(self) -> Iterator[list[Word]]:
        """Return all of it, in pieces for a message each."""
        words = list(self._words.values())
        for start in range(0, len(words), TABLE_WORDS):
            yield words[start : start + TABLE_WORDS]
