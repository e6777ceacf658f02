"""An annotated class becomes a `Service`: its paths, its handlers and their arguments, all decided once.

The decorators of `ws` and `http` only leave marks (`mark_class`, `mark_method`); what they decorate returns unchanged,
so a handler stays a plain method that a test may call. `compile` reads the marks when the class is served; whatever is
wrong is said then: which class, which method, and what to write instead.
"""

from __future__ import annotations

import contextlib
import functools
import math
import reprlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from . import kernel_backlog as kernel_backlogs
from ._speedups import OVERFLOWS, check_close_code
from .arguments import CONVERTERS, REQUIRED, Argument, Handler, annotated_type, is_async, read_names
from .errors import ConfigurationError
from .routing import Match, PathTemplate, Route, Router, check_path, join

if TYPE_CHECKING:
    import inspect
    from collections.abc import Iterator

    from .cors import Cors
    from .http import Request

__all__ = [
    "REQUIRED",
    "Argument",
    "Bundle",
    "Handler",
    "Match",
    "PathTemplate",
    "Resource",
    "Route",
    "Router",
    "Service",
    "UpgradeOptions",
    "check_path",
    "compile",
    "is_marked",
    "is_token",
    "join",
    "mark_class",
    "mark_files",
    "mark_method",
    "normal_origin",
]

_C = TypeVar("_C", bound=type)
_F = TypeVar("_F", bound=Callable[..., Any])

# What each event can give, and the type that its handler gets.
_EVENTS: Final[dict[str, dict[str, str]]] = {
    "on_upgrade": {"request": "Request", "upgrade": "Upgrade"},
    "on_open": {"connection": "Connection"},
    "on_text_message": {"connection": "Connection", "text": "str"},
    "on_binary_message": {"connection": "Connection", "data": "bytes"},
    "on_ping": {"connection": "Connection", "data": "bytes"},
    "on_pong": {"connection": "Connection", "data": "bytes"},
    "on_idle_timeout": {"connection": "Connection"},
    "on_backlog": {"connection": "Connection", "buffered": "int", "high": "bool"},
    "on_error": {"connection": "Connection", "error": "Exception"},
    "on_close": {
        "connection": "Connection",
        "code": "int",
        "reason": "str",
        "sent_code": "int",
        "received_code": "int",
    },
    "on_start": {"server": "Server"},
    "on_stop": {"server": "Server"},
}
_SERVER_EVENTS: Final = frozenset({"on_start", "on_stop"})
_RESOURCE_ARGUMENTS: Final = {"request": "Request", "headers": "Headers", "body": "bytes", "json": "object"}
# Names of types that certainly are not each other; any other annotation of an argument is the author's own affair.
_PLAIN_TYPES: Final = frozenset({"str", "bytes", "int", "float", "bool"})


# --- Marks.


class Mark(NamedTuple):
    """What a decorator says about a method: a name in `_EVENTS`, ``"cors"``, or method and path of an HTTP resource."""

    event: str | tuple[str, str]
    options: object = None

    @property
    def decorator(self) -> str:
        if isinstance(self.event, str):
            return "http.cors" if self.event == "cors" else f"ws.{self.event}"
        return f"http.{self.event[0].lower()}"

    @property
    def is_resource(self) -> bool:
        return not isinstance(self.event, str)


_CLASS_MARKS: Final = "__fastws_class__"
_METHOD_MARKS: Final = "__fastws_marks__"
_CLASS_DECORATORS: Final = {"base_path": "http.base_path", "upgrade_path": "ws.upgrade_path", "cors": "http.cors"}


def mark_class(cls: _C, kind: str, options: object) -> _C:
    """Note a class annotation, and return the class unchanged.

    Args:
        cls: the class under the decorator.
        kind: ``"base_path"``, ``"upgrade_path"`` or ``"cors"``; they may come in any order.
        options: the path, the `UpgradeOptions` or the `Cors`.

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


class Bundle:
    """What answers GET at a path and all below it, such as the files of a directory.

    Attributes:
        path: joined to the base path.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def check(self, label: str) -> None:
        """Raise a ConfigurationError if it cannot be served; `label` says whose it is."""
        raise NotImplementedError

    async def answer(self, request: Request, file: str) -> object:
        """Answer a request for what is left of the path."""
        raise NotImplementedError


