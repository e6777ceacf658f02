"""A WebSocket client in memory, which sends real bytes and says what came: for tests of services.

It answers pings and close frames by itself, as any client does. Besides that it can do what no client should: send
whatever it likes, read as slowly as it likes, and leave without a word.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import os
import re
import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from .._speedups import Connection, FrameReader, build_close_payload, build_frame, check_close_code, read_close_payload
from ..errors import ConfigurationError, FastWSError

if TYPE_CHECKING:
    from ..handshake.mappings import Headers
    from .clock import Clock
    from .exchange import Response
    from .memory import MemoryTransport

__all__ = ["ExpectationError", "Far", "Home", "MemoryClient"]

_Text = str | re.Pattern[str] | Callable[[str], object]
_Binary = bytes | Callable[[bytes], object]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA  # RFC 6455 section 5.2
MAX_MESSAGE_SIZE: Final = 1 << 30  # bytes
SHOWN: Final = 20  # of what came, in the message of an error

_ANYTHING: Final[Any] = object()
_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = 120


class ExpectationError(FastWSError, AssertionError):
    """Something else came than a test expects, or nothing; the message shows what came, in order."""


class Event(NamedTuple):
    """What came: a message, a close frame, or the end of the connection.

    Attributes:
        kind: ``"text"``, ``"binary"``, ``"close"`` or ``"end"``.
        value: the message, the close code, or what ended the connection.
        reason: of a close frame.
    """

    kind: str
    value: Any
    reason: str = ""

    def __str__(self) -> str:
        if self.kind == "close":
            return f"close {self.value}" + (f" {self.reason!r}" if self.reason else "")
        return f"{self.kind} {_short.repr(self.value)}" if self.kind != "end" else f"the end: {self.value}"


class Home(Protocol):
    """What a client needs of its server; `MemoryServer` is one."""

    @property
    def clock(self) -> Clock:
        """The time."""

    async def settle(self) -> None:
        """Run everything that is under way."""

    async def until(self, condition: Callable[[], object]) -> bool:
        """Run it, and wait for what may come from outside; returns whether the condition holds."""

    def note_arrival(self) -> None:
        """Note that something came."""

    def blame(self, error: ExpectationError) -> BaseException:
        """Return what a test fails with."""


class Far(asyncio.Protocol):
    """The client's end of a connection in memory.

    Attributes:
        on_data: called with the bytes that came.
        on_end: called with the reason when there will be no more.
    """

    def __init__(self, on_data: Callable[[bytes], object], on_end: Callable[[str], object]) -> None:
        self.on_data = on_data
        self.on_end = on_end

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self.on_data(data)

    def eof_received(self) -> None:
        """Note the end of the server's direction; the transport closes ours."""
        self.on_end("the server ended its direction")

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self.on_end("the connection was reset" if error else "the connection was closed")


