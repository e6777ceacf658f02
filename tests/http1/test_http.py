from __future__ import annotations

import pytest

from fastws import http
from fastws.errors import ConfigurationError
from fastws.http import Cookies, Headers, Query, Refuse, Request, Response
from fastws.http1.calls import to_response


def test_headers_do_not_care_about_case_and_join_their_lines():
    headers = Headers([(b"accept", b"a"), (b"X-Name", b"\xfc"), (b"Accept", b"b")])
    assert headers["ACCEPT"] == "a, b"
    assert headers.get_all("accept") == ["a", "b"]
    assert headers["x-name"] == "ü"
    assert "X-NAME" in headers
    assert "other" not in headers
    assert headers.get("other") is None
    assert headers.get_all("other") == []
    assert list(headers) == ["accept", "x-name"]
    assert dict(headers) == {"accept": "a, b", "x-name": "ü"}


def test_a_query_has_first_values_and_all_values():
    query = Query("a=1&b=&a=2&c=%C3%BC+x")
    assert (query["a"], query["b"], query["c"]) == ("1", "", "ü x")
    assert query.get_all("a") == ["1", "2"]
    assert query.get_all("d") == []
    assert len(query) == 3


@pytest.mark.parametrize(
    ("lines", "cookies"),
    [
        (["a=b; c=d"], {"a": "b", "c": "d"}),
        (["a=b;c=d", "e=f"], {"a": "b", "c": "d", "e": "f"}),
        (["  a =\tb\t"], {"a": "b"}),
        (["a=b=c==; d="], {"a": "b=c==", "d": ""}),
        (['a="b c"; d="'], {"a": "b c", "d": '"'}),
        (["A=1; a=2; a=3"], {"A": "1", "a": "2"}),
        (["$Version=1; a[0]=x, y; b=ü"], {"$Version": "1", "a[0]": "x, y", "b": "ü"}),
        (["garbage; =; =x; ;; a=b", ";", ""], {"a": "b"}),
        ([], {}),
    ],
)
def test_cookies_are_read_as_clients_send_them(lines, cookies):
    assert dict(Cookies(lines)) == cookies
    request = Request("GET", b"/", [(b"cookie", line.encode("latin-1")) for line in lines])
    assert dict(request.cookies) == cookies


def test_a_cookie_of_several_paths_has_all_its_values():
    assert Cookies(["a=near; a=far"]).get_all("a") == ["near", "far"]


def test_a_request_decodes_when_it_is_asked():
    request = Request("GET", b"/caf%C3%A9%ff?a=b?c", [(b"host", b"a")])
    assert request.path == "/café\ufffd"
    assert (request.raw_path, request.raw_query) == ("/caf%C3%A9%ff", "a=b?c")
    assert request.query["a"] == "b?c"
    assert request.headers["Host"] == "a"


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": 101},
        {"status": 600},
        {"body": b"x", "status": 204},
        {"headers": {"Content-Length": "3"}},
        {"headers": {"X-A": "b\r\nSet-Cookie: c"}},
        {"headers": {"X A": "b"}},
        {"headers": {"": "b"}},
        {"headers": [("X-A", "\u20ac")]},
    ],
)
def test_a_response_that_cannot_be_sent_is_refused(arguments):
    with pytest.raises(ValueError, match=r"status|header|codec"):
        Response(**arguments)


def test_a_result_that_is_a_response_is_sent_as_it_is():
    response = Response(b"x")
    assert to_response(response) is response


def test_nan_is_no_json():
    with pytest.raises(ValueError, match="JSON"):
        to_response([float("nan")])


def test_a_refusal_below_300_is_none():
    with pytest.raises(ValueError, match="return a Response"):
        Refuse(200)


def test_annotations_without_their_path_say_what_to_write():
    with pytest.raises(ConfigurationError, match=r'write @http\.base_path\("/\.\.\."\)'):
        http.base_path(type("Chat", (), {}))
    with pytest.raises(ConfigurationError, match=r'write @http\.get\("/\.\.\."\)'):
        http.get(lambda self: None)
    with pytest.raises(ConfigurationError, match="starts with a slash"):
        http.get("motd")
