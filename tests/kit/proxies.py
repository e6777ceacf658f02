"""Proxies of clients, with the habits of good and bad ones: HTTP CONNECT, SOCKS 5, SOCKS 4 and 4a."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import re
import struct

PIECE = 1 << 16  # bytes


class _Proxy:
    """Passes bytes between whoever connects and where they ask to be connected to.

    Attributes:
        port: where it listens, at 127.0.0.1.
        asked: for whom, ``host:port``, in order; by name where it was asked by name.
        hosts: what it takes names for, instead of asking a resolver.
        open: connections that it has now.
    """

    scheme: str

    def __init__(self, *, auth: tuple[str, str] | None = None, tls=None, hosts: dict[str, str] | None = None) -> None:
        self._auth = auth
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.hosts = hosts or {}
        self.asked: list[str] = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks)

    @property
    def open(self) -> int:
        return len(self._writers)

    def url(self, userinfo: str = "", scheme: str | None = None) -> str:
        return f"{scheme or self.scheme}://{userinfo}{'localhost' if self._tls else '127.0.0.1'}:{self.port}"

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with self._held(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await self.negotiate(reader, writer):
                await self._connect(reader, writer)

    async def negotiate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read what is asked for into `asked`; whether to connect."""
        raise NotImplementedError

    def granted(self) -> bytes:
        """What says that it is connected."""
        raise NotImplementedError

    def failed(self) -> bytes:
        """What says that nobody is there."""
        raise NotImplementedError

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.asked[-1].rpartition(":")
        try:
            there = await asyncio.open_connection(self.hosts.get(host, host.strip("[]")), int(port))
        except OSError:
            writer.write(self.failed())
            await writer.drain()
            return
        with self._held(there[1]):
            await self.say(writer, self.granted())
            await asyncio.gather(self._pass_on(reader, there[1]), self._pass_on(there[0], writer))

    async def say(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(answer)
        await writer.drain()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                writer.write(data)
                await writer.drain()
        writer.close()

    @contextlib.contextmanager
    def _held(self, writer: asyncio.StreamWriter):
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()


class HttpProxy(_Proxy):
    """HTTP CONNECT.

    Args:
        answer: what it says instead of connecting, whatever it is asked.
        granted: what it says when it has connected.
        piecewise: whether it says that byte by byte, each a segment of its own.
    """

    scheme = "http"

    def __init__(
        self,
        *,
        answer: bytes | None = None,
        granted: bytes = b"HTTP/1.1 200 OK\r\n\r\n",
        piecewise: bool = False,
        **options,
    ) -> None:
        super().__init__(**options)
        self._answer = answer
        self._granted = granted
        self._piecewise = piecewise
        if self._tls is not None:
            self.scheme = "https"

    async def negotiate(self, reader, writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        found = re.fullmatch(
            r"CONNECT (\S+) HTTP/1.1\r\nHost: \1\r\n(?:Proxy-Authorization: Basic (\S+)\r\n)?\r\n", head
        )
        assert found, head
        self.asked.append(found[1])
        answer = self._answer
        if self._auth and found[2] != base64.b64encode(":".join(self._auth).encode()).decode():
            answer = b"HTTP/1.1 407 Who are you?\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
        if answer is not None:
            await self.say(writer, answer)
        return answer is None

    async def say(self, writer, answer: bytes) -> None:
        if not self._piecewise:
            return await super().say(writer, answer)
        for place in range(len(answer)):
            await super().say(writer, answer[place : place + 1])
            await asyncio.sleep(0.001)  # or the kernel would join them
        return None

    def granted(self) -> bytes:
        return self._granted

    def failed(self) -> bytes:
        return b"HTTP/1.1 502 Bad Gateway\r\n\r\n"


class SocksProxy(_Proxy):
    """SOCKS 5, with the method of RFC 1929 where it wants to know who comes.

    Args:
        reply: what it replies instead of connecting (RFC 1928 section 6).
    """

    scheme = "socks5"

    def __init__(self, *, reply: int | None = None, **options) -> None:
        super().__init__(**options)
        self._reply = reply

    async def negotiate(self, reader, writer) -> bool:
        version, count = await reader.readexactly(2)
        assert version == 5
        method = 2 if self._auth else 0
        if method not in await reader.readexactly(count):
            await self.say(writer, b"\x05\xff")
            return False
        await self.say(writer, bytes([5, method]))
        if self._auth and not await self._is_known(reader, writer):
            return False
        assert await reader.readexactly(3) == b"\x05\x01\x00"
        self.asked.append(await self._read_place(reader))
        if self._reply is not None:
            await self.say(writer, self._say(self._reply))
        return self._reply is None

    async def _is_known(self, reader, writer) -> bool:
        assert await reader.readexactly(1) == b"\x01"
        given = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in range(2)]
        known = tuple(given) == self._auth
        await self.say(writer, bytes([1, not known]))
        return known

    async def _read_place(self, reader) -> str:
        kind = (await reader.readexactly(1))[0]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            address = ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16))
            host = f"[{address}]" if kind == 4 else str(address)
        return f"{host}:{struct.unpack('!H', await reader.readexactly(2))[0]}"

    def _say(self, reply: int) -> bytes:
        return bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0])

    def granted(self) -> bytes:
        return self._say(0)

    def failed(self) -> bytes:
        return self._say(5)


class Socks4Proxy(_Proxy):
    """SOCKS 4 and 4a; it knows a user, but no password."""

    scheme = "socks4"

    async def negotiate(self, reader, writer) -> bool:
        version, command, port, address = struct.unpack("!BBH4s", await reader.readexactly(8))
        assert (version, command) == (4, 1)
        user = (await reader.readuntil(b"\0"))[:-1].decode()
        host = str(ipaddress.IPv4Address(address))
        if address[:3] == b"\0\0\0":
            host = (await reader.readuntil(b"\0"))[:-1].decode()
        self.asked.append(f"{host}:{port}")
        if self._auth and user != self._auth[0]:
            await self.say(writer, b"\0\x5d" + bytes(6))
            return False
        return True

    def granted(self) -> bytes:
        return b"\0\x5a" + bytes(6)

    def failed(self) -> bytes:
        return b"\0\x5b" + bytes(6)
