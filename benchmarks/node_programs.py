"""The programs of `nodes.py`: each reads orders as lines of JSON, and answers each with a line.

node      serves a thousand clients, and pushes as it is told
clients   connect to a node, each with a name, and read
driver    subscribes with the driver of an engine, and counts what comes
layer     pushes with channels_redis
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop

import fastws
from fastws import http, ws
from fastws.backplane.workers import Mesh

PATH = "/node/ws"


@http.base_path("/node")
@ws.upgrade_path("/ws", compression=None, ping_interval=None, max_backlog=1 << 26)
class Members:
    @ws.on_text_message
    def enter(self, connection: ws.Connection, text: str) -> str:
        connection.join("all")
        connection.store(text)
        return "in"


async def orders(obey: Callable[[dict], Awaitable[object]]) -> None:
    """Obey lines of standard input until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(await obey(json.loads(line))), flush=True)


async def bursts(push: Callable[[int], object], count: int, burst: int, pause: float) -> None:
    """Call a function so many times, `burst` of them in a turn."""
    number = 0
    while number < count:
        for _ in range(min(burst, count - number)):
            push(number)
            number += 1
        await asyncio.sleep(pause)


# --- Nodes


async def node(backplane: str | int | None) -> None:
    engine: object = backplane
    if isinstance(backplane, int):
        engine = Mesh()
        engine.connect(socket.socket(fileno=backplane))
    async with fastws.serve(Members, port=0, backplane=engine, cluster="bench") as server:
        print(json.dumps({"port": server.addresses[0][1]}), flush=True)
        await orders(lambda order: obey_node(server, order))


async def obey_node(server: fastws.Server, order: dict) -> object:
    relay = server._relay
    if order["do"] == "look":
        heard = 0 if relay is None else relay.heard
        return {"cpu": time.process_time(), "heard": heard, "members": len(server.groups.get("all", ()))}
    text = "x" * order["size"]
    names = order.get("names", 1)
    push = {
        "group": lambda _: ws.push_text_to_group("all", text),
        "name": lambda number: ws.push_text_to_connection(f"name-{number % names}", text),
        "far": lambda number: ws.push_text_to_group(f"far-{number % names}", text),
        "late": lambda _: ws.push_text_to_connection("name-0", str(time.monotonic_ns())),
    }[order["do"]]
    cpu = time.process_time()
    await bursts(push, order["count"], order["burst"], order.get("pause", 0))
    return {"cpu": time.process_time() - cpu}


# --- Clients


async def clients(port: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    crowd: list[Reading] = []
    for number in range(count):
        _, protocol = await loop.create_connection(Reading, "127.0.0.1", port)
        crowd.append(protocol)
        await protocol.enter(f"name-{number}")
    print(json.dumps({"ready": True}), flush=True)

    async def obey(order: dict) -> object:
        if order["do"] == "reset":
            for protocol in crowd:
                protocol.bytes, protocol.latencies = 0, []
        while sum(protocol.bytes for protocol in crowd) < order.get("bytes", 0):
            await asyncio.sleep(0.001)
        return {"latencies": crowd[0].latencies if order["do"] == "latencies" else []}

    await orders(obey)


class Reading(asyncio.Protocol):
    """Counts what it reads; of messages that are a time it notes how long ago that was."""

    def __init__(self) -> None:
        self.bytes = 0
        self.latencies: list[int] = []
        self._entered = asyncio.Event()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    async def enter(self, name: str) -> None:
        request = (
            f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.transport.write(request.encode() + bytes([0x81, 0x80 | len(name)]) + bytes(4) + name.encode())
        await self._entered.wait()

    def data_received(self, data: bytes) -> None:
        if not self._entered.is_set():
            self._head += data
            if self._head.endswith(b"\x81\x02in"):
                self._entered.set()
            return
        self.bytes += len(data)
        if data[2:].isdigit():
            self.latencies.append(time.monotonic_ns() - int(data[2:]))


# --- Drivers


async def driver(url: str, names: int) -> None:
    """What the driver of an engine takes for a message to one of many subjects, with a callback that counts."""
    count = 0

    async def on_nats(_: object) -> None:
        nonlocal count
        count += 1

    if url.startswith("nats"):
        import nats

        connection = await nats.connect(url)
        for number in range(names):
            await connection.subscribe(f"name-{number}", cb=on_nats)
        await connection.flush()
    else:
        import redis.asyncio

        def on_redis(_: object) -> None:
            nonlocal count
            count += 1

        pubsub = redis.asyncio.from_url(url).pubsub()
        await pubsub.subscribe(**{f"name-{number}": on_redis for number in range(names)})
        task = asyncio.ensure_future(pubsub.run())
        assert not task.done()
    print(json.dumps({"ready": True}), flush=True)

    async def obey(_: dict) -> object:
        return {"cpu": time.process_time(), "heard": count}

    await orders(obey)


async def layer(url: str) -> None:
    """What channels_redis takes to send to a group that has one member elsewhere."""
    from channels_redis.core import RedisChannelLayer
    from channels_redis.pubsub import RedisPubSubChannelLayer

    kinds = {"core": RedisChannelLayer, "pubsub": RedisPubSubChannelLayer}
    layers = {name: kind(hosts=[url]) for name, kind in kinds.items()}
    print(json.dumps({"ready": True}), flush=True)

    async def obey(order: dict) -> object:
        channel_layer = layers[order["do"]]
        for number in range(order["names"]):
            await channel_layer.group_add(f"far-{number}", await channel_layer.new_channel())
        message = {"type": "text", "text": "x" * order["size"]}
        cpu = time.process_time()
        for number in range(order["count"]):
            await channel_layer.group_send(f"far-{number % order['names']}", message)
        return {"cpu": time.process_time() - cpu}

    await orders(obey)


PROGRAMS = {"node": node, "clients": clients, "driver": driver, "layer": layer}

if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    uvloop.run(PROGRAMS[sys.argv[1]](*json.loads(sys.argv[2])))
