"""A close payload means what the reference says; one that we build is as long as it may be, and read back as meant.

Choices: two bytes, the code of the payload that is built; its reason is the rest, once as UTF-8 and once as UTF-16.
"""

from __future__ import annotations

from fastws._speedups import build_close_payload, read_close_payload

from ..kit import reference
from ..kit.reference import Violation

NO_CODE = 1005


def check(data: bytes) -> None:
    try:
        expected = reference.parse_close(data)
    except Violation as violation:
        expected = -violation.code, ""
    assert read_close_payload(data) == expected, expected
    code = int.from_bytes(data[:2], "big")
    check_built(code, data[2:].decode("utf-8", "replace"))
    check_built(code, data[2 : len(data) & ~1].decode("utf-16-le", "surrogatepass"))


def check_built(code: int, reason: str) -> None:
    payload = build_close_payload(code, reason)
    if code == NO_CODE:
        assert payload == b""
        return
    # A lone surrogate is no character: it becomes a question mark
    characters = ["?" if 0xD800 <= ord(character) < 0xE000 else character for character in reason]
    while len("".join(characters).encode()) > 123:
        characters.pop()
    assert payload == code.to_bytes(2, "big") + "".join(characters).encode()


def seeds() -> list[bytes]:
    plain = [b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed"]
    return [*plain, b"\x0b\xb8" + "€".encode() * 41, b"\x13\x87\xff\xd8"]
