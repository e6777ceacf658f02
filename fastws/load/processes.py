"""A question asked by this process, or by several that this one starts and that begin and end together.

What they say to each other are lines of JSON. A child is told its part; it says how far it is and, at points that all
have to reach, a number, for which it is told the greatest that any has said. Its last line is what it found, or what
went wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, LoadError
from .echo import Echo, Pipeline
from .fanout import Fanout
from .findings import Findings
from .progress import INTERVAL, Progress
from .run import Run, Snapshot
from .storm import Storm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .plan import Plan

__all__ = ["ask", "ask_here", "ask_in_processes"]


async def ask(plan: Plan, progress: Progress) -> Findings:
    """Ask a question, in as many processes as it wants.

    Raises:
        ConfigurationError: the system does not give what it needs.
        LoadError: it cannot be answered.
    """
    if plan.processes > 1:
        return await ask_in_processes(plan, progress)

    async def alone(value: float) -> float:
        return value

    return await ask_here(plan, range(plan.connections), alone, lambda snapshot: progress.show([snapshot]))


async def ask_here(
    plan: Plan,
    numbers: range,
    together: Callable[[float], Awaitable[float]],
    show: Callable[[Snapshot], None],
) -> Findings:
    """Ask a question, or a part of it, in this process; see `Run` for the arguments."""
    watching: list[asyncio.Task[None]] = []
    run = Run(
        plan,
        numbers,
        numbers.start == 0,
        together,
        lambda question: watching.append(asyncio.ensure_future(_watch(question.snapshot, show))),
    )
    question = {"echo": Echo if plan.under_way is None else Pipeline, "storm": Storm}.get(plan.question, Fanout)(run)
    try:
        return await question.find()
    finally:
        for task in watching:
            task.cancel()


async def _watch(snapshot: Callable[[], Snapshot], show: Callable[[Snapshot], None]) -> None:
    while True:
        await asyncio.sleep(INTERVAL)
        show(snapshot())


async def ask_in_processes(plan: Plan, progress: Progress) -> Findings:
    """Ask a question in several processes, each with a part of the connections."""
    async with contextlib.AsyncExitStack() as stack:
        children = [await stack.enter_async_context(_child()) for _ in range(plan.processes)]
        family = _Family(children, progress)
        for child, numbers in zip(children, _parts(plan), strict=True):
            _tell(child, plan=vars(plan), start=numbers.start, stop=numbers.stop)
        return await family.listen()


def _parts(plan: Plan) -> list[range]:
    bounds = [plan.connections * place // plan.processes for place in range(plan.processes + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


@contextlib.asynccontextmanager
async def _child() -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a process that ends with this block."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "fastws.load.child")
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 24)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _tell(child: asyncio.subprocess.Process, **values: object) -> None:
    assert child.stdin is not None
    child.stdin.write(json.dumps(values).encode() + b"\n")


class _Family:
    """What children say, and what they are told."""

    def __init__(self, children: list[asyncio.subprocess.Process], progress: Progress) -> None:
        self._children = children
        self._progress = progress
        self._said: dict[int, float] = {}
        self._snapshots: dict[int, Snapshot] = {}
        self._found = Findings()

    async def listen(self) -> Findings:
        """Listen to all of them until they have ended, and return what they found."""
        listening = [asyncio.ensure_future(self._listen(place)) for place in range(len(self._children))]
        try:
            await asyncio.gather(*listening)
        finally:
            for task in listening:
                task.cancel()
        return self._found

    async def _listen(self, place: int) -> None:
        stream = self._children[place].stdout
        assert stream is not None
        while line := await stream.readline():
            for what, value in json.loads(line).items():
                if what == "found":
                    self._found.include(Findings.of_values(value))
                    return
                self._hear(place, what, value)
        raise LoadError(f"a process of the generator ended with status {await self._children[place].wait()}")

    def _hear(self, place: int, what: str, value: Any) -> None:
        if what == "failed":
            raise LoadError(value)
        if what == "refused":
            raise ConfigurationError(value)
        if what == "say":
            self._agree(place, value)
        else:
            value["latencies"] = {int(time): count for time, count in value["latencies"].items()}
            self._show(place, Snapshot(**value))

    def _agree(self, place: int, value: float) -> None:
        self._said[place] = value
        if len(self._said) == len(self._children):
            greatest = max(self._said.values())
            self._said.clear()
            for child in self._children:
                _tell(child, agreed=greatest)

    def _show(self, place: int, snapshot: Snapshot) -> None:
        self._snapshots[place] = snapshot
        if len(self._snapshots) == len(self._children):
            self._progress.show(self._snapshots.values())
            self._snapshots.clear()
