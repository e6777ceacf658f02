"""The signature of a handler, read once: which arguments it is given, by position or by name.

A handler names what it wants, and whether somebody can give it is decided at registration. Nothing here runs when a
message arrives: the core and `http` only walk the tuples that are made here.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing

from ..errors import ConfigurationError
from .model import REQUIRED

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Container

__all__ = ["CONVERTERS", "annotated_type", "is_async", "is_awaitable", "read_names"]


def is_async(function: Callable[..., typing.Any], label: str) -> bool:
    """Tell whether `function` is a coroutine function, or an object with one as its `__call__`, also in a partial.

    What it wraps (`functools.wraps`) tells nothing: a wrapper may await it, start it or leave it.

    Raises:
        ConfigurationError: it is a generator, which no event can step.
    """
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{label} is a generator; a handler is def or async def without yield")
    return inspect.iscoroutinefunction(function)


def is_awaitable(result: object) -> bool:
    """Tell whether what a handler returned is still to be awaited: a coroutine, a task, anything with `__await__`."""
    return type(result) not in _USUAL_RESULTS and inspect.isawaitable(result)


_USUAL_RESULTS: typing.Final = frozenset({type(None), str, bytes, dict, list})


def read_names(
    function: Callable[..., typing.Any],
    label: str,
    given: Container[str],
    accepts: Callable[[inspect.Parameter], bool],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names to give to `function` by position and the names to give by keyword.

    Args:
        function: the bound method.
        label: how messages name it.
        given: names that are surely given, and so are none for the instance.
        accepts: tells of each parameter whether it is given (else its default stands); raises if nobody can give it.

    Raises:
        ConfigurationError: the signature cannot be read, is open (``*args``, ``**kwargs``), or has no `self`.
    """
    _check_self(function, label, given)
    positional: list[str] = []
    keywords: list[str] = []
    skipped = False
    for parameter in _parameters(function, label):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ConfigurationError(f"{label} takes *{parameter.name}; name each argument that it wants instead")
        if not accepts(parameter) or (skipped and parameter.kind is parameter.POSITIONAL_ONLY):
            skipped = True
        elif skipped or parameter.kind is parameter.KEYWORD_ONLY:
            # Behind a parameter that keeps its default nothing can be given by position.
            keywords.append(parameter.name)
        else:
            positional.append(parameter.name)
    return tuple(positional), tuple(keywords)


def _check_self(function: Callable[..., typing.Any], label: str, given: Container[str]) -> None:
    """Refuse a method without `self`: the instance would be given as whatever stands first."""
    if not inspect.ismethod(function):
        return
    name = function.__name__
    parameters = _parameters(function.__func__, label)
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise ConfigurationError(f"{label} takes no self; write def {name}(self, ...)")
    first = parameters[0]
    if first.name in given or first.default is not REQUIRED or annotated_type(first) in CONVERTERS:
        raise ConfigurationError(
            f"{label} takes {first.name!r} in the place of self; write def {name}(self, {first.name}, ...)"
        )


def _parameters(function: Callable[..., typing.Any], label: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{label}: its signature cannot be read ({error}); make it a method") from error


# --- Annotations: only the plain types mean something here.


def _to_int(text: str) -> int:
    # int() also takes "1_000" and the digits of every script, which no client means.
    if not text.isascii() or "_" in text:
        raise ValueError(text)
    return int(text)


def _to_float(text: str) -> float:
    value = float(text)
    if not text.isascii() or "_" in text or not math.isfinite(value):
        raise ValueError(text)
    return value


_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _to_bool(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError(text) from None


CONVERTERS: typing.Final[dict[str, Callable[[str], object]]] = {
    "str": str,
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
}


def annotated_type(parameter: inspect.Parameter) -> str | None:
    """Return the name of the one type that a parameter is annotated with, None and ``Optional`` aside.

    Annotations may be strings (``from __future__ import annotations``) that name types which exist for the type checker
    only, so they are read as text and never evaluated.

    Returns:
        A name such as ``"int"``, a text such as ``"int | str"`` for what is no single type, or None without annotation.
    """
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return None
    if isinstance(annotation, str):
        text = annotation.strip().removeprefix("typing.")
        if text.startswith("Optional["):
            text = text.removeprefix("Optional[").removesuffix("]")
        names = [name.strip() for name in text.split("|")]
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType):
        names = [_type_name(part) for part in typing.get_args(annotation)]
    else:
        names = [_type_name(annotation)]
    return " | ".join(name for name in names if name not in ("None", "NoneType"))


def _type_name(annotation: object) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
