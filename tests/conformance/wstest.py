"""Autobahn's `wstest` in either role: cases in, verdicts out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import fastws

AGENT = "fastws"
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

    async def run_part(cases: list[str], directory: Path) -> dict[str, Verdict]:
        _specify(directory, cases, servers=[{"agent": AGENT, "url": url}])
        async with _wstest(wstest, "fuzzingclient", directory) as process:
            assert await asyncio.wait_for(process.wait(), TIMEOUT) == 0, _output(directory)
        return _verdicts(directory)

    return await _side_by_side(parts, directory, run_part)


async def run_client(
    wstest: Path, client: Callable[[str], Awaitable[None]], parts: list[list[str]], directory: Path
) -> dict[str, Verdict]:
    """Let wstest do the cases with clients: each is given the URL of a case to play, and echoes until the end."""

    async def run_part(cases: list[str], directory: Path) -> dict[str, Verdict]:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            url = f"ws://127.0.0.1:{sock.getsockname()[1]}"
        _specify(directory, cases, url=url)
        async with _wstest(wstest, "fuzzingserver", directory, "--webport", "0"):
            count = await asyncio.wait_for(_count(url, directory), TIMEOUT)
            for number in range(1, count + 1):
                await asyncio.wait_for(client(f"{url}/runCase?case={number}&agent={AGENT}"), TIMEOUT)
            await asyncio.wait_for(client(f"{url}/updateReports?agent={AGENT}"), TIMEOUT)
        return _verdicts(directory)

    return await _side_by_side(parts, directory, run_part)


async def _count(url: str, directory: Path) -> int:
    """How many cases there are, as soon as anybody answers."""
    while True:
        with contextlib.suppress(OSError):
            async with fastws.connect(f"{url}/getCaseCount") as connection:
                return int(await connection.receive())
        await asyncio.sleep(0.02)


async def _side_by_side(
    parts: list[list[str]], directory: Path, run_part: Callable[[list[str], Path], Awaitable[dict[str, Verdict]]]
) -> dict[str, Verdict]:
    cores = asyncio.Semaphore(os.cpu_count() or 1)

    async def run_one(cases: list[str], directory: Path) -> dict[str, Verdict]:
        async with cores:
            return await run_part(cases, directory)

    done = await asyncio.gather(*(run_one(cases, directory / str(number)) for number, cases in enumerate(parts)))
    return {case: verdict for verdicts in done for case, verdict in verdicts.items()}


def _specify(directory: Path, cases: list[str], **role: object) -> None:
    specification = {"outdir": ".", "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}, **role}
    directory.mkdir()
    (directory / "spec.json").write_text(json.dumps(specification))


def _verdicts(directory: Path) -> dict[str, Verdict]:
    index = json.loads((directory / "index.json").read_text())[AGENT]
    return {
        case: Verdict(found["behavior"], found["behaviorClose"], directory / found["reportfile"])
        for case, found in index.items()
    }


@contextlib.asynccontextmanager
async def _wstest(
    wstest: Path, mode: str, directory: Path, *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    with (directory / "output.txt").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(wstest, "-m", mode, "-s", "spec.json", *arguments),
            cwd=directory,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},  # of another Python
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


def _output(directory: Path) -> str:
    return (directory / "output.txt").read_text(errors="replace")[-2000:]
