"""Where a redirect leads, and what is told there."""

from __future__ import annotations

import pytest

from fastws.client.redirects import REDIRECTS, headers_for, redirected
from fastws.client.url import parse
from fastws.errors import RedirectError

PLACES = [
    ("ws://a/b/c?d", "e", "ws://a/b/e"),
    ("ws://a/b/c?d", "/e?f", "ws://a/e?f"),
    ("ws://a/b/c?d", "?f", "ws://a/b/c?f"),
    ("ws://a/b/c?d", "../x", "ws://a/x"),
    ("ws://a/b", "//c/d", "ws://c/d"),
    ("wss://a/b", "//c/d", "wss://c/d"),
    ("ws://a/b", "ws://c:1/d", "ws://c:1/d"),
    ("ws://a/b", "wss://a/b", "wss://a/b"),
    ("ws://a/b", "http://c/", "ws://c/"),
    ("wss://a/b", "https://c/d", "wss://c/d"),
    ("ws://a/b", "https://c/d", "wss://c/d"),
    ("ws://a:1/b", "/e#part", "ws://a:1/e"),
    ("ws://[::1]:1/b", "/e", "ws://[::1]:1/e"),
    ("ws://a/b", "/grüße", "ws://a/gr%C3%BC%C3%9Fe"),
]


@pytest.mark.parametrize("status", sorted(REDIRECTS))
def test_every_redirect_leads_to_its_location(status):
    assert redirected(parse("ws://a/b"), status, "/c") == parse("ws://a/c")


@pytest.mark.parametrize(("url", "location", "there"), PLACES)
def test_a_location_may_be_relative(url, location, there):
    assert str(redirected(parse(url), 302, location)) == there


@pytest.mark.parametrize("location", ["ws://a/b", "http://a/b", "ws://c/d"])
def test_what_was_said_with_tls_is_not_said_without(location):
    with pytest.raises(RedirectError, match="not said without it"):
        redirected(parse("wss://a/b"), 301, location)


@pytest.mark.parametrize("location", [None, ""])
def test_a_redirect_says_where_to(location):
    with pytest.raises(RedirectError, match="does not say where to"):
        redirected(parse("ws://a/b"), 302, location)


@pytest.mark.parametrize("location", ["ftp://a/", "mailto:ada@a", "//[::1", "/a b", "/\r\n", "/a\tb", "javascript:x"])
def test_a_location_is_a_url_of_a_websocket(location):
    with pytest.raises(RedirectError, match="no URL of a WebSocket"):
        redirected(parse("ws://a/b"), 302, location)


SAME = [
    ("ws://a/b", "ws://a:80/c", True),
    ("wss://a/b", "https://a/c", True),
    ("ws://a/b", "wss://a/b", True),
    ("ws://a:8080/b", "wss://a/b", False),
    ("ws://a/b", "wss://a:8443/b", False),
    ("ws://a/b", "ws://a:81/b", False),
    ("ws://a/b", "ws://b.a/b", False),
    ("ws://b.a/b", "ws://a/b", False),
    ("ws://a/b", "wss://c/b", False),
]


@pytest.mark.parametrize(("url", "location", "may"), SAME)
def test_secrets_stay_with_their_origin(url, location, may):
    target = parse(url.replace("://", "://ada:secret@"))
    there = redirected(target, 302, location)
    headers = [("Authorization", "Bearer x"), ("cookie", "a=b"), ("Proxy-Authorization", "x"), ("User-Agent", "me")]
    assert headers_for(headers, target, there) == (headers if may else headers[-1:])
    assert there.auth == (("ada", "secret") if may else None)


def test_the_password_of_a_location_is_not_ours():
    assert redirected(parse("ws://a/b"), 302, "ws://eve:trap@c/").auth is None
    assert redirected(parse("ws://ada:secret@a/b"), 302, "ws://eve:trap@a/").auth == ("ada", "secret")


def test_an_error_shows_no_password():
    with pytest.raises(RedirectError) as raised:
        redirected(parse("wss://ada:secret@a/b"), 302, "ws://a/b")
    assert "secret" not in str(raised.value)
