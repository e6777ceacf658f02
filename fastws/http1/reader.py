"""The requests of one HTTP/1.1 connection: bytes in, exchanges out, no I/O.

Theory of operation. httptools (llhttp, strict) parses; its callbacks only note what they see and put each complete
request on the list of exchanges, together with what is to answer it: a resource, a service's WebSocket, or a refusal
that is known already. Nothing is answered here, for an exception of a callback ends the parser.

::

    HEAD ──▶ BODY ──▶ IDLE ──▶ HEAD ...
      │        │
      └────────┴────▶ ENDED                  a WebSocket follows, or bytes that are no HTTP: nothing more is parsed

The parser tells what it has found and not where, so limits are kept by what it is given: a head that is not complete
when all that it may have is read is too large, in however many pieces it came.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NoReturn

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from ..handshake.fields import has_token, is_host
from ..logs import Log
from .forwarded import ContradictionError
from .heads import error_response, origin_form
from .request import Request
from .response import Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..options import ServerOptions
    from ..service.model import CorsRules, Resource, Service
    from ..service.routing import Match, Router
    from .forwarded import TrustedProxies

__all__ = ["Exchange", "Reading", "RequestReader"]

logger = Log("fastws.http")

# How much is parsed at most at a time. The parser cannot be stopped between two requests, so that of heads bounds how
# many wait.
BODY_PIECE: Final = 1 << 16  # bytes
HEAD_PIECE: Final = 1 << 12


class Reading(enum.Enum):
    """The part of a request that is being read."""

    HEAD = enum.auto()
    BODY = enum.auto()
    IDLE = enum.auto()
    ENDED = enum.auto()


class Exchange:
    """A request and what answers it: a response that is known already, a service's WebSocket, or a resource."""

    __slots__ = (
        "body",
        "body_size",
        "cors",
        "expects_continue",
        "keep_alive",
        "request",
        "resource",
        "response",
        "service",
    )

    def __init__(self, request: Request | None, keep_alive: bool, response: Response | None = None) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.response = response
        self.service: Service | None = None
        self.resource: Resource | None = None
        self.cors: CorsRules | None = None  # of the resource
        # Not a list of its parts: those of a byte each weigh forty
        self.body = bytearray()
        self.body_size = 0
        self.expects_continue = False


class _Stop(Exception):
    """Raised in a callback, makes the parser stop; the response is in `RequestReader._fault`."""


