"""uvicorn with a bare ASGI application; the variant names its WebSocket implementation.

ASGI has no broadcast, so the program sends to one connection after the other.
"""

from __future__ import annotations

import asyncio
import functools

import uvicorn
from common import BACKLOG, HOST, MAX_SIZE, OPTIONS, run

members: set = set()


async def application(scope, receive, send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    members.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            message = {"type": "websocket.send", "text": event["text"]}
            for member in list(members) if OPTIONS.mode == "broadcast" else [send]:
                await member(message)
    finally:
        members.discard(send)


async def started(server: uvicorn.Server) -> int:
    while not server.started:
        await asyncio.sleep(0.01)
    return server.servers[0].sockets[0].getsockname()[1]


@functools.cache
def server() -> uvicorn.Server:
    tls = {"ssl_certfile": OPTIONS.certificate} if OPTIONS.certificate else {}
    return uvicorn.Server(
        uvicorn.Config(
            application,
            host=HOST,
            port=0,
            ws=OPTIONS.variant,
            ws_max_size=MAX_SIZE,
            ws_per_message_deflate=OPTIONS.deflate,
            backlog=BACKLOG,
            lifespan="off",
            log_config=None,
            **tls,
        )
    )


async def listen() -> int:
    serving = asyncio.create_task(server().serve())
    starting = asyncio.create_task(started(server()))
    await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    return await starting


run(listen)
