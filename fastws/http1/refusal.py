"""Turning away a connection that is one too many, with a response that is not lost.

The response comes when the client has begun its request: some clients do not understand one that comes earlier. A
socket that is closed with unread input resets the connection, and the reset takes along what the client has not read
yet. So input is thrown away until the client ends, who is told the end where one direction can end alone. All of it
takes bounded time, and those who are being turned away are bounded in number too; beyond that connections are closed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from .._speedups import shut_down
from .heads import encode_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..net.deadlines import Deadlines, Waiting
    from .response import Response

__all__ = ["Refusals"]

MAX_REFUSALS: Final = 1024
REFUSAL_TIMEOUT: Final = 5.0  # seconds from the connection to its end


class Refusals:
    """The connections of a server that are being turned away.

    Args:
        deadlines: of the server.
        on_empty: called when the last of them has gone.
        exceptions: what is answered to requests that begin so: a probe is to learn how the server is, and not that it
            is full.
    """

    def __init__(
        self, deadlines: Deadlines, on_empty: Callable[[], None], exceptions: Mapping[bytes, Response] | None = None
    ) -> None:
        self._deadlines = deadlines
        self._on_empty = on_empty
        self._exceptions = exceptions or {}
        self._refused: set[_Refused] = set()

    def __len__(self) -> int:
        """How many are being turned away."""
        return len(self._refused)

    def refuse(self, transport: asyncio.Transport, response: Response) -> None:
        """Turn away the client of a transport, whose protocol is another one from now on.

        Args:
            transport: nothing was written to it.
            response: what it gets.
        """
        if len(self._refused) >= MAX_REFUSALS:
            transport.abort()
            return
        refused = _Refused(transport, _encode(response), self)
        self._refused.add(refused)
        self._deadlines.set(refused, REFUSAL_TIMEOUT)
        transport.set_protocol(refused)

    def answer(self, request: bytes, refusal: bytes) -> bytes:
        """Return what answers a request that begins so."""
        found = (answer for begin, answer in self._exceptions.items() if request.startswith(begin))
        return next(map(_encode, found), refusal)

    def ended(self, refused: _Refused) -> None:
        """Forget a client that has gone."""
        self._refused.discard(refused)
        self._deadlines.clear(refused)
        if not self._refused:
            self._on_empty()

    def __iter__(self) -> Iterator[Waiting]:
        """Give all of them, who may go meanwhile; their deadline ends them."""
        return iter(list(self._refused))


class _Refused(asyncio.Protocol):
    __slots__ = ("_refusals", "_response", "_transport")

    def __init__(self, transport: asyncio.Transport, response: bytes, refusals: Refusals) -> None:
        self._transport = transport
        self._response = response
        self._refusals = refusals

    def data_received(self, data: bytes) -> None:
        """Answer the beginning of the request and throw away the rest."""
        response, self._response = self._response, b""
        if response:
            self._transport.write(self._refusals.answer(data, response))
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        """It has gone."""
        shut_down(self._transport)
        self._refusals.ended(self)

    def on_deadline(self) -> None:
        """It does not go."""
        self._transport.abort()


def _encode(response: Response) -> bytes:
    return encode_head(response, len(response.body), keep_alive=False, old=False) + response.body
