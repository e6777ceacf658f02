"""A request of a client: its target, its header fields, its cookies and its body."""

from __future__ import annotations

import json as jsonlib
from typing import Any
from urllib.parse import unquote

from ..handshake.mappings import Cookies, Headers, Query
from .redaction import REDACTION
from .response import Refuse

__all__ = ["Request"]


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
