from __future__ import annotations

import pytest

from fastws import http, ws
from fastws.errors import ConfigurationError
from fastws.service.compile import compile
from fastws.service.model import Service
from fastws.service.paths import PathTemplate, join
from fastws.service.routing import Router


def resources(*paths: str, name: str = "Notes") -> Service:
    methods = {f"get{n}": http.get(path)(lambda self: "") for n, path in enumerate(paths)}
    return compile(http.base_path("/")(type(name, (), methods)))


def websocket(path: str, name: str = "Chat", **methods) -> Service:
    cls = ws.upgrade_path(path)(type(name, (), methods))
    return compile(http.base_path("/")(cls))


# --- Paths.


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("/test", "/websocket"), "/test/websocket"),
        (("/test/", "/websocket/"), "/test/websocket"),
        (("/", "/"), "/"),
        (("/", "/websocket"), "/websocket"),
        (("/test", "/"), "/test"),
        (("//a//b", "c"), "/a/b/c"),
    ],
)
def test_paths_join_as_people_expect(parts, joined):
    assert join(*parts) == joined


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/a", "/a", ()),
        ("/a", "/a/", ()),
        ("/", "/", ()),
        ("/a", "/a//", None),
        ("/a", "/A", None),
        ("/a", "a", None),
        ("/a", "/a/b", None),
        ("/café", "/caf%C3%A9", ()),
        ("/{x}", "/b", ("b",)),
        ("/{x}/c/{y}", "/b/c/d/", ("b", "d")),
        ("/{x}/c/{y}", "/b/x/d", None),
        ("/{x}", "/", None),
        ("/{x}", "/%41%20%2F", ("A /",)),
        ("/{x}", "/%ff", None),
        ("/{x}", "/..", None),
        ("/{x}", "/%2e%2E", None),
        ("/{x}", "/.", None),
        ("/a/{x...}", "/a/b", ("b",)),
        ("/a/{x...}", "/a/b/c%20d/", ("b/c d",)),
        ("/a/{x...}", "/a", ("",)),
        ("/a/{x...}", "/a/", ("",)),
        ("/a/{x...}", "/b", None),
        ("/{x...}", "/", ("",)),
        ("/{x...}", "/a/b", ("a/b",)),
        ("/{x}/{y...}", "/", None),
        ("/{x}/{y...}", "/a/b/c", ("a", "b/c")),
        ("/a/{x...}", "/a/../b", None),
        ("/a/{x...}", "/a/%2e%2E/b", None),
        ("/a/{x...}", "/a/b%2F..%2F..%2Fc", None),
        ("/a/{x...}", "/a/b%2Fc", None),
        ("/a/{x...}", "/a//b", None),
        ("/a/{x...}", "/a/%ff", None),
    ],
)
def test_a_template_matches_decoded_segments(template, path, values):
    assert PathTemplate(template).match(path) == values


@pytest.mark.parametrize(
    "path",
    ["/{}", "/{a b}", "/{a}{b}", "/x{a}", "/{a", "/a}", "/{class}", "/{a}/{a}", "/{...}", "/{a...}/b", "/{a}/{a...}"],
)
def test_a_segment_name_is_an_identifier_in_a_whole_segment_and_unique(path):
    with pytest.raises(ConfigurationError, match=r"segment|neither"):
        PathTemplate(path)


@pytest.mark.parametrize("path", ["chat", "", "/a?b", "/a#b", "/%41", "/a\n", None, 3])
def test_a_path_that_is_no_path_is_refused(path):
    with pytest.raises(ConfigurationError, match=r"ws\.upgrade_path"):
        ws.upgrade_path(path)


# --- Routing.


def test_a_literal_path_is_found_with_and_without_its_trailing_slash():
    router = Router([resources("/a")])
    assert router.resolve("/a") == router.resolve("/a/") == router.resolve("/%61")
    assert router.resolve("/a")[0].route.template.text == "/a"
    assert router.resolve("/b") == ()


def test_a_decoded_slash_never_separates_segments():
    router = Router([resources("/a/b")])
    assert router.resolve("/a%2Fb") == ()


def test_the_earlier_literal_segment_wins_and_the_others_stay_candidates():
    router = Router([resources("/{x}/b", "/a/{y}", "/{x}/{y}", "/a/b")])
    found = [match.route.template.text for match in router.resolve("/a/b")]
    assert found == ["/a/b", "/a/{y}", "/{x}/b", "/{x}/{y}"]
    assert [match.values for match in router.resolve("/q/r")] == [("q", "r")]


def test_a_rest_comes_after_all_that_says_more_of_its_place():
    router = Router([resources("/{r...}", "/a/{r...}", "/a/{x}", "/a/b", "/{x}/b", "/a/{x}/{r...}")])

    def found(path: str) -> list[str]:
        return [match.route.template.text for match in router.resolve(path)]

    assert found("/a/b") == ["/a/b", "/a/{x}", "/a/{x}/{r...}", "/a/{r...}", "/{x}/b", "/{r...}"]
    assert found("/a") == found("/a/") == ["/a/{r...}", "/{r...}"]
    assert found("/a/b/c/d/e") == ["/a/{x}/{r...}", "/a/{r...}", "/{r...}"]
    assert found("/") == found("/b") == ["/{r...}"]
    assert found("/a/..") == []


def test_two_rests_at_one_path_are_refused():
    with pytest.raises(ConfigurationError, match=r"both answer GET /a/\{y\.\.\.\}"):
        Router([resources("/a/{x...}"), resources("/a/{y...}")])


def test_two_services_at_one_websocket_path_are_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"One and Two both serve the WebSocket path /\{a\}"):
        Router([websocket("/{a}", "One"), websocket("/{b}", "Two")])


def test_two_resources_with_one_method_and_path_are_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"One\.get0 and Two\.get0 both answer GET /a"):
        Router([resources("/a", name="One"), resources("/a/", name="Two")])


def test_a_websocket_and_a_resource_may_share_a_path():
    service = websocket("/chat/{room}", page=http.get("/chat/{room}")(lambda self: ""))
    [match] = Router([service]).resolve("/chat/lobby")
    assert match.route.upgrade is not None
    assert match.route.methods == ["GET", "HEAD", "OPTIONS"]
    assert match.values == ("lobby",)
