"""What does it cost the sender to push one message, or a burst, to a hundred connections?

Server and clients share one process and one thread. What is timed ends when the kernel has all frames; the clients read
them, and count them, between two rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

import picows
import pytest
import uvloop
from websockets.asyncio.server import broadcast
from websockets.asyncio.server import serve as serve_websockets

import fastws
from fastws import http, ws

from .inprocess import REQUEST

CLIENTS = 100
RECEIVED_LEN = 65536  # bytes that a client's socket holds for sure; no round sends it more
ROUNDS = 30


@contextlib.asynccontextmanager
async def fastws_push():
    @http.base_path("/")
    @ws.upgrade_path("/", ping_interval=None)
    class Service:
        @ws.on_open
        def opened(self) -> None:
            ws.add_connection_to_group("all")

    async with fastws.serve(Service, port=0, close_timeout=0.1) as server:
        yield server.addresses[0][1], lambda text: ws.push_text_to_group("all", text)


@contextlib.asynccontextmanager
async def websockets_push():
    async def opened(connection) -> None:
        await connection.wait_closed()

    async with serve_websockets(
        opened, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.1
    ) as server:
        yield server.sockets[0].getsockname()[1], lambda text: broadcast(server.connections, text)


@contextlib.asynccontextmanager
async def picows_push():
    transports = set()

    class Listener(picows.WSListener):
        def on_ws_connected(self, transport) -> None:
            transports.add(transport)

        def on_ws_disconnected(self, transport) -> None:
            transports.discard(transport)

    def push(text: str) -> None:
        data = text.encode()
        for transport in transports:
            transport.send(picows.WSMsgType.TEXT, data)

    async with await picows.ws_create_server(lambda request: Listener(), "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], push


SERVERS = {"fastws": fastws_push, "picows": picows_push, "websockets": websockets_push}


async def connect(port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", port))
    await loop.sock_sendall(client, REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await loop.sock_recv(client, 1)
    client.settimeout(5)
    return client


def receive(client: socket.socket, length: int) -> None:
    while length:
        length -= len(client.recv(length))


@pytest.mark.parametrize("contender", SERVERS)
@pytest.mark.parametrize("burst", [1, 16])
def test_fanout(measure, burst, contender, size):
    frame_len = size + (2 if size < 126 else 4 if size < 65536 else 10)
    if frame_len * burst > RECEIVED_LEN:
        pytest.skip("more than a client's socket surely holds")
    text = "x" * size
    loop = uvloop.new_event_loop()
    stack = contextlib.AsyncExitStack()
    port, push = loop.run_until_complete(stack.enter_async_context(SERVERS[contender]()))
    clients = [loop.run_until_complete(connect(port)) for _ in range(CLIENTS)]

    async def turn() -> None:
        for _ in range(burst):
            push(text)
        for _ in range(3):
            await asyncio.sleep(0)

    def send() -> None:
        loop.run_until_complete(turn())

    def clear() -> None:
        for client in clients:
            receive(client, burst * frame_len)

    send()  # so that every round begins with clients that have one to read
    question = f"push {burst} to {CLIENTS} connections"
    measure(question, size, contender, send, messages=burst * CLIENTS, setup=clear, rounds=ROUNDS, warmup_rounds=2)
    clear()
    for client in clients:
        client.close()
    loop.run_until_complete(asyncio.wait_for(stack.aclose(), 10))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
