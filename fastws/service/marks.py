"""Marks on a class and on its methods, which the decorators of `ws` and `http` leave behind.

What they decorate returns unchanged, so that a handler stays a plain method that a test may call. `compile` reads the
marks when the class is served.
"""

from __future__ import annotations

import contextlib
import functools
import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ..errors import ConfigurationError
from .model import Bundle

if TYPE_CHECKING:
    from ..options import UpgradeOptions

__all__ = [
    "Mark",
    "UpgradePath",
    "bundles_of",
    "is_marked",
    "mark_class",
    "mark_files",
    "mark_method",
    "marks_of_class",
    "marks_of_methods",
]

_C = TypeVar("_C", bound=type)
_F = TypeVar("_F", bound=Callable[..., Any])


class UpgradePath(NamedTuple):
    """The arguments of ``ws.upgrade_path``."""

    path: str
    options: UpgradeOptions


class Mark(NamedTuple):
    """A decorator's word about a method: a name in `EVENTS`, ``"cors"``, or method and path of an HTTP resource."""

    event: str | tuple[str, str]
    options: object = None

    @property
    def decorator(self) -> str:
        """How its author wrote it."""
        if isinstance(self.event, str):
            return _DECORATORS.get(self.event, f"ws.{self.event}")
        return f"http.{self.event[0].lower()}"

    @property
    def is_resource(self) -> bool:
        """Whether the method answers requests."""
        return not isinstance(self.event, str)


_DECORATORS: Final = {"cors": "http.cors", "on_start_once": "ws.on_start(once=True)"}
_CLASS_MARKS: Final = "__fastws_class__"
_METHOD_MARKS: Final = "__fastws_marks__"
_CLASS_DECORATORS: Final = {"base_path": "http.base_path", "upgrade_path": "ws.upgrade_path", "cors": "http.cors"}


def mark_class(cls: _C, kind: str, options: object) -> _C:
    """Note a class annotation, and return the class unchanged.

    Args:
        cls: the class under the decorator.
        kind: ``"base_path"``, ``"upgrade_path"`` or ``"cors"``; they may come in any order.
        options: the path, the `UpgradePath` or the `Cors`.

    Raises:
        ConfigurationError: it is no class, or has this annotation already.
    """
    decorator = _CLASS_DECORATORS[kind]
    if not isinstance(cls, type):
        raise ConfigurationError(f"@{decorator} annotates a class, not {reprlib.repr(cls)}")
    marks = vars(cls).get(_CLASS_MARKS, {})
    if kind in marks:
        raise ConfigurationError(f"{cls.__name__} has @{decorator} twice; keep one")
    setattr(cls, _CLASS_MARKS, {**marks, kind: options})
    return cls


def mark_files(cls: _C, bundle: Bundle) -> _C:
    """Note that a class serves a bundle, one of several perhaps, and return the class unchanged."""
    if not isinstance(cls, type):
        raise ConfigurationError(f"@http.files annotates a class, not {reprlib.repr(cls)}")
    marks = vars(cls).get(_CLASS_MARKS, {})
    setattr(cls, _CLASS_MARKS, {**marks, "files": (*marks.get("files", ()), bundle)})
    return cls


def bundles_of(target: object, cls: type) -> list[Bundle]:
    """Return what a class or its instance has as annotations and as attributes, those that it inherits first."""
    found: list[Bundle] = []
    attributes: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        found.extend(vars(base).get(_CLASS_MARKS, {}).get("files", ()))
        attributes.update(vars(base))
    if not isinstance(target, type):
        with contextlib.suppress(TypeError):  # it has slots
            attributes.update(vars(target))
    return [*found, *(member for member in attributes.values() if isinstance(member, Bundle))]


def mark_method(function: _F, event: str | tuple[str, str], options: object = None) -> _F:
    """Note what a method handles, and return it unchanged; a method may handle several events.

    Args:
        function: the method under the decorator, also a `staticmethod` or `classmethod`.
        event: the name of an event, such as ``"on_open"``, ``"cors"``, or the method and path of an HTTP resource.
        options: what the decorator was given besides.

    Raises:
        ConfigurationError: it is no method, or handles this event already.
    """
    mark = Mark(event, options)
    target = getattr(function, "__func__", function)
    # A partialmethod is called as what it makes of an instance
    if isinstance(target, type) or not (callable(target) or isinstance(target, functools.partialmethod)):
        raise ConfigurationError(f"@{mark.decorator} marks a method of a service, not {reprlib.repr(function)}")
    marks: tuple[Mark, ...] = getattr(target, _METHOD_MARKS, ())
    if any(other.event == event for other in marks):
        name = getattr(target, "__qualname__", reprlib.repr(target))
        raise ConfigurationError(f"{name} has @{mark.decorator} twice; keep one")
    # A new tuple: functools.wraps shares the attributes of what it wraps.
    try:
        setattr(target, _METHOD_MARKS, (*marks, mark))
    except AttributeError:
        raise ConfigurationError(
            f"@{mark.decorator} cannot mark {reprlib.repr(function)}; call it in a method of the service"
        ) from None
    return function


def is_marked(cls: type) -> bool:
    """Tell whether the class itself, not only one that it inherits from, is annotated as a service."""
    return _CLASS_MARKS in vars(cls)


def marks_of_class(cls: type) -> dict[str, Any]:
    """Return what a class and those that it inherits from are annotated with, by kind."""
    marks: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        marks.update(vars(base).get(_CLASS_MARKS, {}))
    return marks


def marks_of_methods(cls: type) -> dict[str, tuple[Mark, ...]]:
    """Return the marks of all methods as they were defined; an override without marks keeps the inherited ones."""
    marks: dict[str, tuple[Mark, ...]] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            own = getattr(getattr(member, "__func__", member), _METHOD_MARKS, None)
            if isinstance(own, tuple):
                marks[name] = own
            elif member is None:
                marks.pop(name, None)
    return marks
