"""The HTTP half of a service: the annotations, the request, and what a resource answers.

A resource is a method of a service that answers one method at one path. It takes the arguments that it names, from the
path, the query and the request, and returns `str`, `bytes`, a `Response`, or anything that JSON can say.
"""

from __future__ import annotations

import json as jsonlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote

from .cors import Cors
from .errors import ConfigurationError, FastWSError
from .files import Answer, Files, OpenFile
from .redaction import REDACTION
from .service import REQUIRED, check_path, mark_class, mark_method

if TYPE_CHECKING:
    from .service import Argument, Resource

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
_HeadersInput = Mapping[str, str] | Iterable[tuple[str, str]]
_Body = bytes | bytearray | memoryview | str


# --- Annotations.


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
    headers: _HeadersInput | None = None,
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
        fields = [] if headers is None else _check_headers(headers)
    except ValueError as error:
        raise ConfigurationError(f"http.files: headers: {error}") from None
    return Files(path, directory, index, fields)


# --- Requests.


class _MultiMapping(Mapping[str, str]):
    """Names with one value or several, made when first read: most requests are never asked."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[str, list[str]] | None = None

    def _parse(self) -> Iterable[tuple[str, str]]:
        raise NotImplementedError

    def _all(self) -> dict[str, list[str]]:
        if self._values is None:
            self._values = {}
            for name, value in self._parse():
                self._values.setdefault(name, []).append(value)
        return self._values

    def get_all(self, name: str) -> list[str]:
        """Return all values of a name in order; an empty list when there are none."""
        return list(self._all().get(name, ()))

    def __getitem__(self, name: str) -> str:
        return self._all()[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._all()!r})"


class Headers(_MultiMapping):
    """Header fields: a mapping that does not care about the case of names.

    A field that stands in several lines reads as one list, joined with ``", "`` (RFC 9110 section 5.2); `get_all` gives
    the lines. Values are decoded from Latin-1, which loses nothing, when they are first read.

    Attributes:
        raw: the fields as they came, names in lower case.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__()
        self.raw = raw if isinstance(raw, list) else list(raw)

    def _parse(self) -> Iterable[tuple[str, str]]:
        return ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in self.raw)

    def get_all(self, name: str) -> list[str]:
        """Return the values of all lines of a field in order; an empty list when there are none."""
        return super().get_all(name.lower())

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._all()[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._all()


class Query(_MultiMapping):
    """The parameters of a query: a mapping of names to their first values; `get_all` gives all of them."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = text

    def _parse(self) -> Iterable[tuple[str, str]]:
        return parse_qsl(self._text, keep_blank_values=True)


class Cookies(_MultiMapping):
    """The cookies of a request: a mapping of names to values, as the client sends them (RFC 6265 section 5.4).

    Of several values of one name the first is that of the most specific path; `get_all` gives all of them. Quotes
    around a value are left out. What is no ``name=value`` is skipped.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[str] = ()) -> None:
        super().__init__()
        self._lines = lines

    def _parse(self) -> Iterator[tuple[str, str]]:
        for pair in ";".join(self._lines).split(";"):
            name, separator, value = (part.strip(" \t") for part in pair.partition("="))
            if name and separator:
                quoted = len(value) > 1 and value[0] == value[-1] == '"'
                yield name, value[1:-1] if quoted else value


