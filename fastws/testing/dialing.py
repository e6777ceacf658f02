"""A client in memory until it has its response, or its WebSocket: what it may ask for, and how it says that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypedDict

from ..errors import ConfigurationError
from ..handshake.client import ask
from ..options import authorization
from .client import Far, Home, MemoryClient
from .exchange import HOST, Exchange, fields_of

if TYPE_CHECKING:
    from ..handshake.client import Asked
    from ..http1.response import HeadersInput
    from .memory import MemoryTransport

__all__ = ["ConnectOptions", "Dialing", "RequestOptions", "opening_handshake"]

_COMPRESSIONS: Final = {
    "shared": "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "dedicated": "permessage-deflate; client_max_window_bits",
}


class RequestOptions(TypedDict, total=False):
    """What `MemoryServer.request` takes besides method and path."""

    headers: HeadersInput | None
    body: bytes | str
    json: object
    address: tuple[str, int] | None
    secure: bool


class ConnectOptions(TypedDict, total=False):
    """What `MemoryServer.connect` takes besides the path."""

    headers: HeadersInput | None
    subprotocols: Iterable[str]
    origin: str | None
    cookies: Mapping[str, str] | None
    auth: tuple[str, str] | None
    compression: str | None
    address: tuple[str, int] | None
    secure: bool
    answers: bool


class _Offers(NamedTuple):
    """What `ask` says besides header fields; extensions are one of those here."""

    subprotocols: tuple[str, ...]
    origin: str | None
    compression: None = None
    compression_window_bits: int = 15


def opening_handshake(
    path: str,
    headers: HeadersInput | None,
    subprotocols: Iterable[str],
    origin: str | None,
    cookies: Mapping[str, str] | None,
    auth: tuple[str, str] | None,
    compression: str | None,
) -> Asked:
    """Make an opening handshake of what `MemoryServer.connect` was given.

    Raises:
        ConfigurationError: an argument is wrong.
    """
    fields = []
    if cookies:
        fields.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
    if auth is not None:
        fields.append(authorization(auth))
    if compression is not None:
        if compression not in _COMPRESSIONS:
            raise ConfigurationError(f'compression={compression!r}: give "shared", "dedicated" or None')
        fields.append(("Sec-WebSocket-Extensions", _COMPRESSIONS[compression]))
    return ask(path, HOST, [*fields, *fields_of(headers)], _Offers(tuple(subprotocols), origin))


class _Server(Home, Protocol):
    """What a client needs of its server; `MemoryServer` is one."""

    @property
    def clients(self) -> list[MemoryClient]:
        """Those that have connected."""


class Dialing:
    """A client from its first byte to its response, or to its WebSocket.

    Attributes:
        exchange: what it asked for, and what came.
        client: once the WebSocket is open.
        has_ended: whether no more will come.
    """

    def __init__(
        self, server: _Server, method: str, near: MemoryTransport, far: MemoryTransport, answers: bool
    ) -> None:
        self._server = server
        self._near = near
        self._answers = answers
        self._protocol = Far(self._on_data, self._on_end)
        self.far = far
        self.far.set_protocol(self._protocol)
        self.exchange = Exchange(method)
        self.client: MemoryClient | None = None
        self.has_ended = False

    def _on_data(self, data: bytes) -> None:
        self.exchange.feed(data)
        rest = self.exchange.rest
        if rest is not None:
            self.client = MemoryClient(
                self._server, self.exchange.response, self._near, self.far, answers=self._answers
            )
            self._server.clients.append(self.client)
            self._protocol.on_data, self._protocol.on_end = self.client.take, self.client.end
            self.client.take(rest)
        self._server.note_arrival()

    def _on_end(self, reason: str) -> None:
        self.has_ended = True
        self._server.note_arrival()
