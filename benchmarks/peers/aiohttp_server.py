"""aiohttp: it has no broadcast, so the program sends to one connection after the other."""

from __future__ import annotations

from aiohttp import WSMsgType, web
from common import BACKLOG, HOST, OPTIONS, run, tls_context

members: set[web.WebSocketResponse] = set()


async def handle(request: web.Request) -> web.WebSocketResponse:
    connection = web.WebSocketResponse(compress=OPTIONS.deflate, max_msg_size=0)
    await connection.prepare(request)
    members.add(connection)
    try:
        async for message in connection:
            if message.type == WSMsgType.TEXT:
                for member in list(members) if OPTIONS.mode == "broadcast" else [connection]:
                    await member.send_str(message.data)
    finally:
        members.discard(connection)
    return connection


async def listen() -> int:
    application = web.Application()
    application.router.add_get("/", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, backlog=BACKLOG, ssl_context=tls_context()).start()
    return runner.addresses[0][1]


run(listen)
