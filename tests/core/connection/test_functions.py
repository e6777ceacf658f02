"""Every function of the service API on the current connection, in its text and its binary form."""

from __future__ import annotations

import asyncio

import pytest

from fastws import ws

from ...kit.client import BINARY, TEXT, until
from ...kit.services import AsyncCommanded, Commanded


def exclude() -> ws.Connection:
    """The caller, as a handler would know it."""
    ws.store_connection("caller")
    return found["server"].stored["caller"]


found: dict = {}

# The function as a handler calls it, and what two connections receive of it: the caller, and one that is stored as
# "other"; both are in group "g"
FUNCTIONS = {
    "push_text": (lambda: ws.push_text("x"), [(TEXT, b"x")], []),
    "push_binary": (lambda: ws.push_binary(b"x"), [(BINARY, b"x")], []),
    "broadcast_text": (lambda: ws.broadcast_text("x"), [(TEXT, b"x")], [(TEXT, b"x")]),
    "broadcast_binary": (lambda: ws.broadcast_binary(b"x"), [(BINARY, b"x")], [(BINARY, b"x")]),
    "broadcast_text but for the sender": (lambda: ws.broadcast_text("x", exclude=exclude()), [], [(TEXT, b"x")]),
    "broadcast_binary but for the sender": (lambda: ws.broadcast_binary(b"x", exclude=exclude()), [], [(BINARY, b"x")]),
    "push_text_to_connection": (lambda: ws.push_text_to_connection("other", "x"), [], [(TEXT, b"x")]),
    "push_binary_to_connection": (lambda: ws.push_binary_to_connection("other", b"x"), [], [(BINARY, b"x")]),
    "push_text_to_group": (lambda: ws.push_text_to_group("g", "x"), [(TEXT, b"x")], [(TEXT, b"x")]),
    "push_binary_to_group": (lambda: ws.push_binary_to_group("g", b"x"), [(BINARY, b"x")], [(BINARY, b"x")]),
    "push_text_to_group but for the sender": (
        lambda: ws.push_text_to_group("g", "x", exclude=exclude()),
        [],
        [(TEXT, b"x")],
    ),
    "push_binary_to_group but for the sender": (
        lambda: ws.push_binary_to_group("g", b"x", exclude=exclude()),
        [],
        [(BINARY, b"x")],
    ),
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
async def test_who_receives_what_a_handler_pushes(serve, connect, name, is_async):
    function, to_caller, to_other = FUNCTIONS[name]

    def register() -> str:
        ws.add_connection_to_group("g")
        return "registered"

    def store() -> str:
        ws.store_connection("other")
        return register()

    def push() -> str:
        delivery = function()
        assert delivery == ws.Delivery(len(to_caller + to_other), len(to_caller + to_other), 0)
        return "end"

    def suspended(call):
        async def later() -> str:
            await asyncio.sleep(0)
            return call()

        return later

    does = {"register": register, "store": store, "push": push, "end": lambda: "end"}
    if is_async:
        does = {name: suspended(call) for name, call in does.items()}
    server = found["server"] = await serve((AsyncCommanded if is_async else Commanded)(**does))
    caller, other = await connect(server), await connect(server)
    assert await caller.asks("register") == "registered"
    assert await other.asks("store") == "registered"
    caller.send("push")
    assert [await caller.receive() for _ in to_caller] == to_caller
    assert await caller.text() == "end"
    other.send("end")
    assert [await other.receive() for _ in to_other] == to_other
    assert await other.text() == "end"
    found.clear()


async def test_a_handler_registers_its_own_connection(serve, connect):
    steps = {
        "join": lambda: str(ws.add_connection_to_group("g")),
        "leave": lambda: str(ws.remove_connection_from_group("g")),
        "store": lambda: str(ws.store_connection("me")),
    }
    server = await serve(Commanded(**steps))
    client, other = await connect(server), await connect(server)
    assert await other.asks("join") == "None"
    assert [await client.asks(step) for step in ("leave", "join", "leave", "leave")] == [
        "False",
        "None",
        "True",
        "False",
    ]
    assert len(server.groups["g"]) == 1
    assert await client.asks("store") == "None"
    client.reset()
    await until(lambda: not server.stored)
    assert len(server.groups["g"]) == 1


async def test_a_handler_closes_its_own_connection(serve, connect):
    closed = []
    service = Commanded(close=lambda: closed.extend([ws.close_connection(4000, "enough"), ws.close_connection()]))
    client = await connect(await serve(service))
    client.send("close", "close")
    assert await client.close_frame() == (4000, "enough")
    assert closed == [True, False]
    client.send_close(4000)
    assert await client.rest() == []
    assert await service.next() == ("closed", 4000, "")


@pytest.mark.parametrize("code", [999, 1005, 1006, 5000])
async def test_a_close_function_refuses_a_code_that_may_not_be_sent(serve, connect, code):
    def close() -> str:
        for function in (ws.close_connection, lambda code: ws.close_stored_connection("nobody", code)):
            with pytest.raises(ValueError, match="may not be sent"):
                function(code)
        with pytest.raises(ValueError, match="may not be sent"):
            ws.close_connection_group("nobody", code)
        return "refused"

    client = await connect(await serve(Commanded(close=close)))
    assert await client.asks("close") == "refused"
