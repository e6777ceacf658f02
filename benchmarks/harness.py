"""What the end-to-end questions share: peers are started, loaded and killed in turn, and all samples are kept.

Server and load generator have one core each, and never the same. Every round goes through all peers, each time from
another one on, so that a disturbance or a warm machine does not fall on the same peer.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import fastws

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PATIENCE = 60  # seconds that one sample may take beyond the time that it measures

# How each peer is started, by what it is asked to do; {mode} is that
PYTHON_PEER = [sys.executable, str(HERE / "peers" / "{name}_server.py"), "{mode}"]
PEERS = ["floor", "fastws", "fastws async", "picows", "aiohttp", "websockets"]
PACKAGES = ["picows", "aiofastnet", "aiohttp", "websockets", "wsproto", "uvloop"]


@dataclass(frozen=True)
class Scenario:
    """What one row of a table is about: connections, bytes of a message, and messages under way."""

    connections: int
    size: int = 0
    window: int = 1


# --- What ran where


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "gcc": _output("gcc", "-dumpfullversion")}
    return found | {"fastws": fastws.__version__} | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit that was measured, with a + where the tree had changes."""
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", "fastws", "benchmarks/*.[ch]")
    return _output("git", "rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> dict[str, str | int]:
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in info if line.startswith("model name")]
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}"
    return {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count() or 1, "system": system}


def record(question: str, samples: list[dict], path: str | None, **options: object) -> Path:
    """Write one run: where and when, what was asked, and every sample."""
    date = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    run = {"question": question, "date": date, "commit": commit(), "machine": machine(), "versions": versions()}
    RESULTS.mkdir(exist_ok=True)
    target = Path(path) if path else RESULTS / f"{question}-{date[:19].replace(':', '')}.json"
    rows = ",\n".join(f"  {json.dumps(sample)}" for sample in samples)
    target.write_text(json.dumps(run | options)[:-1] + f', "samples": [\n{rows}\n]}}\n')
    return target


# --- One sample


@functools.cache
def binaries() -> Path:
    """Compile the load generator and the floor server, in a directory of this run."""
    directory = tempfile.TemporaryDirectory(prefix="fastws-bench-")
    binaries.keep = directory  # type: ignore[attr-defined]  # until the interpreter ends
    include = str(HERE.parent / "fastws" / "core")
    for source in (HERE / "load.c", HERE / "peers" / "floor.c"):
        target = str(Path(directory.name, source.stem))
        subprocess.run(["gcc", "-O3", "-I", include, "-o", target, str(source), "-lm"], check=True)
    return Path(directory.name)


def command(peer: str, question: str) -> list[str] | None:
    """How to start a peer; None for a variant of one that only echo asks about."""
    mode = "broadcast" if question == "broadcast" else "echo"
    if peer == "floor":
        return [str(binaries() / "floor"), mode]
    name, _, variant = peer.partition(" ")
    if variant and question != "echo":
        return None
    return [part.format(name=name, mode=f"{mode}-{variant}" if variant else mode) for part in PYTHON_PEER]


@contextmanager
def server(command: list[str], core: int) -> Iterator[tuple[int, int]]:
    """Run a server on one core; yields its port and process id."""
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            if not port:
                complaints.seek(0)
                raise RuntimeError(f"{command} did not start: {complaints.read()}")
            yield int(port), process.pid
        finally:
            process.kill()
            process.communicate()


def sample(question: str, command: list[str], scenario: Scenario, options: argparse.Namespace) -> dict:
    with server(command, options.server_core) as (port, pid):
        arguments = [port, pid, scenario.connections, scenario.size, scenario.window, options.seconds]
        load = subprocess.run(
            ["taskset", "-c", str(options.load_core), str(binaries() / "load"), question, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=options.seconds + PATIENCE,
            check=False,
        )
    return json.loads(load.stdout) if load.returncode == 0 else {"error": load.stderr.strip()}


# --- One question


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, in which order (default: %(default)s)")
    parser.add_argument("--sizes", type=numbers, help="bytes of a message, instead of the scenarios' own")
    parser.add_argument("--connections", type=numbers, help="only scenarios with so many")
    parser.add_argument("--seconds", type=float, default=2.0, help="that a sample counts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each (default: %(default)s)")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="where to write (default: a new file in results)")
    parser.add_argument("--versions", action="store_true", help="only say what would be measured")
    return parser.parse_args()


def choose(scenarios: list[Scenario], options: argparse.Namespace) -> list[Scenario]:
    if options.connections:
        scenarios = [scenario for scenario in scenarios if scenario.connections in options.connections]
    if options.sizes:
        scenarios = [replace(scenario, size=size) for size in options.sizes for scenario in scenarios]
    return list(dict.fromkeys(scenarios))


def main(question: str, description: str | None, scenarios: list[Scenario]) -> None:
    """Answer a question: a script of its own gives its name, its docstring and its scenarios."""
    options = parse(description)
    if options.versions:
        print(json.dumps(versions(), indent=1))
        return
    peers = collections.deque((peer, command(peer, question)) for peer in options.peers.split(","))
    samples = []
    for scenario in choose(scenarios, options):
        for number in range(options.rounds):
            for peer, start in peers:
                if start is not None:
                    found = sample(question, start, scenario, options)
                    samples.append({"peer": peer, "round": number} | asdict(scenario) | found)
                    print(*(f"{key}={value}" for key, value in samples[-1].items()), flush=True)
            peers.rotate(-1)
    facts = {"seconds": options.seconds, "rounds": options.rounds, "peers": options.peers.split(",")}
    path = record(question, samples, options.json, **facts)
    print(path)