class RequestReader:
    """Reads the requests of a connection.

    Args:
        options: of the server. ``max_head_size`` bounds the request line and all fields with their line ends, and what
            frames a chunked body: a chunk's header or its trailer, or twice that where it begins behind something.
        router: finds what answers a request.
        address: host and port of the peer, or None.
        certificate: what the peer showed in its TLS handshake, or None.
        scheme: ``"https"`` where the peer speaks TLS, else ``"http"``.
        proxies: tells for whom the peer speaks, if it is a proxy that is trusted; else None.

    Attributes:
        exchanges: complete requests, each with what answers it, in order; taken out by whoever answers them.
        incomplete: the exchange whose body is being read, or None.
        reading: what is being read.
    """

    __slots__ = (
        "_address",
        "_certificate",
        "_chunked",
        "_fault",
        "_foreign_upgrade",
        "_goes_on",
        "_headers",
        "_is_behind",
        "_options",
        "_parser",
        "_proxies",
        "_router",
        "_scheme",
        "_target",
        "_undigested",
        "_upgrade",
        "exchanges",
        "incomplete",
        "reading",
    )

    # The request that is being read, from `on_message_begin` on.
    _target: bytes
    _headers: list[tuple[bytes, bytes]]
    _upgrade: bytes
    _chunked: bool

    def __init__(
        self,
        options: ServerOptions,
        router: Router,
        address: tuple[str, int] | None,
        certificate: dict[str, Any] | None = None,
        scheme: str = "http",
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._options = options
        self._router = router
        self._address = address
        self._certificate = certificate
        self._scheme = scheme
        self._proxies = proxies
        self._parser = HttpRequestParser(self)
        self.reading = Reading.HEAD
        self.exchanges: deque[Exchange] = deque()
        self.incomplete: Exchange | None = None
        # Bytes that the parser took without telling us that something is complete: a head, a part of a body.
        self._undigested = 0
        # Whether the head that is being read begins behind another request in the same piece.
        self._is_behind = False
        # A request whose Upgrade is dropped, as a server may (RFC 9110 section 7.8): to a protocol that we do not
        # speak, or at a path without one. The parser takes everything behind such a head for the new protocol, also
        # the body of a POST, so another parser gets the same head without the field (`feed`).
        self._foreign_upgrade: Request | None = None
        # Whether the last complete request may be followed by another.
        self._goes_on = True
        self._fault: Response | None = None

    def feed(self, data: bytes) -> bytes:
        """Read a piece of what came in; returns what is left of it, or follows a request to upgrade."""
        size = self._piece_size()
        piece, rest = (data, b"") if len(data) <= size else (data[:size], data[size:])
        self._undigested += len(piece)
        if self.reading is Reading.IDLE:
            self._is_behind = False
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            return self._switch(piece[upgrade.args[0] :] + rest)
        except HttpParserError as error:
            self._end(self._explain_stop(error))
        else:
            if self._undigested >= self._options.max_head_size:
                # A head, a chunk header or a trailer that does not end.
                self._end(error_response(431))
        return rest

    def _piece_size(self) -> int:
        """Return how much to read at a time: a head not beyond its limit, and the framing of a body neither."""
        if self.reading is Reading.BODY and not self._chunked:
            return BODY_PIECE
        limit: int = self._options.max_head_size
        if self.reading is not Reading.BODY:
            limit -= self._undigested
        return max(1, min(limit, HEAD_PIECE))

    def _switch(self, rest: bytes) -> bytes:
        if self._foreign_upgrade is not None:
            rest = self._head_without_upgrade(self._foreign_upgrade) + rest
            self._parser = HttpRequestParser(self)
            self._foreign_upgrade = None
            self.reading = Reading.HEAD
        else:
            self.reading = Reading.ENDED
        return rest

    def close(self) -> None:
        """Let go of the parser, which holds us by its callbacks."""
        del self._parser

    # --- The parser calls; an exception ends it.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self.reading is Reading.IDLE:
            self.reading = Reading.HEAD
        self._target = b""
        self._headers = []
        self._upgrade = b""
        self._chunked = False

    def on_url(self, part: bytes) -> None:
        """Take the request target, or a part of it."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; those of a trailer go to a list that nobody reads."""
        name, value = name.lower(), value.rstrip(b" \t")
        self._headers.append((name, value))
        if len(self._headers) > self._options.max_head_fields:
            self._stop(error_response(431))
        if name == b"upgrade":
            self._upgrade = self._upgrade + b"," + value if self._upgrade else value

    def on_headers_complete(self) -> None:
        """Decide what answers the request, or refuse it before its body is read."""
        parser = self._parser
        self._undigested = 0
        self.reading = Reading.BODY
        self._check_size()
        method = parser.get_method().decode()
        upgrading = parser.should_upgrade()
        if method == "CONNECT":
            self._stop(error_response(501))
        request = self._make_request(method)
        matches = self._router.resolve(request.raw_path)
        if upgrading and not (has_token(self._upgrade, b"websocket") and _upgrades(method, matches)):
            self._foreign_upgrade = request
            return
        exchange = self.incomplete = Exchange(request, keep_alive=not upgrading and parser.should_keep_alive())
        if self._proxies is not None:
            self._believe(self._proxies, request)
        if not upgrading:
            if request.http_version not in ("1.1", "1.0"):
                self._stop(error_response(505))
            self._check_host(request)
        self._route(exchange, request, matches, upgrading)
        if not upgrading:
            self._check_framing(exchange, request)
        if exchange.expects_continue and exchange.response is not None:
            self._stop(exchange.response)

    def on_chunk_header(self) -> None:
        """Note that the body makes progress."""
        self._undigested = 0

    def on_body(self, data: bytes) -> None:
        """Take a part of a body; without a resource it is only counted."""
        exchange = self.incomplete
        assert exchange is not None
        self._undigested = 0
        exchange.expects_continue = False
        exchange.body_size += len(data)
        if exchange.body_size > self._options.max_body_size:
            self._stop(error_response(413))
        if exchange.resource is not None:
            exchange.body += data

    def on_message_complete(self) -> None:
        """Put the request on the list."""
        exchange = self.incomplete
        if exchange is None:  # _foreign_upgrade
            return
        if exchange.body and exchange.request is not None:
            exchange.request.body = bytes(exchange.body)
        self.exchanges.append(exchange)
        self._goes_on = exchange.keep_alive
        self.incomplete = None
        self._undigested = 0
        self._is_behind = True
        self.reading = Reading.IDLE

    # --- What they note.

    def _check_size(self) -> None:
        """Refuse a head that is too large and yet was read.

        It began behind another request, in the middle of a piece. All that is known of its size are its parts; 17
        is what any head has besides: a method, two blanks, the version and two line ends.
        """
        size = 17
        if self._is_behind:
            size += len(self._target) + sum(len(name) + len(value) + 3 for name, value in self._headers)
        if size > self._options.max_head_size:
            self._stop(error_response(431))

    def _stop(self, response: Response) -> NoReturn:
        self._fault = response
        raise _Stop

    def _make_request(self, method: str) -> Request:
        target = origin_form(self._target)
        if target is None:
            self._stop(error_response(400))
        version = self._parser.get_http_version()
        headers, self._headers = self._headers, []
        return Request(method, target, headers, version, self._address, b"", self._certificate, self._scheme)

    def _believe(self, proxies: TrustedProxies, request: Request) -> None:
        """Take the address and the scheme of whom the peer speaks for, who may not tell us two of them."""
        try:
            client = proxies.client(self._address, request.raw_headers)
        except ContradictionError as error:
            self._fault = error_response(400)
            if proxies.may_warn():
                logger.warning(
                    "%s %s refused with 400: %s; name the field that your proxies set with forwarded_field=",
                    request.method,
                    request.raw_path,
                    str(error),  # a record that is kept would keep all that the traceback knows
                )
            raise _Stop from None
        request.remote_address = client.address
        request.scheme = client.scheme or self._scheme

    def _head_without_upgrade(self, request: Request) -> bytes:
        line = b"%b %b HTTP/%b" % (request.method.encode(), self._target, request.http_version.encode())
        # No larger than it came, for it is measured again.
        fields = (name + b":" + value for name, value in request.raw_headers if name != b"upgrade")
        return b"\r\n".join((line, *fields, b"", b""))

    def _check_host(self, request: Request) -> None:
        """Refuse a request for nobody, or for two (RFC 9112 section 3.2)."""
        hosts = [value for name, value in request.raw_headers if name == b"host"]
        if not hosts and request.http_version == "1.0":
            return
        if len(hosts) != 1 or not is_host(hosts[0]):
            self._stop(error_response(400))

    def _check_framing(self, exchange: Exchange, request: Request) -> None:
        """Refuse bodies that could end in two places (RFC 9112 section 6), and those that are too large."""
        has_body = False
        for name, value in request.raw_headers:
            if name == b"content-length":
                has_body = self._check_length(value)
            elif name == b"transfer-encoding":
                has_body = self._chunked = True
                if request.http_version == "1.0":
                    self._stop(error_response(400))
                if value.lower() != b"chunked":
                    self._stop(error_response(501))
            elif name == b"expect" and request.http_version == "1.1":
                if value.lower() != b"100-continue":
                    self._stop(error_response(417))
                exchange.expects_continue = True
        exchange.expects_continue = exchange.expects_continue and has_body

    def _check_length(self, value: bytes) -> bool:
        # The parser takes any number of leading zeros, and `int` does not.
        if len(value) > 18 or int(value) > self._options.max_body_size:
            self._stop(error_response(413))
        return int(value) > 0

    def _route(self, exchange: Exchange, request: Request, matches: tuple[Match, ...], upgrading: bool) -> None:
        method = request.method
        if method == "OPTIONS" and (preflight := _preflight(request, matches)) is not None:
            exchange.response = preflight
            return
        for route, values in matches:
            service = route.upgrade
            if service is not None and method == "GET" and (upgrading or self._wants_websocket(route.resources)):
                exchange.service = service
                names = service.upgrade_path.names if service.upgrade_path is not None else ()
            elif not upgrading and (resource := route.resource(method)) is not None:
                exchange.resource = resource
                exchange.cors = resource.cors
                names = resource.path.names
            else:
                continue
            if values:
                request.path_parameters = dict(zip(names, values, strict=True))
            return
        exchange.response = _explain_no_route(request, matches)

    def _wants_websocket(self, resources: dict[str, Resource]) -> bool:
        """Tell whether a request that is no complete Upgrade is meant for the WebSocket; its handshake says why not."""
        return "GET" not in resources or has_token(self._upgrade, b"websocket")

    def _explain_stop(self, error: HttpParserError) -> Response:
        if self._fault is not None:
            return self._fault
        if isinstance(error, HttpParserCallbackError):
            logger.error("a callback of the HTTP parser failed", exc_info=error)
            return error_response(500)
        return error_response(400)

    def _end(self, response: Response) -> None:
        """Parse no more; after the responses that are due this one is the last, unless one of them is already."""
        exchange = self.incomplete or Exchange(None, keep_alive=False)
        self.reading = Reading.ENDED
        if self._goes_on:
            exchange.keep_alive = False
            exchange.response = response
            self.exchanges.append(exchange)


def _upgrades(method: str, matches: tuple[Match, ...]) -> bool:
    """Tell whether a request to open a WebSocket is one here; another method than GET is only if nothing answers it.

    Where nothing is served it counts as one, too: what follows may be frames, and the answer is the last.
    """
    if method != "GET" and any(match.route.resource(method) for match in matches):
        return False
    for match in matches:
        if match.route.upgrade is not None:
            return True
    return not matches


def _explain_no_route(request: Request, matches: tuple[Match, ...]) -> Response:
    method = request.method
    if method == "OPTIONS" and request.raw_target == b"*":
        # Of the server as a whole, which has nothing to say (RFC 9110 section 9.3.7)
        return Response(status=204)
    if not matches:
        return error_response(404)
    methods = {method for match in matches for method in match.route.methods}
    response = Response(status=204) if method == "OPTIONS" else error_response(405)
    response.headers.append((b"Allow", ", ".join(sorted(methods)).encode()))
    return response


def _preflight(request: Request, matches: tuple[Match, ...]) -> Response | None:
    """Answer a browser that asks what a page of another origin may do, if there is something."""
    method = request.headers.get("access-control-request-method")
    if method is None:
        return None
    answering = {name: resource.cors for name, resource in _answering(matches) if resource.cors is not None}
    if method not in answering:
        return None
    response = Response(status=204)
    response.headers.extend(answering[method].preflight(request, answering))
    return response


def _answering(matches: tuple[Match, ...]) -> Iterator[tuple[str, Resource]]:
    """Return what answers each method, as `_route` finds it."""
    methods = {method for match in matches for method in match.route.methods}
    for method in sorted(methods):
        found = (match.route.resource(method) for match in matches)
        resource = next((resource for resource in found if resource is not None), None)
        if resource is not None:
            yield method, resource
