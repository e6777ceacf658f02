"""What does it cost to build a server's frame?

picows has no such function: it builds a frame where it sends it. aiohttp's writer writes to a transport that keeps it.
"""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode
from wsproto.frame_protocol import FrameProtocol

from fastws._speedups import build_frame

from .inprocess import Transport, aiohttp_writer


def aiohttp_frame():
    transport = Transport()
    write = aiohttp_writer(transport)

    def build(payload):
        write(payload)
        return transport.take()

    return build


CONTENDERS = {
    "fastws": lambda: lambda payload: build_frame(1, payload),
    "websockets": lambda: lambda payload: Frame(Opcode.TEXT, payload).serialize(mask=False),
    "wsproto": lambda: FrameProtocol(client=False, extensions=[]).send_data,
    "aiohttp": aiohttp_frame,
}


@pytest.mark.parametrize("contender", CONTENDERS)
def test_frame(measure, contender, size):
    payload = b"x" * size
    frame = measure("build a frame", size, contender, CONTENDERS[contender](), payload)
    assert frame[1:] == build_frame(1, payload)[1:]
