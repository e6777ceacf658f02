"""What is read as which request: each case whole, byte by byte, in other pieces, and behind another request.

The answers to all of this over a socket are in test_http1; here nothing is sent.
"""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws import http
from fastws.http1.reader import Reading, RequestReader
from fastws.options import ServerOptions
from fastws.service.compile import compile
from fastws.service.routing import Router

from ..kit.client import REQUEST
from ..kit.services import at


@at("/chat")
class Chat:
    @http.post("/")
    def take(self, body: bytes) -> bytes:
        return body

    @http.get("/")
    def give(self) -> str:
        return ""


ROUTER = Router([compile(Chat)])
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"


def read(*pieces: bytes, **limits: int) -> list[object]:
    """What answers each request: a status, the body for a resource, or the name of a WebSocket and what follows."""
    reader = RequestReader(ServerOptions(**limits), ROUTER, None)
    found: list[object] = []
    left = b""
    for piece in pieces:
        left += piece
        while left and reader.reading is not Reading.ENDED:
            left = reader.feed(left)
        while reader.exchanges:
            exchange = reader.exchanges.popleft()
            if exchange.response is not None:
                found.append(exchange.response.status)
            elif exchange.service is not None:
                found.append(exchange.service.name)
            else:
                found.append(exchange.request.body)
    return [*found, left] if found and isinstance(found[-1], str) else found


def in_pieces(data: bytes, length: int) -> list[bytes]:
    return [data[start : start + length] for start in range(0, len(data), length)]


def reads_as(data: bytes, *expected: object, **limits: int) -> None:
    assert read(data, **limits) == list(expected)
    for length in (1, 7, 1000):
        if len(data) // length < 2000:
            assert read(*in_pieces(data, length), **limits) == list(expected), length
    assert read(GET + b"\r\n" + data, **limits) == [b"", *expected]


# --- One request, one reading (RFC 9112 sections 2.2, 3, 5 and 6): who sees two is a way in.

REFUSED = {
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "one length twice": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "a list of lengths": POST + b"Content-Length: 1, 1\r\n\r\na",
    "two numbers": POST + b"Content-Length: 1 1\r\n\r\na",
    "a length with a sign": POST + b"Content-Length: +1\r\n\r\na",
    "a negative length": POST + b"Content-Length: -1\r\n\r\na",
    "a length in hex": POST + b"Content-Length: 0x1\r\n\r\na",
    "a length with a vertical tab": POST + b"Content-Length: \x0b1\r\n\r\na",
    "an empty length": POST + b"Content-Length:\r\n\r\n",
    "a length that overflows": POST + b"Content-Length: 18446744073709551616\r\n\r\na",
    "length and chunks": CHUNKED + b"Content-Length: 1\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length and another coding": POST + b"Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na",
    "length and an empty coding": POST + b"Transfer-Encoding:\r\nContent-Length: 1\r\n\r\na",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in two lines": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and then identity": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked, folded": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a blank behind Transfer-Encoding": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks for HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"\r\n0\r\n\r\n",
    "a folded field": GET + b"X: a\r\n b\r\n\r\n",
    "a folded first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a blank before the colon": GET + b"X : a\r\n\r\n",
    "a field without a name": GET + b": a\r\n\r\n",
    "a field without a colon": GET + b"nonsense\r\n\r\n",
    "a name that is no token": GET + b"X(a): a\r\n\r\n",
    "a name in Latin-1": GET + b"X\xe9: a\r\n\r\n",
    "a NUL in a name": GET + b"X\x00: a\r\n\r\n",
    "a NUL in a value": GET + b"X: a\x00b\r\n\r\n",
    "a NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a control character in a value": GET + b"X: \x01\r\n\r\n",
    "a LF at the end of the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "a LF at the end of a field": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "a LF at the end of the head": GET + b"\n",
    "a CR in a value": GET + b"X: a\rb\r\n\r\n",
    "a CR too many": GET + b"X: a\r\r\n\r\n",
    "a CR at the beginning of a field": GET + b"\rX: b\r\n\r\n",
    "a tab in the request line": b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank before the method": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank behind the version": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment in the target": b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a version of two digits": b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
    "a version that there is not": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "a version in lower case": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: a\r\n\r\n",
    "two Hosts in HTTP/1.0": GET.replace(b"1.1", b"1.0") + b"Host: b\r\n\r\n",
    "a Host with a blank": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a list of Hosts": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "a Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a Host with a user": b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "a Host with a port in letters": b"GET / HTTP/1.1\r\nHost: a:http\r\n\r\n",
    "another protocol with two framings": CHUNKED
    + b"Content-Length: 1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n0\r\n\r\n",
    "another protocol with two Hosts": GET + b"Host: b\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
}

