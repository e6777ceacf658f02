"""Other libraries with several nodes: each class starts one node of its own, and pushes to a group on all of them.

A peer is made for a pair of nodes; `path`, `hello` and `sign` say how a client enters the group "all" there: which path
it opens, what it says first, and how the text begins that tells that it is in, if any does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import ClassVar


def listening() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(4096)
    return sock


class SocketIo:
    """python-socketio on aiohttp, with its Redis manager."""

    path: ClassVar = "/socket.io/?EIO=4&transport=websocket"
    hello: ClassVar = "40"
    sign: ClassVar = "40"

    async def start(self, url: str) -> int:
        import socketio
        from aiohttp import web

        manager = socketio.AsyncRedisManager(url)
        self._server = socketio.AsyncServer(async_mode="aiohttp", client_manager=manager, ping_interval=3600)

        @self._server.event
        async def connect(sid: str, _: object) -> None:
            await self._server.enter_room(sid, "all")

        app = web.Application()
        self._server.attach(app)
        runner = web.AppRunner(app)
        await runner.setup()
        sock = listening()
        await web.SockSite(runner, sock).start()
        return sock.getsockname()[1]

    async def push(self, group: str, text: str) -> None:
        await self._server.emit("m", text, room=group)


class Starlette:
    """What subscribes for each client, on Starlette and uvicorn."""

    path: ClassVar = "/"
    hello: ClassVar = ""
    sign: ClassVar = ""

    async def listen(self) -> int:
        import uvicorn
        from starlette.applications import Starlette as Application
        from starlette.routing import WebSocketRoute

        app = Application(routes=[WebSocketRoute("/", self.serve)])
        options = {"log_level": "error", "lifespan": "off", "ws_ping_interval": None, "ws_per_message_deflate": False}
        sock = listening()
        self._serving = asyncio.ensure_future(uvicorn.Server(uvicorn.Config(app, **options)).serve([sock]))
        return sock.getsockname()[1]

    async def serve(self, websocket) -> None:
        raise NotImplementedError


class Hubcast(Starlette):
    async def start(self, url: str) -> int:
        from hubcast import Hub
        from redis.asyncio import Redis

        self._hub = Hub(Redis.from_url(url), max_queue=10_000)
        await self._hub.start()
        return await self.listen()

    async def serve(self, websocket) -> None:
        await websocket.accept()
        async with self._hub.subscribe("all") as messages:
            async for message in messages:
                await websocket.send_text(message)

    async def push(self, group: str, text: str) -> None:
        await self._hub.publish(group, text)


class Broadcaster(Starlette):
    async def start(self, url: str) -> int:
        from broadcaster import Broadcast

        self._broadcast = Broadcast(url)
        await self._broadcast.connect()
        return await self.listen()

    async def serve(self, websocket) -> None:
        await websocket.accept()
        async with self._broadcast.subscribe("all") as events:
            async for event in events:
                await websocket.send_text(event.message)

    async def push(self, group: str, text: str) -> None:
        await self._broadcast.publish(group, text)


class WseServer:
    """wse-server's own mesh; its threads are counted, as all of a process."""

    path: ClassVar = "/wse"
    hello: ClassVar = "in"
    sign: ClassVar = ""

    async def start(self, ports: list[int]) -> int:
        from wse_server import RustWSEServer

        own, other = ports
        port = listening_port()
        limits = {"max_connections": 100_000, "rate_limit_capacity": 1e12, "rate_limit_refill": 1e12}
        self._server = RustWSEServer("127.0.0.1", port, **limits)
        self._server.enable_drain_mode()
        self._server.start()
        while not self._server.is_running():
            await asyncio.sleep(0.01)
        self._server.connect_cluster(peers=[f"127.0.0.1:{other}"], cluster_port=own)
        threading.Thread(target=self._subscribe_all, daemon=True).start()
        return port

    def _subscribe_all(self) -> None:
        while True:
            for kind, connection, _ in self._server.drain_inbound(256, 500):
                if kind == "raw":
                    self._server.subscribe_connection(connection, ["all"])

    async def push(self, group: str, text: str) -> None:
        self._server.broadcast(group, text)


def listening_port() -> int:
    with contextlib.closing(listening()) as sock:
        return sock.getsockname()[1]


# --- Those that only send


class Channels:
    """channels_redis; each group has a member elsewhere."""

    kind: ClassVar = "core"

    async def start(self, url: str) -> None:
        from channels_redis.core import RedisChannelLayer
        from channels_redis.pubsub import RedisPubSubChannelLayer

        self._layer = {"core": RedisChannelLayer, "pubsub": RedisPubSubChannelLayer}[self.kind](hosts=[url])
        for number in range(100):
            await self._layer.group_add(f"far-{number}", await self._layer.new_channel())

    async def push(self, group: str, text: str) -> None:
        await self._layer.group_send(group, {"type": "text", "text": text})


class ChannelsPubSub(Channels):
    kind = "pubsub"


class NatsPy:
    async def start(self, url: str) -> None:
        import nats

        self._connection = await nats.connect(url)

    async def push(self, group: str, text: str) -> None:
        await self._connection.publish(group, text.encode())


class RedisPy:
    async def start(self, url: str) -> None:
        import redis.asyncio

        self._client = redis.asyncio.from_url(url)

    async def push(self, group: str, text: str) -> None:
        await self._client.publish(group, text)


NODES = {"python-socketio": SocketIo, "hubcast": Hubcast, "broadcaster": Broadcaster, "wse-server": WseServer}
SENDERS = {
    "nats": {"nats-py": NatsPy},
    "redis": {"redis-py": RedisPy, "channels_redis": Channels, "channels_redis pubsub": ChannelsPubSub},
}
PACKAGES = {"redis-py": "redis", "channels_redis pubsub": "channels_redis"}  # where a name is not that of a package
MAKE = NODES | SENDERS["nats"] | SENDERS["redis"]
