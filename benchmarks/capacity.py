"""How many nodes, and how much of an engine, do so many connections need? Arithmetic, and a simulation that checks it.

    python benchmarks/capacity.py                  the three deployments of docs/capacity.md
    python benchmarks/capacity.py --connections 200000 --group 500 --messages 40 --delay 0.05

The figures of what each step costs are those of benchmarks/README.md, rounded up; `--factor 2` is for a machine half
as fast. The simulation places members at random, has messages come at random, and lets each node do its work one thing
after the other.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass

from tables import table

# --- What a step costs: seconds of CPU time of a node, or of the engine

SEND = 3.5e-6  # one message to one member, one at a time; 16 at a time cost 0.3 us
PUSH = 2e-6  # a push itself, with the Python function that calls it
PUBLISH = 1.5e-6  # to the engine: NATS 0.9, Redis 1.5
RECEIVE = 0.5e-6  # from the engine, up to the fan-out
ENGINE_IN = 4e-6  # of the engine, a message that comes and its first copy: NATS 3.5, Redis 2
ENGINE_OUT = 0.6e-6  # and each copy more
HANDSHAKE = 60e-6  # a client that comes

# --- What a connection and a group take: bytes

CONNECTION = 1100  # fastws; with headers that a service keeps, its attributes and its groups it is more
SOCKET = 3500  # the kernel's, idle
GROUP = 400  # for the backplane, each group that has a member on the node

BUSY = 0.6  # of a core, at most: beyond, what comes by chance has to wait for long


@dataclass(frozen=True)
class Deployment:
    """What is asked of it.

    Attributes:
        connections: all of them.
        group: members of the group that a message goes to; 1 is a name, all connections are a broadcast.
        messages: a second, all groups together.
        delay: seconds until the last member has a message, at most, where nothing else is to be done.
        storm: seconds in which all clients come back after a restart.
        most: connections of a node, which all leave at once should it end.
    """

    connections: int
    group: int
    messages: float
    delay: float = 0.1
    storm: float = 60.0
    most: int = 100_000

    @property
    def groups(self) -> int:
        return self.connections // self.group


# --- The arithmetic


def nodes_with_a_member(nodes: int, members: int) -> float:
    """On how many nodes a group has members, where the members are anywhere."""
    return nodes * -math.expm1(members * math.log1p(-1 / nodes)) if nodes > 1 else 1.0


def copies(deployment: Deployment, nodes: int) -> float:
    """How often the engine sends a message: to the nodes that have members, without the one that it comes from."""
    return nodes_with_a_member(nodes, deployment.group) * (nodes - 1) / nodes


def busy(deployment: Deployment, nodes: int) -> float:
    """Which share of its core a node needs."""
    pushing = PUSH + (PUBLISH if nodes > 1 else 0)
    work = pushing + copies(deployment, nodes) * RECEIVE + deployment.group * SEND
    return deployment.messages * work / nodes


def engine_busy(deployment: Deployment, nodes: int) -> float:
    """Cores of the engine that are needed."""
    more = max(0.0, copies(deployment, nodes) - 1)
    return deployment.messages * (ENGINE_IN + more * ENGINE_OUT) if nodes > 1 else 0.0


def burst(deployment: Deployment, nodes: int) -> float:
    """Seconds that a node sends one message to its members, on average."""
    return deployment.group / nodes_with_a_member(nodes, deployment.group) * SEND


def nodes_needed(deployment: Deployment) -> int:
    """The fewest that are not too busy, send a message in time, and take all clients back in time."""
    of_a_storm = deployment.connections * HANDSHAKE / deployment.storm / BUSY
    nodes = max(1, math.ceil(of_a_storm), math.ceil(deployment.connections / deployment.most))
    while busy(deployment, nodes) > BUSY or burst(deployment, nodes) > deployment.delay:
        nodes += max(1, nodes // 50)
    return nodes


def memory(deployment: Deployment, nodes: int) -> float:
    """Bytes of a node, the kernel's sockets included."""
    there = deployment.groups * nodes_with_a_member(nodes, deployment.group) / nodes
    return deployment.connections / nodes * (CONNECTION + SOCKET) + there * GROUP * (nodes > 1)


# --- The simulation


@dataclass(frozen=True)
class Seen:
    """What a simulation saw: shares of a core, copies a message, seconds until the last member of a group had it."""

    busy: float
    busiest: float
    copies: float
    p50: float
    p99: float


