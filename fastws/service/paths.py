"""Paths in annotations: joined, checked, and matched with the path of a request.

A `PathTemplate` is a path whose segments are literal text or a ``{name}``; the last one may be ``{name...}``, which is
all that is left of a path.

A trailing slash names the same resource. Segments are compared after percent-decoding, one by one, so ``%2F`` never
separates. Empty segments and dot segments (RFC 3986 section 3.3: a client has removed them) match nothing, so that a
``{name}`` is never ``..``. A rest is joined again, so that one with a ``%2F`` matches nothing either: it would be taken
for two segments, and ``..%2F..`` for dot segments.
"""

from __future__ import annotations

import keyword
from urllib.parse import unquote_to_bytes

from ..errors import ConfigurationError

__all__ = ["PathTemplate", "check_path", "join", "split"]

# What has a meaning of its own in a URL; in an annotation the path stands decoded and without a query.
_NOT_IN_PATHS = frozenset("?#%\\")


def join(*paths: str) -> str:
    """Join paths as people expect: ``"/test"`` and ``"/socket"`` are ``"/test/socket"``, two ``"/"`` are ``"/"``."""
    return "/" + "/".join(segment for path in paths for segment in path.split("/") if segment)


def check_path(path: object, where: str) -> str:
    """Return `path` if it can stand in an annotation.

    Args:
        path: what the author wrote.
        where: the annotation, such as ``"http.base_path"``, for the message.

    Raises:
        ConfigurationError: it is no string, does not start with a slash, or holds a query or an escape.
    """
    if not isinstance(path, str):
        if callable(path):
            raise ConfigurationError(f'{where} needs a path: write @{where}("/...")')
        raise ConfigurationError(f'{where} takes a path such as "/chat", not {path!r}')
    if not path.startswith("/"):
        raise ConfigurationError(f"{where}({path!r}): a path starts with a slash; write {'/' + path!r}")
    if not path.isprintable() or not _NOT_IN_PATHS.isdisjoint(path):
        raise ConfigurationError(f"{where}({path!r}): a path is plain text, without query, fragment and % escapes")
    return path


class PathTemplate:
    """A path of literal segments and ``{name}`` segments, each of which matches one segment that is not empty.

    A last segment ``{name...}`` matches any number of them, also none; its value is ``"a/b"``, or ``""``.

    Attributes:
        text: the path in its normal form, such as ``"/rooms/{room}"``.
        names: the names of its segments, in order.
        shape: the text with the names left out; two templates of one shape match the same paths.
    """

    __slots__ = ("_segments", "has_rest", "names", "shape", "text")

    def __init__(self, text: str) -> None:
        self.text = join(text)
        parts = self.text.split("/")[1:] if self.text != "/" else []
        self.has_rest = bool(parts) and parts[-1].endswith("...}")
        if self.has_rest:
            parts[-1] = parts[-1].replace("...}", "}")
        # A name is kept as None: what matters for a match is only where the literal segments stand.
        self._segments = tuple(None if "{" in part or "}" in part else part for part in parts)
        self.names = tuple(_segment_name(part, text) for part in parts if "{" in part or "}" in part)
        self.shape = "/" + "/".join("{}" if segment is None else segment for segment in self._segments)
        if self.has_rest:
            self.shape += "..."
        if len(set(self.names)) < len(self.names):
            raise ConfigurationError(f"path {text!r} uses one segment name twice; give each its own name")

    def __repr__(self) -> str:
        return f"PathTemplate({self.text!r})"

    @property
    def precedence(self) -> tuple[int, ...]:
        """A key to sort by: of two templates that match a path, the one with the earlier literal segment is first.

        At one place a name goes before a rest.
        """
        kinds = [int(segment is None) for segment in self._segments]
        return (*kinds[:-1], 2) if self.has_rest else tuple(kinds)

    def __len__(self) -> int:
        """The number of segments, without the rest."""
        return len(self._segments) - self.has_rest

    def match(self, path: str) -> tuple[str, ...] | None:
        """Return the values of the names, in order, or None when `path` is another one.

        Args:
            path: the path of a request target as it was sent, without its query.
        """
        segments = split(path)
        return None if segments is None else self.match_segments(segments)

    def match_segments(self, segments: list[str]) -> tuple[str, ...] | None:
        """`match` for a path that is split and decoded already."""
        if self.has_rest:
            segments = _with_rest(segments, len(self))
        if len(segments) != len(self._segments):
            return None
        values = []
        for wanted, found in zip(self._segments, segments, strict=True):
            if wanted is None:
                values.append(found)
            elif wanted != found:
                return None
        return tuple(values)


def _with_rest(segments: list[str], count: int) -> list[str]:
    """Make one segment of all behind the first ones; none where the rest cannot be told from a longer one."""
    rest = segments[count:]
    if len(segments) < count or any("/" in segment for segment in rest):
        return []
    return [*segments[:count], "/".join(rest)]


def _segment_name(part: str, path: str) -> str:
    name = part[1:-1]
    if part != "{" + name + "}" or not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigurationError(
            f"path {path!r}: {part!r} is neither text nor a whole segment like '{{name}}', or at its end '{{name...}}'"
        )
    return name


def split(path: str) -> list[str] | None:
    """Split a path into decoded segments; None when it can name nothing of ours."""
    if not path.startswith("/"):
        return None
    parts = path.split("/")[1:]
    if parts[-1] == "":
        parts.pop()
    try:
        segments = [unquote_to_bytes(part).decode() if "%" in part else part for part in parts]
    except UnicodeDecodeError:
        return None
    return None if any(segment in ("", ".", "..") for segment in segments) else segments
