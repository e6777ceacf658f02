"""What is asked end to end, over real sockets: each question with its scenarios, and who answers them.

The order of questions and scenarios is that of the tables.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

from contenders import CLIENTS, PEERS, Peer

ALL = tuple(PEERS)
ONE_FASTWS = tuple(name for name in ALL if name != "fastws async")  # where no handler runs, or but once for very many
# Where one sample takes long: of several ways of the same library the fastest
FEW = tuple(name for name in ONE_FASTWS if name not in ("uvicorn websockets", "uvicorn wsproto"))

SPARE_FILES = 500  # that load and server need besides connections


def possible(*connections: int) -> list[int]:
    """Return for how many of these connections load and server may open enough files."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [count for count in connections if limit == resource.RLIM_INFINITY or limit >= count + SPARE_FILES]


MOST = max(possible(8_000, 10_000))


@dataclass(frozen=True)
class Scenario:
    """What one table is about.

    Attributes:
        load: what the load generator does; see load.c.
        connections: how many, those that stall included.
        size: bytes of a message.
        window: messages under way, of each who sends.
        stalled: of the connections, those that never read.
        rate: messages a second, where they do not depend on answers.
        deflate: whether the server compresses.
        tls: whether the connections are secure.
        peers: who is measured.
        lasts: how much longer a sample is than others.
        rounds: samples at most.
        quick: whether it belongs to the quick subset.
    """

    load: str
    connections: int
    size: int = 0
    window: int = 1
    stalled: int = 0
    rate: int = 0
    deflate: bool = False
    tls: bool = False
    peers: tuple[str, ...] = ALL
    lasts: float = 1.0
    rounds: int = 100
    quick: bool = False

    @property
    def mode(self) -> str:
        """What the server has to do."""
        return "broadcast" if self.load in ("broadcast", "chat", "slow") else "echo"

    @property
    def is_of_clients(self) -> bool:
        """Whether clients are measured, and not servers."""
        return self.load.startswith("client")

    @property
    def known(self) -> dict[str, Peer]:
        """Who may be measured."""
        return CLIENTS if self.is_of_clients else PEERS

    def facts(self) -> dict[str, object]:
        """Return what a sample says about its scenario."""
        names = ("load", "connections", "size", "window", "stalled", "rate", "deflate", "tls")
        return {name: getattr(self, name) for name in names}


def echo(connections: int, size: int, window: int, **more: object) -> Scenario:
    return Scenario("echo", connections, size, window, **more)


def fanout(connections: int, size: int, window: int, **more: object) -> Scenario:
    peers = FEW if connections >= 8000 or more.get("deflate") else ONE_FASTWS
    return Scenario("broadcast", connections, size, window, **{"peers": peers} | more)


def slow(stalled: int, **more: object) -> Scenario:
    return Scenario("slow", 100, 8192, stalled=stalled, rate=400, lasts=2.0, peers=ONE_FASTWS, **more)


def idle(connections: int, **more: object) -> Scenario:
    return Scenario("idle", connections, rounds=1, peers=ONE_FASTWS, **more)


def client(size: int, window: int, **more: object) -> Scenario:
    return Scenario("client", 1, size, window, peers=tuple(CLIENTS), **more)


QUESTIONS: dict[str, list[Scenario]] = {
    "echo": [
        echo(1, 64, 1),
        echo(1, 64, 32),
        echo(100, 64, 1, quick=True),
        echo(100, 64, 32, quick=True),
        echo(1000, 64, 1),
        echo(1000, 64, 32),
        echo(1, 16384, 1),
        echo(100, 16384, 32, peers=FEW),
        echo(1, 1 << 20, 1),
    ],
    "broadcast": [
        fanout(100, 64, 1),
        fanout(100, 64, 16),
        fanout(1000, 64, 1, quick=True),
        fanout(1000, 64, 16),
        fanout(MOST, 64, 1, rounds=2),
        fanout(MOST, 64, 16, rounds=2),
        fanout(1000, 1024, 1, deflate=True),
        fanout(1000, 1024, 16, deflate=True),
    ],
    "chat": [
        Scenario("chat", 10, 64, 1, peers=ONE_FASTWS),
        Scenario("chat", 100, 64, 1, peers=ONE_FASTWS, quick=True),
    ],
    "slow": [slow(0), slow(5), slow(20, quick=True)],
    "handshake": [Scenario("handshake", 64, peers=ONE_FASTWS, quick=True)],
    "idle": [
        idle(1000, quick=True),
        idle(8000),
        idle(8000, deflate=True),
        *[Scenario("idle", count, rounds=1, peers=("floor", "fastws")) for count in possible(19_000)],
    ],
    "scale": [
        Scenario("broadcast", count, 64, peers=("floor", "fastws"), rounds=2)
        for count in possible(1_000, 5_000, 10_000, 15_000, 19_000)
    ],
    "client": [
        client(64, 1, quick=True),
        client(64, 32, quick=True),
        client(8192, 1),
        client(1 << 20, 1),
    ],
    "client-idle": [Scenario("client idle", 1000, rounds=1, peers=tuple(CLIENTS)[1:], quick=True)],
    "tls": [
        echo(100, 64, 1, tls=True, peers=FEW),
        echo(100, 16384, 1, tls=True, peers=FEW),
        fanout(1000, 64, 1, tls=True, peers=FEW, rounds=2, quick=True),
        fanout(1000, 64, 16, tls=True, peers=FEW, rounds=2),
    ],
}