CHUNKS_REFUSED = {
    "a LF behind the size": b"1\na\r\n0\r\n\r\n",
    "a LF behind the data": b"1\r\na\n0\r\n\r\n",
    "a LF in an extension": b"1;a\nb\r\na\r\n0\r\n\r\n",
    "a CR in an extension": b"1;a\rb\r\na\r\n0\r\n\r\n",
    "a line end in a quoted extension": b'1;a="\r\n"\r\na\r\n0\r\n\r\n',
    "a NUL in an extension": b"1;a\x00\r\na\r\n0\r\n\r\n",
    "a blank behind the size": b"1 \r\na\r\n0\r\n\r\n",
    "a blank before the size": b" 1\r\na\r\n0\r\n\r\n",
    "a size with 0x": b"0x1\r\na\r\n0\r\n\r\n",
    "a size with a sign": b"+1\r\na\r\n0\r\n\r\n",
    "a negative size": b"-1\r\na\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\na\r\n0\r\n\r\n",
    "a size that overflows": b"10000000000000001\r\na\r\n0\r\n\r\n",
    "no size": b"\r\na\r\n0\r\n\r\n",
    "an extension alone": b";a\r\na\r\n0\r\n\r\n",
    "more data than the size": b"1\r\nab\r\n0\r\n\r\n",
    "less data than the size": b"3\r\nab\r\n0\r\n\r\n",
    "a LF behind a trailer": b"1\r\na\r\n0\r\nX: b\n\r\n",
    "a LF at the end": b"1\r\na\r\n0\r\n\n",
    "a length as a trailer": b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a coding as a trailer": b"1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a trailer that is no field": b"1\r\na\r\n0\r\nX Y: b\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(data):
    reads_as(data, 400)
    assert read(data + GET + b"\r\n") == [400], "and what follows is not read"


@pytest.mark.parametrize("body", CHUNKS_REFUSED.values(), ids=CHUNKS_REFUSED)
def test_chunks_that_could_end_in_two_places_are_refused(body):
    reads_as(CHUNKED + b"\r\n" + body, 400)
    assert read(CHUNKED + b"\r\n" + body + GET + b"\r\n") == [400], "and what follows is not read"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
        (POST + b'Transfer-Encoding: "chunked"\r\n\r\n', 501),
        (POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        (POST + b"Content-Length: 18446744073709551615\r\n\r\n", 413),
        (POST + b"Content-Length: %b1\r\n\r\na" % (b"0" * 5000), 413),
        (POST + b"Content-Length: 1\r\nExpect: 200-ok\r\n\r\n", 417),
        (POST + b"Content-Length: 1\r\nExpect: 100-continue\r\nExpect: x\r\n\r\n", 417),
    ],
)
def test_what_is_not_spoken_here_is_told_so(data, status, caplog):
    reads_as(data, status)
    assert not caplog.records


