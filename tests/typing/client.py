"""A user's program of clients that mypy --strict and pyright must accept as it stands; never run."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import fastws
from fastws import ws


class Prices:
    """A listener, with every argument that it may name."""

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        connection.push_text("subscribe", key="state")

    @ws.on_text_message
    def text(self, connection: ws.Connection, text: str) -> str | None:
        return text if connection.attributes else None

    @ws.on_binary_message
    async def binary(self, data: bytes) -> bytes:
        await asyncio.sleep(0)
        return data

    @ws.on_close
    def closed(self, code: int, reason: str, sent_code: int | None, received_code: int | None) -> None:
        print(code, reason, sent_code, received_code)


async def await_messages() -> list[str]:
    """Use all of an awaiting connection."""
    texts: list[str] = []
    async with fastws.connect(
        "wss://example.com/chat",
        subprotocols=["chat"],
        headers={"X-Room": "7"},
        cookies=[("id", "1")],
        origin="https://example.com",
        auth=("user", "password"),
        ssl=ssl.create_default_context(),
        server_hostname="example.com",
        compression="dedicated",
        max_message_size=1 << 20,
        open_timeout=None,
        close_timeout=1,
        ping_interval=None,
        ping_timeout=10,
        idle_timeout=60.0,
        max_queue=4,
        max_backlog=1 << 16,
        high_water=1 << 15,
        overflow="close",
        proxy=None,
        max_redirects=0,
        local_addr=("127.0.0.1", 0),
    ) as connection:
        await connection.send("text")
        await connection.send(b"binary")
        first: str | bytes = await connection.receive()
        texts.extend([message async for message in connection if isinstance(message, str)])
        seconds: float = await connection.ping()
        await connection.drain()
        delivery: ws.Delivery = connection.push_text("x", overflow="drop_old")
        subprotocol: str | None = connection.subprotocol
        address: tuple[str, int] | None = connection.remote_address
        print(first, seconds, delivery.queued, subprotocol, address, connection.buffered, connection.headers["X"])
        await connection.close(4000, "enough")
    print(connection.close_code, connection.close_reason, connection.was_clean)
    return texts


async def open_by_await(path: Path) -> fastws.ClientConnection:
    """Return a connection that the caller closes."""
    return await fastws.connect("ws://localhost/", unix=path)


async def call_a_listener() -> None:
    """Have a listener called."""
    async with fastws.connect("wss://example.com/prices", Prices(), compression=None) as connection:
        service_face: ws.Connection = connection
        service_face.push_binary(b"x")
        await connection.wait_closed()


async def look_at_errors() -> int:
    """Read what errors tell."""
    try:
        await open_by_await(Path("/run/chat.sock"))
    except fastws.InvalidStatus as refusal:
        return refusal.status + len(refusal.body) + len(refusal.headers.get("retry-after", ""))
    except fastws.OpenTimeoutError as late:
        return int(late.seconds)
    except fastws.ConnectError as error:
        return error.errno or 0
    except fastws.ConnectionClosed as end:
        return end.code + len(end.reason)
    return 0
