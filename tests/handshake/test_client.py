"""The opening handshake from the client's side: what is asked, and which answers are none."""

from __future__ import annotations

import base64
import hashlib

import pytest

from fastws.errors import InvalidHandshake
from fastws.handshake.client import ask, check
from fastws.options import ClientOptions

AS_THE_SERVER_LIKES = b", permessage-deflate; client_max_window_bits"


def asked(**options):
    checked = ClientOptions(compression=None, **options) if "compression" not in options else ClientOptions(**options)
    return ask("/chat?x=1", "example.com:8080", checked.headers, checked)


def lines(request: bytes) -> list[bytes]:
    head, end, rest = request.partition(b"\r\n\r\n")
    assert (end, rest) == (b"\r\n\r\n", b"")
    return head.split(b"\r\n")


def answer(question, *fields, without=b""):
    accept = (b"sec-websocket-accept", question.accept)
    usual = ((b"upgrade", b"websocket"), (b"connection", b"Upgrade"), accept)
    return [*(field for field in usual if field[0] != without), *fields]


def test_a_request_has_what_the_rfc_wants_and_what_was_given():
    question = asked(
        subprotocols=["chat", "superchat"],
        headers={"X-Room": "7"},
        origin="https://example.com",
        cookies={"id": "1", "theme": "dark"},
        auth=("user", "p:ss"),
    )
    first, *rest = lines(question.request)
    assert first == b"GET /chat?x=1 HTTP/1.1"
    key = next(line for line in rest if line.startswith(b"Sec-WebSocket-Key: ")).partition(b": ")[2]
    assert len(base64.b64decode(key)) == 16
    assert sorted(line for line in rest if key not in line) == sorted(
        [
            b"Host: example.com:8080",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Protocol: chat, superchat",
            b"X-Room: 7",
            b"Origin: https://example.com",
            b"Cookie: id=1; theme=dark",
            b"Authorization: Basic " + base64.b64encode(b"user:p:ss"),
        ]
    )
    accept = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert question.accept == base64.b64encode(accept)


def test_every_request_has_a_key_of_its_own():
    assert len({asked().accept for _ in range(100)}) == 100


def test_a_host_of_the_callers_takes_the_place_of_that_of_the_url():
    hosts = [line for line in lines(asked(headers=[("host", "other")]).request) if line.lower().startswith(b"host")]
    assert hosts == [b"host: other"]


@pytest.mark.parametrize(
    ("options", "offered"),
    [
        (
            {"compression": "shared"},
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
            + AS_THE_SERVER_LIKES,
        ),
        (
            {"compression": "dedicated"},
            b"permessage-deflate; server_max_window_bits=12; client_max_window_bits" + AS_THE_SERVER_LIKES,
        ),
        (
            {"compression": "dedicated", "compression_window_bits": 15},
            b"permessage-deflate; client_max_window_bits",
        ),
    ],
)
def test_compression_is_offered_as_it_is_wanted_and_then_as_it_can_be(options, offered):
    assert b"Sec-WebSocket-Extensions: " + offered in lines(asked(**options).request)


def test_without_compression_nothing_is_offered():
    assert b"extensions" not in asked(compression=None).request.lower()


def test_an_answer_in_order_is_taken():
    question = asked(subprotocols=["a", "b"])
    agreed = check(question, "1.1", answer(question, (b"sec-websocket-protocol", b"b")))
    assert agreed == ("b", None)


