"""The commands of docs/load.md, run but for less of everything, with the services that they name."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest

from ..conftest import ROOT
from ..kit.bench import bench
from ..kit.examples import EXAMPLES

PAGE = (ROOT / "docs" / "load.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(block.replace("\\\n", ""))[2:]
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if block.startswith("fastws bench")
]
LESS = {"--connections": "20", "--duration": "0.5", "--rate": "100", "--stalled": "0.1"}


@pytest.fixture
def port(tmp_path):
    """Everything that the page names, served at one port."""
    (tmp_path / "prices.py").write_text(re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1])
    files = [EXAMPLES / "echo.py", EXAMPLES / "chat.py", tmp_path / "prices.py"]
    command = [sys.executable, "-m", "fastws", "run", *map(str, files), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(re.search(r":(\d+)/", process.stdout.readline())[1])
        finally:
            process.terminate()


def with_less(arguments: list[str]) -> list[str]:
    """Less of everything, so that it takes a second."""
    less = list(arguments)
    for option, value in LESS.items():
        if option in less:
            less[less.index(option) + 1] = value
    return [*less, "--patience", "0.5"] if less[0] == "slow" else less


def test_the_page_has_a_command_for_each_question():
    assert {arguments[1] for arguments in COMMANDS} == {"fanout", "echo", "slow", "storm"}


def test_each_command_does_what_the_page_says(port, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url, *arguments in COMMANDS:
        there = url.replace(":9090", f":{port}")
        done = bench(*with_less(arguments), "--quiet", url=there)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert "\nlatency     since it was due, in milliseconds\n" in done.stdout
        assert "\n            0            0            0            0\n" in done.stdout or arguments[0] == "storm"
    assert json.loads((tmp_path / "bench.json").read_text())["lost"] == 0
    assert b"<svg" in (tmp_path / "bench.svg").read_bytes()
