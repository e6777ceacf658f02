"""Which pages of other origins may read an answer, and what a browser is told that asks first."""

from __future__ import annotations

import pytest

import fastws
from fastws import http
from fastws.errors import ConfigurationError

from ..kit.guarded import answer
from ..kit.services import at

PAGE = "https://page.example"


def request(method: str, path: str, **fields: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", *lines, "", ""]).encode()


async def ask(server, method: str, path: str, **fields: str) -> tuple[int, dict[str, list[str]], bytes]:
    """Status, header fields by name in lower case, and body of the answer."""
    head, _, body = (await answer(server, request(method, path, **fields))).partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    found: dict[str, list[str]] = {}
    for name, _, value in (text.partition(": ") for text in lines):
        found.setdefault(name.lower(), []).append(value)
    return int(line.split()[1]), found, body


def shared(fields: dict[str, list[str]]) -> dict[str, list[str]]:
    """Those that a browser asks for, and Vary."""
    return {name: values for name, values in fields.items() if name.startswith("access-control") or name == "vary"}


ALLOWED = {"access-control-allow-origin": [PAGE], "vary": ["Origin"]}


@http.cors([PAGE, "http://localhost:5173"])
@http.base_path("/notes")
class Notes:
    @http.get("/list")
    def all(self) -> list[str]:
        return ["one"]

    @http.post("/list")
    def add(self, json: object) -> None:
        """Answered with 204."""

    @http.get("/one/{number}")
    def one(self, number: int) -> str:
        raise http.Refuse(410)

    @http.get("/broken")
    async def broken(self) -> None:
        raise RuntimeError

    @http.cors("*", methods="*", headers="*", expose=["ETag", "X-Left"], max_age=5)
    @http.get("/open")
    def open(self) -> str:
        return "open"

    @http.cors([PAGE], credentials=True, methods=["put"], headers=["X-Token"])
    @http.put("/own")
    @http.get("/own")
    def own(self) -> str:
        return "own"

    @http.cors([PAGE])
    @http.get("/itself")
    def itself(self) -> http.Response:
        return http.Response("", headers={"Access-Control-Allow-Origin": "https://other.example"})


@http.base_path("/closed")
class Closed:
    @http.get("/list")
    def all(self) -> str:
        return "closed"


async def test_a_page_that_is_named_may_read_every_answer_of_a_resource(serve, failures):
    server = await serve(Notes)
    for method, path, expected in (
        ("GET", "/notes/list", 200),
        ("HEAD", "/notes/list", 200),
        ("GET", "/notes/one/5", 410),
        ("GET", "/notes/one/five", 404),
        ("GET", "/notes/broken", 500),
    ):
        status, fields, _ = await ask(server, method, path, Origin=PAGE)
        assert (status, shared(fields)) == (expected, ALLOWED)
    assert failures.messages() == ["Notes.broken failed"]


async def test_a_body_that_is_too_large_is_told_to_the_page(serve):
    server = await serve(Notes, max_body_size=4)
    head = b"POST /notes/list HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\n"
    for rest in (b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n", b"Content-Length: 5\r\n\r\n12345"):
        told = await answer(server, head + rest)
        assert told.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nAccess-Control-Allow-Origin: https://page.example\r\n" in told


@pytest.mark.parametrize(
    "origin", ["https://page.example:8443", "http://page.example", "null", "https://page.example.evil"]
)
async def test_another_page_is_answered_and_gets_no_permission(serve, origin):
    server = await serve(Notes)
    status, fields, body = await ask(server, "GET", "/notes/list", Origin=origin)
    assert (status, body) == (200, b'["one"]')
    assert shared(fields) == {"vary": ["Origin"]}


async def test_caches_are_told_also_where_no_page_asks(serve):
    server = await serve(Notes, Closed)
    _, fields, _ = await ask(server, "GET", "/notes/list")
    assert shared(fields) == {"vary": ["Origin"]}
    _, fields, _ = await ask(server, "GET", "/closed/list", Origin=PAGE)
    assert shared(fields) == {}


async def test_what_a_method_says_goes_before_what_its_class_says(serve):
    server = await serve(Notes)
    _, fields, _ = await ask(server, "GET", "/notes/open", Origin="https://any.example")
    assert shared(fields) == {
        "access-control-allow-origin": ["*"],
        "access-control-expose-headers": ["ETag, X-Left"],
    }
    _, fields, _ = await ask(server, "PUT", "/notes/own", Origin=PAGE)
    assert shared(fields) == {**ALLOWED, "access-control-allow-credentials": ["true"]}
    _, fields, _ = await ask(server, "GET", "/notes/own", Origin=PAGE)
    assert shared(fields) == {"vary": ["Origin"]}
    _, fields, _ = await ask(server, "GET", "/notes/itself", Origin=PAGE)
    assert shared(fields) == {"access-control-allow-origin": ["https://other.example"]}


VARY = {"vary": ["Origin, Access-Control-Request-Method, Access-Control-Request-Headers"]}


@pytest.mark.parametrize(
    ("path", "method", "origin", "headers", "expected"),
    [
        (
            "/notes/list",
            "POST",
            "HTTPS://Page.example",
            "content-type",
            {
                "access-control-allow-origin": ["HTTPS://Page.example"],
                "access-control-allow-methods": ["GET, HEAD, POST"],
                "access-control-allow-headers": ["Content-Type"],
                "access-control-max-age": ["600"],
            },
        ),
        (
            "/notes/own",
            "PUT",
            PAGE,
            "x-token",
            {
                "access-control-allow-origin": [PAGE],
                "access-control-allow-methods": ["PUT"],
                "access-control-allow-headers": ["Content-Type, X-Token"],
                "access-control-allow-credentials": ["true"],
                "access-control-max-age": ["600"],
            },
        ),
        (
            "/notes/open",
            "GET",
            PAGE,
            "authorization, x y, ,x-z",
            {
                "access-control-allow-origin": ["*"],
                "access-control-allow-methods": ["GET, HEAD"],
                "access-control-allow-headers": ["authorization, x-z"],
                "access-control-max-age": ["5"],
            },
        ),
        ("/notes/list", "POST", "https://other.example", "content-type", {}),
    ],
)
async def test_a_browser_that_asks_first_is_told_what_a_page_may_do(serve, path, method, origin, headers, expected):
    server = await serve(Notes)
    asking = {"Access_Control_Request_Method": method, "Access_Control_Request_Headers": headers}
    status, fields, body = await ask(server, "OPTIONS", path, Origin=origin, **asking)
    assert (status, body) == (204, b"")
    assert shared(fields) == {**expected, **VARY}


async def test_who_asks_for_what_nobody_may_gets_an_ordinary_answer(serve):
    server = await serve(Notes, Closed)
    for path, method in (("/notes/list", "DELETE"), ("/closed/list", "GET")):
        status, fields, _ = await ask(server, "OPTIONS", path, Origin=PAGE, Access_Control_Request_Method=method)
        assert status == 204
        assert shared(fields) == {}
        assert "OPTIONS" in fields["allow"][0]


async def test_a_preflight_is_answered_before_a_resource_for_options(serve):
    @http.base_path("/")
    class Own:
        @http.cors("*")
        @http.get("/")
        def get(self) -> str:
            return "got"

        @http.options("/")
        def options(self) -> str:
            return "mine"

    server = await serve(Own)
    assert (await ask(server, "OPTIONS", "/", Origin=PAGE))[2] == b"mine"
    status, fields, _ = await ask(server, "OPTIONS", "/", Origin=PAGE, Access_Control_Request_Method="GET")
    assert (status, fields["access-control-allow-origin"]) == (204, ["*"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"origins": PAGE}, r"origins='https://page\.example': give a list of strings, or '\*'"),
        ({"origins": [5]}, r"origins=\[5\]: give a list"),
        ({"origins": None}, "origins=None: give a list"),
        ({"origins": ["page.example"]}, "origins='page.example': an origin is like"),
        ({"origins": [PAGE + "/a"]}, "an origin is like"),
        ({"origins": "*", "credentials": True}, "credentials=True: who sends credentials is named"),
        ({"origins": [PAGE, "*"], "credentials": True}, "credentials=True: who sends credentials is named"),
        ({"origins": "*", "methods": "GET"}, r"methods='GET': give a list of strings, or '\*'"),
        ({"origins": "*", "methods": ["GET POST"]}, "methods='GET POST': it is no name"),
        ({"origins": "*", "headers": ["X:Y"]}, "headers='X:Y': it is no name"),
        ({"origins": "*", "expose": "ETag"}, "expose='ETag': give a list"),
        ({"origins": "*", "max_age": -1}, "max_age=-1: give seconds"),
        ({"origins": "*", "max_age": "1"}, "max_age='1': give seconds"),
    ],
)
def test_what_is_wrong_is_said_by_name(arguments, told):
    with pytest.raises(ConfigurationError, match=told):
        http.cors(arguments.pop("origins"), **arguments)


def test_it_belongs_to_what_answers_requests():
    with pytest.raises(ConfigurationError, match=r"Chat has @http\.cors and no resource.*allowed_origins"):
        fastws.serve(http.cors("*")(at()(type("Chat", (), {}))))
    lonely = at()(type("Chat", (), {"helper": http.cors("*")(lambda self: None)}))
    with pytest.raises(ConfigurationError, match=r"Chat\.helper has @http\.cors and answers no request"):
        fastws.serve(lonely)
    with pytest.raises(ConfigurationError, match=r"has @http\.cors twice"):
        http.cors("*")(http.cors("*")(lambda self: None))
    with pytest.raises(ConfigurationError, match=r"Chat has @http\.cors twice"):
        http.cors("*")(http.cors("*")(type("Chat", (), {})))
