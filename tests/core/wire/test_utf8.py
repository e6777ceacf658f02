"""core/wire/utf8.h: UTF-8 in pieces, wrong at the first byte that can no longer become right."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._speedups import is_utf8

from ...kit import reference

pytestmark = pytest.mark.usefixtures("vectors")

# Both sides of every boundary that RFC 3629 draws
EDGES = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
LEADS = [0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF]
LEADS += [0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF]

# What can never become UTF-8, and how many of its bytes show it
INVALID = {
    "a continuation byte alone": (b"\x80", 1),
    "the last continuation byte alone": (b"\xbf", 1),
    "a continuation byte too many": (b"\xc3\xa9\x80", 3),
    "a lead in place of a continuation": (b"\xe2\x82\xc2\xac", 3),
    "ASCII in place of a continuation": (b"\xf0\x9f\x98a", 4),
    "overlong NUL": (b"\xc0\x80", 1),
    "overlong slash in two bytes": (b"\xc0\xaf", 1),
    "overlong DEL in two bytes": (b"\xc1\xbf", 1),
    "overlong in three bytes": (b"\xe0\x80\xaf", 2),
    "the longest overlong in three bytes": (b"\xe0\x9f\xbf", 2),
    "overlong in four bytes": (b"\xf0\x80\x80\xaf", 2),
    "the longest overlong in four bytes": (b"\xf0\x8f\xbf\xbf", 2),
    "overlong in five bytes": (b"\xf8\x80\x80\x80\xaf", 1),
    "overlong in six bytes": (b"\xfc\x80\x80\x80\x80\xaf", 1),
    "the first surrogate": (b"\xed\xa0\x80", 2),
    "the last surrogate": (b"\xed\xbf\xbf", 2),
    "a pair of surrogates": (b"\xed\xa1\x8c\xed\xbe\xb4", 2),
    "U+110000": (b"\xf4\x90\x80\x80", 2),
    "a lead of more than U+10FFFF": (b"\xf5\x80\x80\x80", 1),
    "a lead of five bytes": (b"\xfb\xbf\xbf\xbf\xbf", 1),
    "a lead of six bytes": (b"\xfd\xbf\xbf\xbf\xbf\xbf", 1),
    "FE": (b"\xfe", 1),
    "FF": (b"\xff", 1),
}
VALID = {
    "nothing": b"",
    "NUL": b"\x00",
    "ASCII": b"Hello, world",
    "U+7F": b"\x7f",
    "U+80": b"\xc2\x80",
    "U+7FF": b"\xdf\xbf",
    "U+800": b"\xe0\xa0\x80",
    "U+D7FF": b"\xed\x9f\xbf",
    "U+E000": b"\xee\x80\x80",
    "U+FFFE": b"\xef\xbf\xbe",
    "U+FFFF": b"\xef\xbf\xbf",
    "a byte order mark": b"\xef\xbb\xbf",
    "U+10000": b"\xf0\x90\x80\x80",
    "U+10FFFF": b"\xf4\x8f\xbf\xbf",
    "every length after the other": b"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z",
}


def pieces(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("data", VALID.values(), ids=VALID)
def test_what_is_valid_is_valid_whole_and_byte_by_byte(data):
    assert is_utf8(data) is is_utf8(*pieces(data)) is reference.is_utf8(data) is True


@pytest.mark.parametrize(("data", "needed"), INVALID.values(), ids=INVALID)
def test_what_is_invalid_is_so_from_its_first_wrong_byte_on(data, needed):
    assert is_utf8(data[: needed - 1]) is not False
    assert is_utf8(data[:needed]) is is_utf8(*pieces(data[:needed])) is reference.is_utf8(data[:needed]) is False
    assert is_utf8(data) is is_utf8(*pieces(data)) is False


@pytest.mark.parametrize(("data", "needed"), INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("before", range(19))
def test_what_is_invalid_is_found_behind_any_length_of_ascii(data, needed, before):
    assert is_utf8(b"x" * before + data + b"x" * 9) is False


@pytest.mark.parametrize(("data", "needed"), INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("around", ["x", "é", "€", "\U0001f600"])
def test_what_is_invalid_is_found_anywhere_in_a_long_text(data, needed, around):
    unit = around.encode()
    for count in range(64, 64 + 100 // len(unit)):
        text = unit * count + data + unit * 80
        wrong = count * len(unit) + needed
        assert is_utf8(text) is False
        assert is_utf8(text[:wrong]) is False
        assert is_utf8(text[: wrong - 1]) is not False


@pytest.mark.parametrize("length", range(1, 301))
def test_every_length_is_judged_at_every_alignment(length):
    right = ("a" * 40 + "é€\U0001f600" * 30).encode()[:length]
    expected = reference.is_utf8(right)
    for offset in range(33):
        data = memoryview(b"." * offset + right + b"\xff")[offset:]
        assert is_utf8(data[:length]) is expected
        assert is_utf8(data) is False


@pytest.mark.parametrize("unit", ["x", "é", "€", "\U0001f600", "aé€\U0001f600"])
def test_a_long_text_is_judged_the_same_wherever_it_is_cut(unit):
    right = (unit * 400).encode()[:400]
    for data in (right, right[:200] + b"\xc0" + right[201:], right[:399] + b"\xff"):
        expected = reference.is_utf8(data)
        for cut in range(len(data) + 1):
            assert is_utf8(data[:cut], data[cut:]) is expected
            assert is_utf8(data[:cut], data[cut : cut + 1], data[cut + 1 :]) is expected


@pytest.mark.parametrize("data", [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98"])
@pytest.mark.parametrize("before", [b"", b"seven..", b"eight...", "é".encode() * 5])
def test_a_character_that_is_not_complete_is_neither(data, before):
    assert is_utf8(before + data) is is_utf8(*pieces(before + data)) is None


@pytest.mark.parametrize("length", range(40))
def test_one_wrong_byte_is_found_at_every_place(length):
    for place in range(length):
        data = bytearray(b"x" * length)
        data[place] = 0xFF
        assert is_utf8(data) is False


def test_all_pairs_of_bytes_are_judged_as_the_reference_does():
    for data in map(bytes, itertools.product(range(256), repeat=2)):
        assert is_utf8(data) is reference.is_utf8(data), data


@pytest.mark.parametrize("length", [3, 4, 5])
def test_all_sequences_around_the_boundaries_are_judged_as_the_reference_does(length):
    for data in map(bytes, itertools.product(LEADS, *[EDGES] * 3)):
        padded = (data + b"a" * length)[:length]
        assert is_utf8(padded) is reference.is_utf8(padded), padded


@given(st.lists(st.one_of(st.text().map(str.encode), st.binary(max_size=12)), max_size=6))
def test_pieces_cut_anywhere_are_judged_as_the_reference_does(parts):
    assert is_utf8(*parts) is reference.is_utf8(b"".join(parts))


LONG = st.one_of(st.text(max_size=8).map(str.encode), st.binary(max_size=8)).flatmap(
    lambda unit: st.integers(0, 80).map(lambda count: unit * count)
)


@given(st.lists(st.one_of(LONG, st.binary(max_size=4)), max_size=6), st.lists(st.integers(0, 1 << 12), max_size=4))
def test_long_texts_cut_anywhere_are_judged_as_the_reference_does(parts, places):
    data = b"".join(parts)
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    assert is_utf8(*[data[start:end] for start, end in itertools.pairwise(bounds)]) is reference.is_utf8(data)


@given(st.text(min_size=1), st.data())
def test_every_text_is_valid_however_it_is_cut(text, data):
    encoded = text.encode()
    cut = data.draw(st.integers(0, len(encoded)))
    assert is_utf8(encoded[:cut], encoded[cut:]) is True
