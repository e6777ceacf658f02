"""The targets and their corpora: `corpus/<target>.txt` holds an input a line, as a bytes literal."""

from __future__ import annotations

import ast
import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


def targets() -> list[str]:
    """All targets: a module with check(), or a C file."""
    return sorted(path.stem for path in (HERE / "corpus").glob("*.txt"))


def prepare(target: str, directory: str) -> Callable[[bytes], None]:
    """Write the seeds of a target to a directory; returns its check()."""
    module = importlib.import_module(f".{target}", __package__)
    write(module.seeds(), Path(directory))
    return module.check


def write(inputs: list[bytes], directory: Path) -> None:
    """Write inputs to files of their own, as libFuzzer reads them."""
    for data in inputs:
        (directory / hashlib.sha1(data).hexdigest()).write_bytes(data)


def load(target: str) -> list[bytes]:
    lines = (HERE / "corpus" / f"{target}.txt").read_text("ascii").splitlines()
    return [ast.literal_eval(line) for line in lines]


def save(target: str, inputs: list[bytes]) -> None:
    lines = sorted(repr(data) for data in set(inputs))
    (HERE / "corpus" / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines), "ascii")
