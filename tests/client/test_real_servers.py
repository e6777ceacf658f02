"""Servers that others wrote, as they really are: fastws connects, awaited and called."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import aiohttp.web
import picows
import pytest
import websockets.asyncio.server

import fastws

from ..kit import node
from ..kit.client import until, within
from ..kit.services import Notes

PROGRAM = Path(node.__file__).with_name("node_server.cjs")
MESSAGES = ["", "grüße", b"\x00\xff", "x" * 70_000, bytes(300_000)]


@contextlib.asynccontextmanager
async def of_websockets(**options):
    async def echo(connection):
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with websockets.asyncio.server.serve(echo, "127.0.0.1", 0, subprotocols=["chat"], **options) as server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def of_aiohttp():
    async def echo(request):
        response = aiohttp.web.WebSocketResponse(protocols=["chat"])
        await response.prepare(request)
        async for message in response:
            if message.type is aiohttp.WSMsgType.TEXT:
                await response.send_str(message.data)
            else:
                await response.send_bytes(message.data)
        return response

    app = aiohttp.web.Application()
    app.router.add_get("/", echo)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


class PicowsEcho(picows.WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type in (picows.WSMsgType.TEXT, picows.WSMsgType.BINARY):
            transport.send(frame.msg_type, frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


@contextlib.asynccontextmanager
async def of_picows():
    server = await picows.ws_create_server(lambda request: PicowsEcho(), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


UVICORN = """
import sys, uvicorn
async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "chat" if "chat" in scope["subprotocols"] else None})
    while (event := await receive())["type"] == "websocket.receive":
        key = "text" if event.get("text") is not None else "bytes"
        await send({"type": "websocket.send", key: event[key]})
config = uvicorn.Config(app, port=0, lifespan="off", log_level="critical", ws=sys.argv[1])
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)
Server(config).run()
"""


@contextlib.asynccontextmanager
async def of_uvicorn(kind):
    pytest.importorskip("uvicorn")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", UVICORN, kind, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield int(await within(process.stdout.readline()))
    finally:
        process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def of_node(compresses):
    if not node.IS_INSTALLED:
        pytest.skip("Node's ws is not installed: tools/node_ws.sh does that")
    process = await asyncio.create_subprocess_exec(
        "node", str(PROGRAM), str(node.PACKAGE), compresses, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield int(await within(process.stdout.readline()))
    finally:
        process.kill()
        await process.communicate()


SERVERS = {
    "websockets": of_websockets,
    "websockets, uncompressed": lambda: of_websockets(compression=None),
    "aiohttp": of_aiohttp,
    "picows": of_picows,
    "Node": lambda: of_node("no"),
    "Node, compressing": lambda: of_node("yes"),
    "uvicorn": lambda: of_uvicorn("websockets"),
    "uvicorn, sansio": lambda: of_uvicorn("websockets-sansio"),
}


@pytest.fixture(params=SERVERS)
async def port(request):
    async with SERVERS[request.param]() as port:
        yield port


@pytest.mark.parametrize("compression", [None, "shared", "dedicated"])
async def test_messages_pings_and_the_end_are_understood(port, compression):
    where = f"ws://127.0.0.1:{port}/"
    async with fastws.connect(where, compression=compression, subprotocols=["other", "chat"]) as connection:
        for message in MESSAGES * 2:
            await connection.send(message)
            assert await within(connection.receive()) == message
        assert await within(connection.ping()) > 0
    assert connection.close_code == 1000
    assert connection.was_clean


async def test_a_listener_hears_them_too(port):
    listener = Notes()
    async with fastws.connect(f"ws://127.0.0.1:{port}/", listener, subprotocols=["chat"]) as connection:
        for message in MESSAGES:
            (connection.push_text if isinstance(message, str) else connection.push_binary)(message)
        await until(lambda: len(listener.heard) == len(MESSAGES))
    assert listener.heard == MESSAGES


async def test_our_code_and_reason_arrive_at_websockets():
    seen = []

    async def note(connection):
        await connection.wait_closed()
        seen.append((connection.close_code, connection.close_reason))

    async with websockets.asyncio.server.serve(note, "127.0.0.1", 0) as server:
        connection = await within(fastws.connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
        await within(connection.close(4000, "bye"))
        await until(lambda: seen)
    assert seen == [(4000, "bye")]
