"""A server with a known fault: `python -m tests.kit.faulty FAULT`; it says its port, and serves until it is killed.

At `/` what one client says goes to all others, at `/echo` it comes back, and at `/ticks` the server says by itself, 100
times a second, a number and the time in milliseconds since 1970.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time

import fastws
from fastws import http, ws

EVERY = 100  # deliveries of which one is wrong
STALL = 0.5  # seconds
STALLS_AT = 150  # the message, counted from 1, at which everything stands still
CLOSES_AT = 150  # the message at which each tenth client is closed, with 4000
FAULT = sys.argv[1] if len(sys.argv) > 1 and __name__ == "__main__" else "none"


class Line:
    """What one client is sent of a row of messages."""

    def __init__(self) -> None:
        self.count = 0
        self.held: list[str] = []

    def next(self, text: str) -> list[str]:
        """What to send when this is to be sent."""
        self.count += 1
        if self.count % EVERY == 0 and FAULT in ("lose", "double", "reorder"):
            if FAULT == "reorder":
                self.held = [text]
            return [text, text] if FAULT == "double" else []
        held, self.held = self.held, []
        return [text, *held]


class Faulty:
    """Refuses each fifth handshake, or stalls at a message, where that is the fault."""

    def __init__(self) -> None:
        self.asked = itertools.count(1)
        self.count = 0  # of messages

    def came(self) -> None:
        self.count += 1
        if FAULT == "stall" and self.count == STALLS_AT:
            time.sleep(STALL)

    @ws.on_upgrade
    def asks(self) -> None:
        if FAULT == "refuse" and next(self.asked) % 5 == 0:
            raise http.Refuse(503)

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        connection.attributes["line"] = Line()


@http.base_path("/")
@ws.upgrade_path("/", overflow_code=1013)
class Chat(Faulty):
    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> None:
        self.came()
        for place, other in enumerate(ws.connections(self)):
            if FAULT == "close" and self.count == CLOSES_AT and place % 10 == 0 and other is not connection:
                other.close(4000)
            if other is not connection:
                for each in other.attributes["line"].next(text):
                    other.push_text(each)


@http.base_path("/echo")
@ws.upgrade_path("/")
class Echo(Faulty):
    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> None:
        self.came()
        for each in connection.attributes["line"].next(text):
            connection.push_text(each)

    @ws.on_binary_message
    def binary(self, data: bytes) -> bytes:
        return data


@http.base_path("/ticks")
@ws.upgrade_path("/")
class Ticks:
    @ws.on_start
    async def tick(self) -> None:
        self.ticking = asyncio.ensure_future(self.go_on())

    async def go_on(self) -> None:
        loop, line = asyncio.get_running_loop(), Line()
        start, since = loop.time(), time.time()
        for number in itertools.count():
            await asyncio.sleep(start + number / 100 - loop.time())
            due = (since + number / 100) * 1000
            for text in line.next(f'{{"number": {number}, "at": {due:.3f}}}'):
                ws.broadcast_text(text, to=self)

    @ws.on_stop
    def stop(self) -> None:
        self.ticking.cancel()


async def main() -> None:
    async with fastws.serve(Chat, Echo, Ticks, port=0, slow_handler_time=None) as server:
        print(server.addresses[0][1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
