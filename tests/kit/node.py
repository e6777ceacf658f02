"""Node's `ws`: one process, in which any number of clients live behind the face of those in peers.py."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from pathlib import Path

from .certificates import authority_file
from .client import TLS, within

SCRIPT = Path(__file__).with_name("node_ws.cjs")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PACKAGE = CACHE / "fastws" / "node" / "node_modules" / "ws"  # where tools/node_ws.sh puts it
IS_INSTALLED = shutil.which("node") is not None and PACKAGE.is_dir()
LINE = 1 << 26  # bytes, at most


class Node:
    """A process to make clients in: `async with node.connect(url, offer) as client`."""

    def __init__(self) -> None:
        self._events: list[asyncio.Queue] = []

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            *("node", SCRIPT, PACKAGE),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
            # A sanitizer of ours is none of its business, and it knows our authority from a file only
            env={**os.environ, "LD_PRELOAD": "", "NODE_EXTRA_CA_CERTS": authority_file() if TLS else ""},
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *error) -> None:
        self._process.stdin.close()
        try:
            # It ends with its input, once its last socket is closed
            await within(self._process.wait())
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        async for line in self._process.stdout:
            number, event, value = json.loads(line)
            self._events[number].put_nowait((event, value))

    def connect(self, url: str, offer: dict | bool) -> NodeClient:
        """A client that makes this offer: `perMessageDeflate` of `ws`."""
        self._events.append(asyncio.Queue())
        return NodeClient(self, len(self._events) - 1, url, offer)


class NodeClient:
    """One client.

    Attributes:
        extensions: what the server agreed to, or None.
    """

    def __init__(self, node: Node, number: int, url: str, offer: dict | bool) -> None:
        self._node = node
        self._number = number
        self._url = url
        self._offer = offer
        self._is_closed = False

    def _tell(self, command: str, value: object) -> None:
        self._node._process.stdin.write(json.dumps([self._number, command, value]).encode() + b"\n")

    async def _next(self, *expected: str):
        event, value = await within(self._node._events[self._number].get())
        assert event in expected, (event, value)
        self._is_closed = event == "closed"
        return base64.b64decode(value) if event in ("binary", "pong") else value

    async def __aenter__(self):
        self._tell("connect", {"url": self._url, "offer": self._offer})
        self.extensions = await self._next("open")
        return self

    async def __aexit__(self, *error) -> None:
        if not self._is_closed:
            self._tell("close", [1000, ""])
            while not self._is_closed:
                await self._next("closed", "text", "binary", "error")

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._tell("text", message)
        else:
            self._tell("binary", base64.b64encode(message).decode())

    async def send_fragments(self, fragments: list[str]) -> None:
        self._tell("fragments", fragments)

    async def receive(self) -> str | bytes:
        return await self._next("text", "binary")

    async def ping(self, data: bytes) -> None:
        self._tell("ping", base64.b64encode(data).decode())
        assert await self._next("pong") == data

    async def close(self, code: int, reason: str) -> None:
        self._tell("close", [code, reason])
        await self._next("closed")

    async def closed(self) -> tuple[int, str]:
        code, reason = await self._next("closed")
        return code, reason
