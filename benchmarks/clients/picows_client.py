"""picows: its client calls a listener."""

from __future__ import annotations

from common import MAX_SIZE, OPTIONS, TEXT, URL, Counter, run
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

DATA = TEXT.encode()


class Echo(WSListener):
    counter = Counter()

    def on_ws_connected(self, transport: WSTransport) -> None:
        for _ in range(OPTIONS.window if OPTIONS.size else 0):
            transport.send(WSMsgType.TEXT, DATA)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self.counter.messages += 1
            # As text, which the others get, too
            transport.send(WSMsgType.TEXT, frame.get_payload_as_utf8_text().encode())


async def connect() -> object:
    return await ws_connect(Echo, URL, max_frame_size=MAX_SIZE)


async def echo(counter: Counter) -> None:
    Echo.counter = counter
    transport, _ = await connect()
    await transport.wait_disconnected()


run(connect, echo)
