"""From the path of a request to the service and the resources that answer it.

A `Router` is made once, of all services of a server, and answers `resolve` for every request: one dict lookup for a
literal path, otherwise a scan of the templates that may have as many segments. What two services claim both is refused
when the router is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigurationError
from .paths import split

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .model import Resource, Service
    from .paths import PathTemplate

__all__ = ["Match", "Route", "Router"]


class Route:
    """All that is served at one path: a service's WebSocket, HTTP resources by method, or both."""

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
        segments = split(path)
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
