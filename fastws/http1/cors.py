"""Cross-origin resource sharing (the Fetch standard, section 3.2): which pages of other origins may read an answer.

It protects users from pages, not the server from anybody: a request that needs no preflight is answered in any case,
and the browser keeps the answer from a page that may not have it. Values in, values out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError
from ..handshake.fields import is_token, normal_origin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .request import Request
    from .response import Response

__all__ = ["Cors"]

_Fields = list[tuple[bytes, bytes]]

# A browser asks for each of these by name, and a resource that takes JSON cannot do without the first.
_ALWAYS_ALLOWED: Final = ("Content-Type",)


class Cors:
    """Rules on who may read the answers of a resource, and what they may send; `http.cors` tells of the arguments.

    Raises:
        ConfigurationError: one of them is not what it may be; the message names it.
    """

    __slots__ = ("_common", "_headers", "_max_age", "_methods", "_origins")

    def __init__(
        self,
        origins: str | Iterable[str],
        methods: str | Iterable[str] | None,
        headers: str | Iterable[str],
        expose: Iterable[str],
        credentials: bool,
        max_age: float,
    ) -> None:
        self._origins = None if _is_any(origins) else _origins(origins)
        if credentials and self._origins is None:
            raise _wrong("credentials", True, "who sends credentials is named in origins, which cannot be '*' then")
        self._methods = None if methods is None or _is_any(methods) else _methods(methods)
        self._headers = None if _is_any(headers) else _headers(headers)
        self._max_age = _seconds(max_age)
        self._common: _Fields = []
        if credentials:
            self._common.append((b"Access-Control-Allow-Credentials", b"true"))
        if exposed := ", ".join(_tokens("expose", expose)).encode():
            self._common.append((b"Access-Control-Expose-Headers", exposed))

    def fields(self, request: Request, response: Response) -> _Fields:
        """Return what the response to a request says besides; nothing if it says that by itself."""
        if any(name.lower() == b"access-control-allow-origin" for name, _ in response.headers):
            return []
        # A cache must not give one origin's answer to another
        varies = [] if self._origins is None else [(b"Vary", b"Origin")]
        allowed = self._allowed_origin(request)
        if allowed is None or (self._methods is not None and request.method not in self._methods):
            return varies
        return [(b"Access-Control-Allow-Origin", allowed), *self._common, *varies]

    def preflight(self, request: Request, methods: Iterable[str]) -> _Fields:
        """Return what answers a browser that asks before it sends a request.

        Args:
            request: with ``Access-Control-Request-Method``.
            methods: what is answered at the path.
        """
        varies = (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
        allowed = self._allowed_origin(request)
        if allowed is None:
            return [varies]
        names = [name for name in methods if self._methods is None or name in self._methods]
        fields = [
            (b"Access-Control-Allow-Origin", allowed),
            (b"Access-Control-Allow-Methods", ", ".join(names).encode()),
            (b"Access-Control-Max-Age", self._max_age),
            *((name, value) for name, value in self._common if name.endswith(b"Credentials")),
            varies,
        ]
        if headers := self._allowed_headers(request):
            fields.append((b"Access-Control-Allow-Headers", headers))
        return fields

    def _allowed_origin(self, request: Request) -> bytes | None:
        origin = request.headers.get("origin")
        if self._origins is None or origin is None:
            return b"*" if self._origins is None else None
        return origin.encode("latin-1") if origin.lower() in self._origins else None

    def _allowed_headers(self, request: Request) -> bytes:
        if self._headers is not None:
            return self._headers
        # Not "*", which does not stand for Authorization, nor for anything where credentials are sent
        names = (name.strip(" \t") for name in request.headers.get("access-control-request-headers", "").split(","))
        return ", ".join(name for name in names if is_token(name)).encode()


def _wrong(option: str, value: object, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"http.cors: {option}={value!r}: {remedy}")


def _is_any(values: object) -> bool:
    return values == "*" or (isinstance(values, (list, tuple, set, frozenset)) and "*" in values)


def _strings(option: str, values: object) -> list[str]:
    # A lone string is an iterable of its letters.
    if not isinstance(values, (str, bytes)):
        try:
            strings: list[Any] = list(values)  # type: ignore[call-overload]
        except TypeError:
            strings = [None]
        if all(isinstance(value, str) for value in strings):
            return strings
    raise _wrong(option, values, "give a list of strings" + (", or '*'" if option != "expose" else ""))


def _tokens(option: str, values: object) -> list[str]:
    names = _strings(option, values)
    for name in names:
        if not is_token(name):
            raise _wrong(option, name, "it is no name: letters, digits and some signs, no spaces")
    return names


def _methods(values: object) -> list[str]:
    return [name.upper() for name in _tokens("methods", values)]


def _headers(values: object) -> bytes:
    return ", ".join([*_ALWAYS_ALLOWED, *_tokens("headers", values)]).encode()


def _origins(values: object) -> frozenset[str]:
    return frozenset(_origin(value) for value in _strings("origins", values))


def _origin(value: str) -> str:
    origin = normal_origin(value)
    if origin is None:
        raise _wrong("origins", value, 'an origin is like "https://example.com", without a path')
    return origin


def _seconds(value: object) -> bytes:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise _wrong("max_age", value, "give seconds, a number from 0")
    return b"%d" % value
