"""The slots of a cluster."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

__all__ = ["SLOTS", "slot_of"]

SLOTS: Final = 16384


def slot_of(channel: bytes) -> int:
    """Return the slot of a channel: a CRC of its name, or of what is between its first braces, if anything is."""
    start = channel.find(b"{") + 1
    end = channel.find(b"}", start) if start else -1
    return crc_hqx(channel[start:end] if end > start else channel, 0) % SLOTS
