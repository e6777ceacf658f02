"""A slow, obvious codec for WebSocket frames: what the core is compared with (RFC 6455 section 5, 7.4 and 8.1).

It sees a whole stream at once and looks at every byte on its own. Nothing here is shared with the core.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Violation(Exception):
    """The peer broke the protocol: the connection fails with this close code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


# --- Masking (5.3)


def mask(data: bytes, key: bytes, done: int = 0) -> bytes:
    return bytes(byte ^ key[(done + i) % 4] for i, byte in enumerate(data))


# --- UTF-8 (RFC 3629): the bits of a character say which code points it may still become


def is_utf8(data: bytes) -> bool | None:
    """True for UTF-8, False for what can never become it, None where the last character is not complete."""
    place = 0
    while place < len(data):
        lead = data[place]
        if lead < 0x80:
            length, value, lowest = 1, lead, 0
        elif lead & 0xE0 == 0xC0:
            length, value, lowest = 2, lead & 0x1F, 0x80
        elif lead & 0xF0 == 0xE0:
            length, value, lowest = 3, lead & 0x0F, 0x800
        elif lead & 0xF8 == 0xF0:
            length, value, lowest = 4, lead & 0x07, 0x10000
        else:
            return False
        for byte in data[place + 1 : place + length]:
            if byte & 0xC0 != 0x80:
                return False
            value = value << 6 | byte & 0x3F
        missing = max(0, place + length - len(data))
        first = value << 6 * missing
        last = first | (1 << 6 * missing) - 1
        if not any(max(first, lowest, low) <= min(last, high) for low, high in ((0, 0xD7FF), (0xE000, 0x10FFFF))):
            return False
        if missing:
            return None
        place += length
    return True


# --- Frames out


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, key: bytes | None = None) -> bytes:
    """One frame with the shortest length that holds its payload."""
    first = (0x80 if fin else 0) | opcode
    if len(payload) < 126:
        head = bytes([first, len(payload)])
    elif len(payload) < 1 << 16:
        head = bytes([first, 126]) + len(payload).to_bytes(2, "big")
    else:
        head = bytes([first, 127]) + len(payload).to_bytes(8, "big")
    return head + payload if key is None else masked(head + payload, key)


def masked(unmasked: bytes, key: bytes) -> bytes:
    """The same frame, right or wrong, as a client sends it."""
    head = 2 + {126: 2, 127: 8}.get(unmasked[1], 0)
    return bytes([unmasked[0], unmasked[1] | 0x80]) + unmasked[2:head] + key + mask(unmasked[head:], key)


# --- Frames in


@dataclass
class Outcome:
    """What a stream comes to.

    `early` is for a stream that ends inside of a header whose first two bytes are wrong already: a reader may fail
    with that code, or wait for the rest of the header.
    """

    events: list[tuple[int, str | bytes]] = field(default_factory=list)
    code: int | None = None
    early: int | None = None


def decode(data: bytes, *, client: bool = False, max_message_size: int = 1 << 20) -> Outcome:
    """Read all frames of a stream, in the role of the server or of the client."""
    outcome = Outcome()
    try:
        _decode(data, client, max_message_size, outcome)
    except Violation as violation:
        outcome.code = violation.code
    return outcome


def _decode(data: bytes, client: bool, max_message_size: int, outcome: Outcome) -> None:
    kind, message = None, b""
    while data:
        if len(data) < 2:
            return
        fin, opcode, has_mask, short = data[0] >> 7, data[0] & 15, data[1] >> 7, data[1] & 127
        wrong = not _first_two_are_right(data, in_message=kind is not None, client=client)
        extended = {126: 2, 127: 8}.get(short, 0)
        payload_at = 2 + extended + 4 * has_mask
        if len(data) < payload_at:
            outcome.early = 1002 if wrong else None
            return
        length = int.from_bytes(data[2 : 2 + extended], "big") if extended else short
        if wrong or length >> 63 or length < {0: 0, 2: 126, 8: 1 << 16}[extended]:
            raise Violation(1002)
        if opcode < CLOSE and len(message) + length > max_message_size:
            raise Violation(1009)
        payload = data[payload_at : payload_at + length]
        if has_mask:
            payload = mask(payload, data[payload_at - 4 : payload_at])
        complete = len(payload) == length
        data = data[payload_at + length :]
        if opcode >= CLOSE:
            if complete:
                outcome.events.append((opcode, payload))
            continue
        kind = opcode or kind
        message += payload
        valid = is_utf8(message) if kind == TEXT else True
        if valid is False or (valid is None and fin and complete):
            raise Violation(1007)
        if fin and complete:
            outcome.events.append((kind, message.decode() if kind == TEXT else message))
            kind, message = None, b""


def _first_two_are_right(data: bytes, *, in_message: bool, client: bool) -> bool:
    fin, reserved, opcode, has_mask, short = data[0] >> 7, data[0] >> 4 & 7, data[0] & 15, data[1] >> 7, data[1] & 127
    if reserved or has_mask == client:
        return False
    if opcode in (CLOSE, PING, PONG):
        return bool(fin) and short <= 125
    return opcode == CONTINUATION if in_message else opcode in (TEXT, BINARY)


# --- Close payloads (5.5.1, 7.4)


def parse_close(payload: bytes) -> tuple[int, str]:
    """The code and the reason of a close frame."""
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    registered = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014)
    if len(payload) == 1 or not (code in registered or 3000 <= code <= 4999):
        raise Violation(1002)
    if not is_utf8(payload[2:]):
        raise Violation(1007)
    return code, payload[2:].decode()
