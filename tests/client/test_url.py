"""URLs of WebSockets, RFC 6455 section 3."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from fastws.client.url import Target, parse
from fastws.errors import ConfigurationError

WHOLE = [
    ("ws://example.com", Target(False, "example.com", 80, "/")),
    ("wss://example.com", Target(True, "example.com", 443, "/")),
    ("http://example.com", Target(False, "example.com", 80, "/")),
    ("https://example.com:1", Target(True, "example.com", 1, "/")),
    ("WSS://EXAMPLE.com/Chat", Target(True, "example.com", 443, "/Chat")),
    ("ws://example.com:", Target(False, "example.com", 80, "/")),
    ("ws://example.com:443/", Target(False, "example.com", 443, "/")),
    ("ws://example.com.", Target(False, "example.com.", 80, "/")),
    ("ws://my_host:9090/a/b;c?d=e&f=/?", Target(False, "my_host", 9090, "/a/b;c?d=e&f=/?")),
    ("ws://example.com?a=b", Target(False, "example.com", 80, "/?a=b")),
    ("ws://127.0.0.1:9090/", Target(False, "127.0.0.1", 9090, "/")),
    ("ws://[::1]:9090/", Target(False, "::1", 9090, "/")),
    ("ws://[2001:DB8:0::1]/", Target(False, "2001:db8::1", 80, "/")),
    ("ws://[fe80::1%25eth0]/", Target(False, "fe80::1%eth0", 80, "/")),
]


@pytest.mark.parametrize(("url", "target"), WHOLE)
def test_a_url_is_taken_apart(url, target):
    assert parse(url) == target


@pytest.mark.parametrize(
    ("url", "resource"),
    [
        ("ws://a/grüße", "/gr%C3%BC%C3%9Fe"),
        ("ws://a/%C3%BC", "/%C3%BC"),
        ("ws://a/100%25?q=%20+", "/100%25?q=%20+"),
        ('ws://a/[x]{y}"<z>|^`\\', "/%5Bx%5D%7By%7D%22%3Cz%3E%7C%5E%60%5C"),
        ("ws://a//../.", "//../."),
    ],
)
def test_what_has_no_place_in_a_path_is_percent_encoded(url, resource):
    assert parse(url).resource == resource


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://bücher.example", "xn--bcher-kva.example"),
        ("ws://BÜCHER.example", "xn--bcher-kva.example"),
        ("ws://例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("ws://xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_name_of_another_script_has_an_ascii_form(url, host):
    assert parse(url).host == host


@pytest.mark.parametrize(
    ("userinfo", "auth"),
    [
        ("", None),
        ("@", None),
        ("ada@", ("ada", "")),
        ("ada:@", ("ada", "")),
        (":secret@", ("", "secret")),
        ("ada:a:b@", ("ada", "a:b")),
        ("ad%40:%C3%A9%2F%3A@", ("ad@", "é/:")),
    ],
)
def test_user_and_password_are_decoded(userinfo, auth):
    assert parse(f"ws://{userinfo}a/").auth == auth


@pytest.mark.parametrize(
    ("url", "field", "name"),
    [
        ("ws://example.com:80", "example.com", "example.com"),
        ("ws://example.com:443", "example.com:443", "example.com"),
        ("wss://example.com.:443", "example.com.", "example.com"),
        ("wss://[fe80::1%25eth0]:1", "[fe80::1]:1", "fe80::1"),
        ("ws://ada:secret@[::1]", "[::1]", "::1"),
    ],
)
def test_it_says_what_host_and_certificate_have(url, field, name):
    target = parse(url)
    assert (target.host_field, target.tls_name) == (field, name)


def test_it_is_shown_without_its_secrets():
    target = parse("wss://ada:secret@example.com:444/a?b")
    assert str(target) == "wss://example.com:444/a?b"
    assert "secret" not in repr(target)


WRONG = {
    "": "give one such as",
    "example.com": "give one such as",
    "//example.com/": "give one such as",
    "ws:example.com": "give one such as",
    "ftp://example.com": "its scheme is none of",
    "wss2://example.com": "its scheme is none of",
    "ws://": "names no host",
    "ws:///chat": "names no host",
    "ws://:80/": "names no host",
    "ws://user@/": "names no host",
    "ws://a/#": "no fragment",
    "ws://a/b#c": "no fragment",
    "ws://a/#b?c": "no fragment",
    " ws://a": "a space",
    "ws://a/b c": "a space",
    "ws://a/\r\nHost: b": "a space",
    "ws://a/\x7f": "a space",
    "ws://a/\ud800": "half a character",
    "ws://a/%": "without two hexadecimal digits",
    "ws://a/%4x": "without two hexadecimal digits",
    "ws://a/?%%41": "without two hexadecimal digits",
    "ws://a:0": "a number from 1 to 65535",
    "ws://a:65536": "a number from 1 to 65535",
    "ws://a:99999999999999999999": "a number from 1 to 65535",
    "ws://a:+1": "a number from 1 to 65535",
    "ws://a:١": "a number from 1 to 65535",
    "ws://::1/": "in brackets",
    "ws://a:1:2/": "in brackets",
    "ws://u@v@a": "percent-encode",
    "ws://u:p ss@a": "a space",
    "ws://ü@a": "percent-encode",
    "ws://u\\@a": "percent-encode",
    "ws://u%3Av:p@a": "no colon",
    "ws://u:p%0A@a": "control character",
    "ws://u:%FF@a": "not UTF-8",
    "ws://[]": "no IPv6 address",
    "ws://[::1": "in brackets",
    "ws://[127.0.0.1]": "no IPv6 address",
    "ws://[v1.a]": "no IPv6 address",
    "ws://[::1%eth0]": "the % before a zone",
    "ws://[::1]x": "in brackets",
    "ws://a..b": "neither a name nor an address",
    "ws://.a": "neither a name nor an address",
    "ws://a%62c": "neither a name nor an address",
    "ws://a,b": "neither a name nor an address",
    "ws://a\\b": "neither a name nor an address",
    f"ws://{'a' * 64}": "neither a name nor an address",
    f"ws://{'a.' * 127}": "neither a name nor an address",
    "ws://127.1": "no address of IPv4",
    "ws://0x7f000001": "no address of IPv4",
    "ws://2130706433": "no address of IPv4",
    "ws://127.0.0.01": "no address of IPv4",
    "ws://1.2.3.4.": "no address of IPv4",
    "ws://straße.example": "xn--",
    "ws://a\u200db": "xn--",
    "ws://ex℀mple.com": "neither a name nor an address",
    "ws://\u0378.example": "xn--",
    "ws://" + "ü" * 70: "xn--",
}


@pytest.mark.parametrize(("url", "words"), WRONG.items())
def test_a_wrong_url_is_refused_and_the_error_says_why(url, words):
    with pytest.raises(ConfigurationError, match=words):
        parse(url)


@pytest.mark.parametrize("url", [None, b"ws://a", 1])
def test_a_url_is_a_str(url):
    with pytest.raises(ConfigurationError, match="give a str such as"):
        parse(url)


@pytest.mark.parametrize(
    "url", ["ws://ada:secret@a:x", "ws://ada:secret@a/#b", "ftp://ada:secret@a", "ws://a:s@cret@b"]
)
def test_an_error_shows_no_password(url):
    with pytest.raises(ConfigurationError) as raised:
        parse(url)
    assert "cret" not in str(raised.value)
    assert "ada" not in str(raised.value)


@hypothesis.given(strategies.text(alphabet="ws:/@[]%.#?a1-_ü\x00\\ ", max_size=20))
def test_any_text_is_a_url_or_refused(text):
    for url in (text, f"ws://{text}"):
        try:
            target = parse(url)
        except ConfigurationError:
            continue
        assert parse(str(target)) == Target(target.secure, target.host.partition("%")[0], target.port, target.resource)
