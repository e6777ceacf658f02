"""What a peer is told when it is refused: constants, which say nothing of the service nor of what the peer sent."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest

import fastws
from fastws import http, ws
from fastws.http1.response import phrase

from ..kit.client import REQUEST
from ..kit.guarded import answer
from ..kit.services import at
from .test_bad_heads import REFUSED as BAD_HEADS
from .test_http_reader import CHUNKED, CHUNKS_REFUSED
from .test_http_reader import REFUSED as BAD_REQUESTS

SECRET = "s3cret"


@at("/{s3cret_room}", allowed_origins=["https://s3cret.example"], upgrade_timeout=0.01)
class S3cretService:
    """Whatever it is made of could slip into an answer."""

    @ws.on_upgrade
    async def s3cret_check(self, request: http.Request, upgrade: ws.Upgrade) -> object:
        if "fails" in request.query:
            raise LookupError(SECRET)
        if "returns" in request.query:
            return SECRET
        if "forges" in request.query:
            upgrade.headers["Sec-WebSocket-Accept"] = SECRET
        if "invents" in request.query:
            upgrade.subprotocol = SECRET
        await asyncio.Event().wait()
        return None

    @http.get("/api/{s3cret_number}")
    def s3cret_resource(self, s3cret_number: int, limit: int) -> object:
        if limit == 1:
            raise LookupError(SECRET)
        return object()

    @http.post("/api/json")
    async def s3cret_json(self, json: object) -> object:
        return json


OURS = b"Origin: https://s3cret.example\r\n"
OPENING = REQUEST % (b"/x", OURS)


def get(target: bytes, *, method: bytes = b"GET", fields: bytes = b"", body: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n%b" % (method, target, fields, body)


REFUSED = {
    **{name: data for name, (_, data) in BAD_HEADS.items()},
    **BAD_REQUESTS,
    **{name: CHUNKED + b"\r\n" + body for name, body in CHUNKS_REFUSED.items()},
    "no such path": get(b"/s3cret/s3cret/s3cret"),
    "no such method": get(b"/api/1", method=b"DELETE"),
    "no such method at all": get(b"/x", method=b"DELETE"),
    "no such segment": get(b"/api/s3cret?limit=1"),
    "a parameter is missing": get(b"/api/1"),
    "a parameter is malformed": get(b"/api/1?limit=s3cret"),
    "no JSON": get(b"/api/json", method=b"POST", fields=b"Content-Length: 6\r\n", body=b"s3cret"),
    "a resource fails": get(b"/api/1?limit=1"),
    "a resource says what JSON cannot": get(b"/api/1?limit=2"),
    "a large body": get(b"/api/json", method=b"POST", fields=b"Content-Length: 5000000\r\n"),
    "another expectation": get(b"/api/json", method=b"POST", fields=b"Content-Length: 1\r\nExpect: s3cret\r\n"),
    "another coding": get(b"/api/json", method=b"POST", fields=b"Transfer-Encoding: s3cret\r\n"),
    "another version": get(b"/").replace(b"1.1", b"2.0"),
    "a tunnel": b"CONNECT s3cret:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no upgrade": get(b"/x", fields=OURS),
    "another origin": REQUEST % (b"/x", b"Origin: https://example.com\r\n"),
    "another version of WebSocket": OPENING.replace(b"Version: 13", b"Version: 8"),
    "a key that is none": OPENING.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"s3cret"),
    "no extension": REQUEST % (b"/x", OURS + b"Sec-WebSocket-Extensions: s3cret; =\r\n"),
    "two clients": REQUEST % (b"/x", OURS + b"X-Forwarded-For: 1.1.1.1\r\nForwarded: for=s3cret\r\n"),
    "on_upgrade fails": REQUEST % (b"/x?fails", OURS),
    "on_upgrade returns": REQUEST % (b"/x?returns", OURS),
    "on_upgrade forges": REQUEST % (b"/x?forges", OURS),
    "on_upgrade invents": REQUEST % (b"/x?invents", OURS),
    "on_upgrade takes too long": OPENING,
}

# All that is ever said, and all that it is said with.
STATUSES = [400, 404, 405, 413, 417, 431, 500, 501, 503, 505]
BODIES = {f"{status} {phrase(status)}\n".encode() for status in STATUSES} | {
    b"Not Found\n",
    b"query parameter 'limit' is missing\n",
    b"query parameter 'limit' is malformed\n",
    b"the body is not JSON\n",
    b"a WebSocket is opened with GET\n",
    b"a WebSocket is opened with HTTP/1.1\n",
    b"only WebSocket is spoken here\n",
    b"Connection does not hold Upgrade\n",
    b"Host is missing or is none\n",
    b"an opening handshake has no body\n",
    b"Sec-WebSocket-Version is missing\n",
    b"Sec-WebSocket-Version is not 13\n",
    b"Sec-WebSocket-Key is missing or is not the base64 of 16 bytes\n",
    b"a header field of the opening handshake is repeated\n",
    b"Sec-WebSocket-Extensions is malformed\n",
    b"this origin may not connect\n",
}
FIELDS = {
    rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT",
    rb"Content-Type: text/plain; charset=utf-8",
    rb"Content-Length: \d+",
    rb"Connection: (close|Upgrade)",
    rb"Allow: [A-Z]+(, [A-Z]+)*",
    rb"Upgrade: websocket",
    rb"Sec-WebSocket-Version: 13",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
async def test_a_refusal_is_a_constant(serve, failures, data):
    server = await serve(S3cretService, proxy_headers=True)
    response = await answer(server, data)
    head, _, body = response.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 [45]\d\d [A-Z][A-Za-z ]+", line)
    assert body in BODIES
    assert [field for field in fields if not any(re.fullmatch(known, field) for known in FIELDS)] == []
    assert SECRET.encode() not in response.lower()


def texts_for_a_peer(source: str) -> list[ast.expr]:
    """What a module's source gives to whoever makes a refusal of it."""
    places = {"HandshakeError": 2, "Refuse": 1, "error_response": 0}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in places:
            found.extend(node.args[places[node.func.id] :])
    return found


def test_no_refusal_is_put_together_anywhere():
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(fastws.__file__).parent.rglob("*.py"))]
    texts = [text for source in sources for text in texts_for_a_peer(source)]
    assert len(texts) > 25
    # But for these two, which are made of names that stand in the service, and that clients have to know
    expected = ["argument.missing", "argument.malformed"]
    assert [ast.unparse(text) for text in texts if not isinstance(text, ast.Constant)] == expected
