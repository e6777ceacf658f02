"""What does it cost to validate text that arrives in fragments?

All others decode as they validate; a fragment of fastws is only validated, and decoded with its message.
"""

from __future__ import annotations

import codecs

import pytest

from fastws._speedups import is_utf8

SCRIPTS = {"ASCII": "a", "Latin": "naïve café ", "Cyrillic": "слово ", "CJK": "漢字", "emoji": "\U0001f600"}
DECODER = codecs.getincrementaldecoder("utf-8")
CONTENDERS = {
    "fastws": is_utf8,
    # What wsproto and websockets run on fragments
    "codecs (wsproto, websockets)": lambda data: DECODER().decode(data, True),
}


def text(script: str, size: int) -> bytes:
    unit = SCRIPTS[script].encode()
    return unit * max(1, size // len(unit))


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_utf8(measure, script, contender, size):
    assert measure(f"UTF-8, {script}", size, contender, CONTENDERS[contender], text(script, size))


@pytest.mark.parametrize("script", SCRIPTS)
def test_utf8_vectors(measure, script, fastws_kernels, size):
    """Do vectors pay?"""
    assert measure(f"UTF-8 in fastws, {script}", size, fastws_kernels, is_utf8, text(script, size))
