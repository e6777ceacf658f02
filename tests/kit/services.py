"""Services that several tests serve."""

from __future__ import annotations

import asyncio

from fastws import http, ws

from .client import until, within


def at(path: str = "/", **options):
    """Annotate a class as a WebSocket service at a path."""
    return lambda cls: http.base_path("/")(ws.upgrade_path(path, **options)(cls))


class Log:
    """What a service saw, in order, to be waited for."""

    def __init__(self) -> None:
        self.events = asyncio.Queue()
        self.connections = []

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        self.connections.append(connection)

    def saw(self, *event) -> None:
        self.events.put_nowait(event)

    async def next(self):
        return await within(self.events.get())


@at()
class Watch(Log):
    """Notes how connections end."""

    @ws.on_close
    def closed(self, code: int, reason: str) -> None:
        self.saw("closed", code, reason)


@at(max_backlog=1 << 30)
class Patient(Watch):
    """Keeps whatever its clients do not read."""


@at()
class Echo(Watch):
    """Replies with what it gets."""

    @ws.on_text_message
    def text(self, text: str) -> str:
        return text

    @ws.on_binary_message
    def binary(self, data: bytes) -> bytes:
        return data


@at()
class AsyncEcho(Watch):
    """Replies with what it gets, a turn of the loop later."""

    @ws.on_text_message
    async def text(self, text: str) -> str:
        await asyncio.sleep(0)
        return text


@at()
class Commanded(Watch):
    """Does in its handler what a test tells it to: `client.send("name")` calls `does["name"]`."""

    def __init__(self, **does) -> None:
        super().__init__()
        self.does = does

    @ws.on_text_message
    def obey(self, text: str) -> object:
        return self.does[text]()


@at()
class AsyncCommanded(Watch):
    """The same with `async` functions."""

    def __init__(self, **does) -> None:
        super().__init__()
        self.does = does

    @ws.on_text_message
    async def obey(self, text: str) -> object:
        return await self.does[text]()


class Notes:
    """Notes what comes."""

    def __init__(self) -> None:
        self.heard: list[str | bytes] = []
        self.closed: list[int] = []

    @ws.on_text_message
    def text(self, text: str) -> None:
        self.heard.append(text)

    @ws.on_binary_message
    def binary(self, data: bytes) -> None:
        self.heard.append(data)

    @ws.on_close
    def ended(self, code: int) -> None:
        self.closed.append(code)


async def nothing_follows(server, service) -> None:
    """The service saw all there is to see, also when the server has stopped."""
    await until(lambda: len(server.connections(service)) == 0)
    await server.close()
    assert service.events.empty()
