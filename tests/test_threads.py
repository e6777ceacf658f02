"""Other threads than the server's: they are refused, and shown the way."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fastws import WrongThreadError, ws

from .client import until, within
from .services import AsyncCommanded, Watch


async def test_another_thread_is_refused_and_told_the_way(serve, connect):
    def calls():
        connection = server.stored["me"]
        yield from (ws.push_text, connection.push_text, connection.broadcast_text, ws.store_connection)
        yield from (ws.add_connection_to_group, connection.join, connection.leave, connection.store)
        yield from (ws.remove_stored_connection, ws.create_connection_group, ws.remove_connection_group)
        yield from (ws.close_stored_connection, ws.close_connection_group)
        yield from (lambda text: ws.push_text_to_connection("me", text), lambda text: ws.push_text_to_group("g", text))
        yield from (lambda text: connection.push_binary(b""), lambda text: connection.close(), ws.broadcast_text)

    def from_thread() -> int:
        refused = 0
        for call in calls():
            with pytest.raises(WrongThreadError, match=r"use server.call_from_thread\("):
                call("x")
            refused += 1
        return refused

    async def ask() -> str:
        ws.store_connection("me")
        return str(await asyncio.to_thread(from_thread))

    server = await serve(AsyncCommanded(ask=ask))
    client = await connect(server)
    assert await client.asks("ask") == "18"


async def test_call_from_thread_runs_on_the_loop_with_the_current_connection(serve, connect):
    def from_thread() -> str:
        delivery = server.call_from_thread(ws.push_text, "from a thread")
        assert delivery == ws.Delivery(1, 1, 0)
        with pytest.raises(ZeroDivisionError):
            server.call_from_thread(divmod, 1, 0)
        return str(server.call_from_thread(threading.get_ident) == ident)

    async def ask() -> str:
        return await asyncio.to_thread(from_thread)

    ident = threading.get_ident()
    server = await serve(AsyncCommanded(ask=ask))
    client = await connect(server)
    client.send("ask")
    assert await client.texts(2) == ["from a thread", "True"]


async def test_call_from_thread_serves_threads_that_know_no_connection(serve, connect):
    server = await serve(Watch())
    client = await connect(server)
    await until(lambda: len(server.connections(Watch)))
    (connection,) = server.connections(Watch)
    connection.join("g")
    delivery = await within(asyncio.to_thread(server.call_from_thread, ws.push_text_to_group, "g", "hello"))
    assert delivery == ws.Delivery(1, 1, 0)
    assert await client.text() == "hello"
    assert server.call_from_thread(ws.push_text_to_group, "g", "also here")
