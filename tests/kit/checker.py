"""A checker of all that a client gets: every byte from the opening handshake on belongs to a frame that is right.

Clients and wires feed it as bytes arrive, whether a test reads them or not, so that a stream which is damaged where
nobody looks is found all the same.
"""

from __future__ import annotations

from . import reference

LARGEST = 1 << 26  # bytes of a payload; a damaged header announces more, or what never comes

damage: list[str] = []  # what was found since the last test


class Checker:
    """Reads one server's frames, in whatever pieces they come."""

    def __init__(self, *, compressed: bool = False) -> None:
        self._compressed = compressed
        self._data = bytearray()
        self._ended = False  # a close frame came, or something wrong
        self._count = 0

    def feed(self, data: bytes) -> None:
        self._data += data
        try:
            while not self._ended and self._take_frame():
                self._count += 1
            if self._ended and self._data:
                raise ValueError("bytes behind the close frame")
        except ValueError as error:
            damage.append(f"frame {self._count}: {error}: {bytes(self._data[:60])!r}")
            self._ended = True
            self._data.clear()

    def _take_frame(self) -> bool:
        """Take a frame off the front; False while it is not complete."""
        data = self._data
        if len(data) < 2:
            return False
        opcode, compressed = data[0] & 0x0F, bool(data[0] & 0x40)
        self._check_first(data[0], data[1], opcode, compressed)
        extended = {126: 2, 127: 8}.get(data[1], 0)
        start = 2 + extended
        if len(data) < start:
            return False
        length = int.from_bytes(data[2:start], "big") if extended else data[1]
        if length < {0: 0, 2: 126, 8: 1 << 16}[extended] or length > LARGEST:
            raise ValueError(f"a length of {length} in {extended} bytes")
        if len(data) < start + length:
            return False
        if not compressed:
            self._check_payload(opcode, bytes(data[start : start + length]))
        del data[: start + length]
        return True

    def _check_first(self, first: int, second: int, opcode: int, compressed: bool) -> None:
        if not first & 0x80 or first & 0x30 or second & 0x80:
            raise ValueError("a fragment, a reserved bit or a masked frame")
        if opcode not in (reference.TEXT, reference.BINARY, reference.CLOSE, reference.PING, reference.PONG):
            raise ValueError(f"opcode {opcode}")
        if compressed and (opcode >= reference.CLOSE or not self._compressed):
            raise ValueError("RSV1 where nothing is compressed")
        if opcode >= reference.CLOSE and second > 125:
            raise ValueError("a long control frame")

    def _check_payload(self, opcode: int, payload: bytes) -> None:
        if opcode == reference.TEXT:
            payload.decode()
        elif opcode == reference.CLOSE:
            self._ended = True
            try:
                reference.parse_close(payload)
            except reference.Violation as violation:
                raise ValueError("a close frame that is wrong") from violation


def found() -> list[str]:
    """What was found since the last call."""
    messages = damage.copy()
    damage.clear()
    return messages
