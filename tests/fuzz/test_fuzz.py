"""The fuzz targets without a fuzzer: their seeds, their corpora, and mutations of both.

`make fuzz` runs them with one.
"""

from __future__ import annotations

import importlib
import shutil
import struct
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import corpus

CORE = corpus.HERE.parent.parent / "fastws" / "core"
IN_C = [target for target in corpus.targets() if (corpus.HERE / f"{target}.c").exists()]
CHECKED = {
    target: importlib.import_module(f".{target}", __package__) for target in corpus.targets() if target not in IN_C
}
EXAMPLES = settings.default.max_examples * 4


def inputs(target: str) -> list[bytes]:
    return [*CHECKED[target].seeds(), *corpus.load(target)]


@st.composite
def mutations(draw, known: list[bytes]) -> bytes:
    """Known inputs of which parts are replaced, repeated, left out or taken from another."""
    data = draw(st.sampled_from(known))
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        other = draw(st.one_of(st.binary(max_size=4), st.sampled_from(known), st.just(data[start:end] * 2)))
        end = draw(st.sampled_from([start, start + 1, end]))
        data = data[:start] + other + data[end:]
    return data


def test_every_target_has_a_corpus():
    assert set(CHECKED) == {path.stem for path in corpus.HERE.glob("*.py") if "\ndef check(" in path.read_text("utf-8")}


@pytest.mark.parametrize("target", CHECKED)
def test_what_was_found_before_holds(target):
    for data in inputs(target):
        CHECKED[target].check(data)


@pytest.mark.parametrize("target", CHECKED)
def test_what_is_like_it_holds(target):
    @settings(max_examples=EXAMPLES)
    @given(mutations(inputs(target)))
    def holds(data: bytes) -> None:
        CHECKED[target].check(data)

    holds()


@pytest.mark.skipif(not CORE.exists() or shutil.which("cc") is None, reason="needs the sources and a compiler")
@pytest.mark.parametrize("target", IN_C)
def test_what_was_found_before_holds_in_c(target, tmp_path):
    program = tmp_path / target
    sources = [str(corpus.HERE / f"{target}.c"), str(corpus.HERE / "replay.c")]
    subprocess.run(["cc", "-O2", f"-I{CORE}", *sources, "-o", str(program)], check=True)
    known = corpus.load(target)
    subprocess.run([program], input=b"".join(struct.pack("<I", len(data)) + data for data in known), check=True)