def mark_files(cls: _C, bundle: Bundle) -> _C:
    """Note that a class serves a bundle, one of several perhaps, and return the class unchanged."""
    if not isinstance(cls, type):
        raise ConfigurationError(f"@http.files annotates a class, not {reprlib.repr(cls)}")
    marks = vars(cls).get(_CLASS_MARKS, {})
    setattr(cls, _CLASS_MARKS, {**marks, "files": (*marks.get("files", ()), bundle)})
    return cls


def _bundles(target: object, cls: type) -> list[Bundle]:
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


def _class_marks(cls: type) -> dict[str, Any]:
    marks: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        marks.update(vars(base).get(_CLASS_MARKS, {}))
    return marks


def _method_marks(cls: type) -> dict[str, tuple[Mark, ...]]:
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


# --- Options of ws.upgrade_path.


@dataclass(frozen=True, slots=True, init=False)
class UpgradeOptions:
    """The options of ``ws.upgrade_path``; each is checked here, and an error names it.

    Attributes:
        path: joined to the base path.
        subprotocols: the subprotocols that the service speaks (RFC 6455 section 1.9).
        max_message_size: bytes of a whole message; a larger one fails the connection with 1009.
        idle_timeout: seconds without a message until ``on_idle_timeout``; None is never.
        ping_interval: seconds of silence in either direction until a ping; None sends none.
        ping_timeout: seconds to wait for a sign of life after it; None waits forever.
        max_backlog: bytes that may wait for a slow client.
        high_water: bytes that wait from which on ``on_backlog`` is told.
        overflow: ``"close"``, ``"drop_new"``, ``"drop_old"`` or ``"conflate"``: what happens to what does not fit.
        overflow_code: the close code for a client for which too much waits.
        kernel_backlog: bytes that may lie unsent in the kernel; None is any number, ``"auto"`` what the server says.
        max_queue: messages that may wait for a suspended handler.
        max_fragments: frames that a message may come in; more fail the connection with 1008.
        max_message_rate: messages a second that a client may send on average; more fail the connection with 1008.
        allowed_origins: the origins that browsers may connect from, such as ``"https://example.com"``; None is any.
        upgrade_timeout: seconds that an ``async`` ``on_upgrade`` may take.
        compression: ``"shared"``, ``"dedicated"`` or None: whether and how permessage-deflate is spoken (RFC 7692).
        compression_threshold: bytes from which on a message is compressed; 0 also compresses what does not shrink.
        compression_level: 1, the fastest, to 9.
        compression_window_bits: 9 to 15, the largest window of either direction, as a power of two of bytes.
    """

    path: str
    subprotocols: tuple[str, ...]
    max_message_size: int
    idle_timeout: float | None
    ping_interval: float | None
    ping_timeout: float | None
    max_backlog: int
    high_water: int
    overflow: str
    overflow_code: int
    kernel_backlog: int | str | None
    max_queue: int
    max_fragments: int
    max_message_rate: float | None
    allowed_origins: frozenset[str] | None
    upgrade_timeout: float | None
    compression: str | None
    compression_threshold: int
    compression_level: int
    compression_window_bits: int

    def __init__(
        self,
        path: str,
        *,
        subprotocols: Iterable[str] = (),
        max_message_size: int = 1 << 20,
        idle_timeout: float | None = None,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        max_backlog: int = 1 << 20,
        high_water: int | None = None,
        overflow: str = "close",
        overflow_code: int = 1013,
        kernel_backlog: int | str | None = kernel_backlogs.AUTO,
        max_queue: int = 16,
        max_fragments: int = 1 << 17,
        max_message_rate: float | None = None,
        allowed_origins: Iterable[str] | None = None,
        upgrade_timeout: float | None = 10.0,
        compression: str | None = "shared",
        compression_threshold: int = 256,
        compression_level: int = 6,
        compression_window_bits: int | None = None,
    ) -> None:
        checked = {
            "path": check_path(path, "ws.upgrade_path"),
            "subprotocols": _check_subprotocols(subprotocols),
            "max_message_size": _check_size("max_message_size", max_message_size),
            "idle_timeout": _check_seconds("idle_timeout", idle_timeout),
            "ping_interval": _check_seconds("ping_interval", ping_interval),
            "ping_timeout": _check_seconds("ping_timeout", ping_timeout),
            "max_backlog": _check_size("max_backlog", max_backlog),
            "high_water": _check_high_water(high_water, max_backlog),
            "overflow": _check_overflow(overflow),
            "overflow_code": _check_code("overflow_code", overflow_code),
            "kernel_backlog": _check_kernel_backlog(kernel_backlog),
            "max_queue": _check_count("max_queue", max_queue, "messages"),
            "max_fragments": _check_count("max_fragments", max_fragments, "frames"),
            "max_message_rate": _check_rate("max_message_rate", max_message_rate),
            "allowed_origins": _check_origins(allowed_origins),
            "upgrade_timeout": _check_seconds("upgrade_timeout", upgrade_timeout),
            "compression": _check_compression(compression),
            "compression_threshold": _check_between("compression_threshold", compression_threshold, 0, sys.maxsize),
            "compression_level": _check_between("compression_level", compression_level, 1, 9),
            "compression_window_bits": _check_between(
                "compression_window_bits", _window_bits(compression, compression_window_bits), 9, 15
            ),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def _wrong(option: str, value: object, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"ws.upgrade_path: {option}={reprlib.repr(value)}: {remedy}")


def _check_size(option: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= sys.maxsize:
        raise _wrong(option, value, "give a number of bytes, an int above 0")
    return value


def _check_count(option: str, value: object, of: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= sys.maxsize:
        raise _wrong(option, value, f"give a number of {of}, an int above 0")
    return value


def _check_between(option: str, value: object, lowest: int, highest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise _wrong(option, value, f"give an int from {lowest} to {highest}")
    return value


def _check_rate(option: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise _wrong(option, value, "give messages a second, a number above 0, or None to turn it off")
    return float(value)


def _check_high_water(value: int | None, max_backlog: int) -> int:
    if value is None:
        return max(1, max_backlog // 2)
    if _check_size("high_water", value) > max_backlog:
        raise _wrong("high_water", value, f"give no more than max_backlog, {max_backlog}")
    return value


def _check_overflow(value: object) -> str:
    if value not in OVERFLOWS:
        raise _wrong("overflow", value, f"give one of {', '.join(OVERFLOWS)}")
    # Not str(value): that of an enumeration's member is another text
    return next(name for name in OVERFLOWS if name == value)


def _check_code(option: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(option, value, "give a close code, such as 1013 or one from 3000 to 4999")
    try:
        check_close_code(value)
    except (ValueError, OverflowError):
        raise _wrong(option, value, "give 1000 to 1003, 1007 to 1014 or 3000 to 4999") from None
    return value


def _check_kernel_backlog(value: Any) -> int | str | None:
    if not kernel_backlogs.is_valid(value):
        raise _wrong("kernel_backlog", value, f"give {kernel_backlogs.WHAT}")
    return value  # type: ignore[no-any-return]


def _check_compression(value: object) -> str | None:
    if value not in (None, "shared", "dedicated"):
        raise _wrong("compression", value, 'give "shared", "dedicated" or None')
    return next((name for name in ("shared", "dedicated") if name == value), None)


def _window_bits(compression: str | None, value: int | None) -> int:
    """Return the window to use: one that all share may be the largest, one per connection has to be paid for each."""
    return value if value is not None else 12 if compression == "dedicated" else 15


def _check_seconds(option: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise _wrong(option, value, "give seconds, a number above 0, or None to turn it off")
    return float(value)


def _strings(option: str, values: object) -> list[str]:
    # A lone string is an iterable of its letters, the mistake that everybody makes once.
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise _wrong(option, values, "give a list of strings")
    strings = list(values)
    for value in strings:
        if not isinstance(value, str):
            raise _wrong(option, value, "give a list of strings")
    return strings


# RFC 9110 section 5.6.2
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def is_token(value: str) -> bool:
    """Tell whether a text is a token (RFC 9110 section 5.6.2)."""
    return bool(value) and _TOKEN.issuperset(value)


def _check_subprotocols(values: object) -> tuple[str, ...]:
    names = _strings("subprotocols", values)
    for name in names:
        if not is_token(name):
            raise _wrong("subprotocols", name, "a subprotocol is a token: letters, digits and some signs, no spaces")
    if len(set(names)) < len(names):
        raise _wrong("subprotocols", names, "name each subprotocol once")
    return tuple(map(str.__str__, names))


_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def _check_origins(values: object) -> frozenset[str] | None:
    return None if values is None else frozenset(_check_origin(value) for value in _strings("allowed_origins", values))


def _check_origin(value: str) -> str:
    origin = normal_origin(value)
    if origin is None:
        raise _wrong("allowed_origins", value, 'an origin is like "https://example.com", without a path')
    return origin


def normal_origin(value: str) -> str | None:
    """Bring an origin into the form in which browsers send it (RFC 6454 section 6.2); None if it is no origin."""
    origin = value.lower()
    scheme, separator, host = origin.partition("://")
    if origin == "null":
        return origin
    if not separator or not scheme or not host or "/" in host or not host.isascii() or not host.isprintable():
        return None
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, '/'))}"


# --- Services.


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
    cors: Cors | None = None


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


def compile(target: object) -> Service:
    """Make a `Service` of an annotated class, or of an instance of one.

    Args:
        target: the class, which is called without arguments, or the instance.

    Raises:
        ConfigurationError: whatever is wrong with it; the message names the class, the method and the remedy.
    """
    cls = target if isinstance(target, type) else type(target)
    marks = _class_marks(cls)
    methods = _method_marks(cls)
    instance = _instantiate(target) if isinstance(target, type) and marks else target
    bundles = _bundles(instance, cls)
    _check_class(target, cls, marks, methods, bundles)
    upgrade = marks.get("upgrade_path")
    base_path = join(marks["base_path"])
    upgrade_path = None if upgrade is None else _template(cls, base_path, upgrade.path, _reserved_names())
    handlers: dict[str, Handler] = {}
    resources: list[Resource] = []
    for name, mark in _flatten(methods):
        function = getattr(instance, name)
        label = f"{cls.__name__}.{name}"
        if mark.event == "cors":
            continue
        if isinstance(mark.event, str):
            segments = () if upgrade_path is None else upgrade_path.names
            _add_handler(handlers, _compile_handler(function, label, mark.event, segments))
        else:
            path = _template(cls, base_path, mark.event[1], _RESOURCE_ARGUMENTS)
            cors = _cors_of(methods[name], marks)
            resources.append(_compile_resource(function, label, mark.event[0], path, cors))
    resources.extend(_compile_bundle(bundle, cls, base_path, marks.get("cors")) for bundle in bundles)
    return Service(cls.__name__, cls, instance, base_path, upgrade, upgrade_path, handlers, tuple(resources))


def _check_class(
    target: object, cls: type, marks: dict[str, Any], methods: dict[str, tuple[Mark, ...]], bundles: list[Bundle]
) -> None:
    if not marks and not methods:
        raise ConfigurationError(
            f"{reprlib.repr(target)} is no service; give a class annotated with @http.base_path and "
            f"@ws.upgrade_path, or an instance of one"
        )
    if "base_path" not in marks:
        raise ConfigurationError(f'{cls.__name__} has no base path; annotate the class with @http.base_path("/...")')
    if "upgrade_path" not in marks:
        _check_without_upgrade(cls, methods, bundles)
    _check_cors(cls, marks, methods, bundles)


def _check_cors(cls: type, marks: dict[str, Any], methods: dict[str, tuple[Mark, ...]], bundles: list[Bundle]) -> None:
    for name, own in methods.items():
        if any(mark.event == "cors" for mark in own) and not any(mark.is_resource for mark in own):
            raise ConfigurationError(
                f"{cls.__name__}.{name} has @http.cors and answers no request; annotate it with @http.get or another"
            )
    if "cors" in marks and not bundles and not any(mark.is_resource for _, mark in _flatten(methods)):
        raise ConfigurationError(
            f"{cls.__name__} has @http.cors and no resource; whom its WebSocket admits say "
            f"@ws.upgrade_path(allowed_origins=...)"
        )


def _cors_of(own: tuple[Mark, ...], marks: dict[str, Any]) -> Cors | None:
    """Return what a method says, else what its class says."""
    found: Any = next((mark.options for mark in own if mark.event == "cors"), marks.get("cors"))
    return found  # type: ignore[no-any-return]


def _check_without_upgrade(cls: type, methods: dict[str, tuple[Mark, ...]], bundles: list[Bundle]) -> None:
    for name, mark in _flatten(methods):
        if isinstance(mark.event, str) and mark.event not in _SERVER_EVENTS | {"cors"}:
            raise ConfigurationError(
                f"{cls.__name__}.{name} has @{mark.decorator}, but {cls.__name__} serves no WebSocket; "
                f'annotate the class with @ws.upgrade_path("/...")'
            )
    if not bundles and all(isinstance(mark.event, str) for _, mark in _flatten(methods)):
        raise ConfigurationError(
            f"{cls.__name__} has nothing to serve; annotate the class with @ws.upgrade_path, or a method with @http.get"
        )


def _flatten(methods: dict[str, tuple[Mark, ...]]) -> Iterator[tuple[str, Mark]]:
    return ((name, mark) for name, marks in methods.items() for mark in marks)


def _instantiate(cls: Callable[[], object]) -> object:
    name = getattr(cls, "__name__", cls)
    try:
        return cls()
    except Exception as error:
        raise ConfigurationError(
            f"{name}() failed ({type(error).__name__}: {error}); pass an instance instead of the class: {name}(...)"
        ) from error


def _reserved_names() -> frozenset[str]:
    return frozenset(name for arguments in _EVENTS.values() for name in arguments)


def _template(cls: type, base_path: str, path: str, reserved: Iterable[str]) -> PathTemplate:
    template = PathTemplate(join(base_path, path))
    for name in template.names:
        if name in reserved:
            raise ConfigurationError(
                f"{cls.__name__}: the segment {{{name}}} of {template.text} has the name of an argument that handlers "
                f"get; give it another name"
            )
    return template


def _add_handler(handlers: dict[str, Handler], handler: Handler) -> None:
    other = handlers.setdefault(handler.event, handler)
    if other is not handler:
        raise ConfigurationError(f"{other.label} and {handler.label} both have @ws.{handler.event}; keep one")


def _compile_handler(function: Callable[..., Any], label: str, event: str, segments: tuple[str, ...]) -> Handler:
    allowed = dict(_EVENTS[event])
    if event not in _SERVER_EVENTS:
        allowed.update(dict.fromkeys(segments, "str"))

    def accepts(parameter: inspect.Parameter) -> bool:
        if parameter.name in allowed:
            _check_annotation(parameter, label, allowed[parameter.name])
            return True
        if parameter.default is not REQUIRED:
            return False
        raise ConfigurationError(
            f"{label} takes {parameter.name!r}, which @ws.{event} cannot give; it gives {', '.join(allowed)}"
        )

    positional, keywords = read_names(function, label, allowed, accepts)
    return Handler(event, label, function, is_async(function, label), positional, keywords)


def _check_annotation(parameter: inspect.Parameter, label: str, given: str) -> None:
    wanted = annotated_type(parameter)
    if wanted in _PLAIN_TYPES and given in _PLAIN_TYPES and wanted != given:
        raise ConfigurationError(f"{label} takes {parameter.name!r} as {wanted}, but it is given as {given}")


def _compile_resource(
    function: Callable[..., Any], label: str, method: str, path: PathTemplate, cors: Cors | None
) -> Resource:
    arguments: dict[str, Argument] = {}

    def accepts(parameter: inspect.Parameter) -> bool:
        arguments[parameter.name] = _compile_argument(parameter, label, path)
        return True

    positional, keywords = read_names(function, label, (*path.names, *_RESOURCE_ARGUMENTS), accepts)
    event = f"{method} {path.text}"
    handler = Handler(event, label, function, is_async(function, label), positional, keywords)
    return Resource(method, path, handler, arguments, cors)


def _compile_bundle(bundle: Bundle, cls: type, base_path: str, cors: Cors | None) -> Resource:
    bundle.check(cls.__name__)
    path = _template(cls, base_path, join(bundle.path, "{file...}"), _RESOURCE_ARGUMENTS)
    return _compile_resource(bundle.answer, f"{cls.__name__}'s http.files({bundle.path!r})", "GET", path, cors)


def _compile_argument(parameter: inspect.Parameter, label: str, path: PathTemplate) -> Argument:
    name = parameter.name
    if name in _RESOURCE_ARGUMENTS:
        _check_annotation(parameter, label, _RESOURCE_ARGUMENTS[name])
        return Argument(name, name, str)
    convert = CONVERTERS.get(annotated_type(parameter) or "str")
    if convert is None:
        raise ConfigurationError(
            f"{label} takes {name!r} as {annotated_type(parameter)}; a path segment or query parameter is annotated "
            f"with {', '.join(CONVERTERS)}, and other arguments are {', '.join(_RESOURCE_ARGUMENTS)}"
        )
    if name in path.names:
        return Argument(name, "path", convert)
    return Argument(name, "query", convert, parameter.default)
