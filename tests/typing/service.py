"""A user's program that mypy --strict and pyright must accept as it stands; never run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import fastws
from fastws import http, ws


@dataclass
class Message:
    """What the service keeps of a message."""

    author: str
    text: str


@http.base_path("/rooms/{room}")
@http.files("/static", Path(__file__).parent / "static", index=None, headers={"Cache-Control": "max-age=60"})
@http.cors(["https://example.com"], methods=["GET"], headers="*", credentials=True, max_age=60)
@ws.upgrade_path(
    "/socket",
    subprotocols=["chat.v2", "chat.v1"],
    max_message_size=65536,
    idle_timeout=60,
    allowed_origins=None,
    upgrade_timeout=3,
)
class Rooms:
    """Every annotation, with every argument that it gives."""

    def __init__(self, history: list[Message]) -> None:
        self.history = history

    @ws.on_start
    async def tick(self, server: fastws.Server) -> None:
        while True:
            await asyncio.sleep(1)
            delivery: ws.Delivery = ws.broadcast_text("tick", exclude=None)
            if not delivery:
                continue

    @ws.on_upgrade
    async def check(self, request: http.Request, upgrade: ws.Upgrade, room: str) -> None:
        token: str | None = request.cookies.get("token")
        if token is None and request.peer_certificate is None:
            raise http.Refuse(401, "who are you?", headers={"WWW-Authenticate": "Bearer"})
        upgrade.attributes["token"] = token
        upgrade.headers["X-Room"] = room
        upgrade.headers.add("Set-Cookie", f"room={room}")
        if "chat.v1" in upgrade.subprotocols and upgrade.subprotocol is None:
            upgrade.subprotocol = "chat.v1"

    @ws.on_open
    async def opened(self, connection: ws.Connection, room: str) -> None:
        connection.attributes["author"] = connection.headers.get("user-agent", "somebody")
        connection.join(room)
        await connection.drain()

    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str, room: str) -> str | None:
        self.history.append(Message(connection.attributes["author"], text))
        ws.push_text_to_group(room, text, exclude=connection)
        return None if connection.subprotocol == "chat.v2" else "received"

    @ws.on_binary_message
    async def sent(self, data: bytes) -> bytes:
        return data[::-1]

    @ws.on_ping
    @ws.on_pong
    def heard(self, connection: ws.Connection, data: bytes) -> None:
        connection.push_binary(bytearray(data))

    @ws.on_idle_timeout()
    def idle(self, connection: ws.Connection) -> None:
        closing: bool = connection.close(4000, "idle")
        assert closing

    @ws.on_error
    def failed(self, connection: ws.Connection, error: Exception) -> None:
        address: tuple[str, int] | None = connection.remote_address
        secure: bool = connection.secure
        print(connection.id, address, secure, error)

    @ws.on_close
    def closed(self, connection: ws.Connection, code: int, reason: str) -> None:
        print(code, reason, connection.was_clean, connection.close_code, connection.sent_code, connection.received_code)

    @ws.on_stop
    async def stopped(self, server: fastws.Server) -> None:
        self.history.clear()

    @http.get("/history")
    def read(self, request: http.Request, limit: int = 10) -> list[dict[str, str]]:
        return [{"author": message.author, "text": message.text} for message in self.history[-limit:]]

    @http.cors("*", expose=["ETag"])
    @http.put("/notes/{path...}")
    @http.head("/notes/{path...}")
    @http.options("/notes/{path...}")
    def note(self, request: http.Request, path: str) -> str:
        address: tuple[str, int] | None = request.remote_address
        return f"{request.scheme} {path} {address}"

    @http.post("/say")
    async def say(self, room: str, body: bytes, json: object) -> http.Response:
        if not body:
            raise http.Refuse(400, "say something")
        return http.Response(b"", status=202 if ws.push_text_to_group(room, str(json)) else 404)


async def main() -> None:
    """Serve within a loop of one's own."""
    async with fastws.serve(Rooms([]), port=0, close_timeout=2.0) as server:
        members: int = len(server.groups["lobby"])
        names: list[str] = list(server.stored)
        everybody: ws.Delivery = ws.broadcast_text("all", to=Rooms, key="all")
        there: ws.Connections = ws.connections(Rooms)
        print(bool(everybody), len(there), [connection.id for connection in there])
        for connection in server.connections(Rooms):
            connection.push_text(f"{members} {names}")
        delivery: ws.Delivery = await asyncio.to_thread(
            server.call_from_thread, ws.push_text_to_connection, "operator", "hello"
        )
        everybody = await asyncio.to_thread(server.call_from_thread, ws.broadcast_text, "hello", to=Rooms)
        count: int = server.call_from_thread(len, there)
        print(delivery.matched, delivery.queued, delivery.dropped, server.addresses, everybody, count)


def blocking() -> None:
    """Serve and block."""
    fastws.run(Rooms([]), host="0.0.0.0", port=9090, reuse_port=True)
