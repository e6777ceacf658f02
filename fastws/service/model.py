"""The model of a class that is served: a `Service`, its handlers and its resources."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from ..options import UpgradeOptions
    from .paths import PathTemplate

__all__ = ["REQUIRED", "Argument", "Bundle", "CorsRules", "Handler", "Resource", "Service"]

REQUIRED: Final = inspect.Parameter.empty
"""Stands where an argument has no default."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A method of a service that handles one event.

    Attributes:
        event: the event, such as ``"on_open"``, or ``"GET /chat/motd"``.
        label: how messages name it, such as ``"Chat.said"``.
        function: the bound method.
        is_async: whether it is a coroutine function. What a call returns decides whether it is awaited; this tells what
            it will be before the call, where that can be known.
        positional: the names of the arguments to give by position, in order.
        keywords: the names of the arguments to give by name.
    """

    event: str
    label: str
    function: Callable[..., Any]
    is_async: bool
    positional: tuple[str, ...]
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of an HTTP resource and where it comes from.

    Attributes:
        name: its name.
        source: ``"path"``, ``"query"``, ``"request"``, ``"headers"``, ``"body"`` or ``"json"``.
        convert: makes the value out of the text of a path segment or query parameter; raises ValueError.
        default: what a query parameter that is absent is, or `REQUIRED`.
    """

    name: str
    source: str
    convert: Callable[[str], object]
    default: object = REQUIRED

    @property
    def missing(self) -> str:
        """The answer to a client that does not give it."""
        return f"query parameter {self.name!r} is missing\n"

    @property
    def malformed(self) -> str:
        """The answer to a client that gives something else."""
        return f"query parameter {self.name!r} is malformed\n"


class Bundle:
    """An answer to GET at a path and all below it, such as the files of a directory.

    Attributes:
        path: joined to the base path.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def check(self, label: str) -> None:
        """Raise a ConfigurationError if it cannot be served; `label` says whose it is."""
        raise NotImplementedError

    async def answer(self, request: Any, file: str) -> object:
        """Answer a request for what is left of the path."""
        raise NotImplementedError


class CorsRules(Protocol):
    """Rules on which pages of other origins may read an answer; `http.cors` makes them."""

    def fields(self, request: Any, response: Any) -> list[tuple[bytes, bytes]]:
        """Return what the response to a request says besides."""

    def preflight(self, request: Any, methods: Iterable[str]) -> list[tuple[bytes, bytes]]:
        """Return what answers a browser that asks before it sends a request."""


@dataclass(frozen=True, slots=True)
class Resource:
    """An HTTP resource: what answers one method at one path.

    Attributes:
        method: the HTTP method, in capitals.
        path: the whole path, base path included.
        handler: the method of the service.
        arguments: what the handler takes, by name.
        cors: which pages of other origins may read its answers; None is none.
    """

    method: str
    path: PathTemplate
    handler: Handler
    arguments: dict[str, Argument]
    cors: CorsRules | None = None


@dataclass(frozen=True, eq=False)
class Service:
    """A class that is served: everything about it that the server needs to know.

    Attributes:
        name: the name of the class.
        cls: the class.
        instance: the one instance that all its handlers are bound to.
        base_path: the path that all its paths begin with.
        upgrade: the options of ``ws.upgrade_path``, or None for a service without WebSocket.
        upgrade_path: where clients connect, base path included, or None.
        handlers: the handlers by event, such as ``"on_open"``.
        resources: the HTTP resources in the order of their definition.
    """

    name: str
    cls: type
    instance: object
    base_path: str
    upgrade: UpgradeOptions | None
    upgrade_path: PathTemplate | None
    handlers: dict[str, Handler]
    resources: tuple[Resource, ...]
