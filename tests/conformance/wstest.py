"""Autobahn's `wstest` in the client's role: cases in, verdicts out."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 1800  # seconds for one run of wstest; a case bounds itself


@dataclass(frozen=True)
class Verdict:
    """What Autobahn says of one case.

    Attributes:
        messages: how the messages were: OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED or FAILED.
        closing: how the end was: OK, INFORMATIONAL, FAILED BY CLIENT, WRONG CODE or UNCLEAN.
        report: the file in which it tells how it came to this.
    """

    messages: str
    closing: str
    report: Path

    def __str__(self) -> str:
        return ", ".join(sorted({self.messages, self.closing} - {"OK"})) or "OK"


async def run(wstest: Path, url: str, parts: list[list[str]], directory: Path) -> dict[str, Verdict]:
    """Let wstest do the cases with the server at the URL, as many parts side by side as there are cores.

    A `*` in a case stands for anything.
    """
    cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def run_part(cases: list[str], directory: Path) -> dict[str, Verdict]:
        async with cores:
            return await _run(wstest, url, cases, directory)

    done = await asyncio.gather(*(run_part(cases, directory / str(number)) for number, cases in enumerate(parts)))
    return {case: verdict for verdicts in done for case, verdict in verdicts.items()}


async def _run(wstest: Path, url: str, cases: list[str], directory: Path) -> dict[str, Verdict]:
    specification = {
        "outdir": ".",
        "servers": [{"agent": "fastws", "url": url}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    directory.mkdir()
    (directory / "spec.json").write_text(json.dumps(specification))
    await _play(wstest, directory)
    index = json.loads((directory / "index.json").read_text())["fastws"]
    return {
        case: Verdict(found["behavior"], found["behaviorClose"], directory / found["reportfile"])
        for case, found in index.items()
    }


async def _play(wstest: Path, directory: Path) -> None:
    with (directory / "output.txt").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(wstest, "-m", "fuzzingclient", "-s", "spec.json"),
            cwd=directory,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},  # of another Python
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            status = await asyncio.wait_for(process.wait(), TIMEOUT)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
    assert status == 0, (directory / "output.txt").read_text(errors="replace")[-2000:]
