"""picows: it has no broadcast, so the program sends to one connection after the other."""

from __future__ import annotations

from common import BACKLOG, HOST, MAX_SIZE, OPTIONS, run, tls_context
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

transports: set[WSTransport] = set()


class Echo(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_memoryview())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()


class Broadcast(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transports.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        transports.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            data = frame.get_payload_as_bytes()
            for member in transports:
                member.send(WSMsgType.TEXT, data)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()


async def listen() -> int:
    listener = {"echo": Echo, "broadcast": Broadcast}[OPTIONS.mode]
    server = await ws_create_server(
        lambda request: listener(), HOST, 0, ssl=tls_context(), max_frame_size=MAX_SIZE, backlog=BACKLOG
    )
    return server.sockets[0].getsockname()[1]


run(listen)
