"""fastws with `def` handlers, or with `async def` ones: MODE echo, echo-async or broadcast."""

from __future__ import annotations

from common import BACKLOG, HOST, MODE, run

import fastws
from fastws import http, ws


@http.base_path("/")
@ws.upgrade_path("/", max_message_size=1 << 30)
class Echo:
    @ws.on_text_message
    def text(self, text: str) -> str:
        return text


@http.base_path("/")
@ws.upgrade_path("/", max_message_size=1 << 30)
class AsyncEcho:
    @ws.on_text_message
    async def text(self, text: str) -> str:
        return text


@http.base_path("/")
@ws.upgrade_path("/", max_message_size=1 << 30)
class Broadcast:
    @ws.on_text_message
    def text(self, text: str) -> None:
        ws.broadcast_text(text)


SERVICES = {"echo": Echo, "echo-async": AsyncEcho, "broadcast": Broadcast}


async def listen() -> int:
    server = await fastws.serve(SERVICES[MODE], host=HOST, port=0, backlog=BACKLOG).__aenter__()
    return server.addresses[0][1]


run(listen)
