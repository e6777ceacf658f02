"""websockets: its asyncio client."""

from __future__ import annotations

from common import MAX_SIZE, OPTIONS, TEXT, URL, Counter, run
from websockets.asyncio.client import connect as open_connection


async def connect() -> object:
    return await open_connection(URL, max_size=MAX_SIZE, compression=None, proxy=None)


async def echo(counter: Counter) -> None:
    connection = await connect()
    for _ in range(OPTIONS.window):
        await connection.send(TEXT)
    async for message in connection:
        counter.messages += 1
        await connection.send(message)


run(connect, echo)
