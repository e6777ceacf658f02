"""The programs of `nodes.py`: each reads orders as lines of JSON, and answers each with a line.

node      serves clients, and pushes as it is told
clients   connect to a node, and read
crowd     connect to two nodes, and leave the reading to the kernel's buffers
driver    subscribes with the driver of an engine, and counts what comes
plain     publishes and hears by the protocol of an engine alone, and says how long that took
peer      a node of another library, or what only sends
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import node_peers
import uvloop

import fastws
from fastws import http, ws
from fastws.backplane.workers import Mesh


@http.base_path("/node")
@ws.upgrade_path("/ws", compression=None, ping_interval=None, max_backlog=1 << 26)
class Members:
    """Has everybody in one group, under a name of his own, and notes when the others were there and not there."""

    def __init__(self) -> None:
        self.first: ws.Connection | None = None
        self.states: list[tuple[str, float]] = []

    @ws.on_text_message
    def enter(self, connection: ws.Connection, text: str) -> str | None:
        if text.startswith("to all: "):
            ws.push_text_to_group("all", text.removeprefix("to all: "))
            return None
        self.first = self.first or connection
        connection.join("all")
        connection.store(text)
        return "in"

    @ws.on_backplane
    def note(self, state: str) -> None:
        self.states.append((state, time.monotonic()))


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


async def orders(obey: Callable[[dict], Awaitable[dict]]) -> None:
    """Obey lines of standard input until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        say(**await obey(json.loads(line)))


async def bursts(push: Callable[[int], object], order: dict) -> dict:
    """Call a function `count` times, `burst` of them in a turn; say what that took, and when it began."""
    count, number = order["count"], 0
    began, cpu = time.monotonic(), time.process_time()
    while number < count:
        for _ in range(min(order["burst"], count - number)):
            push(number)
            number += 1
        await asyncio.sleep(order.get("pause", 0))
    return {"cpu": time.process_time() - cpu, "began": began}


# --- Nodes


async def node(backplane: str | int | None) -> None:
    engine: object = backplane
    if isinstance(backplane, int):
        engine = Mesh()
        engine.connect(socket.socket(fileno=backplane))
    service = Members()
    async with fastws.serve(service, port=0, backplane=engine, cluster="bench") as server:
        say(port=server.addresses[0][1])
        await orders(lambda order: obey_node(server, service, order))


async def obey_node(server: fastws.Server, service: Members, order: dict) -> dict:
    match order["do"]:
        case "look":
            return {"cpu": time.process_time(), "memory": memory()}
        case "enter groups":
            for number in range(order["count"]):
                service.first.join(f"group-{number:06}")
                if number % 1000 == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(1)  # until what the engine was told has left
            return {"memory": memory()}
        case "reconnect":
            return await reconnect(service, order["port"])
    text, names = "x" * order["size"], order.get("names", 1)
    push = {
        "group": lambda _: ws.push_text_to_group("all", text),
        "name": lambda number: ws.push_text_to_connection(f"name-{number % names}", text),
        "far": lambda number: ws.push_text_to_group(f"far-{number % names}", text),
        "late": lambda _: ws.push_text_to_connection("name-0", str(time.monotonic_ns())),
    }[order["do"]]
    return await bursts(push, order)


async def reconnect(service: Members, port: int) -> dict:
    """Lose the connections to an engine; how long until all is subscribed again, and how long the loop stood still."""
    states, held, before = service.states, 0.0, len(service.states)
    cut(port)
    turn = time.monotonic()
    while len(states) < before + 2 or states[-1][0] != "up":
        await asyncio.sleep(0)
        turn, last = time.monotonic(), turn
        held = max(held, turn - last)
    (_, down), (_, up) = states[before], states[-1]
    return {"seconds": up - down, "held": held}


def cut(port: int) -> None:
    """End this process's connections to a port of loopback, as a network may."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as sock:
            if sock.getpeername()[1:] == (port,):
                sock.shutdown(socket.SHUT_RDWR)


def memory() -> int:
    """Bytes of memory that are this process's own."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * resource.getpagesize()


async def peer(name: str, where: object) -> None:
    """A node of another library, or what only sends."""
    made = node_peers.MAKE[name]()
    say(port=await made.start(where))

    async def obey(order: dict) -> dict:
        if order["do"] == "look":
            return {"cpu": time.process_time()}
        text, group = "x" * order["size"], "all" if order["do"] == "group" else "far-{}"
        began, cpu = time.monotonic(), time.process_time()
        for number in range(order["count"]):
            await made.push(group.format(number % order.get("names", 1)), text)
            if number % order["burst"] == order["burst"] - 1:
                await asyncio.sleep(order.get("pause", 0))
        return {"cpu": time.process_time() - cpu, "began": began}

    await orders(obey)


# --- Clients


