"""core/wire/reader.pxi: bytes in; messages and control frames out.

Every case runs in both roles, whole, byte by byte and with a tail, and the reference must say the same. Its frames are
written unmasked, as a server sends them; the same frames masked are what a server reads.
"""

from __future__ import annotations

import pytest

from fastws._speedups import FrameReader, live_objects

from ...kit import reference
from ...kit.reference import BINARY, CLOSE, PING, PONG, TEXT

KEYS = [b"\x37\xfa\x21\x3d", b"\x00\x00\x00\x00", b"\xff\x80\x01\x7f"]
TAIL = b"\x89\x04tail"
LIMIT = 1000


def read(pieces, **options) -> tuple[list[tuple[int, str | bytes]], int | None]:
    """The events and the close code that a reader comes to; it is not asked again after a failure."""
    reader = FrameReader(**options)
    events: list[tuple[int, str | bytes]] = []
    for piece in pieces:
        events += reader.feed(piece)
        if events and events[-1][1] is None:
            return events[:-1], events[-1][0]
    return events, None


def assert_reads(data: bytes, events, code, **options) -> None:
    """Expect this of the stream whole, byte by byte and with a tail."""
    single = [data[i : i + 1] for i in range(len(data))]
    assert read([data], **options) == (events, code)
    assert read(single, **options) == (events, code)
    tail = TAIL if options.get("client") else reference.masked(TAIL, KEYS[0])
    after = [] if code else [(PING, b"tail")]
    assert read([data + tail], **options) == (events + after, code)
    assert read([*single, tail], **options) == (events + after, code)
    outcome = reference.decode(data, **options)
    assert (outcome.events, outcome.code) == (events, code)


def assert_frames_read(frames, events, code) -> None:
    masked = [reference.masked(frame, KEYS[i % 3]) for i, frame in enumerate(frames)]
    assert_reads(b"".join(frames), events, code, client=True, max_message_size=LIMIT)
    assert_reads(b"".join(masked), events, code, max_message_size=LIMIT)


MESSAGES = {
    "text": ([b"\x81\x05Hello"], [(TEXT, "Hello")]),
    "empty text": ([b"\x81\x00"], [(TEXT, "")]),
    "text that is not ASCII": ([b"\x81\x06\xc3\xa9\xf0\x9f\x98\x80"], [(TEXT, "é\U0001f600")]),
    "text with NUL": ([b"\x81\x03a\x00b"], [(TEXT, "a\0b")]),
    "binary": ([b"\x82\x04\x00\xff\x80\x7f"], [(BINARY, b"\x00\xff\x80\x7f")]),
    "empty binary": ([b"\x82\x00"], [(BINARY, b"")]),
    "125 bytes": ([b"\x82\x7d" + b"x" * 125], [(BINARY, b"x" * 125)]),
    "126 bytes": ([b"\x82\x7e\x00\x7e" + b"x" * 126], [(BINARY, b"x" * 126)]),
    "two messages": ([b"\x81\x01a", b"\x82\x01b"], [(TEXT, "a"), (BINARY, b"b")]),
    "ping": ([b"\x89\x05Hello"], [(PING, b"Hello")]),
    "empty ping": ([b"\x89\x00"], [(PING, b"")]),
    "pong": ([b"\x8a\x02\xff\xfe"], [(PONG, b"\xff\xfe")]),
    "the longest ping": ([b"\x89\x7d" + b"p" * 125], [(PING, b"p" * 125)]),
    "close": ([b"\x88\x02\x03\xe8"], [(CLOSE, b"\x03\xe8")]),
    "empty close": ([b"\x88\x00"], [(CLOSE, b"")]),
    "two fragments": ([b"\x01\x03Hel", b"\x80\x02lo"], [(TEXT, "Hello")]),
    "five fragments": (
        [b"\x02\x01a", b"\x00\x01b", b"\x00\x00", b"\x00\x01c", b"\x80\x01d"],
        [(BINARY, b"abcd")],
    ),
    "empty fragments": ([b"\x01\x00", b"\x00\x00", b"\x80\x00"], [(TEXT, "")]),
    "an empty last fragment": ([b"\x01\x02hi", b"\x80\x00"], [(TEXT, "hi")]),
    "a character over two fragments": ([b"\x01\x02\xe2\x82", b"\x80\x01\xac"], [(TEXT, "€")]),
    "a character over four fragments": (
        [b"\x01\x01\xf0", b"\x00\x01\x9f", b"\x00\x01\x98", b"\x80\x01\x80"],
        [(TEXT, "\U0001f600")],
    ),
    "control frames between fragments": (
        [b"\x01\x01a", b"\x89\x01p", b"\x00\x01b", b"\x8a\x00", b"\x89\x7d" + b"q" * 125, b"\x80\x01c"],
        [(PING, b"p"), (PONG, b""), (PING, b"q" * 125), (TEXT, "abc")],
    ),
    "a control frame within a character": (
        [b"\x01\x01\xc3", b"\x89\x02\xff\xff", b"\x80\x01\xa9"],
        [(PING, b"\xff\xff"), (TEXT, "é")],
    ),
    "a close between fragments": ([b"\x01\x01a", b"\x88\x00", b"\x80\x01b"], [(CLOSE, b""), (TEXT, "ab")]),
    "fragments after fragments": (
        [b"\x01\x01a", b"\x80\x01b", b"\x02\x01\xff", b"\x80\x01\xfe", b"\x81\x01c"],
        [(TEXT, "ab"), (BINARY, b"\xff\xfe"), (TEXT, "c")],
    ),
    "the largest message": ([b"\x82\x7e\x03\xe8" + b"x" * 1000], [(BINARY, b"x" * 1000)]),
    "the largest message in fragments": (
        [b"\x02\x7e\x03\xe7" + b"x" * 999, b"\x00\x01y", b"\x80\x00"],
        [(BINARY, b"x" * 999 + b"y")],
    ),
    "the largest message again and again": ([b"\x81\x7e\x03\xe8" + b"x" * 1000] * 3, [(TEXT, "x" * 1000)] * 3),
}

