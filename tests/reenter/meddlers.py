"""Who may run in the middle of anything: each of these calls a function of ours when nobody expects it."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

Act = Callable[[], None]
ACTS = 100  # that one of them asks for, at most


class Cycle:
    """Garbage that only the collector finds, and that has something to say then."""

    def __init__(self, last_words: list[Act]) -> None:
        self.me = self
        self.last_words = last_words

    def __del__(self) -> None:
        for act in self.last_words:
            Cycle(self.last_words)  # for the next collection
            act()


@contextlib.contextmanager
def finalizers(act: Act, dice: random.Random) -> Iterator[None]:
    """Objects that die in a collection."""
    last_words = [act]
    for _ in range(10):
        Cycle(last_words)
    yield
    last_words.clear()


@contextlib.contextmanager
def weak_references(act: Act, dice: random.Random) -> Iterator[None]:
    """Callbacks of what others hold weakly."""
    references: list[weakref.ref[Cycle]] = []

    def watch() -> None:
        if len(references) < ACTS:
            references.append(weakref.ref(Cycle([]), gone))

    def gone(_reference: object) -> None:
        watch()
        act()

    for _ in range(10):
        watch()
    yield
    references.clear()


@contextlib.contextmanager
def collector_callbacks(act: Act, dice: random.Random) -> Iterator[None]:
    """Functions that the collector calls when it begins and ends."""

    def called(_phase: str, _info: object) -> None:
        if dice.random() < 0.1:
            act()

    gc.callbacks.append(called)
    yield
    gc.callbacks.remove(called)


@contextlib.contextmanager
def signals(act: Act, dice: random.Random) -> Iterator[None]:
    """A handler of a signal that comes a thousand times a second."""
    before = signal.signal(signal.SIGALRM, lambda *_: act())
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def profilers(act: Act, dice: random.Random) -> Iterator[None]:
    """A function that is told of each call of another."""

    def told(*_event: object) -> None:
        if dice.random() < 0.003:
            act()

    sys.setprofile(told)
    yield
    sys.setprofile(None)


class _Handler(logging.Handler):
    def __init__(self, act: Act) -> None:
        super().__init__()
        self.act = act

    def emit(self, record: logging.LogRecord) -> None:
        self.act()


@contextlib.contextmanager
def loggers(act: Act, dice: random.Random) -> Iterator[None]:
    """A handler of log records."""
    handler = _Handler(act)
    for name in ("fastws", "asyncio"):
        logging.getLogger(name).addHandler(handler)
    yield
    for name in ("fastws", "asyncio"):
        logging.getLogger(name).removeHandler(handler)


@contextlib.contextmanager
def another_thread(act: Act, dice: random.Random) -> Iterator[None]:
    """A thread that collects garbage, so that finalizers run where nothing of ours may be used."""
    over = threading.Event()

    def collect() -> None:
        while not over.wait(0.002):
            gc.collect(0)

    thread = threading.Thread(target=collect)
    thread.start()
    yield
    over.set()
    thread.join()


ALL = (finalizers, weak_references, collector_callbacks, signals, profilers, loggers, another_thread)


@contextlib.contextmanager
def meddling(act: Act, dice: random.Random) -> Iterator[list[str]]:
    """Let some of them act, and the collector come at nearly any object that is made."""
    chosen = dice.sample(ALL, dice.randint(1, len(ALL)))
    thresholds = gc.get_threshold()
    with contextlib.ExitStack() as stack:
        for meddler in chosen:
            stack.enter_context(meddler(act, dice))
        gc.set_threshold(dice.choice((2, 5, 20, 100)), 1, 1)
        yield [meddler.__name__ for meddler in chosen]
        gc.set_threshold(*thresholds)
