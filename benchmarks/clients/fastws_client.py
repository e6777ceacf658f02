"""fastws, awaited or (`--variant called`) with a listener."""

from __future__ import annotations

import asyncio

from common import MAX_SIZE, OPTIONS, TEXT, URL, Counter, run

import fastws
from fastws import ws


class Listener:
    counter = Counter()

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        for _ in range(OPTIONS.window if OPTIONS.size else 0):
            connection.push_text(TEXT)

    @ws.on_text_message
    def text(self, connection: ws.Connection, text: str) -> None:
        self.counter.messages += 1
        connection.push_text(text)


async def call(counter: Counter) -> None:
    Listener.counter = counter
    connection = await connect_called()
    await connection.wait_closed()


async def wait(counter: Counter) -> None:
    connection = await connect_awaited()
    for _ in range(OPTIONS.window):
        await connection.send(TEXT)
    async for message in connection:
        counter.messages += 1
        await connection.send(message)


listener = Listener()
called = OPTIONS.variant == "called"
arguments = {"max_message_size": MAX_SIZE, "compression": None, "proxy": None}


def connect_called() -> asyncio.Future:
    return fastws.connect(URL, listener, **arguments)


def connect_awaited() -> asyncio.Future:
    return fastws.connect(URL, **arguments)


run(connect_called if called else connect_awaited, call if called else wait)
