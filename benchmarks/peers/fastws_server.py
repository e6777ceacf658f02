"""fastws with `def` handlers, or with `async def` ones (variant async)."""

from __future__ import annotations

from common import BACKLOG, HOST, MAX_SIZE, OPTIONS, run, tls_context

import fastws
from fastws import http, ws

UPGRADE = ws.upgrade_path("/", max_message_size=MAX_SIZE, compression="shared" if OPTIONS.deflate else None)


@http.base_path("/")
@UPGRADE
class Echo:
    @ws.on_text_message
    def text(self, text: str) -> str:
        return text


@http.base_path("/")
@UPGRADE
class AsyncEcho:
    @ws.on_text_message
    async def text(self, text: str) -> str:
        return text


@http.base_path("/")
@UPGRADE
class Broadcast:
    @ws.on_text_message
    def text(self, text: str) -> None:
        ws.broadcast_text(text)


@http.base_path("/")
@UPGRADE
class AsyncBroadcast:
    @ws.on_text_message
    async def text(self, text: str) -> None:
        ws.broadcast_text(text)


SERVICES = {
    ("echo", ""): Echo,
    ("echo", "async"): AsyncEcho,
    ("broadcast", ""): Broadcast,
    ("broadcast", "async"): AsyncBroadcast,
}


async def listen() -> int:
    service = SERVICES[OPTIONS.mode, OPTIONS.variant]
    server = await fastws.serve(service, host=HOST, port=0, backlog=BACKLOG, ssl=tls_context()).__aenter__()
    return server.addresses[0][1]


run(listen)
