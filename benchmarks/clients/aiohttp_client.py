"""aiohttp: the WebSocket of its client session."""

from __future__ import annotations

import functools

import aiohttp
from common import MAX_SIZE, OPTIONS, TEXT, URL, Counter, run


@functools.cache
def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


async def connect() -> aiohttp.ClientWebSocketResponse:
    return await session().ws_connect(URL, max_msg_size=MAX_SIZE, compress=0)


async def echo(counter: Counter) -> None:
    connection = await connect()
    for _ in range(OPTIONS.window):
        await connection.send_str(TEXT)
    async for message in connection:
        counter.messages += 1
        await connection.send_str(message.data)


run(connect, echo)
