"""core/wire/mask.h: a payload XOR its masking key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._speedups import mask

from ...kit import reference

pytestmark = pytest.mark.usefixtures("vectors")
KEY = b"\x37\xfa\x21\x3d"
PATTERN = bytes(i * 167 + 13 & 0xFF for i in range(400))


def test_the_example_of_the_rfc_is_masked_as_it_says():
    assert mask(b"Hello", KEY) == b"\x7f\x9f\x4d\x51\x58"


def test_masking_twice_gives_the_payload_back():
    assert mask(mask(PATTERN, KEY), KEY) == PATTERN


def test_the_zero_key_changes_nothing():
    assert mask(PATTERN, b"\0\0\0\0") == PATTERN


@pytest.mark.parametrize("length", range(301))
def test_every_length_is_masked_at_every_alignment_of_the_key(length):
    for done in range(5):
        assert mask(PATTERN[:length], KEY, done) == reference.mask(PATTERN[:length], KEY, done)


@pytest.mark.parametrize("length", range(301))
def test_every_length_is_masked_at_every_alignment_of_the_data(length):
    expected = reference.mask(PATTERN[:length], KEY)
    for offset in range(33):
        assert mask(memoryview(b"." * offset + PATTERN[:length])[offset:], KEY) == expected


@pytest.mark.parametrize("cut", range(301))
def test_a_payload_in_two_pieces_is_masked_like_the_whole(cut):
    assert mask(PATTERN[:cut], KEY) + mask(PATTERN[cut:], KEY, cut) == mask(PATTERN, KEY)


@pytest.mark.parametrize("done", [2**31, 2**31 + 1, 2**32 + 2, 2**62 + 3])
def test_the_key_moves_on_however_much_came_before(done):
    assert mask(b"\0\0\0\0", KEY, done) == KEY[done % 4 :] + KEY[: done % 4]


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_a_key_has_four_bytes(key):
    with pytest.raises(ValueError, match="4 bytes"):
        mask(b"data", key)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_argument_stays_as_it_was(kind):
    data = kind(b"\x01\x02\x03\x04\x05\x06\x07\x08\x09")
    mask(data, KEY)
    assert bytes(data) == b"\x01\x02\x03\x04\x05\x06\x07\x08\x09"


PAYLOADS = st.one_of(st.binary(max_size=600), st.binary(min_size=1, max_size=9).map(lambda unit: unit * 100))


@given(PAYLOADS, st.binary(min_size=4, max_size=4), st.integers(0, 2**40))
def test_the_core_masks_as_the_reference_does(data, key, done):
    assert mask(data, key, done) == reference.mask(data, key, done)