def test_names_of_protocols_and_options_have_no_case():
    question = asked()
    fields = [(b"upgrade", b"WebSocket"), (b"connection", b"keep-alive, upgrade")]
    assert check(question, "1.1", [*fields, (b"sec-websocket-accept", question.accept)]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "without", "words"),
    [
        ((), b"upgrade", "no Upgrade: websocket"),
        (((b"upgrade", b"h2c"),), b"upgrade", "no Upgrade: websocket"),
        (((b"upgrade", b"websocket"),), b"", "says upgrade twice"),
        ((), b"connection", "no Connection: Upgrade"),
        (((b"connection", b"keep-alive"),), b"connection", "no Connection: Upgrade"),
        ((), b"sec-websocket-accept", "does not belong to our Sec-WebSocket-Key"),
        (((b"sec-websocket-accept", b"AAAA"),), b"sec-websocket-accept", "does not belong to our Sec-WebSocket-Key"),
        (((b"sec-websocket-accept", b"AAAA"),), b"", "says sec-websocket-accept twice"),
        (((b"content-length", b"0"),), b"", "announces a body: content-length"),
        (((b"transfer-encoding", b"chunked"),), b"", "announces a body: transfer-encoding"),
        (((b"sec-websocket-protocol", b"c"),), b"", "subprotocol that was not asked for: 'c'"),
        (((b"sec-websocket-protocol", b""),), b"", "subprotocol that was not asked for: ''"),
        (((b"sec-websocket-protocol", b"a, b"),), b"", "subprotocol that was not asked for: 'a, b'"),
        (((b"sec-websocket-protocol", b"A"),), b"", "subprotocol that was not asked for: 'A'"),
        (((b"sec-websocket-protocol", b"a"), (b"sec-websocket-protocol", b"a")), b"", "protocol twice"),
        (((b"sec-websocket-extensions", b"permessage-deflate"),), b"", "not offered: permessage-deflate"),
    ],
)
def test_what_is_missing_or_was_not_asked_for_is_refused(fields, without, words):
    question = asked(subprotocols=["a", "b"])
    with pytest.raises(InvalidHandshake, match=words):
        check(question, "1.1", answer(question, *fields, without=without))


def test_an_old_version_of_http_is_refused():
    question = asked()
    with pytest.raises(InvalidHandshake, match=r"HTTP/1.0"):
        check(question, "1.0", answer(question))


def agree(compression, extensions, **options):
    question = asked(compression=compression, **options)
    fields = [(b"sec-websocket-extensions", line) for line in extensions.split(b"|")]
    return check(question, "1.1", answer(question, *fields)).extension


@pytest.mark.parametrize(
    ("compression", "extensions", "outcome"),
    [
        ("shared", b"permessage-deflate", (15, 15, False, True)),
        ("shared", b"permessage-deflate; server_no_context_takeover", (15, 15, False, False)),
        ("shared", b"permessage-deflate; client_max_window_bits=10", (10, 15, False, True)),
        ("shared", b"permessage-deflate; server_max_window_bits=8", (15, 9, False, True)),
        ("dedicated", b"permessage-deflate", (12, 15, True, True)),
        ("dedicated", b"permessage-deflate; server_max_window_bits=12", (12, 12, True, True)),
        ("dedicated", b"permessage-deflate; client_no_context_takeover", (12, 15, False, True)),
        ("dedicated", b'permessage-deflate; client_max_window_bits="9"', (9, 15, True, True)),
        ("dedicated", b"permessage-deflate; client_max_window_bits=8", (8, 15, True, True)),
        ("shared", b"permessage-deflate|", (15, 15, False, True)),
    ],
)
def test_what_the_server_chose_is_what_is_done(compression, extensions, outcome):
    assert agree(compression, extensions)[1:] == outcome


@pytest.mark.parametrize(
    "extensions",
    [
        b"x-webkit-deflate-frame",
        b"permessage-deflate, permessage-deflate",
        b"permessage-deflate; client_max_window_bits",
        b"permessage-deflate; client_max_window_bits=7",
        b"permessage-deflate; client_max_window_bits=16",
        b"permessage-deflate; client_max_window_bits=09",
        b"permessage-deflate; server_max_window_bits",
        b"permessage-deflate; server_no_context_takeover=1",
        b"permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        b"permessage-deflate; mux=1",
        b"permessage-deflate; ;",
    ],
)
@pytest.mark.parametrize("compression", ["shared", "dedicated"])
def test_what_was_not_offered_or_means_nothing_is_refused(compression, extensions):
    with pytest.raises(InvalidHandshake, match=r"not offered|malformed|none that was offered"):
        agree(compression, extensions)
