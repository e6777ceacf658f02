"""What comes by name in a handshake: header fields, the parameters of a query, cookies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qsl

__all__ = ["Cookies", "Headers", "Query", "headers_of"]


class _MultiMapping(Mapping[str, str]):
    """Names with one value or several, made when first read: most requests are never asked."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, list[str]] | None = None

    def _parse(self) -> Iterable[tuple[str, str]]:
        raise NotImplementedError

    def _all(self) -> dict[str, list[str]]:
        if self._values is None:
            self._values = {}
            for name, value in self._parse():
                self._values.setdefault(name, []).append(value)
        return self._values

    def get_all(self, name: str) -> list[str]:
        """Return all values of a name in order; an empty list when there are none."""
        return list(self._all().get(name, ()))

    def __getitem__(self, name: str) -> str:
        return self._all()[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._all()!r})"


class Headers(_MultiMapping):
    """Header fields: a mapping that does not care about the case of names.

    A field that stands in several lines reads as one list, joined with ``", "`` (RFC 9110 section 5.2); `get_all` gives
    the lines. Values are decoded from Latin-1, which loses nothing, when they are first read.

    Attributes:
        raw: the fields as they came, names in lower case.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__()
        self.raw = raw if isinstance(raw, list) else list(raw)

    def _parse(self) -> Iterable[tuple[str, str]]:
        return ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in self.raw)

    def get_all(self, name: str) -> list[str]:
        """Return the values of all lines of a field in order; an empty list when there are none."""
        return super().get_all(name.lower())

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._all()[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._all()


class Query(_MultiMapping):
    """The parameters of a query: a mapping of names to their first values; `get_all` gives all of them."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = text

    def _parse(self) -> Iterable[tuple[str, str]]:
        return parse_qsl(self._text, keep_blank_values=True)


class Cookies(_MultiMapping):
    """The cookies of a request: a mapping of names to values, as the client sends them (RFC 6265 section 5.4).

    Of several values of one name the first is that of the most specific path; `get_all` gives all of them. Quotes
    around a value are left out. What is no ``name=value`` is skipped.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[str] = ()) -> None:
        super().__init__()
        self._lines = lines

    def _parse(self) -> Iterator[tuple[str, str]]:
        for pair in ";".join(self._lines).split(";"):
            name, separator, value = (part.strip(" \t") for part in pair.partition("="))
            if name and separator:
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                yield name, value[1:-1] if quoted else value


def headers_of(head: bytes) -> Headers:
    """Read back the header fields of a connection: names and values in turns, joined with line breaks."""
    parts = head.split(b"\n")
    return Headers(list(zip(parts[::2], parts[1::2], strict=True)))
