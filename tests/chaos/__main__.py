"""Play random schedules over real engines, and look whether what is promised holds.

    python -m tests.chaos [--seconds N] [--seed N] [--engine NAME] [--keep FOLDER]

Schedule follows schedule, each with the next seed and the next of the engines that are here, until the time is over;
the seed is printed first. It exits with 1 if one of them finds something, after all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import pprint
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from .history import History, Message
from .play import play
from .stages import STAGES

STUCK = 300.0  # seconds; a schedule takes one minute
SHOWN = 20  # findings of a schedule


def main() -> int:
    """Play until the time is over; return 1 if something was found."""
    parser = argparse.ArgumentParser(description="Play random schedules over real engines.")
    parser.add_argument("--seconds", type=float, default=60, help="begin no further schedule later than that")
    parser.add_argument("--seed", type=int, default=None, help="of the first schedule; any by default")
    parser.add_argument("--engine", choices=STAGES, action="append", help="those that are here by default, in turn")
    parser.add_argument("--broken", type=float, default=20, help="seconds in which a schedule breaks something")
    parser.add_argument("--keep", type=Path, help="a folder for all histories, which stay there")
    arguments = parser.parse_args()
    engines = arguments.engine or [name for name, stage in STAGES.items() if stage.missing() is None]
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    end = time.monotonic() + arguments.seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and let the nodes be ended
    found: Counter[str] = Counter()
    while not found or time.monotonic() < end:
        engine = engines[found.total() % len(engines)]
        print(f"seed {seed}, {engine}: ", end="", flush=True)
        found[_play(engine, seed, arguments.broken, arguments.keep)] += 1
        seed += 1
    print(f"{found.total()} schedules, {found['broken']} of which found something")
    return 1 if found["broken"] else 0


def _play(engine: str, seed: int, broken: float, keep: Path | None) -> str:
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = Path(temporary) if keep is None else keep / f"{engine}-{seed}"
        folder.mkdir(parents=True, exist_ok=keep is None)
        history, findings = asyncio.run(asyncio.wait_for(play(engine, seed, folder, broken), STUCK))
    if keep is not None:
        (folder / "history.txt").write_text(pprint.pformat(history, width=200))
    print(summary(history), flush=True)
    for finding in findings[:SHOWN]:
        print(f"    {finding}")
    if findings:
        print(f"    {len(findings)} in all; what was broken:")
        for what in history.broken:
            print(f"    {what.begin:.3f} to {what.end:.3f}: {what.what}")
        print(f"    again with: make chaos SEED={seed} ENGINE={engine}", flush=True)
    return "broken" if findings else "whole"


def summary(history: History) -> str:
    """What there was in a schedule, in a line."""
    messages = sum(isinstance(event, Message) for session in history.sessions for event in session.events)
    gaps = sum(state.state == "gap" for state in history.states)
    return (
        f"{len(history.broken)} faults, {len(history.sessions)} sessions, {len(history.pushes)} pushes, "
        f"{messages} messages, {gaps} gaps told"
    )


if __name__ == "__main__":
    sys.exit(main())
