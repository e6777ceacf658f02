"""A user's program of clients that reconnect or block, which mypy --strict and pyright must accept; never run."""

from __future__ import annotations

import contextlib

import fastws
import fastws.sync


def tell(retry: fastws.Retry) -> None:
    """Read all that is told before a wait."""
    attempt: int = retry.attempt
    delay: float = retry.delay
    error: fastws.FastWSError = retry.error
    print(attempt, delay, error)


async def stay() -> None:
    """Connect again and again."""
    connections: fastws.Reconnecting = fastws.reconnect(
        "wss://example.com/prices",
        max_delay=30,
        max_attempts=None,
        on_retry=tell,
        subprotocols=["prices"],
        proxy="http://10.0.0.1:3128",
        local_addr=("127.0.0.1", 0),
    )
    async with contextlib.aclosing(connections):
        async for connection in connections:
            with contextlib.suppress(fastws.ConnectionClosed):
                async for message in connection:
                    print(message, connections.attempt, connections.delay)


def block() -> list[str | bytes]:
    """Use all of a blocking connection."""
    heard: list[str | bytes] = []
    with fastws.sync.connect("wss://example.com/chat", headers={"X-Room": "7"}, proxy=None) as connection:
        same: fastws.sync.Connection = connection
        same.send("text")
        same.send(b"binary", timeout=1)
        same.send(bytearray(2))
        same.send(memoryview(b"x"))
        with contextlib.suppress(fastws.CallTimeoutError):
            heard.append(same.receive(timeout=0.5))
        seconds: float = same.ping()
        code: int | None = same.close_code
        reason: str | None = same.close_reason
        subprotocol: str | None = same.subprotocol
        compression: str | None = same.compression
        address: tuple[str, int] | None = same.remote_address
        print(seconds, code, reason, subprotocol, compression, address, same.headers["upgrade"])
        print(same.is_open, same.secure, same.was_clean, same.path)
        heard.extend(message for message in same)
        same.close(4000, "bye")
    return heard


def explain(error: fastws.ConnectError) -> str:
    """Tell the errors of connecting apart."""
    if isinstance(error, fastws.ProxyError):
        return f"{error.proxy} {error.reason} {error.status}"
    if isinstance(error, fastws.RedirectError):
        return f"{error.url} {error.status} {error.location} {error.reason}"
    if isinstance(error, fastws.DialError):
        return f"{error.address} {error.errno} {error.strerror}"
    return str(error)
