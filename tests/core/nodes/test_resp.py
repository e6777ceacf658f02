"""RESP as Redis and Valkey speak it, against its plain twin in tests/kit/resp.py, whole and in any pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._speedups import RespError, RespProtocolError, RespReader, RespWriter

from ...kit.resp import decode, encode, plain, seen

MESSAGE = b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n"

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=40),
    st.binary(max_size=40).map(lambda text: RespError(text.replace(b"\n", b"").replace(b"\r", b""))),
)
values = st.recursive(scalars, lambda parts: st.lists(parts, max_size=4), max_leaves=8)
messages = st.tuples(st.sampled_from([b"message", b"smessage"]), st.binary(max_size=9), st.binary(max_size=99))
pushes = st.one_of(messages, messages.map(list), st.lists(values, min_size=1, max_size=3).map(tuple))
streams = st.lists(st.one_of(messages, values, pushes), max_size=5)


def cut(wire: bytes, *places: int) -> list[bytes]:
    """The wire in pieces."""
    ends = sorted({0, *(place % (len(wire) + 1) for place in places), len(wire)})
    return [wire[start:end] for start, end in itertools.pairwise(ends)]


@given(streams, st.lists(st.integers(0, 500), max_size=6))
def test_what_was_encoded_is_read_wherever_it_is_cut(stream, places):
    wire = b"".join(map(encode, stream))
    expected = plain(decode(wire, 1 << 20)[0]), False
    assert len(expected[0]) == sum(type(value) is not int for value in stream)
    assert seen(wire) == seen(*cut(wire, *places)) == seen(*(wire[i : i + 1] for i in range(len(wire)))) == expected


def test_a_message_is_read_wherever_it_is_cut_in_two():
    for place in range(len(MESSAGE)):
        assert seen(MESSAGE[:place], MESSAGE[place:] + b"+OK\r\n") == ([("message", b"news", b"hello"), b"OK"], False)


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"+OK\r\n", b"OK"),
        (b"-ERR what\r\n", ("error", b"ERR what")),
        (b"!8\r\nERR\r\nwha\r\n", ("error", b"ERR\r\nwha")),
        (b"=8\r\ntxt:some\r\n", b"some"),
        (b"*1\r\n:-9223372036854775808\r\n", [-(1 << 63)]),
        (b"(3492890328409238509324850943850943825024385\r\n", b"3492890328409238509324850943850943825024385"),
        (b",-inf\r\n", float("-inf")),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b">0\r\n", ()),
        (b"%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n", [b"a", 1, b"b", 2]),
        (b"~2\r\n:1\r\n:2\r\n", [1, 2]),
        (b"|1\r\n+ttl\r\n:3\r\n*2\r\n|1\r\n+a\r\n_\r\n:1\r\n:2\r\n", [1, 2]),
        (b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n", [b"subscribe", b"news", 1]),
        (b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$0\r\n\r\n", ("message", b"news", b"")),
    ],
)
def test_each_type_is_read(wire, value):
    assert seen(wire) == seen(*(wire[i : i + 1] for i in range(len(wire)))) == ([value], False)


def test_how_many_a_publish_has_reached_is_read_and_not_told():
    assert seen(b":1\r\n:0\r\n+OK\r\n:-1\r", b"\n") == ([b"OK"], False)


@pytest.mark.parametrize(
    "wire",
    [
        b"?\r\n",
        b"\r\n",
        b"+OK\n",
        b"+O\nK\r\n",
        b":\r\n",
        b":1x\r\n",
        b":9223372036854775808\r\n",
        b"#x\r\n",
        b"_x\r\n",
        b",one\r\n",
        b"$-2\r\n",
        b"%-1\r\n",
        b">-1\r\n",
        b"*1\r\n>1\r\n:1\r\n",
        b"$2\r\nabcd",
        b"$1073741825\r\n",
        b"*33554433\r\n",
        b"*1\r\n" * 9,
        b"+" + b"x" * 1024,
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_what_is_malformed_ends_the_reader(wire):
    assert seen(b"+OK\r\n" + wire) == seen(b"+OK\r\n", *(wire[i : i + 1] for i in range(len(wire)))) == ([b"OK"], True)


def test_nothing_is_read_after_an_error():
    values: list[object] = []
    reader = RespReader(values.append, values.append)
    for data in (b"?\r\n", b"+OK\r\n"):
        with pytest.raises(RespProtocolError):
            reader.feed(data)
    assert values == []


def test_a_message_that_is_too_long_is_skipped_and_counted():
    long = encode((b"message", b"news", b"x" * 101))
    for pieces in ([long + MESSAGE], [long[:40], long[40:], MESSAGE], [(long + MESSAGE)[:-1], b"\n"]):
        messages: list[bytes] = []
        reader = RespReader(lambda channel, payload, messages=messages: messages.append(payload), print, max_length=100)
        for piece in pieces:
            reader.feed(piece)
        assert (messages, reader.skipped) == ([b"hello"], 1)


def test_a_value_of_many_parts_is_refused_by_what_it_holds_and_not_by_what_it_announces():
    reader = RespReader(print, print)
    reader.feed(b"*33554432\r\n" + b":1\r\n" * 400_000)
    with pytest.raises(RespProtocolError, match="a value is too large"):
        reader.feed(b":1\r\n" * 200_000)


def test_an_error_of_a_function_comes_through_and_ends_the_reader():
    def fail(*arguments: object) -> None:
        raise KeyError("ours")

    for wire in (MESSAGE, b"+OK\r\n"):
        reader = RespReader(fail, fail)
        with pytest.raises(KeyError):
            reader.feed(wire)
        with pytest.raises(RespProtocolError, match="nothing to read"):
            reader.feed(b"+OK\r\n")


def test_an_error_tells_its_code():
    error = RespError(b"MOVED 866 127.0.0.1:7002")
    assert error.code == b"MOVED"
    assert repr(error) == "RespError(b'MOVED 866 127.0.0.1:7002')"


commands = st.lists(st.lists(st.binary(max_size=3000), min_size=1, max_size=5), max_size=8)


@given(commands)
def test_commands_are_arrays_of_strings(stream):
    writer = RespWriter()
    writer.limit = writer.max_payload = 1 << 20
    for arguments in stream:
        if len(arguments) == 3:
            assert writer.publish(*arguments)
        else:
            writer.command(*arguments)
    expected = b"".join(map(encode, stream))
    assert writer.size == len(expected)
    assert writer.take() == expected
    assert (writer.size, writer.take()) == (0, b"")


def test_a_publish_is_not_taken_beyond_a_limit():
    writer = RespWriter()
    assert not writer.publish(b"PUBLISH", b"a", b"")
    writer.limit, writer.max_payload = 1000, 100
    assert not writer.publish(b"PUBLISH", b"a", b"x" * 101)
    taken = 0
    while writer.publish(b"PUBLISH", b"a", b"x" * 100):
        taken += 1
    assert 4 <= taken < 1000 // 100
    assert writer.size == taken * len(encode([b"PUBLISH", b"a", b"x" * 100])) <= 1000


def test_an_argument_that_is_not_bytes_is_refused_and_leaves_nothing():
    writer = RespWriter()
    with pytest.raises(TypeError):
        writer.command(b"PING", "text")
    assert writer.take() == b""
