from __future__ import annotations

import pytest

from fastws.errors import HandshakeError
from fastws.handshake.fields import has_token
from fastws.handshake.server import Accepted, accept, check
from fastws.http import Request
from fastws.options import UpgradeOptions

ANY = UpgradeOptions()


def opening(*changes: tuple[bytes, bytes | None], method: str = "GET", version: str = "1.1") -> Request:
    """The request of RFC 6455 section 1.2, with fields changed, or removed by None."""
    fields: dict[bytes, bytes] = {
        b"host": b"server.example.com",
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ==",
        b"sec-websocket-version": b"13",
    }
    changed = dict(changes)
    kept = [(name, value) for name, value in fields.items() if name not in changed]
    added = [(name, value) for name, value in changes if value is not None]
    return Request(method, b"/chat", kept + added, version)


def respond(request: Request, options: UpgradeOptions = ANY) -> Accepted:
    return accept(check(request, options))


def refuses(request: Request, options: UpgradeOptions = ANY) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        respond(request, options)
    return caught.value


def test_the_example_of_the_rfc_is_answered_byte_by_byte():
    assert respond(opening(), ANY)[:2] == (
        (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            b"\r\n"
        ),
        None,
    )


@pytest.mark.parametrize(
    "changes",
    [
        [(b"connection", b"keep-alive, Upgrade")],  # Firefox
        [(b"connection", b"keep-alive"), (b"connection", b"UPGRADE")],
        [(b"upgrade", b"WebSocket")],
        [(b"upgrade", b"h2c ,\twebsocket")],
        [(b"content-length", b"0")],
        [(b"origin", b"https://anywhere.example")],
    ],
)
def test_fields_may_be_lists_in_any_case(changes):
    assert respond(opening(*changes), ANY).subprotocol is None


@pytest.mark.parametrize(
    "changes",
    [
        [(b"host", None)],
        [(b"host", b"")],
        [(b"host", b"a"), (b"host", b"b")],
        [(b"connection", None)],
        [(b"connection", b"keep-alive")],
        [(b"connection", b"Upgrades")],
        [(b"sec-websocket-key", None)],
        [(b"sec-websocket-key", b"")],
        [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ")],
        [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=!")],
        [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZSE=")],
        [(b"sec-websocket-key", b"\xff" * 24)],
        [(b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")] * 2,
        [(b"sec-websocket-version", None)],
        [(b"sec-websocket-version", b"13")] * 2,
        [(b"content-length", b"5")],
        [(b"transfer-encoding", b"chunked")],
    ],
)
def test_what_is_missing_repeated_or_malformed_gets_400(changes):
    assert refuses(opening(*changes)).status == 400


def test_http_1_0_gets_400():
    assert refuses(opening(version="1.0")).status == 400


def test_another_method_gets_405_and_is_told_get():
    error = refuses(opening(method="POST"))
    assert (error.status, error.headers) == (405, ((b"Allow", b"GET"),))


@pytest.mark.parametrize("upgrade", [None, b"", b"h2c", b"websockets"])
def test_a_request_that_is_no_upgrade_to_websocket_gets_426(upgrade):
    error = refuses(opening((b"upgrade", upgrade)))
    assert error.status == 426
    assert error.headers == ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))


@pytest.mark.parametrize("version", [b"8", b"13, 8", b"012"])
def test_another_version_gets_426_and_is_told_13(version):
    error = refuses(opening((b"sec-websocket-version", version)))
    assert error.status == 426
    assert (b"Sec-WebSocket-Version", b"13") in error.headers


ORIGINS = UpgradeOptions(allowed_origins=["https://example.com", "null"])


@pytest.mark.parametrize("origin", [b"https://example.com", b"HTTPS://EXAMPLE.com", b"null"])
def test_an_allowed_origin_is_accepted(origin):
    assert respond(opening((b"origin", origin)), ORIGINS)


@pytest.mark.parametrize("origin", [None, b"", b"https://example.com.evil.com", b"http://example.com", b"\xff"])
def test_another_origin_gets_403_and_so_does_none(origin):
    assert refuses(opening((b"origin", origin)), ORIGINS).status == 403


SUBPROTOCOLS = UpgradeOptions(subprotocols=["chat.v1", "chat.v2"])


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        ([b"chat.v2, chat.v1"], "chat.v2"),
        ([b"other", b"chat.v1"], "chat.v1"),
        ([b" ,chat.v1,,"], "chat.v1"),
        ([b"CHAT.V1"], None),
        ([b"other"], None),
        ([], None),
    ],
)
def test_the_first_offer_that_the_service_speaks_is_chosen(offers, chosen):
    accepted = respond(opening(*((b"sec-websocket-protocol", offer) for offer in offers)), SUBPROTOCOLS)
    assert accepted.subprotocol == chosen
    line = f"\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n".encode()
    assert accepted.response.endswith(line) if chosen else b"Protocol:" not in accepted.response


def test_offers_to_a_service_without_subprotocols_are_ignored():
    assert respond(opening((b"sec-websocket-protocol", b"chat.v1")), ANY).subprotocol is None


# --- Offers that are answered by others.


def test_what_a_client_offers_is_told_in_its_order():
    offers = [(b"sec-websocket-protocol", b"b , a"), (b"sec-websocket-protocol", b",c")]
    assert check(opening(*offers), ANY).offered() == ("b", "a", "c")
    assert check(opening(), ANY).offered() == ()


def extended(*lines: bytes, compression: str | None = "shared") -> Accepted:
    options = UpgradeOptions(compression=compression)
    return respond(opening(*((b"sec-websocket-extensions", line) for line in lines)), options)


def test_an_extension_is_negotiated_over_all_lines_and_answered_in_one():
    accepted = extended(b"other; a=b", b"permessage-deflate; client_max_window_bits, permessage-deflate")
    assert accepted.extension is not None
    line = b"\r\nSec-WebSocket-Extensions: " + accepted.extension.response + b"\r\n\r\n"
    assert accepted.response.endswith(line)


@pytest.mark.parametrize(
    ("lines", "compression"),
    [([], "shared"), ([b"other"], "shared"), ([b"permessage-deflate"], None), ([b""], "dedicated")],
)
def test_an_extension_that_is_not_offered_or_not_spoken_is_not_mentioned(lines, compression):
    accepted = extended(*lines, compression=compression)
    assert accepted.extension is None
    assert b"Extensions" not in accepted.response


def test_further_fields_stand_in_the_response_as_they_were_given():
    headers = [(b"Set-Cookie", b"a=b"), (b"set-cookie", b"c=d")]
    assert accept(check(opening(), ANY), headers).response.endswith(b"\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\n\r\n")


@pytest.mark.parametrize(
    ("value", "found"),
    [(b"a", True), (b"A", True), (b"b, a", True), (b"b\t,\ta ", True), (b"ab", False), (b"", False), (b"b a", False)],
)
def test_a_token_is_found_as_a_whole(value, found):
    assert has_token(value, b"a") is found
