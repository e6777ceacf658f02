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


@pytest.mark.parametrize("contender", CONTENDERS)
def test_mask(measure, contender, size):
    data = bytes(i & 0xFF for i in range(256)) * (size // 256 + 1)
    expected = mask(data[:size], KEY)
    assert measure("mask", size, contender, CONTENDERS[contender], data[:size], KEY) == expected
