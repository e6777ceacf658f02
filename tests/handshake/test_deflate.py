"""Negotiating permessage-deflate, each answer byte by byte (RFC 7692 section 5.1 and 7.1)."""

from __future__ import annotations

import pytest

from fastws.errors import HandshakeError
from fastws.handshake.deflate import Deflate, negotiate
from fastws.options import UpgradeOptions

NO_TAKEOVER = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def options(compression: str | None = "shared", window_bits: int | None = None) -> UpgradeOptions:
    return UpgradeOptions(compression=compression, compression_window_bits=window_bits)


SHARED, DEDICATED = options(), options("dedicated", 15)


@pytest.mark.parametrize(
    ("offer", "answer", "meaning"),
    [
        (b"permessage-deflate", NO_TAKEOVER, (15, 15, False, False)),
        (b"permessage-deflate; client_max_window_bits", NO_TAKEOVER, (15, 15, False, False)),
        (b"permessage-deflate; client_max_window_bits=12", NO_TAKEOVER, (15, 12, False, False)),
        (b"permessage-deflate; client_max_window_bits=8", NO_TAKEOVER, (15, 9, False, False)),
        (
            b"permessage-deflate; server_max_window_bits=10",
            NO_TAKEOVER + b"; server_max_window_bits=10",
            (10, 15, False, False),
        ),
        (
            b'permessage-deflate;server_max_window_bits="15" ;\tserver_no_context_takeover',
            NO_TAKEOVER + b"; server_max_window_bits=15",
            (15, 15, False, False),
        ),
    ],
)
def test_shared_windows_take_nothing_over_in_either_direction(offer, answer, meaning):
    assert negotiate(offer, SHARED) == Deflate(answer, *meaning)


@pytest.mark.parametrize(
    ("offer", "answer", "meaning"),
    [
        (b"permessage-deflate", b"permessage-deflate", (15, 15, True, True)),
        (
            b"permessage-deflate; server_no_context_takeover",
            b"permessage-deflate; server_no_context_takeover",
            (15, 15, False, True),
        ),
        (
            b"permessage-deflate; client_no_context_takeover",
            b"permessage-deflate; client_no_context_takeover",
            (15, 15, True, False),
        ),
        (
            b"permessage-deflate; client_max_window_bits=11; server_max_window_bits=9",
            b"permessage-deflate; server_max_window_bits=9",
            (9, 11, True, True),
        ),
    ],
)
def test_dedicated_windows_take_over_what_the_client_lets_them(offer, answer, meaning):
    assert negotiate(offer, DEDICATED) == Deflate(answer, *meaning)


@pytest.mark.parametrize(
    ("offer", "answer", "meaning"),
    [
        (
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; client_max_window_bits=12",
            (12, 12, True, True),
        ),
        (
            b"permessage-deflate; client_max_window_bits=13",
            b"permessage-deflate; client_max_window_bits=12",
            (12, 12, True, True),
        ),
        (
            b"permessage-deflate; client_max_window_bits=12; server_max_window_bits=14",
            b"permessage-deflate; server_max_window_bits=12",
            (12, 12, True, True),
        ),
    ],
)
def test_no_window_that_lasts_is_larger_than_the_service_allows(offer, answer, meaning):
    assert negotiate(offer, options("dedicated", 12)) == Deflate(answer, *meaning)


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_client_that_cannot_be_limited_keeps_its_window(bits):
    # "client_max_window_bits" may be answered only where it was offered (7.1.2.2)
    answer = Deflate(b"permessage-deflate", bits, 15, True, True)
    assert negotiate(b"permessage-deflate", options("dedicated", bits)) == answer


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("compression", ["shared", "dedicated"])
@pytest.mark.parametrize("offer", [b"", b"; client_max_window_bits", b"; server_no_context_takeover"])
def test_a_server_window_is_not_answered_where_it_was_not_asked_for(offer, compression, bits):
    agreed = negotiate(b"permessage-deflate" + offer, options(compression, bits))
    assert agreed.send_window_bits == bits
    assert b"server_max_window_bits" not in agreed.response


@pytest.mark.parametrize(
    "offer",
    [
        b"permessage-deflate; server_max_window_bits=8",
        b"permessage-deflate; server_max_window_bits",
        b"permessage-deflate; server_max_window_bits=7",
        b"permessage-deflate; server_max_window_bits=16",
        b"permessage-deflate; server_max_window_bits=010",
        b"permessage-deflate; server_max_window_bits=1e1",
        b"permessage-deflate; client_max_window_bits=7",
        b"permessage-deflate; client_max_window_bits=16",
        b"permessage-deflate; client_max_window_bits=09",
        b"permessage-deflate; server_no_context_takeover=1",
        b"permessage-deflate; client_no_context_takeover=true",
        b"permessage-deflate; client_max_window_bits; client_max_window_bits",
        b"permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        b"permessage-deflate; something_else",
        b"permessage-deflate; something=else",
        b"Permessage-Deflate",
        b"x-webkit-deflate-frame",
        b"permessage-bzip2; client_max_window_bits",
        b"",
        b" , ,",
    ],
)
@pytest.mark.parametrize("served", [SHARED, DEDICATED], ids=["shared", "dedicated"])
def test_an_offer_that_cannot_be_honoured_is_declined_and_the_next_one_is_taken(offer, served):
    assert negotiate(offer, served) is None
    taken = negotiate(offer + b", permessage-deflate; server_max_window_bits=10", served)
    assert taken is not None
    assert taken.send_window_bits == 10


def test_the_first_offer_that_can_be_honoured_wins():
    taken = negotiate(b"permessage-deflate; server_max_window_bits=9, permessage-deflate", SHARED)
    assert taken is not None
    assert taken.send_window_bits == 9


@pytest.mark.parametrize(
    "offers",
    [
        b"permessage-deflate;",
        b"permessage-deflate; =10",
        b"permessage-deflate; server_max_window_bits=",
        b'permessage-deflate; server_max_window_bits="10',
        b'permessage-deflate; server_max_window_bits=""',
        b'permessage-deflate; server_max_window_bits="1 0"',
        b"permessage-deflate client_max_window_bits",
        b"permessage-deflate, ;",
        b"(permessage-deflate)",
        b"permessage-deflate\xff",
        b"permessage-deflate\n",
    ],
)
@pytest.mark.parametrize("compression", ["shared", None])
def test_what_is_no_list_of_extensions_is_refused(offers, compression):
    with pytest.raises(HandshakeError) as refused:
        negotiate(offers, options(compression))
    assert (refused.value.status, refused.value.body) == (400, b"Sec-WebSocket-Extensions is malformed\n")


def test_a_service_without_compression_declines_every_offer():
    assert negotiate(b"permessage-deflate", options(None)) is None
