"""Which proxy a connection goes through."""

from __future__ import annotations

import pytest

from fastws.client.proxies import Proxy, proxy_for
from fastws.client.url import parse
from fastws.errors import ConfigurationError


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Set variables; those of whoever runs the tests are gone."""
    for scheme in ("ws", "wss", "http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


def chosen(url: str, given: bool | str | None = True) -> str | None:
    proxy = proxy_for(parse(url), given)
    return None if proxy is None else str(proxy)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://p", Proxy("http", "p", 80)),
        ("https://p/", Proxy("https", "p", 443)),
        ("HTTP://P:3128", Proxy("http", "p", 3128)),
        ("socks5://[::1]:9050", Proxy("socks5", "::1", 9050)),
        ("socks5h://p", Proxy("socks5h", "p", 1080)),
        ("socks4://p", Proxy("socks4", "p", 1080)),
        ("socks4a://p", Proxy("socks4a", "p", 1080)),
        ("http://ada:s%40@p:1", Proxy("http", "p", 1, ("ada", "s@"))),
    ],
)
def test_a_proxy_is_given_by_its_url(url, proxy):
    assert proxy_for(parse("ws://a"), url) == proxy


WRONG = {
    "p:3128": "give None, True or the URL",
    "ftp://p": "give None, True or the URL",
    "http://p/path": "give None, True or the URL",
    "http://p?q": "give None, True or the URL",
    "": "give None, True or the URL",
    "http://": "names no host",
    "http://p:0": "a port is a number",
    "socks5://ü:x@p": "percent-encode",
    "socks5://%C3%BC:x@p": "are ASCII",
    f"socks5://{'a' * 256}:x@p": "no longer than 255",
}


@pytest.mark.parametrize(("url", "words"), WRONG.items())
def test_a_wrong_proxy_is_refused(url, words):
    with pytest.raises(ConfigurationError, match=words):
        proxy_for(parse("ws://a"), url)


@pytest.mark.parametrize("given", [False, 3128, b"http://p"])
def test_a_proxy_is_nothing_else(given):
    with pytest.raises(ConfigurationError, match="give None, True or the URL"):
        proxy_for(parse("ws://a"), given)


@pytest.mark.parametrize("url", ["http://ada:secret@p/path", "http://ada:secret@p:x", "ftp://ada:secret@p"])
def test_an_error_shows_no_password(url):
    with pytest.raises(ConfigurationError) as raised:
        proxy_for(parse("ws://a"), url)
    assert "secret" not in str(raised.value)


def test_a_proxy_is_shown_without_its_password():
    proxy = proxy_for(parse("ws://a"), "http://ada:secret@p")
    assert str(proxy) == "http://p:80"
    assert "secret" not in repr(proxy)


def test_without_variables_there_is_no_proxy():
    assert chosen("ws://a") is None


FIRST = [
    ({"http_proxy": "http://h"}, "http://h:80", None),
    ({"https_proxy": "http://s"}, None, "http://s:80"),
    ({"HTTP_PROXY": "http://h", "HTTPS_PROXY": "http://s"}, "http://h:80", "http://s:80"),
    ({"all_proxy": "socks5://a"}, "socks5://a:1080", "socks5://a:1080"),
    ({"all_proxy": "socks5://a", "https_proxy": "http://s"}, "socks5://a:1080", "http://s:80"),
    ({"http_proxy": "http://h", "ws_proxy": "http://w"}, "http://w:80", None),
    ({"https_proxy": "http://s", "wss_proxy": "http://w"}, None, "http://w:80"),
    ({"http_proxy": "h:3128"}, "http://h:3128", None),
    ({"http_proxy": ""}, None, None),
]


@pytest.mark.parametrize(("variables", "plain", "secure"), FIRST)
def test_the_first_variable_of_the_scheme_is_taken(environment, variables, plain, secure):
    environment(**variables)
    assert (chosen("ws://a"), chosen("wss://a")) == (plain, secure)


def test_a_server_of_cgi_does_not_believe_the_header_proxy(environment):
    environment(HTTP_PROXY="http://evil", REQUEST_METHOD="GET")
    assert chosen("ws://a") is None


def test_no_proxy_is_asked_for_where_none_is_wanted(environment):
    environment(http_proxy="http://h")
    assert chosen("ws://a", None) is None
    assert chosen("ws://a", "http://p") == "http://p:80"


SPARED = [
    ("*", "ws://a", True),
    ("a", "ws://a", True),
    ("a", "ws://b.a", True),
    (".a", "ws://b.a", True),
    ("a", "ws://ba", False),
    ("b, a", "ws://a", True),
    ("A.example", "ws://a.example", True),
    ("a:80", "ws://a", True),
    ("a:81", "ws://a", False),
    ("a:81", "ws://a:81", True),
    ("10.0.0.1", "ws://10.0.0.1", True),
    ("10.0.0.0/8", "ws://10.9.8.7", True),
    ("10.0.0.0/8", "ws://11.0.0.1", False),
    ("10.0.0.0/8", "ws://a", False),
    ("10.1.1.1/8:81", "ws://10.9.8.7:81", True),
    ("10.1.1.1/8:81", "ws://10.9.8.7:82", False),
    ("2001:db8::/32", "ws://[2001:db8::7]", True),
    ("2001:DB8::7", "ws://[2001:db8::7]", True),
    ("[2001:db8::7]", "ws://[2001:db8::7]", True),
    ("[2001:db8::7]:81", "ws://[2001:db8::7]:81", True),
    ("[2001:db8::7]:81", "ws://[2001:db8::7]", False),
    ("", "ws://a", False),
    (",", "ws://a", False),
    ("::::, /, [, a:b, 10.0.0.0/99", "ws://10.0.0.1", False),
]


@pytest.mark.parametrize(("spared", "url", "is_spared"), SPARED)
def test_no_proxy_lists_whom_to_reach_without(environment, spared, url, is_spared):
    environment(http_proxy="http://h", no_proxy=spared)
    assert (chosen(url) is None) is is_spared


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_this_machine_is_reached_without_the_proxy_of_the_environment(environment, host):
    environment(http_proxy="http://h")
    assert chosen(f"ws://{host}:9090") is None
    assert chosen(f"ws://{host}:9090", "http://p") == "http://p:80"


def test_a_wrong_proxy_of_the_environment_is_refused(environment):
    environment(http_proxy="ftp://h")
    with pytest.raises(ConfigurationError, match=r"of the environment, proxy='ftp://h': .*proxy=None goes without"):
        chosen("ws://a")
