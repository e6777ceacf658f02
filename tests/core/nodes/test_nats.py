"""The protocol of NATS: what servers say, in any pieces, and what is said to them."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._speedups import NatsProtocolError, NatsReader, NatsWriter

from ...fuzz.nats import Listener, meaning, read

READ = [
    (b"MSG room.a 7 5\r\nhello\r\n", [("message", b"room.a", b"hello")]),
    (b"MSG a 1 0\r\n\r\n", [("message", b"a", b"")]),
    (b"MSG a 1 reply.to 2\r\n\r\n\r\n", [("message", b"a", b"\r\n")]),
    (b"MSG  a  1   1 \r\nx\r\n", [("message", b"a", b"x")]),
    (
        b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\nMSG ab 1 1\r\nz\r\n",
        [("message", b"a", b"x"), ("message", b"a", b"y"), ("message", b"ab", b"z")],
    ),
    (b"HMSG a 1 22 24\r\nNATS/1.0\r\nKey: Val\r\n\r\nhi\r\n", [("message", b"a", b"hi")]),
    (b"HMSG a 1 reply 12 12\r\nNATS/1.0\r\n\r\n\r\n", [("message", b"a", b"")]),
    (b"HMSG a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", [("status", b"a", b"503")]),
    (b'INFO {"max_payload":1048576}\r\n', [("info", b'{"max_payload":1048576}')]),
    (b"PING\r\nPONG\r\n+OK\r\n", [("ping",), ("pong",)]),
    (b"-ERR 'Authorization Violation'\r\n", [("error", b" 'Authorization Violation'")]),
    (b"INFO " + b"x" * 65529 + b"\r\n", [("info", b"x" * 65529)]),
    (b"MSG a 1 100000\r\n" + b"y" * 100_000 + b"\r\n", [("message", b"a", b"y" * 100_000)]),
]
MALFORMED = {
    "an operation that there is not": b"MSX a 1 1\r\nx\r\n",
    "an operation in small letters": b"ping\r\n",
    "an operation and more": b"PING PONG\r\n",
    "an empty line": b"\r\n",
    "a line without CR": b"PING\n",
    "no length": b"MSG a 1\r\n",
    "too many arguments": b"MSG a 1 b c 1\r\nx\r\n",
    "no arguments": b"MSG \r\n",
    "a length that is no number": b"MSG a 1 1x\r\nx\r\n",
    "a negative length": b"MSG a 1 -1\r\n\r\n",
    "a length beyond all limits": b"MSG a 1 67108865\r\n",
    "a length that overflows": b"MSG a 1 18446744073709551617\r\n",
    "a payload that is longer": b"MSG a 1 1\r\nxy\r\n",
    "a payload that ends with CR alone": b"MSG a 1 1\r\nx\rMSG",
    "headers that are longer than all": b"HMSG a 1 13 12\r\nNATS/1.0\r\n\r\n\r\n",
    "headers that are too short to be any": b"HMSG a 1 11 12\r\nNATS/1.0\r\n\r\n\r\n",
    "headers of another protocol": b"HMSG a 1 12 12\r\nNOTS/1.0\r\n\r\n\r\n",
    "headers that do not end": b"HMSG a 1 12 12\r\nNATS/1.0\r\nab\r\n",
    "a line that is too long": b"INFO " + b"x" * 65530 + b"\r\n",
    "a line that does not end": b"INFO " + b"x" * 65532,
}


def by_bytes(wire: bytes) -> list[bytes]:
    step = 1 if len(wire) < 1000 else 997
    return [wire[start : start + step] for start in range(0, len(wire), step)]


@pytest.mark.parametrize(("wire", "told"), READ)
def test_all_that_is_complete_is_told_in_order(wire, told):
    assert read([wire]) == told
    assert read(by_bytes(wire)) == told
    assert read([wire + b"PING\r\nMSG a 1"]) == [*told, ("ping",)]
    assert read([b"PONG\r\nMSG b 1 1\r\n!\r\n" + wire[:9], wire[9:]]) == [("pong",), ("message", b"b", b"!"), *told]


@pytest.mark.parametrize(("wire", "told"), [case for case in READ if case[0] != b"PING\r\nPONG\r\n+OK\r\n"])
def test_what_is_not_complete_is_not_told(wire, told):
    assert read([wire[:-1]]) == told[:-1]


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_one_error(name):
    wire = MALFORMED[name]
    for pieces in ([wire], by_bytes(wire), [b"PING\r\n" + wire, b"PING\r\n"]):
        told = read(pieces)
        assert told[-1] == ("malformed",)
        assert len(told) == 1 + (pieces[0][:6] == b"PING\r\n")


def test_an_error_tells_nothing_of_what_came():
    with pytest.raises(NatsProtocolError) as caught:
        NatsReader().feed(b"s3cret\r\n", Listener())
    assert str(caught.value) == "a line is of no operation that there is"


def test_the_exception_of_a_receiver_goes_through():
    class Failing(Listener):
        def received(self, subject, payload):
            raise LookupError(subject)

    with pytest.raises(LookupError):
        NatsReader().feed(b"MSG a 1 1\r\nx\r\n", Failing())


def test_a_subject_that_comes_again_is_the_same_object():
    told = read([b"MSG a.b 1 1\r\nx\r\nMSG a.b 1 1\r\ny\r\n", b"MSG a.b 1 1\r\nz\r\n"])
    assert len({id(subject) for _, subject, _ in told}) == 1


def test_a_payload_is_nobody_else_s():
    [(_, _, payload)] = read([b"MSG a.b 1 3\r\nxyz\r\n"])
    assert sys.getrefcount(payload) <= 3
    assert hash(payload) == hash(b"xyz")


OPERATIONS = st.one_of(
    st.builds(
        lambda subject, reply, payload: b"MSG %b 1 %b%d\r\n%b\r\n" % (subject, reply, len(payload), payload),
        st.sampled_from([b"a", b"room.a", b"room.b"]),
        st.sampled_from([b"", b"r "]),
        st.binary(max_size=40),
    ),
    st.builds(
        lambda headers, payload: (
            b"HMSG a 1 %d %d\r\n%b%b\r\n" % (len(headers), len(headers) + len(payload), headers, payload)
        ),
        st.sampled_from([b"NATS/1.0\r\n\r\n", b"NATS/1.0 404 No Messages\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"]),
        st.binary(max_size=10),
    ),
    st.sampled_from(
        [b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'x'\r\n", b'INFO {"a":1}\r\n', b"MSG a 1\r\n", b"?\r\n"]
    ),
)


@given(st.lists(OPERATIONS, max_size=6), st.data())
def test_every_cut_makes_no_difference(operations, data):
    wire = b"".join(operations)
    expected = list(meaning(wire))
    for cut in range(len(wire) + 1):
        assert read([wire[:cut], wire[cut:]]) == expected
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    assert read([wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]) == expected


# --- What is said


def writer(limit: int = 1 << 20, max_payload: int = 1 << 20) -> NatsWriter:
    made = NatsWriter()
    made.limit, made.max_payload = limit, max_payload
    return made


def test_what_is_collected_is_taken_once():
    out = writer()
    assert out.publish(b"room.a", b"hello")
    out.subscribe(b"room.b")
    out.unsubscribe(b"room.c")
    assert out.publish(b"a", b"")
    expected = b"PUB room.a 5\r\nhello\r\nSUB room.b room.b\r\nUNSUB room.c\r\nPUB a 0\r\n\r\n"
    assert out.size == len(expected)
    assert out.take() == expected
    assert (out.size, out.take()) == (0, b"")


@pytest.mark.parametrize("length", [0, 1, 9, 10, 99, 100, 65536, 1 << 20])
def test_the_length_of_a_payload_is_written_out(length):
    out = writer(2 << 20)
    assert out.publish(b"a", b"x" * length)
    assert out.take() == b"PUB a %d\r\n%b\r\n" % (length, b"x" * length)


def test_what_is_beyond_a_limit_is_not_taken_and_leaves_nothing():
    out = writer(limit=200, max_payload=100)
    assert not out.publish(b"a", b"x" * 101)
    assert out.publish(b"a", b"x" * 100)
    assert not out.publish(b"a", b"x" * 100)
    assert out.take() == b"PUB a 100\r\n" + b"x" * 100 + b"\r\n"
    out.limit = 0
    assert not out.publish(b"a", b"")
    out.subscribe(b"a")
    assert out.take() == b"SUB a a\r\n"


def test_a_writer_takes_nothing_before_it_is_told_to():
    assert not NatsWriter().publish(b"a", b"")


def test_much_is_collected_and_forgotten():
    out = writer(limit=64 << 20)
    for _ in range(40):
        assert out.publish(b"a", bytes(1 << 20))
    assert out.size == 40 * (len(b"PUB a 1048576\r\n\r\n") + (1 << 20))
    out.clear()
    assert out.publish(b"a", b"x")
    assert out.take() == b"PUB a 1\r\nx\r\n"


@pytest.mark.parametrize("subject", [b"", b"a b", b"a\r\nPING", b"a\n", b"\0", b"a\t", b"x" * 2001])
def test_a_subject_that_would_be_another_operation_is_refused(subject):
    out = writer()
    for call in (lambda: out.publish(subject, b""), lambda: out.subscribe(subject), lambda: out.unsubscribe(subject)):
        with pytest.raises(ValueError, match="a subject has"):
            call()
    assert out.size == 0


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b.c"]), st.binary(max_size=300)), max_size=20))
def test_messages_are_written_one_after_the_other(messages):
    out = writer()
    for subject, payload in messages:
        assert out.publish(subject, payload)
    assert out.take() == b"".join(b"PUB %b %d\r\n%b\r\n" % (s, len(payload), payload) for s, payload in messages)
