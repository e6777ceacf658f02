"""What does it cost to unmask a payload?"""

from __future__ import annotations

import pytest
from websockets.speedups import apply_mask
from wsproto.frame_protocol import XorMaskerSimple

from fastws._speedups import mask

KEY = b"\x37\xfa\x21\x3d"
CONTENDERS = {
    "fastws": mask,
    "websockets": apply_mask,
    "wsproto": lambda data, key: XorMaskerSimple(key).process(data),
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
