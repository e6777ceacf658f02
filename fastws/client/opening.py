"""The opening handshake on a transport: the request goes out, the answer is read, and the core takes over.

Theory of operation. httptools (llhttp, strict) parses; its callbacks only note what they see. The head is bounded by
what is parsed before it is complete, interim answers (1xx) included. With status 101 it is checked in the same call in
which its last byte comes, and what lies behind it is frames. With any other status what comes of the body is kept,
within bounds of size and time, for `InvalidStatus`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpResponseParser

from ..errors import FastWSError, InvalidHandshake, InvalidStatus
from ..handshake.client import check
from ..handshake.mappings import Headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..handshake.client import Agreed, Asked

__all__ = ["Opening"]

MAX_HEAD_SIZE: Final = 16384  # bytes
MAX_HEAD_FIELDS: Final = 128
MAX_BODY_SIZE: Final = 1 << 16  # bytes
BODY_TIME: Final = 2.0  # seconds

Fields = list[tuple[bytes, bytes]]


class Opening(asyncio.Protocol):
    """The protocol of a transport until it belongs to the core.

    Args:
        asked: the request.
        open: makes the connection: called with the transport, what was agreed, the fields of the answer, and what came
            behind it.

    Attributes:
        opened: done when `open` has returned, with its result; or why it was not called.
    """

    def __init__(self, asked: Asked, open: Callable[[asyncio.Transport, Agreed, Fields, bytes], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Any] = self._loop.create_future()
        self._asked = asked
        self._open = open
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._head_size = 0
        self._fields: Fields = []
        self._status = 0  # until the head is complete
        self._body = bytearray()
        self._body_end: asyncio.TimerHandle | None = None
        self._agreed: Agreed | None = None

    def give_up(self) -> None:
        """Want it no more: whatever was opened is aborted."""
        if not self.opened.cancel() and not self.opened.cancelled():
            self.opened.exception()  # nobody asks any more
        self._end()

    # --- What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast("asyncio.Transport", transport)
        if self._parser is None:
            self._transport.abort()
        else:
            self._transport.write(self._asked.request)

    def data_received(self, data: bytes) -> None:
        """Read on in the answer."""
        try:
            # Who waits for it may have been cancelled, and not have come to say so
            while data and self._parser is not None and not self.opened.done():
                data = self._feed(data)
        except FastWSError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        """Take note that nothing more comes."""
        if self._status:
            self._refuse()
        else:
            self._fail(InvalidHandshake("the server ends the connection instead of answering"))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Take note that nothing more comes, for whatever reason."""
        if self._parser is not None:
            self.eof_received()

    # --- Reading.

    def _feed(self, data: bytes) -> bytes:
        """Parse a piece, and return what is left to be parsed."""
        assert self._parser is not None
        piece = data if self._status else data[: MAX_HEAD_SIZE - self._head_size]
        self._head_size += len(piece)
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._accept(data[upgrade.args[0] :])
            return b""
        except HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except HttpParserError as error:
            raise InvalidHandshake(f"what the server answers is no HTTP: {error}") from None
        if not self._status and self._head_size >= MAX_HEAD_SIZE:
            raise InvalidHandshake(f"the head of the answer is larger than {MAX_HEAD_SIZE} bytes")
        return data[len(piece) :]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a field; the parser calls this, as it calls all of these."""
        if len(self._fields) >= MAX_HEAD_FIELDS:
            raise InvalidHandshake(f"the answer has more than {MAX_HEAD_FIELDS} header fields")
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Decide what the answer means."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status == 101:
            self._agreed = check(self._asked, self._parser.get_http_version(), self._fields)
        elif status >= 200:
            self._status = status
            self._body_end = self._loop.call_later(BODY_TIME, self._refuse)

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._body += body[: MAX_BODY_SIZE - len(self._body)]
        if len(self._body) == MAX_BODY_SIZE:
            self._refuse()

    def on_message_complete(self) -> None:
        """End with the last byte of an answer that counts; an interim one says nothing."""
        if self._status:
            self._refuse()
        elif self._agreed is None:
            self._fields = []

    # --- The end.

    def _accept(self, rest: bytes) -> None:
        assert self._transport is not None
        self._parser = None
        if self._agreed is None:
            raise InvalidHandshake("the server switches to something else than was asked for")
        try:
            connection = self._open(self._transport, self._agreed, self._fields, rest)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            self.opened.set_result(connection)

    def _refuse(self) -> None:
        self._fail(InvalidStatus(self._status, Headers(self._fields), bytes(self._body)))

    def _fail(self, error: BaseException) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        self._end()

    def _end(self) -> None:
        self._parser = None
        if self._body_end is not None:
            self._body_end.cancel()
        if self._transport is not None:
            self._transport.abort()
