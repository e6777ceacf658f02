"""core/wire/frame.pxi: a frame as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._speedups import FrameReader, build_frame

from ...kit import reference
from ...kit.reference import BINARY, CLOSE, PING, PONG, TEXT

KEY = b"\x37\xfa\x21\x3d"
# Both sides of every change of the length's form, and of the lengths at which the core copies otherwise
LENGTHS = [
    0,
    1,
    7,
    8,
    9,
    31,
    32,
    33,
    124,
    125,
    126,
    127,
    128,
    255,
    256,
    32767,
    32768,
    32769,
    65534,
    65535,
    65536,
    65537,
]


@pytest.mark.parametrize(
    ("opcode", "payload", "key", "expected"),
    [
        (TEXT, b"Hello", None, b"\x81\x05Hello"),
        (TEXT, b"Hello", KEY, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        (PING, b"Hello", None, b"\x89\x05Hello"),
        (PONG, b"Hello", KEY, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        (BINARY, bytes(256), None, b"\x82\x7e\x01\x00" + bytes(256)),
        (BINARY, bytes(65536), None, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + bytes(65536)),
        (CLOSE, b"", None, b"\x88\x00"),
        (CLOSE, b"\x03\xe8bye", None, b"\x88\x05\x03\xe8bye"),
        (TEXT, b"", KEY, b"\x81\x80\x37\xfa\x21\x3d"),
    ],
)
def test_the_examples_of_the_rfc_come_out_byte_for_byte(opcode, payload, key, expected):
    assert build_frame(opcode, payload, key) == expected == reference.frame(opcode, payload, key=key)


@pytest.mark.parametrize(
    ("length", "head"),
    [
        (125, b"\x82\x7d"),
        (126, b"\x82\x7e\x00\x7e"),
        (127, b"\x82\x7e\x00\x7f"),
        (65535, b"\x82\x7e\xff\xff"),
        (65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        (16909060, b"\x82\x7f\x00\x00\x00\x00\x01\x02\x03\x04"),
    ],
)
def test_the_length_is_written_in_its_shortest_form(length, head):
    frame = build_frame(BINARY, bytes(length))
    assert frame[: len(head)] == head
    assert len(frame) == len(head) + length


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("key", [None, KEY], ids=["unmasked", "masked"])
def test_what_is_built_is_read_back_by_the_other_role(length, key):
    payload = bytes(i & 0xFF for i in range(length))
    frame = build_frame(BINARY, payload, key)
    assert frame == reference.frame(BINARY, payload, key=key)
    assert FrameReader(client=key is None).feed(frame) == [(BINARY, payload)]


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_a_masking_key_has_four_bytes(key):
    with pytest.raises(ValueError, match="4 bytes"):
        build_frame(TEXT, b"Hello", key)


@given(
    st.sampled_from([TEXT, BINARY, CLOSE, PING, PONG]),
    st.binary(max_size=300),
    st.one_of(st.none(), st.binary(min_size=4, max_size=4)),
)
def test_frames_are_built_as_the_reference_builds_them(opcode, payload, key):
    assert build_frame(opcode, payload, key) == reference.frame(opcode, payload, key=key)
