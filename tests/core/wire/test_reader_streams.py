"""core/wire/reader.pxi against the reference: generated streams, right and mutated, cut anywhere."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from ...kit import reference
from ...kit.reference import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from .test_reader import read

KEYS = st.binary(min_size=4, max_size=4)
# Lengths around the changes of the header's form come up as often as all others
LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from([124, 125, 126, 127, 128, 65535, 65536]))
PAYLOADS = LENGTHS.flatmap(lambda length: st.binary(min_size=1, max_size=8).map(lambda unit: (unit * length)[:length]))
TEXTS = st.one_of(st.text(max_size=40), st.sampled_from(["x" * 125, "é" * 63, "\U0001f600" * 40, "y" * 1000]))
CONTROLS = st.tuples(st.sampled_from([CLOSE, PING, PONG]), st.binary(max_size=125), st.just(True))
LIMITS = st.sampled_from([0, 10, 130, 70000, 1 << 20])
PLACES = st.lists(st.integers(0, 1 << 17), max_size=12)


class Stream(bytes):
    """Bytes that a failing test shows in part when they are many."""

    def __repr__(self) -> str:
        return super().__repr__() if len(self) < 2000 else f"<{len(self)} bytes: {self[:200]!r}...>"


@st.composite
def messages(draw) -> list[tuple[int, bytes, bool]]:
    """One message as (opcode, payload, fin) of its frames, with control frames between them."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(TEXTS).encode() if opcode == TEXT else draw(PAYLOADS)
    bounds = [0, *sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4))), len(payload)]
    frames = []
    for start, end in itertools.pairwise(bounds):
        frames += draw(st.lists(CONTROLS, max_size=1)) if frames else []
        frames.append((CONTINUATION if frames else opcode, payload[start:end], False))
    opcode, payload, _ = frames.pop()
    return [*frames, (opcode, payload, True)]


@st.composite
def streams(draw) -> tuple[bool, Stream]:
    """Whether a client reads it, and the bytes of some messages and control frames."""
    client = draw(st.booleans())
    parts = draw(st.lists(st.one_of(messages(), CONTROLS.map(lambda control: [control])), max_size=5))
    return client, Stream(
        b"".join(
            reference.frame(opcode, payload, fin=fin, key=None if client else draw(KEYS))
            for part in parts
            for opcode, payload, fin in part
        )
    )


@st.composite
def mutated(draw) -> tuple[bool, Stream]:
    """The same where some bytes are other ones, are missing or are new."""
    client, stream = draw(streams())
    data = bytearray(stream)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, min(len(data), 300)))
        data[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return client, Stream(data)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces; places beyond its end count from the start again."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def assert_agrees(data: bytes, places: list[int], **options) -> None:
    """The same events and the same code as the reference, whole and cut.

    Where the stream ends inside of a header that is wrong already the reader may say so at once or wait.
    """
    expected = reference.decode(data, **options)
    for pieces in ([data], cut(data, places)):
        events, code = read(pieces, **options)
        assert events == expected.events
        assert code == expected.code or (expected.code is None and code == expected.early)


@given(streams(), PLACES)
def test_streams_that_are_right_never_fail(stream, places):
    client, data = stream
    assert reference.decode(data, client=client).code is None
    assert_agrees(data, places, client=client)


@given(mutated(), PLACES, LIMITS)
@example((True, b"\x82\x7f\x80\0\0\0\0\0\0"), [], 10)
def test_mutated_streams_come_to_what_the_reference_says(stream, places, limit):
    client, data = stream
    assert_agrees(data, places, client=client, max_message_size=limit)


@given(st.booleans(), st.binary(max_size=300), PLACES, LIMITS)
def test_noise_comes_to_what_the_reference_says(client, data, places, limit):
    assert_agrees(data, places, client=client, max_message_size=limit)


@given(st.lists(st.tuples(st.binary(max_size=5), KEYS), min_size=1, max_size=6), PLACES)
def test_any_bytes_in_fragments_of_text_come_to_what_the_reference_says(fragments, places):
    last = len(fragments) - 1
    data = b"".join(
        reference.frame(CONTINUATION if i else TEXT, payload, fin=i == last, key=key)
        for i, (payload, key) in enumerate(fragments)
    )
    assert_agrees(data, places)
