"""Which server is the master now, and in a cluster which one of which slots: asked over connections of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from ..address import TLS_PARAMETERS, Address, Server
from ..session import ConversationError, Wire, reason_of, wait_for
from .conversation import Conversation, Listener, pairs
from .slots import SLOTS

__all__ = ["Scout", "Topology"]

ASK_TIMEOUT: Final = 2.0  # seconds to reach a server and have its answers
MAX_MASTERS: Final = 1000  # of a cluster
PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_PARAMETERS: Final = (*TLS_PARAMETERS, "db", "master", "sentinel_user", "sentinel_password")
_STATE: Final = b"cluster_state:ok"


class Topology(NamedTuple):
    """Where subjects are.

    Attributes:
        is_cluster: whether a subject has a slot.
        ranges: first slot, last slot, and the master of them.
    """

    is_cluster: bool
    ranges: tuple[tuple[int, int, Server], ...]

    @property
    def masters(self) -> dict[Server, None]:
        """All masters, in their order."""
        return {server: None for _, _, server in self.ranges}


class Scout:
    """Finds the masters behind a URL.

    Args:
        url: of one or several servers; those of a cluster need not be all, nor all Sentinels.

    Attributes:
        address: the URL, taken apart.
        tls: how servers are checked; None without TLS.
        sentinels: those that watch the master, once it is known that there are any.
        master: the name by which they know it; None for the only one.

    Raises:
        ConfigurationError: something is wrong with the URL.
    """

    def __init__(self, url: str) -> None:
        kind = url.partition("://")[0].lower().partition("+")[2]
        self.address = address = Address(
            url, port=SENTINEL_PORT if kind == "sentinel" else PORT, parameters=_PARAMETERS
        )
        self.tls = address.make_tls_context() if address.scheme.startswith("rediss") else None
        self.sentinels: tuple[Server, ...] = ()
        self.master = address.parameters.get("master")
        self._mode = {"sentinel": b"sentinel", "cluster": b"cluster"}.get(kind)  # that the URL says
        self._known: dict[Server, None] = {}  # of a cluster; whom to ask first comes first
        self._read_path()
        if self._mode == b"sentinel":
            self.sentinels = self._as_sentinels(address.servers)

    @property
    def is_settled(self) -> bool:
        """Whether the answer is always the same: there is one server and no other."""
        return len(self.address.servers) == 1 and not self.sentinels and not self._known

    def ask_first(self, server: Server) -> None:
        """Begin with a server of which something was learned."""
        self._known = {server: None, **self._known}

    async def find(self) -> Topology:
        """Return the masters.

        Raises:
            ConversationError: nobody knows them.
        """
        if self.sentinels:
            return await self._ask_sentinels()
        reasons: dict[str, None] = {}  # the same one is told once
        for server in {**self._known, **dict.fromkeys(self.address.servers)}:
            topology = await self._try(server, reasons)
            if topology is not None:
                return topology
        raise ConversationError("; ".join(reasons))

    async def _try(self, server: Server, reasons: dict[str, None]) -> Topology | None:
        try:
            return await wait_for(self._look_at(server), ASK_TIMEOUT)
        except Exception as error:
            reasons[reason_of(error)] = None
            return None

    # --- The URL.

    def _read_path(self) -> None:
        """Read a database's number, which messages do not know, or a master's name."""
        name, _, database = self.address.path.rpartition("/")
        if database and not database.isdigit():
            name, database = self.address.path, ""
        if name and self._mode == b"cluster":
            self.address.refuse("what follows the servers is a number, of a database")
        self.master = name or self.master
        if not self.address.parameters.get("db", "0").isdigit():
            self.address.refuse("db is a number")

    def _as_sentinels(self, servers: Iterable[Server]) -> tuple[Server, ...]:
        """Give them their own credentials: those of the URL are the master's."""
        own = self.address.parameters
        return tuple(
            replace(server, user=own.get("sentinel_user"), password=own.get("sentinel_password")) for server in servers
        )

    # --- One server.

    @contextlib.asynccontextmanager
    async def _talk(self, server: Server) -> AsyncIterator[Conversation]:
        wire = Wire(server, lambda wire: Conversation(wire, Listener(), _nothing))
        try:
            await wire.while_alive(wire.dial(self.tls))
            assert isinstance(wire.conversation, Conversation)
            await wire.while_alive(wire.conversation.greet())
            yield wire.conversation
        finally:
            wire.fail("it was answered")

    async def _look_at(self, server: Server) -> Topology:
        async with self._talk(server) as conversation:
            mode = conversation.mode
            if self._mode not in (None, mode):
                raise ConversationError(f"{server} is no {self._mode.decode()}" if self._mode else "")
            if mode == b"cluster":
                return await self._ask_node(conversation)
            if mode != b"sentinel":
                return _alone(conversation)
            self.sentinels = self.address.servers
        return await self._ask_sentinels()

    # --- Sentinels.

    async def _ask_sentinels(self) -> Topology:
        asked = (wait_for(self._ask_sentinel(server), ASK_TIMEOUT) for server in self.sentinels)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        # One that was cut off from the others has missed a failover: the greatest epoch is the latest
        known = sorted((answer for answer in answers if isinstance(answer, tuple)), key=lambda answer: answer[0])
        if not known:
            raise ConversationError(
                "; ".join({reason_of(error): None for error in answers if isinstance(error, BaseException)})
            )
        return Topology(False, ((0, SLOTS - 1, known[-1][1]),))

    async def _ask_sentinel(self, server: Server) -> tuple[int, Server]:
        async with self._talk(server) as conversation:
            if conversation.mode != b"sentinel":
                raise ConversationError(f"{server} is no Sentinel")
            return self._read_master(await self._described(conversation))

    async def _described(self, conversation: Conversation) -> Any:
        if self.master is not None:
            return await conversation.demand(b"SENTINEL", b"MASTER", self.master.encode())
        masters = await conversation.demand(b"SENTINEL", b"MASTERS")
        if not isinstance(masters, list) or len(masters) != 1:
            raise ConversationError(
                "the Sentinels watch several masters or none: name one, as in redis+sentinel://host/name"
            )
        return masters[0]

    def _read_master(self, described: object) -> tuple[int, Server]:
        told = pairs(described)
        match told.get(b"config-epoch"), told.get(b"ip"), told.get(b"port"):
            case [bytes() as epoch, bytes() as host, bytes() as port] if epoch.isdigit() and port.isdigit():
                return int(epoch), self._at(host, int(port))
        raise ConversationError("a Sentinel describes no master")

    def _at(self, host: bytes, port: int) -> Server:
        name = host.decode("latin-1")
        if not name.isprintable() or not 0 < port < 1 << 16:
            raise ConversationError("a server is said to be where none can be")
        return replace(self.address.servers[0], host=name, port=port)

    # --- A cluster.

    async def _ask_node(self, conversation: Conversation) -> Topology:
        info = await conversation.demand(b"CLUSTER", b"INFO")
        if not isinstance(info, bytes) or _STATE not in info:
            raise ConversationError("the cluster is down")
        told = await conversation.demand(b"CLUSTER", b"SLOTS")
        ranges = [self._read_range(each, conversation.wire.server) for each in told] if isinstance(told, list) else []
        topology = Topology(True, tuple((first, last, servers[0]) for first, last, servers in ranges))
        if not 0 < len(topology.masters) <= MAX_MASTERS:
            raise ConversationError(f"the cluster has {len(topology.masters)} masters")
        self._known = {**topology.masters, **dict.fromkeys(server for _, _, servers in ranges for server in servers)}
        return topology

    def _read_range(self, told: object, asked: Server) -> tuple[int, int, list[Server]]:
        match told:
            case [int(first), int(last), _, *_] if 0 <= first <= last < SLOTS:
                return first, last, [self._read_place(place, asked) for place in told[2:]]
        raise ConversationError("the cluster describes no slots")

    def _read_place(self, told: object, asked: Server) -> Server:
        match told:
            # A node that does not know its own address is where it was asked
            case [bytes() | None as host, int(port), *_]:
                return self._at(host or asked.host.encode(), port)
        raise ConversationError("the cluster describes no server")


def _nothing(channel: bytes, payload: bytes) -> None:
    """Take a message that nobody wants."""


def _alone(conversation: Conversation) -> Topology:
    server = conversation.wire.server
    if conversation.role != b"master":
        raise ConversationError(f"{server} is no master")
    return Topology(False, ((0, SLOTS - 1, server),))
