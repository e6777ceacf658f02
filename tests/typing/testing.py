"""A user's tests that mypy --strict and pyright must accept as they stand; never run."""

from __future__ import annotations

import re
import unittest
from typing import TYPE_CHECKING, Any

import fastws
from fastws import http, testing, ws

if TYPE_CHECKING:
    from fastws.testing.plugin import ClientFactory, ServerFactory


@http.base_path("/")
@ws.upgrade_path("/chat", overflow="conflate")
class Chat:
    """Whatever a test needs."""


async def of_a_client(server: testing.MemoryServer) -> None:
    """Everything that a client does."""
    client: testing.MemoryClient = await server.connect(
        "/chat?q=1",
        headers={"X-A": "b"},
        subprotocols=["chat.v1"],
        origin="https://example.com",
        cookies={"token": "secret"},
        auth=("alice", "password"),
        compression="shared",
        address=("10.0.0.1", 1),
        secure=True,
        answers=False,
    )
    await client.send("text")
    await client.send(b"binary")
    await client.send_json({"a": [1]})
    text: str = await client.expect_text("text")
    text = await client.expect_text(re.compile("t"))
    text = await client.expect_text(lambda text: text.startswith("t"))
    value: Any = await client.expect_json({"a": [1]})
    data: bytes = await client.expect_binary(b"binary")
    data = await client.expect_binary(lambda data: len(data) > 1)
    seconds: float = await client.ping()
    client.stall()
    client.read(100)
    client.read()
    client.fragment(10)
    client.byte_by_byte()
    client.send_raw(b"\x81\x00")
    client.half_close()
    client.cut()
    client.reset()
    await client.expect_nothing()
    code: int = await client.expect_close(1000, "bye")
    await client.close(4000, "why")
    received: list[str | bytes] = client.received
    state: tuple[int | None, str | None, bool, bool] = (
        client.close_code,
        client.close_reason,
        client.was_clean,
        client.is_open,
    )
    connection: ws.Connection = client.connection
    subprotocol: str | None = client.subprotocol
    print(text, value, data, seconds, code, received, state, connection, subprotocol, client.headers["upgrade"])


async def of_a_server() -> None:
    """Everything that a server does."""
    async with testing.serve(Chat, close_timeout=2.0, health=True, patience=0.5) as server:
        await server.clock.advance(20)
        now: float = server.clock.time()
        counts: list[int] = [server.delivered, server.dropped, server.conflated, server.buffered]
        response: testing.Response = await server.get("/healthz", headers={"Accept": "*/*"})
        answer: dict[str, int] = (await server.post("/say", json={"a": 1})).json()
        status: int = (await server.put("/say", body="text")).status
        matched: int = server.call(ws.push_text_to_group, "all", "hi").matched
        error: BaseException = await server.expect_error(ValueError)
        await server.settle()
        draining: testing.Ending[None] = server.drain(60)
        await draining
        await server.close(1001, "bye")
        inner: fastws.Server = server.server
        try:
            await server.connect()
        except testing.Refused as refused:
            print(refused.status, refused.headers.get("retry-after"), refused.body)
        except testing.ExpectationError as unexpected:
            print(unexpected)
        print(now, counts, response.text, answer, status, matched, error, inner, len(server.groups["all"]))


async def of_a_cluster() -> None:
    """Everything that a cluster does."""
    async with testing.cluster(3, Chat, max_connections=10) as nodes:
        first: testing.MemoryServer = nodes[0]
        nodes.cut(0)
        nodes.cut(1, 2)
        nodes.delay(0.5)
        nodes.heal()
        await nodes.clock.advance(1)
        await nodes.settle()
        clients: list[testing.MemoryClient] = [await node.connect() for node in nodes]
        print(first, len(nodes), clients)


async def test_of_the_fixtures(fastws_server: ServerFactory, fastws_client: ClientFactory) -> None:
    """What pytest gives."""
    server: testing.MemoryServer = await fastws_server(Chat, close_timeout=1)
    client: testing.MemoryClient = await fastws_client(Chat, "/chat", headers={"X-A": "b"})
    print(server, client)


class Tests(unittest.IsolatedAsyncioTestCase):
    """What the standard library runs."""

    async def test_of_chat(self) -> None:
        """A test."""
        async with testing.serve(Chat()) as server:
            await server.connect()
