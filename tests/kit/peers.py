"""WebSocket clients that others wrote, behind one face."""

from __future__ import annotations

import asyncio

import aiohttp
import picows
import websockets.asyncio.client

from .client import tls_at, within


class Websockets:
    """The client of `websockets`, which offers to compress unless it is told what else to offer."""

    def __init__(self, url: str, subprotocols: list[str] | None = None, **options) -> None:
        self._connecting = websockets.asyncio.client.connect(
            url, subprotocols=subprotocols or None, max_size=None, proxy=None, ssl=tls_at(url), **options
        )

    async def __aenter__(self):
        self._socket = await self._connecting
        self.subprotocol = self._socket.subprotocol
        self.extensions = self._socket.response.headers.get("Sec-WebSocket-Extensions")
        self.send = self._socket.send
        self.send_fragments = self._socket.send
        self.close = self._socket.close
        return self

    async def __aexit__(self, *error) -> None:
        await self._socket.close()

    async def receive(self) -> str | bytes:
        return await within(self._socket.recv())

    async def ping(self, data: bytes) -> None:
        await within(await self._socket.ping(data))

    async def closed(self) -> tuple[int, str]:
        await within(self._socket.wait_closed())
        return self._socket.close_code, self._socket.close_reason


class Aiohttp:
    """The client of `aiohttp`. It sends no fragments. `compress` is 0 or the window bits that it offers."""

    def __init__(self, url: str, subprotocols: list[str] | None = None, *, compress: int = 15) -> None:
        self._url = url
        self._subprotocols = subprotocols or []
        self._compress = compress

    async def __aenter__(self):
        self._session = aiohttp.ClientSession()
        try:
            self._socket = await self._session.ws_connect(
                self._url,
                protocols=self._subprotocols,
                max_msg_size=0,
                compress=self._compress,
                autoping=False,
                ssl=tls_at(self._url) or True,
            )
        except BaseException:
            await self._session.close()
            raise
        self.subprotocol = self._socket.protocol
        self.window_bits = self._socket.compress
        return self

    async def __aexit__(self, *error) -> None:
        await self._socket.close()
        await self._session.close()

    async def send(self, message: str | bytes) -> None:
        await (self._socket.send_str if isinstance(message, str) else self._socket.send_bytes)(message)

    async def receive(self) -> str | bytes:
        message = await within(self._socket.receive())
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        return message.data

    async def ping(self, data: bytes) -> None:
        await self._socket.ping(data)
        message = await within(self._socket.receive())
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, data)

    async def close(self, code: int, reason: str) -> None:
        await within(self._socket.close(code=code, message=reason.encode()))

    async def closed(self) -> tuple[int, str]:
        message = await within(self._socket.receive())
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return message.data, message.extra


class Picows(picows.WSListener):
    """The client of `picows`: frames, and nothing around them."""

    def __init__(self, url: str, subprotocols: list[str]) -> None:
        self._url = url
        self._offer = {"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else None
        self._frames: asyncio.Queue = asyncio.Queue()

    async def __aenter__(self):
        self._transport, _ = await picows.ws_connect(
            lambda: self, self._url, extra_headers=self._offer, ssl_context=tls_at(self._url)
        )
        self.subprotocol = self._transport.response.headers.get("Sec-WebSocket-Protocol")
        return self

    async def __aexit__(self, *error) -> None:
        self._transport.send_close()
        self._transport.disconnect()
        await within(self._transport.wait_disconnected())

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        if frame.msg_type is picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            data = frame.get_close_code(), (frame.get_close_message() or b"").decode()
        self._frames.put_nowait((frame.msg_type, data))

    async def _next(self, *kinds: picows.WSMsgType):
        kind, data = await within(self._frames.get())
        assert kind in kinds, (kind, data)
        return data.decode() if kind is picows.WSMsgType.TEXT else data

    async def send(self, message: str | bytes) -> None:
        await self.send_fragments([message])

    async def send_fragments(self, fragments: list[str] | list[bytes]) -> None:
        kind = picows.WSMsgType.TEXT if isinstance(fragments[0], str) else picows.WSMsgType.BINARY
        for i, fragment in enumerate(fragments):
            data = fragment.encode() if isinstance(fragment, str) else fragment
            self._transport.send(kind if i == 0 else picows.WSMsgType.CONTINUATION, data, fin=i == len(fragments) - 1)

    async def receive(self) -> str | bytes:
        return await self._next(picows.WSMsgType.TEXT, picows.WSMsgType.BINARY)

    async def ping(self, data: bytes) -> None:
        self._transport.send_ping(data)
        assert await self._next(picows.WSMsgType.PONG) == data

    async def close(self, code: int, reason: str) -> None:
        self._transport.send_close(code, reason.encode())
        await within(self._transport.wait_disconnected())

    async def closed(self) -> tuple[int, str]:
        return await self._next(picows.WSMsgType.CLOSE)
