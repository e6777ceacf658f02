"""Names and groups as a server shows them: mappings that may be iterated while connections come and go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

__all__ = ["Registry"]

_T = TypeVar("_T")


class Registry(Mapping[str, _T]):
    """A live, read-only view of a registry; iterating goes over the names as they are when it begins."""

    __slots__ = ("_entries",)

    def __init__(self, entries: dict[str, _T]) -> None:
        self._entries = entries

    def __getitem__(self, name: str) -> _T:
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._entries))

    def __repr__(self) -> str:
        return f"<{len(self._entries)} names>"
