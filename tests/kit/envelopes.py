"""What nodes say to each other, byte by byte, as `core/nodes/envelope.pxi` draws it."""

from __future__ import annotations

import struct

TEXT, BINARY, CLOSE, CLAIM, FORGET, CONTROL = 0x1, 0x2, 0x8, 0x10, 0x11, 0x20
AS_SERVICE, CONFLATE = 4, 3  # policies
KEY_NONE, KEY_TEXT, KEY_BYTES, KEY_INT = range(4)
GOES_ON, CONTINUES = 1, 2


def record(
    kind: int, data: bytes = b"", *, policy: int = AS_SERVICE, key_kind: int = KEY_NONE, key: bytes = b"", part: int = 0
) -> bytes:
    head = struct.pack("<BBBBII", kind, policy, key_kind, part, len(key), len(data))
    return head + key + data


def envelope(
    node: int, *records: bytes, sequence: int = 1, epoch: int = 1, flags: int = 0, count: int | None = None
) -> bytes:
    count = len(records) if count is None else count
    return b"FW" + struct.pack("<BBQIIQ", 1, flags, node, epoch, count, sequence) + b"".join(records)
