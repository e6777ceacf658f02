"""A pair of transports in memory: what is written to one is received by the protocol of the other, in a later turn.

Bytes pass as they do through a network, and a test may be that network: hold them back, let some of them pass, cut them
into pieces, or lose all of them.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import contextvars

__all__ = ["MemoryTransport", "memory_transports"]

READ_LEN: Final = 1 << 18  # bytes that a protocol without a buffer of its own gets at once


class MemoryTransport(asyncio.Transport):
    """One end of a pair of transports; what is written here is received by the protocol of the other end.

    Args:
        loop: whose turns pass on what was written.
        extra: what `get_extra_info` knows.
        context: in which the protocols of both ends are called; None is that of whoever writes.

    Attributes:
        peer: the other end.
        written: all bytes that were written so far.
        piece: how many bytes the other end receives at once, each piece in a turn of its own; None is all.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        extra: dict[str, Any] | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        super().__init__(extra)
        self._loop = loop
        self._context = context
        self.peer: MemoryTransport
        self.written = bytearray()
        self.piece: int | None = None
        self._protocol: Any = None
        self._buffer = bytearray()
        self._held = False
        self._allowed = 0  # bytes that pass although they are held
        self._cut = False
        self._reading = True
        self._closing = False
        self._eof = False
        self._lost = False
        self._high = 65536
        self._paused = False

    # --- For tests.

    def hold(self) -> None:
        """Keep what is written, as a network does whose other end does not read."""
        self._held = True
        self._allowed = 0

    def let_go(self) -> None:
        """Pass on what was kept, and whatever is written from now on."""
        self._held = False
        self._schedule()

    def let_through(self, length: int) -> None:
        """Pass on so many bytes more, although they are held."""
        self._allowed += length
        self._schedule()

    def cut(self) -> None:
        """Lose what is written from now on, and the end of it, as a network does that is down; nobody is told."""
        self._cut = True
        self._buffer.clear()
        self._schedule()

    def reset(self) -> None:
        """End both ends at once, as a RST does: what was not passed on is lost, and the other end gets an error."""
        self.peer._buffer.clear()
        self._buffer.clear()
        self._loop.call_soon(self.peer._lose, ConnectionResetError("reset by peer"), context=self._context)
        self.abort()

    # --- asyncio.Transport.

    def write(self, data: Any) -> None:
        """Pass the data on in a later turn of the loop."""
        if self._lost or self._closing or self._eof:
            return
        self.written += data
        if self._cut:
            return
        self._buffer += data
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()
        self._schedule()

    def _schedule(self) -> None:
        self._loop.call_soon(self._pass_on, context=self._context)

    def _pass_on(self) -> None:
        if not self.peer._lost:
            self._pass_on_data()
        if self._paused and not self._buffer and not self._lost:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing and not self._buffer:
            self._lose()

    def _pass_on_data(self) -> None:
        while self._buffer and (length := self._length()):
            self._allowed -= length if self._held else 0
            self.peer._receive(self._buffer, length)
            if self.piece is not None and self._buffer:
                self._schedule()
                return
        if (self._eof or self._closing) and not self._buffer and self.peer._reading and not (self._held or self._cut):
            self.peer._receive_eof()

    def _length(self) -> int:
        """Return how many bytes the other end receives now."""
        if not self.peer._reading or self.peer._lost:
            return 0
        most = self._allowed if self._held else sys.maxsize
        return min(len(self._buffer), most, self.piece or READ_LEN)

    def _receive(self, buffer: bytearray, length: int) -> None:
        """Give the protocol the beginning of a buffer, no more than it has room for."""
        get_buffer = getattr(self._protocol, "get_buffer", None)
        if get_buffer is None:
            data = bytes(buffer[:length])
            del buffer[:length]
            self._protocol.data_received(data)
            return
        while length and not self._lost and self._reading:
            room = get_buffer(-1)
            part = min(len(room), length)
            room[:part] = buffer[:part]
            del buffer[:part]
            length -= part
            self._protocol.buffer_updated(part)

    def _receive_eof(self) -> None:
        if not self._lost and not self._closing and not self._protocol.eof_received():
            self.close()

    def _lose(self, error: Exception | None = None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._protocol.connection_lost(error)

    def set_protocol(self, protocol: Any) -> None:
        """Give what arrives to this protocol."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """Return the protocol in use."""
        return self._protocol

    def pause_reading(self) -> None:
        """Leave what arrives with the other end."""
        self._reading = False

    def resume_reading(self) -> None:
        """Receive again."""
        self._reading = True
        self.peer._schedule()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause; it is told to resume when nothing is left."""
        self._high = 65536 if high is None else high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are not passed on yet."""
        return len(self._buffer)

    def can_write_eof(self) -> bool:
        """Return True: each direction ends on its own."""
        return True

    def write_eof(self) -> None:
        """End this direction."""
        self._eof = True
        self._schedule()

    def is_closing(self) -> bool:
        """Tell whether the end has begun."""
        return self._closing or self._lost

    def close(self) -> None:
        """End once everything is passed on."""
        self._closing = True
        self._schedule()

    def abort(self) -> None:
        """End at once; what a network would hold back is lost, and what it would not is on its way."""
        if self._held or not self.peer._reading:
            self._buffer.clear()
        self._closing = True
        self._schedule()
        self._loop.call_soon(self._lose, context=self._context)


def memory_transports(
    loop: asyncio.AbstractEventLoop,
    extras: tuple[dict[str, Any] | None, dict[str, Any] | None] = (None, None),
    context: contextvars.Context | None = None,
) -> tuple[MemoryTransport, MemoryTransport]:
    """Return both ends of a connection in memory.

    Args:
        loop: whose turns pass on what is written.
        extras: what the `get_extra_info` of each end knows.
        context: in which the protocols of both are called; None is that of whoever writes.
    """
    near, far = (MemoryTransport(loop, extra, context) for extra in extras)
    near.peer, far.peer = far, near
    return near, far