WELCOME = {
    "leading line ends": (b"\r\n\r\n" + GET + b"\r\n", b""),
    "blanks around a value": (POST + b"Content-Length:\t 1 \t\r\n\r\na", b"a"),
    "a length with zeros": (POST + b"Content-Length: 0001\r\n\r\na", b"a"),
    "a body for GET": (GET + b"Content-Length: 1\r\n\r\na", b"a"),
    "an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b""),
    "a Host with a port": (b"GET / HTTP/1.1\r\nHost: a-1.example_:80\r\n\r\n", b""),
    "an address as Host": (b"GET / HTTP/1.1\r\nHost: [::1]:9090\r\n\r\n", b""),
    "a target with an authority, which counts": (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    "HTTP/1.0 without Host": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b""),
    "a name with an underscore, which is another": (GET + b"Transfer_Encoding: chunked\r\n\r\n", b""),
    "a size with zeros and extensions": (CHUNKED + b'\r\n001;a;b=c;d="e"\r\na\r\n0;f\r\n\r\n', b"a"),
    "trailers, which say nothing": (CHUNKED + b"\r\n1\r\na\r\n0\r\nUpgrade: websocket\r\nHost: b\r\n\r\n", b"a"),
    "another protocol": (POST + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na", b"a"),
}


@pytest.mark.parametrize(("data", "body"), WELCOME.values(), ids=WELCOME)
def test_what_is_unusual_and_clear_is_read(data, body):
    reads_as(data, body)
    reads_as(data + GET + b"\r\n", body, b"")


OPENING = REQUEST % (b"/chat", b"")


def test_all_that_follows_an_upgrade_is_left():
    frames = b"\x81\x80\x00\x00\x00\x00" + GET + b"\r\n" + b"x" * 100_000
    assert read(OPENING + frames) == ["Chat", frames]
    assert read(*in_pieces(OPENING + frames, 1000)) == ["Chat", frames]
    assert read(GET + b"\r\n" + OPENING + frames) == [b"", "Chat", frames]


# --- Limits.

LIMIT = 1000
SHORT = {"max_head_size": LIMIT}


def padded(start: bytes, padding: bytes, end: bytes):
    """Make a head of a size: what does not fit of a padding of several bytes goes into a field of its own."""

    def of(size: int) -> bytes:
        count, rest = divmod(size - len(start) - len(end), len(padding))
        if rest:
            return start + padding * (count - 3) + b"Y:" + b"y" * (rest + 3 * len(padding) - 4) + b"\r\n" + end
        return start + padding * count + end

    return of


HEADS = {
    "a long target": padded(b"GET /?", b"a", b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a long name": padded(GET + b"X", b"x", b": a\r\n\r\n"),
    "a long value": padded(GET + b"X: ", b"a", b"\r\n\r\n"),
    "a value behind many blanks": padded(GET + b"X:", b" ", b"a\r\n\r\n"),
    "a value before many blanks": padded(GET + b"X: a", b"\t", b"\r\n\r\n"),
    "many tiny fields": padded(GET, b"X:\r\n", b"\r\n"),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_is_as_large_as_the_limit_and_no_byte_larger(head):
    limits = {**SHORT, "max_head_fields": LIMIT}
    for size, answer in ((LIMIT, b""), (LIMIT + 1, 431), (100 * LIMIT, 431)):
        data = head(size)
        assert len(data) == size
        for length in (size, 1, 7, 999):
            assert read(*in_pieces(data, length), **limits) == [answer], (size, length)


@pytest.mark.parametrize("start", [b"GET /?", GET + b"X", GET + b"X: ", GET + b"X:", GET])
def test_a_head_without_an_end_is_refused_at_the_limit(start):
    for filler in (b"a", b" ", b"X:y\r\n"):
        data = (start + filler * LIMIT)[:LIMIT]
        for length in (len(data), 1, 7):
            pieces = in_pieces(data, length)
            assert read(*pieces, **SHORT, max_head_fields=LIMIT) in ([431], [400])
            assert read(*pieces[:-1], **SHORT, max_head_fields=LIMIT) in ([], [400])


def test_a_head_behind_another_request_is_bounded_too():
    for size in (LIMIT + 4, 100 * LIMIT):
        assert read(GET + b"\r\n" + HEADS["a long value"](size), **SHORT) == [b"", 431]


def test_line_ends_between_requests_are_bounded():
    assert read(GET + b"\r\n" + b"\r\n" * 100 + GET + b"\r\n", **SHORT) == [b"", b""]
    for length in (1, 1 << 20):
        assert read(*in_pieces(GET + b"\r\n" + b"\r\n" * 3 * LIMIT, length), **SHORT) == [b"", 431]


@pytest.mark.parametrize("length", [1, 1 << 20])
def test_as_many_fields_as_the_limit_are_taken_and_no_more(length):
    for count, answer in ((8, b""), (9, 431)):
        data = GET + b"X: a\r\n" * (count - 1) + b"\r\n"
        assert read(*in_pieces(data, length), max_head_fields=8) == [answer]


@pytest.mark.parametrize(
    "body",
    [
        b"1;" + b"x" * 3 * LIMIT,
        b"1;a=" + b"x" * 3 * LIMIT + b"\r\na\r\n0\r\n\r\n",
        b"0" * 3 * LIMIT + b"1\r\na\r\n0\r\n\r\n",
        b"1\r\na\r\n0\r\n" + b"X: y\r\n" * LIMIT,
        b"1\r\na\r\n0\r\nX: " + b"y" * 3 * LIMIT + b"\r\n\r\n",
        b"1\r\na\r\n0\r\n" + b"X:\r\n" * LIMIT + b"\r\n",
    ],
    ids=["an extension without end", "a long extension", "zeros", "trailers without end", "a long trailer", "trailers"],
)
def test_what_frames_a_body_is_bounded_as_a_head_is(body):
    data = CHUNKED + b"\r\n" + body
    for length in (len(data), 1, 999):
        assert read(*in_pieces(data, length), **SHORT) == [431], length


def test_a_body_of_many_chunks_is_counted_without_its_framing():
    chunks = b"1;ext\r\na\r\n" * LIMIT
    for limit, answer in ((LIMIT, b"a" * LIMIT), (LIMIT - 1, 413)):
        assert read(CHUNKED + b"\r\n" + chunks + b"0\r\n\r\n", max_body_size=limit, **SHORT) == [answer]


def test_a_large_body_is_not_a_large_head():
    body = b"x" * 300_000
    data = POST + b"Content-Length: 300000\r\n\r\n" + body + GET + b"\r\n"
    for length in (len(data), 1000, 100_000):
        assert read(*in_pieces(data, length), **SHORT) == [body, b""]


@pytest.mark.parametrize("fields", [b"", b"X:y\r\n" * 20])
def test_another_protocol_s_head_may_be_as_large(fields):
    start = GET + fields + b"Upgrade: h2c\r\nConnection: Upgrade\r\nX: "
    data = padded(start, b"a", b"\r\n\r\n")(LIMIT)
    assert read(data, **SHORT) == [b""]
    assert read(*in_pieces(data, 1), **SHORT) == [b""]


# --- Whatever comes.

TOKENS = [
    b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"Host: a\r\n", b"Content-Length: 3\r\n", b"\r\n", b"abc", b"\n",
    b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n", b"0\r\n\r\n", b"X: y\r\n", b"\r", b" ", b":", b"\x00",
    b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"Connection: Upgrade\r\n", b"Connection: close\r\n",
]  # fmt: skip


def test_what_follows_the_last_request_is_nothing():
    data = GET + b"Connection: close\r\n\r\n" + GET
    for length in (1, 10, len(data)):
        assert read(*in_pieces(data, length)) == [b""]


@given(st.sampled_from([b"", GET, POST, CHUNKED]), st.lists(st.sampled_from(TOKENS), max_size=14), st.integers(1, 40))
def test_the_same_bytes_are_the_same_requests_however_they_are_cut(start, tokens, length):
    data = start + b"".join(tokens)
    assert read(*in_pieces(data, length)) == read(data)


def test_a_body_in_tiny_chunks_takes_no_more_memory_than_it_may_have():
    reader = RequestReader(ServerOptions(), ROUTER, None)
    data = CHUNKED + b"\r\n" + b"2\r\nxy\r\n" * 100_000
    tracemalloc.start()
    try:
        while data:
            data = reader.feed(data)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000
