"""Questions to all nodes, and their answers: how many are in a group, where a name is."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

__all__ = ["Count", "Location", "Questions"]

MAX_QUESTIONS: Final = 10_000  # that wait for their answers at once


class Count(int):
    """A number of connections on all nodes that answered.

    Attributes:
        complete: whether all did that there are known to be.
    """

    complete: bool

    def __new__(cls, value: int, complete: bool = True) -> Self:
        """Make it of a number."""
        count = super().__new__(cls, value)
        count.complete = complete
        return count

    def __repr__(self) -> str:
        return f"Count({int(self)}, complete={self.complete})"


class Location(NamedTuple):
    """Where a stored connection is; true if it is anywhere.

    Attributes:
        node: the id of the node; None: no node that answered has it, or there is one only, without a backplane.
        complete: whether all nodes answered that there are known to be.
        here: whether it is in this process.
    """

    node: str | None
    complete: bool
    here: bool

    def __bool__(self) -> bool:
        return self.here or self.node is not None


class _Question:
    def __init__(self, nodes: Iterable[str], done: asyncio.Future[None]) -> None:
        self.waiting = set(nodes)
        self.answers: dict[str, object] = {}
        self.done = done
        self.is_complete = True

    def note(self, node: str) -> None:
        self.waiting.discard(node)
        if not self.waiting and not self.done.done():
            self.done.set_result(None)


class Questions:
    """The questions of a node that wait for answers."""

    def __init__(self) -> None:
        self._questions: dict[int, _Question] = {}
        self._numbers = itertools.count(1)

    async def ask(
        self, nodes: Iterable[str], send: Callable[[int], bool], timeout: float
    ) -> tuple[dict[str, object], bool]:
        """Ask nodes and wait for their answers.

        Args:
            nodes: whose answers are waited for.
            send: sends the question, given its number; False: it could not.
            timeout: seconds to wait for the answers.

        Returns:
            The answers by node, and whether all answered.

        Raises:
            RuntimeError: too many questions wait for answers.
        """
        if len(self._questions) >= MAX_QUESTIONS:
            raise RuntimeError(f"{MAX_QUESTIONS} questions to other nodes wait for their answers already")
        number = next(self._numbers)
        question = _Question(nodes, asyncio.get_running_loop().create_future())
        if not question.waiting:
            return {}, send(number)
        self._questions[number] = question
        try:
            if send(number):
                await asyncio.wait([question.done], timeout=timeout)
        finally:
            del self._questions[number]
        return question.answers, question.is_complete and not question.waiting

    def answer(self, node: str, number: int, value: object) -> None:
        """Take an answer."""
        question = self._questions.get(number)
        if question is not None and node in question.waiting:
            question.answers[node] = value
            question.note(node)

    def leave(self, node: str, *, well: bool) -> None:
        """Wait no longer for a node that has gone; one that did not say so may have had an answer."""
        for question in list(self._questions.values()):
            if node in question.waiting:
                question.is_complete &= well
                question.note(node)
