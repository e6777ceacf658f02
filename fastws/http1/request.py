"""A request of a client: its target, its header fields, its cookies and its body."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from .redaction import REDACTION
from .response import Refuse

__all__ = ["Cookies", "Headers", "Query", "Request"]


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
