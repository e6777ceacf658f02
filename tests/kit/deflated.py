"""Compressed messages as a client makes and reads them (RFC 7692 section 7.2)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from fastws.handshake.deflate import Deflate

from .client import take_frame

RSV1 = 0x40


def deflate(data: bytes, *, wbits: int = 15, level: int = 6) -> bytes:
    """The payload of a compressed message."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -wbits)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Inflating:
    """Reads what a server sends; `compressed` counts the messages that had to be inflated."""

    def __init__(self, extension: Deflate | None) -> None:
        self.extension = extension
        self._stream = None
        self.compressed = 0

    def _inflate(self, data: bytes) -> bytes:
        if self._stream is None or not self.extension.send_takeover:
            self._stream = zlib.decompressobj(-self.extension.send_window_bits)
        self.compressed += 1
        return self._stream.decompress(data + b"\0\0\xff\xff")

    def frames(self, stream: bytes) -> Iterator[tuple[int, bytes]]:
        """The frames of a stream that ends with the last of them, as they were before they were compressed."""
        rest = bytearray(stream)
        while rest:
            compressed = rest[0] & RSV1
            rest[0] &= ~RSV1
            opcode, payload = take_frame(rest)
            yield opcode, self._inflate(payload) if compressed else payload