VIOLATIONS = {
    "the first reserved bit": ([b"\xc1\x01a"], 1002),
    "the second reserved bit": ([b"\xa1\x01a"], 1002),
    "the third reserved bit": ([b"\x91\x01a"], 1002),
    "a reserved bit on a ping": ([b"\xc9\x00"], 1002),
    "a continuation of nothing": ([b"\x80\x01a"], 1002),
    "a fragment of nothing": ([b"\x00\x01a"], 1002),
    "a fragmented ping": ([b"\x09\x01a"], 1002),
    "a fragmented pong": ([b"\x0a\x00"], 1002),
    "a fragmented close": ([b"\x08\x02\x03\xe8"], 1002),
    "a ping of 126 bytes": ([b"\x89\x7e\x00\x7e" + b"p" * 126], 1002),
    "a pong of 65536 bytes by its header": ([b"\x8a\x7f\x00\x00\x00\x00\x00\x01\x00\x00"], 1002),
    "a close of 126 bytes": ([b"\x88\x7e\x00\x7e\x03\xe8" + b"r" * 124], 1002),
    "125 bytes in the form of two": ([b"\x82\x7e\x00\x7d" + b"x" * 125], 1002),
    "no bytes in the form of two": ([b"\x82\x7e\x00\x00"], 1002),
    "126 bytes in the form of eight": ([b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x7e" + b"x" * 126], 1002),
    "65535 bytes in the form of eight": ([b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff"], 1002),
    "no bytes in the form of eight": ([b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x00"], 1002),
    "a length of 2**63": ([b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"], 1002),
    "a length of 2**64 - 1": ([b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"], 1002),
    "a length of 2**63 - 1": ([b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"], 1009),
    "a byte too many": ([b"\x82\x7e\x03\xe9"], 1009),
    "a fragment of a byte too many": ([b"\x02\x7e\x03\xe9"], 1009),
    "2**63 - 1 bytes after one": ([b"\x02\x01a", b"\x80\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"], 1009),
    "a byte too many in sum": ([b"\x02\x7e\x03\xe8" + b"x" * 1000, b"\x80\x01"], 1009),
    "a byte too many in many": ([b"\x01\x7d" + b"x" * 125] + [b"\x00\x7d" + b"x" * 125] * 7 + [b"\x80\x01"], 1009),
    "text within a message": ([b"\x01\x01a", b"\x81\x01b"], 1002),
    "a first fragment within a message": ([b"\x01\x01a", b"\x02\x01b"], 1002),
    "text within an empty message": ([b"\x01\x00", b"\x81\x01b"], 1002),
    "text that ends within a character": ([b"\x81\x02\xe2\x82"], 1007),
    "fragments that end within a character": ([b"\x01\x01\xe2", b"\x80\x01\x82"], 1007),
    "an empty last fragment within a character": ([b"\x01\x01\xc3", b"\x80\x00"], 1007),
    "a character broken off by a fragment": ([b"\x01\x01\xc3", b"\x00\x01a"], 1007),
    "bad text before its last fragment": ([b"\x01\x03a\xffb"], 1007),
    "bad text before its frame is complete": ([b"\x81\x7da\xff"], 1007),
} | {f"opcode {opcode}": ([bytes([0x80 | opcode, 0])], 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)}


@pytest.mark.parametrize(("frames", "events"), MESSAGES.values(), ids=MESSAGES)
def test_what_is_right_is_read(frames, events):
    assert_frames_read(frames, events, None)


@pytest.mark.parametrize(("frames", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_what_is_wrong_fails_with_its_code(frames, code):
    assert_frames_read(frames, [], code)


@pytest.mark.parametrize(("frames", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_what_came_before_a_violation_is_still_an_event(frames, code):
    before = [b"\x81\x05Hello", b"\x89\x00"]
    assert_frames_read(before + frames, [(TEXT, "Hello"), (PING, b"")], code)


INVALID_UTF8 = {
    "a continuation byte": b"\x80",
    "overlong in two bytes": b"\xc0\xaf",
    "overlong in three bytes": b"\xe0\x9f\xbf",
    "overlong in four bytes": b"\xf0\x8f\xbf\xbf",
    "a surrogate": b"\xed\xa0\x80",
    "over U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "FF": b"\xff",
    "a character cut by the next": b"\xe2\x82\xc3\xa9",
    "a character cut by ASCII": b"\xf0\x9f\x98 ",
}


@pytest.mark.parametrize("data", INVALID_UTF8.values(), ids=INVALID_UTF8)
def test_text_that_is_not_utf8_fails_with_1007_in_one_frame_or_cut_anywhere(data):
    text = "zażółć ".encode() + data + b" gesture"
    assert_frames_read([reference.frame(TEXT, text)], [], 1007)
    for cut in range(len(text) + 1):
        first, last = reference.frame(TEXT, text[:cut], fin=False), reference.frame(0, text[cut:])
        assert_frames_read([first, last], [], 1007)
        ping_is_read = reference.is_utf8(text[:cut]) is not False
        assert_frames_read([first, b"\x89\x00", last], [(PING, b"")] if ping_is_read else [], 1007)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("length", [*range(1, 41), 63, 64, 65, 95, 97, 127, 128, 129, 191, 193])
def test_one_wrong_byte_is_found_at_every_place_of_a_whole_text(length):
    for place in range(length):
        text = b"x" * place + b"\x80" + b"x" * (length - place - 1)
        for key in KEYS:
            assert read([reference.frame(TEXT, text, key=key)]) == ([], 1007)


@pytest.mark.parametrize("data", INVALID_UTF8.values(), ids=INVALID_UTF8)
def test_binary_may_hold_anything(data):
    assert_frames_read([b"\x02\x01\xff", reference.frame(0, data)], [(BINARY, b"\xff" + data)], None)


def test_a_server_insists_on_masked_frames():
    for frame in (b"\x81\x05Hello", b"\x89\x00", b"\x88\x02\x03\xe8"):
        assert_reads(frame, [], 1002)


def test_a_client_insists_on_unmasked_frames():
    for frame in (b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", b"\x89\x80\0\0\0\0"):
        assert_reads(frame, [], 1002, client=True)


def test_the_masked_example_of_the_rfc_is_read():
    assert_reads(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", [(TEXT, "Hello")], None)


@pytest.mark.parametrize("head", [b"\xc1\xfe", b"\x83\xff", b"\x09\x80", b"\x89\xfe", b"\x88\xff"])
def test_a_bad_start_of_a_header_fails_before_the_rest_is_there(head):
    assert read([head]) == read([head[:1], head[1:]]) == ([], 1002)


def test_a_message_over_the_limit_fails_before_a_byte_of_it_is_kept():
    before = live_objects()
    reader = FrameReader(max_message_size=10)
    assert reader.feed(b"\x82\x8b\0\0\0\0") == [(1009, None)]
    assert live_objects() == before


@pytest.mark.parametrize("length", [125, 126, 127, 4095, 4096, 4097, 65535, 65536, 65537, 200000])
def test_long_messages_are_read_however_their_bytes_arrive(length):
    payload = bytes(i * 7 & 0x7F for i in range(length))
    frame = reference.frame(TEXT, payload, key=KEYS[0])
    expected = [(TEXT, payload.decode())], None
    for step in (len(frame), 65536, 4096, 1000, 13):
        assert read([frame[i : i + step] for i in range(0, len(frame), step)]) == expected


def test_a_limit_of_nothing_takes_empty_messages_only():
    assert_reads(b"\x81\x00", [(TEXT, "")], None, client=True, max_message_size=0)
    assert_reads(b"\x81\x01a", [], 1009, client=True, max_message_size=0)


def test_a_limit_does_not_count_control_frames():
    assert_reads(b"\x89\x7d" + b"p" * 125, [(PING, b"p" * 125)], None, client=True, max_message_size=0)


def test_between_messages_nothing_is_kept():
    before = live_objects()
    reader = FrameReader(client=True)
    for byte in b"\x01\x01a\x89\x01p\x80\x01b\x82\x02xy":
        reader.feed(bytes([byte]))
    assert live_objects() == before
    reader.feed(b"\x01")
    assert live_objects()["partials"] == before["partials"] + 1
    del reader
    assert live_objects() == before


def test_nothing_read_says_nothing():
    assert FrameReader().feed(b"") == []