class MemoryClient:
    """A client of a server in memory, made by `MemoryServer.connect`.

    Attributes:
        headers: the header fields of the response to the opening handshake.
        subprotocol: the one in use, or None.
        connection: the server's side of it, as handlers know it.
        address: host and port that the server sees.
        answers: whether it answers pings and close frames by itself, as it should.
        pings: the payloads of all pings that came.
        pongs: the payloads of all pongs that came.
    """

    def __init__(
        self, server: Home, response: Response, near: MemoryTransport, far: MemoryTransport, *, answers: bool
    ) -> None:
        self._server = server
        self._near = near  # the server's end
        self._far = far
        self.headers: Headers = response.headers
        self.subprotocol: str | None = response.headers.get("sec-websocket-protocol")
        self.connection: Connection = near.get_protocol()
        self.address: tuple[str, int] = near.get_extra_info("peername")
        self.answers = answers
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self._reader = _reader_for(response.headers)
        self._events: list[Event] = []
        self._expected = 0  # of the events, those that were
        self._fragment: int | None = None
        self._close_sent: int | None = None
        self._close: Event | None = None
        self._ended = False

    # --- What it says.

    async def send(self, message: str | bytes) -> None:
        """Send a message, as text or as binary, and run what follows from it."""
        if isinstance(message, str):
            self._say(TEXT, message.encode())
        else:
            self._say(BINARY, bytes(message))
        await self._server.settle()

    async def send_json(self, value: object) -> None:
        """Send a value as JSON, in a text message."""
        await self.send(jsonlib.dumps(value))

    async def ping(self, data: bytes | None = None) -> float:
        """Send a ping and wait for its pong; returns the seconds between them, by the clock of the server.

        Args:
            data: 125 bytes at most; None is some that no other ping has.

        Raises:
            ExpectationError: the server does not answer.
        """
        data = os.urandom(8) if data is None else data
        began, answered = self._server.clock.time(), len(self.pongs)
        self._say(PING, data)
        if not await self._server.until(lambda: data in self.pongs[answered:]):
            raise self._mismatch("a pong")
        return self._server.clock.time() - began

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close: send a close frame, and wait for the server's and for the end of the connection.

        Args:
            code: any that may be sent (RFC 6455 section 7.4); for others there is `send_raw`.
            reason: for people.

        Raises:
            ExpectationError: the server does not answer; what it sent before the answer is left to be expected.
        """
        check_close_code(code)
        self._send_close(build_close_payload(code, reason), code)
        if not await self._server.until(lambda: self._ended):
            raise self._mismatch("the answer to a close frame")

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, whatever they mean."""
        self._far.write(data)

    def fragment(self, size: int | None) -> None:
        """Send messages in frames of so many bytes of payload (RFC 6455 section 5.4); None sends each in one again."""
        self._fragment = _positive(size, "fragment")

    def byte_by_byte(self, size: int | None = 1) -> None:
        """Have the server read what is sent byte by byte, or in pieces of a size; None lets all pass at once again."""
        self._far.piece = _positive(size, "byte_by_byte")

    def _say(self, opcode: int, payload: bytes) -> None:
        size = self._fragment if opcode in (TEXT, BINARY) else None
        parts = [payload] if size is None else [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        for number, part in enumerate(parts):
            frame = bytearray(build_frame(0 if number else opcode, part, os.urandom(4)))
            if number < len(parts) - 1:
                frame[0] &= 0x7F  # without FIN
            self._far.write(frame)

    def _send_close(self, payload: bytes, code: int) -> None:
        if self._close_sent is None:
            self._close_sent = code
            self._say(CLOSE, payload)

    # --- How it behaves.

    def stall(self) -> None:
        """Read nothing from here on: what the server sends waits with it, but for one write that is under way."""
        self._near.hold()

    def read(self, length: int | None = None) -> None:
        """Read so many bytes more while it stalls; None goes on to read whatever comes."""
        if length is None:
            self._near.let_go()
        else:
            self._near.let_through(length)

    def cut(self) -> None:
        """Lose the network: nothing passes any more in either direction, and nobody is told."""
        self._near.cut()
        self._far.cut()

    def reset(self) -> None:
        """Leave with a reset (RST): the server loses the connection, and what was under way."""
        self._far.reset()

    def half_close(self) -> None:
        """End the direction to the server (FIN), without a close frame, and go on reading."""
        self._far.write_eof()

    # --- What came.

    @property
    def received(self) -> list[str | bytes]:
        """All messages that came so far, whether they were expected or not."""
        return [event.value for event in self._events if event.kind in ("text", "binary")]

    @property
    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return not self._ended and self._close is None and self._close_sent is None

    @property
    def close_code(self) -> int | None:
        """The close code once the connection is closed: the server's, or 1006 without one; before, None."""
        if self._close is not None:
            return int(self._close.value)
        return 1006 if self._ended else None

    @property
    def close_reason(self) -> str | None:
        """The reason that belongs to `close_code`."""
        return None if self.close_code is None else self._close.reason if self._close is not None else ""

    @property
    def was_clean(self) -> bool:
        """Whether both close frames were exchanged (RFC 6455 section 7.1.4)."""
        return self._close is not None and self._close_sent is not None

    def take(self, data: bytes) -> None:
        """Take what the server sent; the transport calls."""
        for opcode, payload in self._reader.feed(data):
            self._take_event(opcode, payload)
        self._server.note_arrival()

    def end(self, reason: str) -> None:
        """Note that no more will come; the transport calls."""
        if not self._ended:
            self._ended = True
            if self._close is None:
                self._events.append(Event("end", reason))
            self._server.note_arrival()

    def _take_event(self, opcode: int, payload: Any) -> None:
        if payload is None:
            self._events.append(Event("end", f"the server broke the protocol, for which a client closes with {opcode}"))
        elif opcode in (TEXT, BINARY):
            self._events.append(Event("text" if opcode == TEXT else "binary", payload))
        elif opcode == CLOSE:
            self._close = Event("close", *read_close_payload(payload))
            self._events.append(self._close)
            if self.answers:
                self._send_close(payload[:2], self._close.value)
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            self.pings.append(payload)
            if self.answers:
                self._say(PONG, payload)

    # --- What is expected.

    async def expect_text(self, expected: _Text = _ANYTHING) -> str:
        """Expect that the next that comes is a text message, and return it.

        Args:
            expected: the text; or a compiled pattern, which is searched in it; or a function, which is to return
                something true for it. Without one any text is right.

        Raises:
            ExpectationError: something else comes, or nothing.
            Exception: a handler has failed, which is why.
        """
        return str(await self._expect("text", expected))

    async def expect_json(self, expected: object = _ANYTHING) -> Any:
        """Expect a text message that is JSON, and return its value.

        Args:
            expected: the value, or a function, which is to return something true for it. Without one any is right.

        Raises:
            ExpectationError: something else comes, or nothing; or the text is not JSON.
        """
        return await self._expect("json", expected)

    async def expect_binary(self, expected: _Binary = _ANYTHING) -> bytes:
        """Expect a binary message, and return it; `expected` as for `expect_text`."""
        return bytes(await self._expect("binary", expected))

    async def expect_close(self, code: int | None = None, reason: _Text = _ANYTHING) -> int:
        """Expect that the server closes, and return the close code.

        Args:
            code: as the server sends it; 1006 is an end without a close frame, and None is any.
            reason: that goes with it, as for `expect_text`.
        """
        wanted = "a close" if code is None else f"close {code}"
        event = await self._next(wanted)
        found = 1006 if event.kind == "end" else event.value
        if event.kind not in ("close", "end") or code not in (None, found) or not _fits(reason, event.reason):
            raise self._mismatch(wanted)
        self._expected += 1
        return int(found)

    async def expect_nothing(self) -> None:
        """Expect that nothing comes of all that is under way: it is run first, and nothing is waited for.

        Raises:
            ExpectationError: something has come that was not expected yet.
        """
        await self._server.settle()
        if self._expected < len(self._events):
            raise self._mismatch("nothing")

    async def _expect(self, kind: str, expected: Any) -> Any:
        wanted = kind if expected is _ANYTHING else f"{kind} {_short.repr(expected)}"
        event = await self._next(wanted)
        value = event.value
        if event.kind != ("text" if kind == "json" else kind):
            raise self._mismatch(wanted)
        if kind == "json":
            value = self._decode(value)
        if not _fits(expected, value):
            raise self._mismatch(wanted)
        self._expected += 1
        return value

    def _decode(self, text: str) -> Any:
        try:
            return jsonlib.loads(text)
        except ValueError:
            raise self._mismatch("JSON") from None

    async def _next(self, wanted: str) -> Event:
        if not await self._server.until(lambda: self._expected < len(self._events)):
            raise self._mismatch(wanted)
        return self._events[self._expected]

    def _mismatch(self, wanted: str) -> BaseException:
        """Return what a test fails with: a handler's exception, if that is the reason."""
        before = self._events[max(0, self._expected - SHOWN) : self._expected]
        after = self._events[self._expected : self._expected + SHOWN]
        lines = [
            f"expected {wanted}, but {'got ' + str(after[0]) if after else 'nothing came, and nothing is under way'}"
        ]
        lines += [f"  expected before: {event}" for event in before]
        lines += [f"  came:            {event}" for event in after]
        return self._server.blame(ExpectationError("\n".join(lines)))

    def __repr__(self) -> str:
        state = "open" if self.is_open else f"closed with {self.close_code}" if self.close_code else "closing"
        return f"<MemoryClient {self.address[1]}, {state}, {len(self.received)} messages>"


def _fits(expected: Any, value: Any) -> bool:
    if expected is _ANYTHING:
        return True
    if isinstance(expected, re.Pattern):
        return expected.search(value) is not None
    return bool(expected(value)) if callable(expected) else bool(expected == value)


def _positive(size: int | None, what: str) -> int | None:
    if size is not None and size < 1:
        raise ConfigurationError(f"client.{what}({size!r}): give a number of bytes, 1 or more, or None")
    return size


def _reader_for(headers: Headers) -> FrameReader:
    """Return a reader of a server's frames, compressed as the response says (RFC 7692 section 7.1)."""
    extension = headers.get("sec-websocket-extensions", "")
    if "permessage-deflate" not in extension:
        return FrameReader(client=True, max_message_size=MAX_MESSAGE_SIZE)
    bits = re.search(r"server_max_window_bits=(\d+)", extension)
    takeover = "server_no_context_takeover" not in extension
    return FrameReader(
        client=True, max_message_size=MAX_MESSAGE_SIZE, window_bits=int(bits[1]) if bits else 15, takeover=takeover
    )
