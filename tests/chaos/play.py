"""One schedule, from its seed: clients do what they do, and at random moments something is broken and mended."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from .checker import check
from .crowd import FICKLE, FICKLE_GROUPS, FICKLE_NAMES, Crowd, Talk
from .history import Broken, Finale, History
from .stages import STAGES, Fault, Stage

QUIET_BEFORE = 9.0  # seconds in which nothing is broken yet
BROKEN = 20.0  # seconds in which something new may be broken
QUIET_AFTER = 4.0  # seconds in which nothing is broken any more, besides those of `Rules`
LISTEN = 3.0  # seconds for the last messages
MAX_DIALS = 100  # of workers that are found already


async def play(engine: str, seed: int, folder: Path, seconds: float = BROKEN) -> tuple[History, list[str]]:
    """Play a schedule; returns its history, and what is wrong with it."""
    history = History(fickle=FICKLE)
    async with STAGES[engine](folder) as stage:
        crowd = Crowd(seed, [node.port for node in stage.nodes], history)
        crowd.begin()
        try:
            await asyncio.sleep(QUIET_BEFORE)
            await _break(stage, random.Random(seed), history, seconds)
            rules = stage.rules
            await asyncio.sleep(rules.calm + rules.settled + QUIET_AFTER)
            await crowd.be_quiet()
            await asyncio.sleep(LISTEN)
            await _last(stage, history)
        finally:
            await crowd.end()
            for node in stage.nodes:
                node.kill()
        history.read(folder)
        return history, check(history, stage.rules)


async def _break(stage: Stage, chance: random.Random, history: History, seconds: float) -> None:
    """Break one thing after another, sometimes several at once."""
    end = time.monotonic() + seconds
    tasks = []
    weights, faults = zip(*stage.faults, strict=True)
    while time.monotonic() < end:
        tasks.append(asyncio.ensure_future(_note(chance.choices(faults, weights)[0], chance, history)))
        await asyncio.sleep(chance.choice([0.0, chance.uniform(0, 3), chance.uniform(3, 12)]))
    await asyncio.gather(*tasks)


async def _note(fault: Fault, chance: random.Random, history: History) -> None:
    begin = time.monotonic()
    await fault(random.Random(chance.random()))
    history.broken.append(Broken(begin, time.monotonic(), fault.__name__))


# --- What all agree on.


async def _last(stage: Stage, history: History) -> None:
    """Ask all nodes for what they have to agree on."""
    probes = await _one_of_each(stage, history)
    finale = history.finale = Finale(time.monotonic(), [probe.session.node for probe in probes])
    try:
        pushed = {
            (probe.session.node, await probe.ask("push", ("connection", name))): (probe, name)
            for name in FICKLE_NAMES
            for probe in probes
        }
        await asyncio.sleep(LISTEN)
        for place, (probe, name) in pushed.items():
            finale.holders.setdefault(name, {})[probe.session.node] = _receivers(history, place)
        for name in FICKLE_GROUPS:
            for probe in probes:
                joined = await probe.ask("join", ("group", name)) != "removed"
                finale.joins.setdefault(name, {})[probe.session.node] = joined
        finale.sessions = sum(session.closed is None for session in history.sessions)
        for probe in probes:
            count, complete = await probe.ask("count", name=None)
            finale.counts[probe.session.node] = count, complete
    finally:
        for probe in probes:
            probe.reset()
            await probe.reading


async def _one_of_each(stage: Stage, history: History) -> list[Talk]:
    """Connect to all workers of all nodes; all stay until each is found, or some would have more than their share."""
    found: dict[int, Talk] = {}
    others: list[Talk] = []
    for node in stage.nodes:
        while not set(node.pids()) <= set(found):
            assert len(others) < MAX_DIALS, f"not all workers are found: {node.pids()}, {sorted(found)}"
            talk = await Talk.begin(node.port, f"probe.{len(history.sessions)}", history)
            if found.setdefault(talk.pid, talk) is not talk:
                others.append(talk)
    for talk in others:
        await talk.close()
    return list(found.values())


def _receivers(history: History, place: tuple[str, int]) -> list[str]:
    return [
        session.id
        for session in history.sessions
        for event in session.events
        if (getattr(event, "node", None), event.number) == place
    ]
