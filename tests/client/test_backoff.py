"""When to try again, and when not to."""

from __future__ import annotations

import random
import ssl
import time
import types

import hypothesis
import pytest
from hypothesis import strategies

from fastws.client.backoff import Backoff, hint_of, is_permanent
from fastws.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionClosed,
    DialError,
    InvalidHandshake,
    InvalidStatus,
    OpenTimeoutError,
    ProxyError,
    RedirectError,
    WrongThreadError,
)
from fastws.http import Headers
from fastws.server.drain import Drain

LOST = ConnectionClosed(1006)


def refused(status: int, **fields: str) -> InvalidStatus:
    raw = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in fields.items()]
    return InvalidStatus(status, Headers(raw))


def delays(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next(LOST) for _ in range(count)]


def test_the_bound_doubles_up_to_the_cap():
    assert delays(Backoff(60, lambda: 1.0), 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_cap_may_be_below_the_first_bound():
    assert delays(Backoff(0.25, lambda: 1.0), 3) == [0.25, 0.25, 0.25]
    assert delays(Backoff(0, random.random), 3) == [0, 0, 0]


def test_the_delay_is_drawn_evenly_below_the_bound():
    draw = random.Random(7).random
    drawn = [Backoff(60, draw).next(LOST) for _ in range(4000)]
    shares = [sum(place <= delay * 4 < place + 1 for delay in drawn) / len(drawn) for place in range(4)]
    assert sum(shares) == 1
    assert all(0.22 < share < 0.28 for share in shares)


def test_attempts_are_counted():
    backoff = Backoff(60, lambda: 0.5)
    assert (backoff.attempt, backoff.delay) == (0, 0)
    backoff.begin()
    assert (backoff.attempt, backoff.delay) == (1, 0)
    backoff.next(LOST)
    assert (backoff.attempt, backoff.delay) == (2, 0.5)


def test_only_a_connection_that_lived_for_a_while_begins_anew():
    backoff = Backoff(60, lambda: 1.0)
    delays(backoff, 3)
    backoff.lived(9.9)
    assert (backoff.next(LOST), backoff.attempt) == (8, 4)
    backoff.lived(10)
    assert (backoff.next(LOST), backoff.attempt) == (1, 1)


def test_a_hint_takes_the_place_of_a_bound():
    backoff = Backoff(60, lambda: 1.0)
    assert backoff.next(ConnectionClosed(1012, "reconnect in 3500 ms")) == 3.5
    assert backoff.next(LOST) == 1
    assert backoff.next(refused(503, Retry_After="30")) == 31
    assert backoff.next(LOST) == 2
    assert backoff.attempt == 4


def test_a_server_that_drains_is_understood():
    site = types.SimpleNamespace(loop=types.SimpleNamespace(time=lambda: 0.0, create_future=lambda: None))
    hint = Drain(site, 60.0, accepts=True, elsewhere=False).hint()
    seconds = hint_of(ConnectionClosed(1012, hint))
    assert 62 <= seconds <= 77


HINTS = [
    (ConnectionClosed(1012, "reconnect in 0 ms"), 0),
    (ConnectionClosed(4000, "reconnect in 1 ms"), 0.001),
    (ConnectionClosed(1012, "reconnect in 999999999 ms"), 3600),
    (ConnectionClosed(1012, "reconnect in 9999999999 ms"), None),
    (ConnectionClosed(1012, "reconnect in -1 ms"), None),
    (ConnectionClosed(1012, "reconnect in ١ ms"), None),
    (ConnectionClosed(1012, "please reconnect in 1 ms"), None),
    (ConnectionClosed(1012), None),
    (refused(503, Retry_After="0"), 0),
    (refused(503, Retry_After="120"), 120),
    (refused(429, Retry_After="999999999999999999999"), 3600),
    (refused(503, Retry_After="soon"), None),
    (refused(503, Retry_After="-1"), None),
    (refused(503, Retry_After="1.5"), None),
    (refused(503, Retry_After=""), None),
    (refused(503), None),
    (refused(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"), 0),
    (refused(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT", Date="Fri, 31 Dec 1999 23:59:29 GMT"), 30),
    (refused(503, Retry_After="Friday, 31-Dec-99 23:59:59 GMT", Date="Fri Dec 31 23:59:29 1999"), 30),
    (refused(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT", Date="Fri, 31 Dec 2000 23:59:29 GMT"), 0),
    (refused(503, Retry_After="Fri, 31 Dec 9999999999 23:59:59 GMT"), None),
    (refused(503, Retry_After="Fri, 99 Foo 1999 99:99:99 GMT"), None),
    (DialError("a:80", "Connection refused"), None),
]


@pytest.mark.parametrize(("error", "seconds"), HINTS)
def test_a_server_says_when_to_come_back(error, seconds):
    assert hint_of(error) == seconds


def test_a_date_without_one_of_the_server_is_compared_with_our_clock(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 946684789.0)
    assert hint_of(refused(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT")) == 10


@hypothesis.given(strategies.text(max_size=40))
def test_any_text_is_a_hint_or_none(text):
    for error in (ConnectionClosed(1012, text), refused(503, Retry_After=text, Date=text)):
        seconds = hint_of(error)
        assert seconds is None or 0 <= seconds <= 3600


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


FOR_GOOD = [
    (ConfigurationError("url: wrong"), True),
    (RedirectError("wss://a/", 302, "ws://a/", "no TLS"), True),
    (refused(400), True),
    (refused(401), True),
    (refused(404), True),
    (refused(499), True),
    (refused(408), False),
    (refused(425), False),
    (refused(429), False),
    (refused(200), False),
    (refused(302), False),
    (refused(500), False),
    (refused(503), False),
    (ProxyError("http://p:80", "407 Who are you?", 407), True),
    (ProxyError("http://p:80", "429 Slowly", 429), False),
    (ProxyError("http://p:80", "502 Bad Gateway", 502), False),
    (ProxyError("socks5://p:80", "Host unreachable", 4), False),
    (ProxyError("http://p:80", "it went away"), False),
    (DialError("a:80", "Connection refused"), False),
    (OpenTimeoutError(10), False),
    (InvalidHandshake("wrong accept key"), False),
    (caused(ConnectError("TLS"), ssl.SSLCertVerificationError("expired")), True),
    (caused(ConnectError("TLS"), caused(OSError("x"), ssl.SSLCertVerificationError("expired"))), True),
    (caused(ConnectError("TLS"), ssl.SSLError("wrong version number")), False),
    (caused(ProxyError("https://p:80", "TLS"), ssl.SSLCertVerificationError("expired")), True),
    (LOST, False),
    (ConnectionClosed(1008), False),
    (WrongThreadError("connect"), True),
]


@pytest.mark.parametrize(("error", "for_good"), FOR_GOOD)
def test_an_attempt_that_would_end_the_same_is_not_made(error, for_good):
    assert is_permanent(error) is for_good
