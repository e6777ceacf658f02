"""What an `on_upgrade` is given, and what becomes of it; over the wire it is tested in test_on_upgrade."""

from __future__ import annotations

import pytest

from fastws import http, ws
from fastws.handshake.server import Opening
from fastws.http1.upgrade import Upgrade, UpgradeCall
from fastws.service.compile import compile

from ..kit.services import at

OPENING = Opening(b"key=", b"chat.v2, chat.v1", "chat.v1", None)


def upgrade() -> Upgrade:
    return Upgrade(http.Request("GET", b"/", []), OPENING.offered(), OPENING.subprotocol)


def calling(function):
    service = compile(at("/{room}")(type("Chat", (), {"check": ws.on_upgrade(function)})))
    return UpgradeCall(service, service.handlers["on_upgrade"], OPENING, http.Request("GET", b"/", []))


def test_a_field_is_replaced_by_assignment_and_repeated_by_add():
    headers = upgrade().headers
    headers["X-Version"] = "1"
    headers.add("Set-Cookie", "a=b")
    headers.add("Set-Cookie", "c=dü")
    headers["x-version"] = "2"
    assert list(headers) == [("Set-Cookie", "a=b"), ("Set-Cookie", "c=dü"), ("x-version", "2")]
    assert len(headers) == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Upgrade", "is set by the server"),
        ("connection", "is set by the server"),
        ("Content-Length", "is set by the server"),
        ("Transfer-Encoding", "is set by the server"),
        ("Sec-WebSocket-Accept", "belongs to the opening handshake"),
        ("sec-websocket-extensions", "belongs to the opening handshake"),
        ("SEC-WEBSOCKET-PROTOCOL", r"assign to upgrade\.subprotocol"),
        ("X Version", "is no token"),
        ("", "is no token"),
    ],
)
def test_fields_of_the_handshake_and_what_is_no_field_are_refused(name, words):
    headers = upgrade().headers
    with pytest.raises(ValueError, match=words):
        headers[name] = "a"
    with pytest.raises(ValueError, match=words):
        headers.add(name, "a")
    assert len(headers) == 0


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=c", "a\x00", "\u20ac"])
def test_a_value_that_would_end_the_field_is_refused(value):
    with pytest.raises(ValueError, match=r"control character|codec"):
        upgrade().headers["X-Name"] = value


@pytest.mark.parametrize("subprotocol", ["chat.v2", "chat.v1", None])
def test_any_subprotocol_that_the_client_offers_may_be_chosen_and_none(subprotocol):
    asked = upgrade()
    assert (asked.subprotocols, asked.subprotocol) == (("chat.v2", "chat.v1"), "chat.v1")
    asked.subprotocol = subprotocol
    assert asked.subprotocol == subprotocol


@pytest.mark.parametrize("subprotocol", ["chat.v3", "CHAT.V1", ""])
def test_another_subprotocol_is_refused(subprotocol):
    asked = upgrade()
    with pytest.raises(ValueError, match=r"is not offered by the client, which offers \('chat\.v2', 'chat\.v1'\)"):
        asked.subprotocol = subprotocol
    assert asked.subprotocol == "chat.v1"


def test_what_was_decided_stands_in_the_response():
    call = calling(lambda self: None)
    asked = call.upgrade
    asked.headers["X-Version"] = "2"
    asked.subprotocol = "chat.v2"
    asked.attributes["user"] = "ada"
    accepted = call.conclude(None)
    assert accepted.response.endswith(
        b"\r\nSec-WebSocket-Accept: key=\r\nSec-WebSocket-Protocol: chat.v2\r\nX-Version: 2\r\n\r\n"
    )
    assert accepted.subprotocol == "chat.v2"
    assert accepted.attributes is asked.attributes


@pytest.mark.parametrize("result", [False, True, "no", http.Response("no", 403)])
def test_a_result_is_a_mistake_and_lets_nobody_in(result):
    with pytest.raises(TypeError, match=r"Chat\.check returned .*; on_upgrade .* raise http\.Refuse"):
        calling(lambda self: None).conclude(result)


def test_arguments_come_by_name():
    call = calling(lambda self, upgrade, room, *, request: (upgrade, room, request))
    call.upgrade.request.path_parameters = {"room": "lobby"}
    assert call.run() == (call.upgrade, "lobby", call.upgrade.request)
    assert calling(lambda self: "nothing").run() == "nothing"
