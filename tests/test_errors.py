from __future__ import annotations

import copy

import pytest

from fastws import errors, http

SENTENCES = [
    (errors.HandshakeError(403, (), b"no\n"), "opening handshake refused with 403: no"),
    (errors.HandshakeError(403), "opening handshake refused with 403"),
    (errors.NoCurrentConnectionError("push_text"), "ws.push_text acts on the connection whose handler runs"),
    (errors.WrongThreadError("push_text"), "use server.call_from_thread(push_text, ...)"),
    (errors.NotServingError("push_text"), "push_text needs a running server"),
    (errors.StartError("a server is entered once"), "a server is entered once"),
    (errors.ForkedProcessError("push_text"), "this process was forked from the one that serves"),
    (errors.GroupRemovedError("lobby"), "group 'lobby' was removed"),
    (errors.HandlerError("Chat.said", "int"), "Chat.said returned int; a reply is str"),
    (errors.DialError("[::1]:80", "Connection refused", 111), "cannot connect to [::1]:80: Connection refused"),
    (errors.ProxyError("http://10.0.0.1:3128", "407 Who are you?", 407), "does not connect: 407 Who are you?"),
    (errors.RedirectError("wss://a/", 302, "ws://a/", "no TLS"), "wss://a/ redirects with 302 to 'ws://a/': no TLS"),
    (errors.InvalidStatus(401, {"a": "b"}, b"no"), "the server answers with status 401 instead of 101"),
    (errors.InvalidHandshake("the answer has no Upgrade: websocket"), "the answer has no Upgrade: websocket"),
    (errors.OpenTimeoutError(2.5), "the connection was not open within 2.5 seconds (open_timeout)"),
    (errors.ConnectionClosed(4000, "bye"), "the connection is closed with code 4000: bye"),
    (errors.ConnectionClosed(1006), "the connection is closed with code 1006"),
    (errors.ConcurrentReceiveError(), "another task receives from this connection already"),
    (errors.ClientRoleError("connection.join"), "connection.join is for the connections of a server"),
    (errors.CallTimeoutError("connection.receive", 1.5), "connection.receive took longer than 1.5 s"),
    (http.Refuse(404), "404 Not Found"),
]


@pytest.mark.parametrize(("error", "words"), SENTENCES)
def test_an_error_says_what_happened_and_what_to_do(error, words):
    assert words in str(error)
    assert not str(error).endswith(".")


@pytest.mark.parametrize("error", [error for error, _ in SENTENCES])
def test_an_error_is_in_the_tree_and_can_be_copied(error):
    assert isinstance(error, errors.FastWSError)
    assert str(copy.copy(error)) == str(error)


@pytest.mark.parametrize("name", errors.__all__)
def test_the_tree_in_the_docstring_is_complete(name):
    assert name in errors.__doc__