class Request:
    """A request of a client.

    Attributes:
        method: such as ``"GET"``.
        raw_target: the request target as it was sent.
        raw_path: the path of the target, with its escapes.
        raw_query: the query of the target, with its escapes and without the question mark.
        raw_headers: the header fields in order, names in lower case.
        http_version: ``"1.1"`` or ``"1.0"``.
        body: the whole body.
        path_parameters: the values of the ``{name}`` segments of the path, decoded.
        remote_address: host and port of the client, or None on a socket that has none. Behind a proxy that the server
            trusts (`proxy_headers`) it is what the proxy tells; the port is 0 where it tells none.
        scheme: ``"https"`` where the client speaks TLS, with this server or with a proxy that it trusts and that says
            so, else ``"http"``; also of a request that opens a WebSocket.
        peer_certificate: the certificate that the client, or the proxy before it, showed in its TLS handshake and the
            server verified, as `ssl.SSLSocket.getpeercert` describes it, or None.
    """

    __slots__ = (
        "_cookies",
        "_headers",
        "_query",
        "body",
        "http_version",
        "method",
        "path_parameters",
        "peer_certificate",
        "raw_headers",
        "raw_path",
        "raw_query",
        "raw_target",
        "remote_address",
        "scheme",
    )

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        http_version: str = "1.1",
        remote_address: tuple[str, int] | None = None,
        body: bytes = b"",
        peer_certificate: dict[str, Any] | None = None,
        scheme: str = "http",
    ) -> None:
        self.method = method
        self.raw_target = target
        self.raw_path, _, self.raw_query = target.decode("latin-1").partition("?")
        self.raw_headers = headers
        self.http_version = http_version
        self.remote_address = remote_address
        self.body = body
        self.peer_certificate = peer_certificate
        self.scheme = scheme
        self.path_parameters: dict[str, str] = {}
        self._cookies: Cookies | None = None
        self._headers: Headers | None = None
        self._query: Query | None = None

    @property
    def path(self) -> str:
        """The path with its escapes decoded; what is no UTF-8 reads as U+FFFD."""
        return unquote(self.raw_path)

    @property
    def headers(self) -> Headers:
        """The header fields."""
        if self._headers is None:
            self._headers = Headers(self.raw_headers)
        return self._headers

    @property
    def cookies(self) -> Cookies:
        """The cookies that the client sends."""
        if self._cookies is None:
            self._cookies = Cookies(self.headers.get_all("cookie"))
        return self._cookies

    @property
    def query(self) -> Query:
        """The parameters of the query."""
        if self._query is None:
            self._query = Query(self.raw_query)
        return self._query

    def json(self) -> Any:
        """Decode the body as JSON.

        Raises:
            Refuse: 400, if it is none; a resource that does not catch it answers so.
        """
        try:
            return jsonlib.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise Refuse(400, "the body is not JSON\n") from error

    def __repr__(self) -> str:
        return f"<Request {self.method} {REDACTION.redact(self.raw_target.decode('latin-1'))}>"


# --- Responses.