async def clients(port: int, count: int, path: str, hello: str, sign: str) -> None:
    loop = asyncio.get_running_loop()
    crowd: list[Reading] = []
    for number in range(count):
        _, protocol = await loop.create_connection(lambda: Reading(sign), "127.0.0.1", port)
        crowd.append(protocol)
        await protocol.enter(path, hello.format(number))
    say(ready=True)

    async def obey(order: dict) -> dict:
        if order["do"] == "reset":
            for protocol in crowd:
                protocol.bytes, protocol.latencies = 0, []
        while sum(protocol.bytes for protocol in crowd) < order.get("bytes", 0):
            await asyncio.sleep(0.001)
        read = [protocol.bytes for protocol in crowd]
        return {"latencies": crowd[0].latencies, "fewest": min(read), "most": max(read)}

    await orders(obey)


def request(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def frame(text: str) -> bytes:
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text.encode()


class Reading(asyncio.Protocol):
    """Counts what it reads; of messages that are a time it notes how long ago that was."""

    def __init__(self, sign: str) -> None:
        self.bytes = 0
        self.latencies: list[int] = []
        self._sign = sign.encode()
        self._entered = asyncio.Event()
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    async def enter(self, path: str, hello: str) -> None:
        self._hello = frame(hello) if hello else b""
        self.transport.write(request(path))
        await self._entered.wait()

    def data_received(self, data: bytes) -> None:
        if not self._entered.is_set():
            self._head += data
            _, end, rest = self._head.partition(b"\r\n\r\n")
            if end:
                self.transport.write(self._hello)  # not with the request, which some refuse
                self._hello = b""
            if end and self._sign in rest:
                self._entered.set()
            return
        self.bytes += len(data)
        if data[2:].isdigit():
            self.latencies.append(time.monotonic_ns() - int(data[2:]))


async def crowd(ports: list[int], count: int) -> None:
    """So many to each port; one says something to all, and again when those who came last have it.

    Who came last is sent to last. The others leave the reading to the kernel's buffers until the end.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    socks: list[socket.socket] = []
    last: list[socket.socket] = []
    for port in ports:
        for number in range(count):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(request("/node/ws") + frame(f"crowd-{port}-{number}"))
            answer = b""
            while b"\x81\x02in" not in answer:
                answer += sock.recv(1000)
            socks.append(sock)
        last.append(sock)
    say(ready=True)

    async def obey(order: dict) -> dict:
        began = time.monotonic()
        for _ in range(order["count"]):
            last[0].sendall(frame("to all: " + "x" * order["size"]))
            for sock in last:
                read(sock, order["size"] + 2)
        seconds = time.monotonic() - began
        for sock in socks:
            read_all(sock)
        return {"seconds": seconds}

    await orders(obey)


def read(sock: socket.socket, size: int) -> None:
    while size > 0:
        size -= len(sock.recv(size))


def read_all(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20, socket.MSG_DONTWAIT):
            pass


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
    say(ready=True)

    async def obey(_: dict) -> dict:
        return {"cpu": time.process_time(), "heard": count}

    await orders(obey)


class Plain(asyncio.Protocol):
    """Speaks to an engine with as few words as possible; what it hears are times."""

    def __init__(self, kind: str) -> None:
        self.ready = asyncio.Event()
        self.latencies: list[int] = []
        self._nats = kind == "nats"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        options = json.dumps({"verbose": False, "pedantic": False, "echo": False})
        transport.write(f"CONNECT {options}\r\nPING\r\n".encode() if self._nats else b"PING\r\n")

    def subscribe(self) -> None:
        self.transport.write(b"SUB late 1\r\n" if self._nats else b"SUBSCRIBE late\r\n")

    def publish(self, text: str) -> None:
        head = f"PUB late {len(text)}\r\n" if self._nats else f"*3\r\n$7\r\nPUBLISH\r\n$4\r\nlate\r\n${len(text)}\r\n"
        self.transport.write(f"{head}{text}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if b"PONG" in data:
            self.ready.set()
        # Twelve digits and more are a time: NATS' and Redis' own numbers are short
        self.latencies += [now - int(word) for word in data.split(b"\r\n") if len(word) > 11 and word.isdigit()]


async def plain(url: str, hears: bool) -> None:
    scheme, _, place = url.partition("://")
    host, port = place.split(":")
    _, protocol = await asyncio.get_running_loop().create_connection(lambda: Plain(scheme), host, int(port))
    await protocol.ready.wait()
    if hears:
        protocol.subscribe()
    say(ready=True)

    async def obey(order: dict) -> dict:
        if order["do"] == "late":
            return await bursts(lambda _: protocol.publish(str(time.monotonic_ns())), order)
        return {"latencies": protocol.latencies}

    await orders(obey)


PROGRAMS = {function.__name__: function for function in (node, peer, clients, crowd, driver, plain)}

if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    uvloop.run(PROGRAMS[sys.argv[1]](*json.loads(sys.argv[2])))
