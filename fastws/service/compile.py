"""An annotated class becomes a `Service`: its paths, its handlers and their arguments, all decided once.

`compile` reads what the decorators left on the class and its methods; whatever is wrong is said then: which class,
which method, and what to write instead.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError
from .marks import Mark, UpgradePath, bundles_of, marks_of_class, marks_of_methods
from .model import REQUIRED, Argument, Bundle, CorsRules, Handler, Resource, Service
from .paths import PathTemplate, join
from .signature import CONVERTERS, annotated_type, is_async, read_names

if TYPE_CHECKING:
    import inspect
    from collections.abc import Iterator

__all__ = ["compile", "compile_listener"]

# What each event can give, and the type that its handler gets.
EVENTS: Final[dict[str, dict[str, str]]] = {
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
    "on_start_once": {"server": "Server"},
    "on_stop": {"server": "Server"},
    "on_backplane": {"state": "str", "node": "str", "target": "tuple", "missing": "int", "server": "Server"},
}
_SERVER_EVENTS: Final = frozenset({"on_start", "on_start_once", "on_stop", "on_backplane"})
# What no client has
_OF_SERVERS: Final = _SERVER_EVENTS | {"on_upgrade", "cors"}
_RESOURCE_ARGUMENTS: Final = {"request": "Request", "headers": "Headers", "body": "bytes", "json": "object"}
# Names of types that certainly are not each other; any other annotation of an argument is the author's own affair.
_PLAIN_TYPES: Final = frozenset({"str", "bytes", "int", "float", "bool"})


def compile(target: object) -> Service:
    """Make a `Service` of an annotated class, or of an instance of one.

    Args:
        target: the class, which is called without arguments, or the instance.

    Raises:
        ConfigurationError: whatever is wrong with it; the message names the class, the method and the remedy.
    """
    cls = target if isinstance(target, type) else type(target)
    marks = marks_of_class(cls)
    methods = marks_of_methods(cls)
    instance = _instantiate(target) if isinstance(target, type) and marks else target
    bundles = bundles_of(instance, cls)
    _check_class(target, cls, marks, methods, bundles)
    upgrade: UpgradePath | None = marks.get("upgrade_path")
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
    options = None if upgrade is None else upgrade.options
    return Service(cls.__name__, cls, instance, base_path, options, upgrade_path, handlers, tuple(resources))


def compile_listener(target: object) -> dict[str, Handler]:
    """Return the handlers of a client's listener, a class whose methods are annotated as those of a service are.

    Args:
        target: an instance of it.

    Raises:
        ConfigurationError: whatever is wrong with it.
    """
    cls = type(target)
    if isinstance(target, type):
        raise ConfigurationError(f"{target.__name__} is a class; a listener is an instance of one: {target.__name__}()")
    handlers: dict[str, Handler] = {}
    for name, mark in _flatten(marks_of_methods(cls)):
        label = f"{cls.__name__}.{name}"
        if not isinstance(mark.event, str) or mark.event in _OF_SERVERS:
            raise ConfigurationError(
                f"{label} has @{mark.decorator}, which is for a server's; a listener has no use of it"
            )
        _add_handler(handlers, _compile_handler(getattr(target, name), label, mark.event, ()))
    if not handlers:
        raise ConfigurationError(
            f"{reprlib.repr(target)} handles nothing; annotate its methods with @ws.on_text_message and the like"
        )
    return handlers


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


def _cors_of(own: tuple[Mark, ...], marks: dict[str, Any]) -> CorsRules | None:
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
    return frozenset(name for arguments in EVENTS.values() for name in arguments)


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
    allowed = dict(EVENTS[event])
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
    function: Callable[..., Any], label: str, method: str, path: PathTemplate, cors: CorsRules | None
) -> Resource:
    arguments: dict[str, Argument] = {}

    def accepts(parameter: inspect.Parameter) -> bool:
        arguments[parameter.name] = _compile_argument(parameter, label, path)
        return True

    positional, keywords = read_names(function, label, (*path.names, *_RESOURCE_ARGUMENTS), accepts)
    event = f"{method} {path.text}"
    handler = Handler(event, label, function, is_async(function, label), positional, keywords)
    return Resource(method, path, handler, arguments, cors)


def _compile_bundle(bundle: Bundle, cls: type, base_path: str, cors: CorsRules | None) -> Resource:
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