class Response:
    """An answer of a resource.

    Args:
        body: `str` is sent as UTF-8.
        status: 200 to 599; 204 and 304 have no body.
        headers: further header fields, a mapping or pairs. Without ``Content-Type`` a `str` is ``text/plain`` and bytes
            are ``application/octet-stream``.

    Raises:
        ValueError: the status, or a header field, cannot be sent.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: _Body = b"", status: int = 200, headers: _HeadersInput | None = None) -> None:
        self.status = _check_status(status)
        self.body = body.encode() if isinstance(body, str) else bytes(body)
        if self.body and status in (204, 304):
            raise ValueError(f"a response with status {status} has no body")
        self.headers = [] if headers is None else _check_headers(headers)
        if self.body and not any(name.lower() == b"content-type" for name, _ in self.headers):
            self.headers.append((b"Content-Type", _TEXT if isinstance(body, str) else _BYTES))

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status}, {self.length} bytes>"


class FileResponse(Response):
    """An answer whose body is a part of a file.

    Attributes:
        file: the file.
        start: where the part begins.
    """

    __slots__ = ("_length", "file", "start")

    def __init__(self, file: OpenFile, start: int, length: int, status: int) -> None:
        super().__init__(status=status)
        self.file = file
        self.start = start
        self._length = length

    @property
    def length(self) -> int:
        """Bytes of the part."""
        return self._length


class Refuse(FastWSError):
    """Raised in a resource, sends a status instead of a result; raised in an ``on_upgrade``, refuses the client.

    Args:
        status: 300 to 599.
        body: for the client; without it the phrase of the status.
        headers: further header fields, such as ``Location``.
    """

    def __init__(self, status: int, body: bytes | str = b"", headers: _HeadersInput | None = None) -> None:
        super().__init__(status, body, headers)
        if status < 300:
            raise ValueError(f"status {status} is no refusal; return a Response")
        if not body and status != 304:
            body = phrase(status) + "\n"
        self.response = Response(body, status, headers)

    @property
    def status(self) -> int:
        """The status of the response."""
        return self.response.status

    def __str__(self) -> str:
        return f"{self.status} {phrase(self.status)}"


_TEXT: Final = b"text/plain; charset=utf-8"
_BYTES: Final = b"application/octet-stream"

# The connection itself is not the business of a resource.
_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"connection", b"date", b"upgrade"})
_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def phrase(status: int) -> str:
    """Return the reason phrase of a status."""
    return _PHRASES.get(status, "Unknown")


def _check_status(status: int) -> int:
    if not 200 <= status <= 599:
        raise ValueError(f"status {status!r} is not between 200 and 599")
    return int(status)


def _check_headers(headers: _HeadersInput) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [check_header(name, value) for name, value in pairs]


def check_header(name: str, value: str) -> tuple[bytes, bytes]:
    """Return a header field as it is sent.

    Raises:
        ValueError: it cannot be sent, or it is not the author's to set.
    """
    raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
    if not raw_name or not _TOKEN.issuperset(raw_name):
        raise ValueError(f"header name {name!r} is no token")
    if raw_name.lower() in _OURS:
        raise ValueError(f"header {name!r} is set by the server")
    # A line break would end the field and begin one of the attacker's.
    if any((byte < 32 and byte != 9) or byte == 127 for byte in raw_value):
        raise ValueError(f"header {name!r} has a control character in its value {value!r}")
    return raw_name, raw_value


def to_response(result: object) -> Response:
    """Make a response of what a resource returned.

    Raises:
        TypeError: it is nothing that JSON can say.
        ValueError: it holds itself, or NaN.
    """
    if isinstance(result, Response):
        return result
    if isinstance(result, Answer):
        return _of_file(result)
    if result is None:
        return Response(status=204)
    if isinstance(result, (str, bytes, bytearray, memoryview)):
        return Response(result)
    body = jsonlib.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body, headers=(("Content-Type", "application/json"),))


def _of_file(answer: Answer) -> Response:
    status, fields, file, start, length = answer
    if file is not None:
        response: Response = FileResponse(file, start, length, status)
    else:
        response = Response(b"" if status == 304 else phrase(status) + "\n", status)
    response.headers.extend(fields)
    return response


# --- Calls.


def call(resource: Resource, request: Request) -> Any:
    """Call a resource with the arguments that it names; a coroutine if it is async.

    Raises:
        Refuse: 404 for a path segment and 400 for a query parameter or body that cannot be converted.
        Exception: whatever the resource raises.
    """
    handler, arguments = resource.handler, resource.arguments
    positional = [_value(arguments[name], request) for name in handler.positional]
    keywords = {name: _value(arguments[name], request) for name in handler.keywords}
    return handler.function(*positional, **keywords)


def _value(argument: Argument, request: Request) -> object:
    if argument.source == "path":
        return _path_value(argument, request.path_parameters[argument.name])
    if argument.source == "query":
        return _query_value(argument, request.query.get(argument.name))
    if argument.source == "json":
        return request.json()
    return request if argument.source == "request" else getattr(request, argument.source)


def _path_value(argument: Argument, text: str) -> object:
    try:
        return argument.convert(text)
    except ValueError:
        # Such a segment names no resource.
        raise Refuse(404) from None


def _query_value(argument: Argument, text: str | None) -> object:
    if text is None:
        if argument.default is REQUIRED:
            raise Refuse(400, argument.missing)
        return argument.default
    try:
        return argument.convert(text)
    except ValueError:
        raise Refuse(400, argument.malformed) from None
