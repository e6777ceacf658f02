"""The HTTP half of a service: the annotations, the request, and what a resource answers.

A resource is a method of a service that answers one method at one path. It takes the arguments that it names, from the
path, the query and the request, and returns `str`, `bytes`, a `Response`, or anything that JSON can say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .errors import ConfigurationError
from .handshake.mappings import Cookies, Headers, Query
from .http1.cors import Cors
from .http1.files import Files
from .http1.request import Request
from .http1.response import HeadersInput, Refuse, Response, check_headers
from .service.marks import mark_class, mark_method
from .service.paths import check_path

__all__ = [
    "Cookies",
    "Headers",
    "Query",
    "Refuse",
    "Request",
    "Response",
    "base_path",
    "cors",
    "delete",
    "files",
    "get",
    "head",
    "options",
    "patch",
    "post",
    "put",
]

_C = TypeVar("_C", bound=type)
_T = TypeVar("_T", bound=Callable[..., Any])
_F = TypeVar("_F", bound=Callable[..., Any])


def base_path(path: str) -> Callable[[_C], _C]:
    """Annotate a class as a service whose paths all begin with `path`.

    Args:
        path: starts with a slash; a whole segment may be a ``{name}``, which handlers can take as an argument.

    Raises:
        ConfigurationError: `path` is no path, or the class has a base path already.
    """
    check_path(path, "http.base_path")
    return lambda cls: mark_class(cls, "base_path", path)


def get(path: str) -> Callable[[_F], _F]:
    """Annotate a method that answers GET, and HEAD, at `path` below the base path.

    A whole segment of the path may be a ``{name}``, and the last one a ``{name...}``, which is all that is left of the
    path, such as ``"a/b"``.

    Arguments by name: these segments of the path; ``request``, ``headers``, ``body`` (bytes) and ``json`` (the
    decoded body); every other name is a query parameter. Those of path and query are converted as they are annotated,
    with `str`, `int`, `float` or `bool`. A query parameter without a default must be there, else the client gets 400.

    Results: `str` is sent as text, `bytes` as they are, None as 204, a `Response` says more, everything else is JSON.

    Raises:
        ConfigurationError: `path` is no path, or the method has this annotation already.
    """
    return _resource("GET", path)


def post(path: str) -> Callable[[_F], _F]:
    """Annotate a method that answers POST; arguments and results as for `get`."""
    return _resource("POST", path)


def put(path: str) -> Callable[[_F], _F]:
    """Annotate a method that answers PUT; arguments and results as for `get`."""
    return _resource("PUT", path)


def patch(path: str) -> Callable[[_F], _F]:
    """Annotate a method that answers PATCH; arguments and results as for `get`."""
    return _resource("PATCH", path)


def delete(path: str) -> Callable[[_F], _F]:
    """Annotate a method that answers DELETE; arguments and results as for `get`."""
    return _resource("DELETE", path)


def head(path: str) -> Callable[[_F], _F]:
    """Annotate a method that answers HEAD, where the one that answers GET would do too much; otherwise as `get`.

    What it returns is sent without its body. A body that is empty is not known, and its length not told.
    """
    return _resource("HEAD", path)


def options(path: str) -> Callable[[_F], _F]:
    """Annotate a method that answers OPTIONS; arguments and results as for `get`.

    Without one OPTIONS is answered with 204 and an ``Allow`` of the methods that there are.
    """
    return _resource("OPTIONS", path)


def _resource(method: str, path: str) -> Callable[[_F], _F]:
    check_path(path, f"http.{method.lower()}")
    return lambda function: mark_method(function, (method, path))


def cors(
    origins: str | Iterable[str],
    *,
    methods: str | Iterable[str] | None = None,
    headers: str | Iterable[str] = (),
    expose: Iterable[str] = (),
    credentials: bool = False,
    max_age: float = 600,
) -> Callable[[_T], _T]:
    """Annotate a class, or one method: pages of other origins may read the answers of its resources.

    Of a class it holds for all of its resources, but those that have their own. A browser that asks before it sends a
    request (a preflight) is answered before any method runs. It does not keep anybody out: whom the WebSocket of the
    service admits say ``ws.upgrade_path(allowed_origins=...)``.

    Args:
        origins: such as ``["https://example.com"]``, or ``"*"`` for all.
        methods: those that these pages may use; None or ``"*"`` is all that are answered at the path.
        headers: request header fields that they may send besides those that need no permission and ``Content-Type``;
            ``"*"`` is all.
        expose: response header fields that they may read besides those that need no permission.
        credentials: whether they may send cookies, and read what is answered then; not with ``origins="*"``.
        max_age: seconds for which a browser may remember what it was told.

    Raises:
        ConfigurationError: an argument is not what it may be, or the class or method has this annotation already.
    """
    allowed = Cors(origins, methods, headers, expose, credentials, max_age)

    def annotate(target: _T) -> _T:
        marked = mark_class(target, "cors", allowed) if isinstance(target, type) else None
        return marked or mark_method(target, "cors", allowed)

    return annotate


def files(
    path: str,
    directory: str | os.PathLike[str],
    *,
    index: str | None = "index.html",
    headers: HeadersInput | None = None,
) -> Files:
    """Serve the files of a directory at a path below the base path; annotates a class, or is an attribute of it.

    ::

        @http.base_path("/")
        @http.files("/static", Path(__file__).parent / "static")
        class Site: ...

    GET and HEAD are answered, with ranges and conditions (RFC 9110 sections 13 and 14). The name decides the type.
    Nothing leads out of the directory: symbolic links are not followed, wherever they lead, and names that begin with a
    dot, but ``.well-known``, are not found. A file is read piece by piece, as the client takes it.

    Args:
        path: the files are found below it, also in folders of the directory.
        directory: has to be there when the class is served; a relative path begins where the program was started.
        index: the name of the file that answers for a folder; None answers none.
        headers: further header fields of all files, such as ``{"Cache-Control": "max-age=3600"}``.

    Raises:
        ConfigurationError: an argument is not what it may be, or, when the class is served, there is no such directory.
    """
    try:
        fields = [] if headers is None else check_headers(headers)
    except ValueError as error:
        raise ConfigurationError(f"http.files: headers: {error}") from None
    return Files(path, directory, index, fields)