def simulate(deployment: Deployment, nodes: int, seconds: float, seed: int = 1) -> Seen:
    """Have messages come for so long; each node does what is to be done in the order in which it comes."""
    chance = random.Random(seed)
    free, work, sent, delays = [0.0] * nodes, [0.0] * nodes, 0, []
    places = Places(deployment, nodes, chance)
    queue: list[tuple[float, int, int, float]] = []  # when, node, members there, when it was pushed
    left: Counter[float] = Counter()
    pushed = chance.expovariate(deployment.messages)
    while queue or pushed < seconds:
        if pushed < seconds and (not queue or pushed <= queue[0][0]):
            publisher, members = chance.randrange(nodes), places.of_a_group()
            begun = max(free[publisher], pushed)
            cost = PUSH + (PUBLISH if nodes > 1 else 0)
            free[publisher] = begun + cost
            work[publisher] += cost
            others = members.keys() - {publisher}
            sent += len(others)
            left[pushed] = len(members)
            for node, count in members.items():
                heapq.heappush(queue, (free[publisher], node, count if node == publisher else -count, pushed))
            pushed += chance.expovariate(deployment.messages)
            continue
        when, node, count, came = heapq.heappop(queue)
        cost = (RECEIVE if count < 0 else 0) + abs(count) * SEND
        free[node] = max(free[node], when) + cost
        work[node] += cost
        left[came] -= 1
        if not left[came]:
            delays.append(free[node] - came)
            del left[came]
    delays.sort()
    return Seen(
        busy=sum(work) / nodes / seconds,
        busiest=max(work) / seconds,
        copies=sent / len(delays),
        p50=delays[len(delays) // 2],
        p99=delays[int(len(delays) * 0.99)],
    )


class Places:
    """Where the members of a group are: each on a node by chance, all connections spread evenly."""

    def __init__(self, deployment: Deployment, nodes: int, chance: random.Random) -> None:
        self._deployment, self._nodes, self._chance = deployment, nodes, chance
        self._all = deployment.group == deployment.connections
        self._even = dict.fromkeys(range(nodes), deployment.connections // nodes)

    def of_a_group(self) -> dict[int, int]:
        """How many members each node has that has any."""
        if self._all:
            return self._even
        return Counter(self._chance.choices(range(self._nodes), k=self._deployment.group))


# --- What is shown


MILLION = {
    "a ticker: one message a second to all": Deployment(1_000_000, 1_000_000, 1),
    "rooms of 50, each says something every 10 s": Deployment(1_000_000, 50, 2_000),
    "one notice to each client every 10 s": Deployment(1_000_000, 1, 100_000),
}


def row(title: str, deployment: Deployment, nodes: int) -> dict[str, str]:
    return {
        "": title,
        "nodes": f"{nodes}",
        "a core is busy": f"{busy(deployment, nodes):.0%}",
        "sends a message for": f"{burst(deployment, nodes) * 1e3:.3g} ms",
        "memory of a node": f"{memory(deployment, nodes) / 2**20:.0f} MiB",
        "copies a message": f"{copies(deployment, nodes):.3g}",
        "engine": f"{engine_busy(deployment, nodes):.2g} cores",
    }


def checked(title: str, deployment: Deployment, nodes: int) -> dict[str, str]:
    seen = simulate(deployment, nodes, seconds=seconds_for(deployment))
    return {
        "": title,
        "a core is busy": f"{seen.busy:.0%}",
        "the busiest": f"{seen.busiest:.0%}",
        "copies a message": f"{seen.copies:.3g}",
        "last member, p50": f"{seen.p50 * 1e3:.3g} ms",
        "p99": f"{seen.p99 * 1e3:.3g} ms",
    }


def seconds_for(deployment: Deployment) -> float:
    """Long enough for some thousand messages."""
    return max(1.0, 2000 / deployment.messages) if deployment.messages < 10_000 else 0.2


def report(deployments: dict[str, Deployment]) -> str:
    """Both tables: what the arithmetic says, and what the simulation saw."""
    needed = {title: nodes_needed(deployment) for title, deployment in deployments.items()}
    said = [row(title, deployment, needed[title]) for title, deployment in deployments.items()]
    seen = [checked(title, deployment, needed[title]) for title, deployment in deployments.items()]
    return f"{table(said)}\nThe same, simulated:\n\n{table(seen)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, help="all of them; without it, the deployments of docs/capacity.md")
    parser.add_argument("--group", type=int, default=1, help="members that get a message (default: %(default)s)")
    parser.add_argument("--messages", type=float, default=1.0, help="a second (default: %(default)s)")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds for one message (default: %(default)s)")
    parser.add_argument("--storm", type=float, default=60.0, help="seconds to take all back (default: %(default)s)")
    parser.add_argument("--most", type=int, default=100_000, help="connections of a node (default: %(default)s)")
    parser.add_argument("--factor", type=float, default=1.0, help="what all costs more here (default: %(default)s)")
    options = parser.parse_args()
    for name in ("SEND", "PUSH", "PUBLISH", "RECEIVE", "ENGINE_IN", "ENGINE_OUT", "HANDSHAKE"):
        globals()[name] *= options.factor
    if options.connections is None:
        print(report(MILLION))
        return
    names = ("connections", "group", "messages", "delay", "storm", "most")
    print(report({"yours": Deployment(**{name: getattr(options, name) for name in names})}))


if __name__ == "__main__":
    main()
