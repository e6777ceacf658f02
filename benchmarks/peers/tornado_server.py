"""Tornado: it has no broadcast, so the program writes to one connection after the other and waits for none."""

from __future__ import annotations

from common import BACKLOG, HOST, MAX_SIZE, OPTIONS, run, tls_context
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

members: set[WebSocketHandler] = set()


class Handler(WebSocketHandler):
    def get_compression_options(self) -> dict | None:
        return {} if OPTIONS.deflate else None

    def open(self) -> None:
        self.set_nodelay(True)  # as its documentation advises where messages are small
        members.add(self)

    def on_close(self) -> None:
        members.discard(self)


class Echo(Handler):
    async def on_message(self, message: str) -> None:
        await self.write_message(message)


class Broadcast(Handler):
    def on_message(self, message: str) -> None:
        for member in members:
            member.write_message(message)


async def listen() -> int:
    handler = {"echo": Echo, "broadcast": Broadcast}[OPTIONS.mode]
    application = Application([("/", handler)], websocket_max_message_size=MAX_SIZE)
    server = HTTPServer(application, ssl_options=tls_context())
    sockets = bind_sockets(0, HOST, backlog=BACKLOG)
    server.add_sockets(sockets)
    return sockets[0].getsockname()[1]


run(listen)
