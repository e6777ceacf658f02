"""Who may connect is decided before the WebSocket opens: by a token, looked up as in a database.

    fastws run examples/auth.py

A program sends `Authorization: Bearer ada-7`; a page, which cannot set headers, first posts its token to /login, gets a
cookie, and then opens ws://127.0.0.1:9090/members/socket. Everybody else gets a 401 and no connection.
"""

import asyncio

from fastws import http, ws

TOKENS = {"ada-7": "ada", "bob-9": "bob"}


async def member_of(token: str) -> str | None:
    """Whose token it is; a real service asks its database here, and nobody else waits for the answer."""
    await asyncio.sleep(0.01)
    return TOKENS.get(token)


def token_of(request: http.Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else request.cookies.get("token", "")


@http.base_path("/members")
@ws.upgrade_path("/socket", upgrade_timeout=5)
class Members:
    @http.post("/login")
    async def login(self, body: bytes) -> http.Response:
        token = body.decode(errors="replace")
        if await member_of(token) is None:
            raise http.Refuse(403, "no such token\n")
        # SameSite: a page of somebody else could open the WebSocket otherwise, for browsers send cookies along.
        return http.Response(status=204, headers={"Set-Cookie": f"token={token}; HttpOnly; SameSite=Strict"})

    @ws.on_upgrade
    async def check(self, request: http.Request, upgrade: ws.Upgrade) -> None:
        name = await member_of(token_of(request))
        if name is None:
            raise http.Refuse(401, "show your token\n", {"WWW-Authenticate": "Bearer"})
        upgrade.attributes["name"] = name

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        connection.push_text(f"hello {connection.attributes['name']}")

    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> None:
        ws.broadcast_text(f"{connection.attributes['name']}: {text}")
