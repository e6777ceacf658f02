"""core/wire/message.pxi: a message in the making gathers in the object that its handler will get."""

from __future__ import annotations

import itertools
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._speedups import FrameReader, live_objects

from ...kit import reference
from ...kit.reference import BINARY, TEXT

pytestmark = pytest.mark.usefixtures("vectors")

KEY = b"\x37\xfa\x21\x3d"
LIMIT = 1 << 24
STEPS = [1, 7, 100, 4096, 65536]
MIXED = "zażółć gęślą jaźń 漢字 \U0001f600 "


def head(opcode: int, length: int) -> bytes:
    """The header of a long frame that is masked with zeros."""
    return bytes([0x80 | opcode, 0xFF]) + length.to_bytes(8, "big") + bytes(4)


def read(data: bytes, step: int) -> list[tuple[int, str | bytes | None]]:
    """The events of a stream that comes in pieces of `step` bytes."""
    reader = FrameReader(max_message_size=LIMIT)
    return [event for i in range(0, len(data), step) for event in reader.feed(data[i : i + step])]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("length", [1, 2, 125, 4095, 4096, 4097, 70000])
def test_a_message_in_pieces_is_what_was_sent(length, step):
    data = bytes(i * 7 & 0xFF for i in range(length))
    text = bytes(byte & 0x7F for byte in data)
    assert read(reference.frame(BINARY, data, key=KEY), step) == [(BINARY, data)]
    assert read(reference.frame(TEXT, text, key=KEY), step) == [(TEXT, text.decode())]


@pytest.mark.parametrize("step", [1, 5, 64, 100])
@pytest.mark.parametrize("before", [0, 1, 63, 64, 99, 100, 101, 199, 200, 5000])
def test_a_text_that_is_ascii_at_first_only_is_what_was_sent(before, step):
    text = "x" * before + MIXED + "y" * 300
    assert read(reference.frame(TEXT, text.encode(), key=KEY), step) == [(TEXT, text)]


@pytest.mark.parametrize("lead", [b"", "é".encode() * 50])
@pytest.mark.parametrize("before", [0, 1, 99, 100, 150, 199])
def test_a_wrong_byte_ends_it_in_the_piece_that_brings_it(before, lead):
    payload = lead + b"x" * before + b"\xff" + b"x" * 1000
    frame = reference.frame(TEXT, payload, key=KEY)
    wrong = len(frame) - len(payload) + len(lead) + before
    reader = FrameReader(max_message_size=LIMIT)
    assert reader.feed(frame[:wrong]) == []
    assert reader.feed(frame[wrong : wrong + 1]) == [(1007, None)]


def test_a_text_may_not_end_within_a_character_whatever_came_before():
    for text in (b"x" * 300 + b"\xc3", b"\xc3\xa9" * 300 + b"\xf0\x9f\x98"):
        assert read(reference.frame(TEXT, text, key=KEY), 100) == [(1007, None)]


def test_fragments_of_both_kinds_make_one_text():
    parts = ["x" * 300, "", "é" * 300, "y" * 5000, "\U0001f600"]
    frames = [
        reference.frame(TEXT if i == 0 else 0, part.encode(), fin=i == len(parts) - 1, key=KEY)
        for i, part in enumerate(parts)
    ]
    for step in STEPS:
        assert read(b"".join(frames), step) == [(TEXT, "".join(parts))]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_an_object_is_as_large_as_its_message(opcode):
    """Also when nothing said how long it would become, or a control frame lay between."""
    [(_, whole)] = read(reference.frame(opcode, b"x" * 9001, key=KEY), LIMIT)
    fragments = [b"x" * 4000, b"x" * 5000, b"x"]
    frames = [reference.frame(opcode if i == 0 else 0, part, fin=i == 2, key=KEY) for i, part in enumerate(fragments)]
    for step in (1, 100, 1 << 20):
        [(_, gathered)] = read(b"".join(frames), step)
        assert gathered == whole
        assert sys.getsizeof(gathered) == sys.getsizeof(whole)


@pytest.mark.parametrize("payload", [b"x", "é".encode()])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_memory_is_given_for_what_came_and_not_for_what_was_announced(opcode, payload):
    reader = FrameReader(max_message_size=LIMIT)
    unit = payload * (1000 // len(payload))
    came = 0
    tracemalloc.start()
    try:
        reader.feed(head(opcode, LIMIT))
        for _ in range(300):
            reader.feed(unit)
            came += len(unit)
            kept = tracemalloc.get_traced_memory()[0]
            assert kept < 4 * came + 8192
    finally:
        tracemalloc.stop()


def test_what_was_gathered_goes_with_its_reader():
    before = live_objects()
    tracemalloc.start()
    try:
        for opcode in (TEXT, BINARY):
            reader = FrameReader(max_message_size=LIMIT)
            reader.feed(head(opcode, LIMIT) + b"x" * 200000)
            assert tracemalloc.get_traced_memory()[0] > 200000
            del reader
            assert tracemalloc.get_traced_memory()[0] < 20000
    finally:
        tracemalloc.stop()
    assert live_objects() == before


def test_a_str_that_was_given_away_does_not_change():
    reader = FrameReader(max_message_size=LIMIT)
    frame = reference.frame(TEXT, b"x" * 10000, key=KEY)
    [(_, first)] = [*reader.feed(frame[:5000]), *reader.feed(frame[5000:])]
    reader.feed(reference.frame(TEXT, b"y" * 10000, key=KEY)[:9000])
    assert first == "x" * 10000
    assert hash(first) == hash("x" * 10000)
    assert first.isascii()


@given(
    st.lists(st.tuples(st.sampled_from(["x", "é", "漢", "\U0001f600", "abc"]), st.integers(0, 3000)), max_size=4),
    st.lists(st.integers(0, 1 << 16), max_size=6),
)
def test_texts_cut_anywhere_are_what_was_sent(parts, places):
    text = "".join(unit * count for unit, count in parts)
    frame = reference.frame(TEXT, text.encode(), key=KEY)
    bounds = [0, *sorted(place % (len(frame) + 1) for place in places), len(frame)]
    reader = FrameReader(max_message_size=LIMIT)
    events = [event for start, end in itertools.pairwise(bounds) for event in reader.feed(frame[start:end])]
    assert events == [(TEXT, text)]
