"""Health of a server, as balancers and orchestrators ask for it: ``GET /healthz`` and ``GET /readyz``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..service.model import Handler, Resource, Service
from ..service.paths import PathTemplate
from .heads import error_response
from .response import Response

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LIVENESS", "health_service"]

LIVENESS: Final = b"GET /healthz "
"""How a request begins that a server answers even if it has no place for another connection."""

_NO_STORE: Final = {"Cache-Control": "no-store"}


class Health:
    """Says how the server is.

    Args:
        is_ready: tells whether new clients are welcome.
    """

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready

    def healthz(self) -> Response:
        """Answer, which shows that the event loop runs; a server that drains is as healthy as before."""
        return Response("ok\n", headers=_NO_STORE)

    def readyz(self) -> Response:
        """Say whether new clients are welcome."""
        return Response("ready\n", headers=_NO_STORE) if self._is_ready() else error_response(503)


def health_service(is_ready: Callable[[], bool]) -> Service:
    """Return the service of both resources.

    Args:
        is_ready: tells whether new clients are welcome.
    """
    health = Health(is_ready)
    resources = (_resource("/healthz", health.healthz), _resource("/readyz", health.readyz))
    return Service("health", Health, health, "/", None, None, {}, resources)


def _resource(path: str, answer: Callable[[], Response]) -> Resource:
    handler = Handler(f"GET {path}", f"health={path}", answer, False, (), ())
    return Resource("GET", PathTemplate(path), handler, {})
