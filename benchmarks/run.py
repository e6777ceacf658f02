"""Answer all questions, the parts included, and write the tables and pictures: nothing else should run meanwhile.

Every round goes through all peers, each time from another one on, so that a disturbance or a warm machine falls on
nobody alone. Who fails is not asked again in the same scenario, and stands in the tables with the reason.
"""

from __future__ import annotations

import argparse
import collections
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import report
from contenders import CLIENTS, PEERS, Peer
from harness import Cores, NotMeasured, allow_many_files, binaries, estimate, sample
from questions import QUESTIONS, Scenario
from recording import HERE, RESULTS, circumstances, record

QUICK = {"seconds": 0.5, "rounds": 3}
PARTIAL_RESULTS = HERE.parent / ".benchmarks" / "partial"  # which git ignores
PARTS_SECONDS = {False: 120, True: 20}  # that the parts take about, all of them or the quick subset
KNOWN = list(PEERS | CLIENTS)
SHOWN = ("cpu_us", "p50_ms", "p99_ms", "bytes_per_connection", "memory_growth")


# --- What is to be done


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a subset of five minutes; its tables are only printed")
    parser.add_argument("--only", metavar="QUESTIONS", help=f"of {','.join([*QUESTIONS, 'parts'])} (default: all)")
    parser.add_argument("--peers", metavar="NAMES", help=f"of {','.join(KNOWN)} (default: all)")
    parser.add_argument("--seconds", type=float, help="that a sample counts (default: 1, quick 0.5)")
    parser.add_argument("--rounds", type=int, help="samples of each peer in each scenario (default: 3)")
    parser.add_argument("--server-core", type=int, help="default: the first that we may use")
    parser.add_argument("--load-core", type=int, help="default: the last that we may use")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: benchmarks/results, and then the page; with --quick or --peers .benchmarks)",
    )
    options = parser.parse_args(arguments)
    for name, normally in (("seconds", 1.0), ("rounds", 3)):
        if getattr(options, name) is None:
            setattr(options, name, QUICK[name] if options.quick else normally)
    partial = options.quick or options.peers
    options.results = options.results or (PARTIAL_RESULTS if partial else RESULTS)
    options.questions = chosen(parser, options.only, [*QUESTIONS, "parts"])
    options.peers = chosen(parser, options.peers, KNOWN)
    return options


def chosen(parser: argparse.ArgumentParser, text: str | None, known: list[str]) -> list[str]:
    names = text.split(",") if text else known
    if unknown := set(names) - set(known):
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    return [name for name in known if name in names]


def scenarios(question: str, options: argparse.Namespace) -> list[Scenario]:
    return [scenario for scenario in QUESTIONS[question] if scenario.quick or not options.quick]


def participants(scenario: Scenario, options: argparse.Namespace) -> list[Peer]:
    return [scenario.known[name] for name in scenario.peers if name in options.peers]


def rounds(scenario: Scenario, options: argparse.Namespace) -> int:
    return min(scenario.rounds, options.rounds)


def cost(question: str, options: argparse.Namespace) -> tuple[int, float]:
    """Samples of a question and the seconds that they take, about."""
    if question == "parts":
        return 0, PARTS_SECONDS[options.quick]
    planned = [
        (len(participants(scenario, options)) * rounds(scenario, options), estimate(scenario, options.seconds))
        for scenario in scenarios(question, options)
    ]
    return sum(count for count, _ in planned), sum(count * seconds for count, seconds in planned)


# --- Doing it


class Progress:
    """Says how far we are."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def show(self, question: str, found: dict, seconds: float) -> None:
        self._done += 1
        figures = [f"{name}={found[name]:.4g}" for name in SHOWN if name in found]
        print(
            f"{self._done}/{self._total} {seconds:.1f} s  {question}, {report.scenario_text(found)}: {found['peer']}",
            *(figures or [f"not measured: {found['not_measured']}"]),
            flush=True,
        )


def measure(peer: Peer, scenario: Scenario, number: int, options: argparse.Namespace) -> dict:
    facts = {"peer": peer.name, "round": number} | scenario.facts()
    try:
        return facts | sample(peer, scenario, options.seconds, options.cores)
    except NotMeasured as why:
        return facts | {"not_measured": str(why)}


def answer(scenario: Scenario, options: argparse.Namespace) -> Iterator[dict]:
    """Yield the samples of one scenario, rounds interleaved."""
    peers = collections.deque(participants(scenario, options))
    failed = {}
    for number in range(rounds(scenario, options)):
        for peer in peers:
            if peer.name not in failed:
                found = measure(peer, scenario, number, options)
                if "not_measured" in found:
                    failed[peer.name] = found
                yield found
        peers.rotate(-1)


def ask(question: str, options: argparse.Namespace, progress: Progress) -> Path:
    samples = []
    for scenario in scenarios(question, options):
        started = time.monotonic()
        for found in answer(scenario, options):
            progress.show(question, found, time.monotonic() - started)
            started = time.monotonic()
            samples.append(found)
    facts = {name: getattr(options, name) for name in ("seconds", "rounds", "peers", "quick")}
    return record(question, samples, folder=options.results, **facts)


def ask_parts(options: argparse.Namespace) -> Path:
    """In a process of its own, as pytest wants it."""
    command = [sys.executable, str(HERE / "parts.py"), "--core", str(options.cores.load)]
    command += ["--results", str(options.results), *(["--quick"] if options.quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.splitlines()[-1])


def announce(options: argparse.Namespace) -> int:
    """Say what will happen; returns the number of samples."""
    costs = [cost(question, options) for question in options.questions]
    count, seconds = sum(count for count, _ in costs), sum(seconds for _, seconds in costs)
    if options.cores.server == options.cores.load:
        print("server and load share the one core there is: these figures compare with no others")
    facts = circumstances("end to end")
    print(f"commit {facts['commit']} on {facts['machine']}\n{facts['versions']}")
    print(
        f"{count} samples and the parts: about {seconds / 60:.0f} minutes"
        if "parts" in options.questions
        else f"{count} samples: about {seconds / 60:.0f} minutes",
        flush=True,
    )
    return count


def main(arguments: list[str] | None = None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are ended then, too
    options = parse(arguments)
    cores = Cores.here()
    options.cores = Cores(
        cores.server if options.server_core is None else options.server_core,
        cores.load if options.load_core is None else options.load_core,
    )
    allow_many_files()
    binaries()
    progress = Progress(announce(options))
    files = [
        ask_parts(options) if question == "parts" else ask(question, options, progress)
        for question in options.questions
    ]
    if options.results == RESULTS:
        report.main([])
    else:
        print(report.text(report.load(files)))
    print(*files, sep="\n")


if __name__ == "__main__":
    main()
