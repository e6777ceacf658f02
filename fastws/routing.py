"""Paths: from the text in an annotation to the service and the resources that answer a request.

A `PathTemplate` is a path whose segments are literal text or a ``{name}``; the last one may be ``{name...}``, which is
all that is left of a path. A `Router` is made once, of all services of a server, and answers `resolve` for every
request: one dict lookup for a literal path, otherwise a scan of the templates that may have as many segments. What two
services claim both is refused when the router is made.

A trailing slash names the same resource. Segments are compared after percent-decoding, one by one, so ``%2F`` never
separates. Empty segments and dot segments (RFC 3986 section 3.3: a client has removed them) match nothing, so that a
``{name}`` is never ``..``. A rest is joined again, so that one with a ``%2F`` matches nothing either: it would be taken
for two segments, and ``..%2F..`` for dot segments.
"""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .service import Resource, Service

__all__ = ["Match", "PathTemplate", "Route", "Router", "join"]

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
        segments = _split(path)
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


def _split(path: str) -> list[str] | None:
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


class Route:
    """What is served at one path: a service's WebSocket, HTTP resources by method, or both."""

    __slots__ = ("resources", "template", "upgrade")

    def __init__(self, template: PathTemplate) -> None:
        self.template = template
        self.upgrade: Service | None = None
        self.resources: dict[str, Resource] = {}

    @property
    def methods(self) -> list[str]:
        """The methods for an ``Allow`` field: a GET resource answers HEAD too, and a WebSocket is opened with GET."""
        methods = {*self.resources, "OPTIONS"}
        if "GET" in methods:
            methods.add("HEAD")
        if self.upgrade is not None:
            methods.add("GET")
        return sorted(methods)

    def resource(self, method: str) -> Resource | None:
        """Return what answers a method."""
        found = self.resources.get(method)
        return self.resources.get("GET") if found is None and method == "HEAD" else found


class Match(NamedTuple):
    """A route that matches a path, and the values of the route's ``{name}`` segments in order."""

    route: Route
    values: tuple[str, ...]


class Router:
    """All paths of a server.

    Raises:
        ConfigurationError: two services claim one WebSocket path, or two resources one method and path.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        self._routes: dict[str, Route] = {}
        for service in services:
            self._add_service(service)
        named = [route for route in self._routes.values() if route.template.names]
        named.sort(key=lambda route: route.template.precedence)
        longest = max((len(route.template) for route in named), default=0)
        # By the number of segments of a path. Longer ones than any template's can match those with a rest only
        self._templates = [[route for route in named if _may_match(route, length)] for length in range(longest + 2)]
        # Complete answers for the literal paths, with and without the trailing slash.
        self._literals: dict[str, tuple[Match, ...]] = {}
        for route in self._routes.values():
            if not route.template.names:
                self._add_literal(route)

    def _add_service(self, service: Service) -> None:
        if service.upgrade_path is not None:
            route = self._route(service.upgrade_path)
            if route.upgrade is not None:
                raise ConfigurationError(
                    f"{route.upgrade.name} and {service.name} both serve the WebSocket path {route.template.text}; "
                    f"give one of them another base path or upgrade path"
                )
            route.upgrade = service
        for resource in service.resources:
            resources = self._route(resource.path).resources
            other = resources.setdefault(resource.method, resource)
            if other is not resource:
                raise ConfigurationError(
                    f"{other.handler.label} and {resource.handler.label} both answer {resource.method} "
                    f"{resource.path.text}; give one of them another path"
                )

    def _route(self, template: PathTemplate) -> Route:
        return self._routes.setdefault(template.shape, Route(template))

    def _add_literal(self, route: Route) -> None:
        path = route.template.text
        segments = path.split("/")[1:] if path != "/" else []
        found = (Match(route, ()), *self._match_templates(segments))
        self._literals[path] = found
        if path != "/":
            self._literals[path + "/"] = found

    def resolve(self, path: str) -> tuple[Match, ...]:
        """Return what matches `path`, the most literal route first; empty when nothing does.

        Args:
            path: the path of a request target as it was sent, without its query.
        """
        found = self._literals.get(path)
        return self._search(path) if found is None else found

    def _search(self, path: str) -> tuple[Match, ...]:
        segments = _split(path)
        if segments is None:
            return ()
        # A segment with a decoded slash in it cannot be literal, and must not turn into two.
        if not any("/" in segment for segment in segments):
            found = self._literals.get("/" + "/".join(segments))
            if found is not None:
                return found
        return tuple(self._match_templates(segments))

    def _match_templates(self, segments: list[str]) -> Iterable[Match]:
        for route in self._templates[min(len(segments), len(self._templates) - 1)]:
            values = route.template.match_segments(segments)
            if values is not None:
                yield Match(route, values)


def _may_match(route: Route, length: int) -> bool:
    least = len(route.template)
    return least == length or (route.template.has_rest and least < length)
