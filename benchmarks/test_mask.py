"""What does it cost to unmask a payload?

aiohttp does it in place; the copy that this takes here is in its time, as it is in those of the others. picows does it
in C that Python does not reach: test_reader.py shows it, together with the rest of reading.
"""

from __future__ import annotations

import pytest
from aiohttp._websocket.helpers import websocket_mask
from websockets.speedups import apply_mask
from wsproto.frame_protocol import XorMaskerSimple

from fastws._speedups import mask

from .inprocess import KEY


def aiohttp_mask(data, key):
    copy = bytearray(data)
    websocket_mask(key, copy)
    return copy


CONTENDERS = {
    "fastws": mask,
    "websockets": apply_mask,
    "wsproto": lambda data, key: XorMaskerSimple(key).process(data),
    "aiohttp": aiohttp_mask,
}


def payload(size: int) -> bytes:
    return (bytes(i & 0xFF for i in range(256)) * (size // 256 + 1))[:size]


@pytest.mark.parametrize("contender", CONTENDERS)
def test_mask(measure, contender, size):
    data = payload(size)
    assert measure("mask", size, contender, CONTENDERS[contender], data, KEY) == mask(data, KEY)


def test_mask_vectors(measure, fastws_kernels, size):
    """Do vectors that not every machine has pay?"""
    data = payload(size)
    assert measure("mask in fastws", size, fastws_kernels, mask, data, KEY) == mask(data, KEY)
