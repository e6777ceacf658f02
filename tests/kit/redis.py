"""Servers of Redis and Valkey: alone, watched by Sentinels, and as a cluster."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from .client import until, within
from .engines import RedisServer, free_port
from .resp import NeedMore, encode, value_of

SLOTS = 16384
MASTER = "mymaster"


def ask(server: RedisServer, *arguments: str | bytes | int) -> object:
    """The answer to a command."""
    command = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(encode(command))
        data = b""
        while True:
            more = sock.recv(1 << 16)
            assert more, f"no answer to {command}"
            data += more
            with contextlib.suppress(NeedMore):
                return value_of(data)


class Sentinel(RedisServer):
    """One that watches a master."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder)
        self._path = folder / f"sentinel-{self.port}.conf"
        self._path.write_text(
            f"port {self.port}\nsentinel monitor {MASTER} 127.0.0.1 {master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 500\nsentinel failover-timeout {MASTER} 3000\n"
        )

    def command(self) -> list[str]:
        return [str(self._path), "--sentinel", "--bind", "127.0.0.1"]


class Several:
    """Servers that end together; those that were started also where the others could not be."""

    servers: list[RedisServer]

    async def __aenter__(self):
        try:
            for server in self.servers:
                await server.start()
            await within(self.join())
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        for server in self.servers:
            server.kill()

    async def join(self) -> None:
        """Have them find each other."""
        raise NotImplementedError


class Sentinels(Several):
    """A master, a replica of it, and three Sentinels, which have noticed all of the others."""

    def __init__(self, folder: Path) -> None:
        self.master = RedisServer(folder)
        self.replica = RedisServer(folder, "--replicaof", "127.0.0.1", str(self.master.port))
        self.sentinels = [Sentinel(folder, self.master) for _ in range(3)]
        self.servers = [self.master, self.replica, *self.sentinels]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{places}/{MASTER}"

    async def join(self) -> None:
        # They look every ten seconds by default; what one knows longer than three times that it does not rely on
        self._look_every(0.1)
        await until(lambda: all(map(self._is_ready, self.sentinels)))
        self._look_every(1)

    def _look_every(self, seconds: float) -> None:
        for sentinel in self.sentinels:
            for period in ("info", "publish"):
                ask(sentinel, "SENTINEL", "DEBUG", f"{period}-period", int(seconds * 1000))

    def _is_ready(self, sentinel: Sentinel) -> bool:
        """Tell whether it knows the others, and a replica that can take over."""
        master = dict_of(ask(sentinel, "SENTINEL", "MASTER", MASTER))
        replicas = [dict_of(told) for told in ask(sentinel, "SENTINEL", "REPLICAS", MASTER)]
        links = [replica[b"master-link-status"] for replica in replicas]
        return master[b"num-other-sentinels"] == b"2" and links == [b"ok"]


class ClusterServer(RedisServer):
    """One node of a cluster."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bus = free_port()
        self.options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", str(self.bus)]

    def meet(self, other: ClusterServer) -> None:
        ask(other, "CLUSTER", "MEET", "127.0.0.1", self.port, self.bus)


class Cluster(Several):
    """Three masters that share the slots."""

    def __init__(self, folder: Path) -> None:
        self.servers = [ClusterServer(folder) for _ in range(3)]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    async def join(self) -> None:
        for number, server in enumerate(self.servers):
            ask(server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            ask(server, "CLUSTER", "ADDSLOTSRANGE", number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1)
            server.meet(self.servers[0])
        await until(lambda: all(map(self.knows_all, self.servers)))

    @staticmethod
    def knows_all(server: RedisServer) -> bool:
        info = ask(server, "CLUSTER", "INFO")
        return isinstance(info, bytes) and b"cluster_state:ok" in info and b"cluster_slots_ok:16384" in info

    def owner(self, slot: int) -> RedisServer:
        slots = ask(self.servers[0], "CLUSTER", "SLOTS")
        assert isinstance(slots, list)
        port = next(master[1] for first, last, master, *_ in slots if first <= slot <= last)
        return next(server for server in self.servers if server.port == port)

    def move(self, slot: int) -> None:
        """Give a slot to another master, as `redis-cli --cluster reshard` does."""
        source = self.owner(slot)
        target = self.servers[(self.servers.index(source) + 1) % len(self.servers)]
        ids = [ask(server, "CLUSTER", "MYID") for server in (source, target)]
        ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        for server in (target, source):
            assert ask(server, "CLUSTER", "SETSLOT", slot, "NODE", ids[1]) == b"OK"


def dict_of(value: object) -> dict[bytes, object]:
    """What a list of names and values in turn says."""
    return dict(zip(value[::2], value[1::2], strict=True)) if isinstance(value, list) else {}
