"""Whatever is pushed with keys to whom: every client ends with the newest of each, and misses nothing without a key.

Programs of pushes and broadcasts, with keys and without, run against clients of which some read and some do not. A
value that another replaced may be missing; an older one may never come behind a newer.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastws import ws
from fastws._speedups import hub_of_thread

from ...kit.client import TEXT, take_frames, turns, until
from ...kit.services import Patient
from ...kit.wires import MemoryWire, StreamWire, fill, wired

pytestmark = pytest.mark.usefixtures("senders")

CLIENTS = 3
KEYS = ("a", "b", 1)
# Those that share a chunk, those that are joined no more, those that are borrowed
LENGTHS = (0, 10, 1000, 9000, 40_000, 150_000)


class Market:
    """Pushes values, and remembers for each client what must come and what may."""

    def __init__(self, connections: list, wires: list) -> None:
        self.connections = connections
        self.wires = wires
        self.count = 0
        self.received = [bytearray() for _ in wires]
        self.filled: list[list[bytes]] = [[] for _ in wires]
        self.plain: list[list[bytes]] = [[] for _ in wires]
        self.keyed: list[dict] = [{} for _ in wires]

    async def do(self, step: tuple) -> None:
        if step[0] == "turn":
            await turns(2)
        else:
            getattr(self, step[0])(*step[1:])

    def tell(self, recipients: str | int, key: object, length: int) -> None:
        self.count += 1
        text = f"{key}={self.count};" + "." * length
        if recipients == "all":
            delivery, told = self.connections[0].broadcast_text(text, key=key), range(CLIENTS)
        elif recipients == "group":
            delivery, told = ws.push_text_to_group("group", text, key=key), range(CLIENTS - 1)
        else:
            delivery, told = self.connections[recipients].push_text(text, key=key), [recipients]
        assert (delivery.matched, delivery.queued) == (len(told), len(told))
        for client in told:
            values = self.plain[client] if key is None else self.keyed[client].setdefault(key, [])
            values.append(text.encode())

    def read(self, client: int) -> None:
        self.received[client] += self.wires[client].receive()

    def everybody_has_all(self) -> bool:
        for client in range(CLIENTS):
            self.read(client)
        return not any(connection.buffered for connection in self.connections)

    def check(self) -> None:
        for client, data in enumerate(self.received):
            frames = take_frames(bytes(data))
            assert [payload for opcode, payload in frames if opcode != TEXT] == self.filled[client]
            texts = [payload for opcode, payload in frames if opcode == TEXT]
            assert [text for text in texts if text.startswith(b"None=")] == self.plain[client]
            for key, values in self.keyed[client].items():
                self.check_key([text for text in texts if text.startswith(f"{key}=".encode())], values)

    def check_key(self, got: list[bytes], values: list[bytes]) -> None:
        assert got[-1] == values[-1], "not the newest"
        rest = iter(values)
        assert all(value in rest for value in got), "an old value behind a newer one"


recipients = st.sampled_from(["all", "all", "group", *range(CLIENTS)])
tells = st.tuples(st.just("tell"), recipients, st.sampled_from((None, *KEYS)), st.sampled_from(LENGTHS))
reads = st.tuples(st.just("read"), st.integers(0, CLIENTS - 1))
turn = st.just(("turn",))
programs = st.lists(st.lists(tells | tells | tells | reads | turn, min_size=1, max_size=12), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", [StreamWire, MemoryWire])
@given(program=programs, slow=st.sets(st.integers(0, CLIENTS - 1)), reading=st.sets(st.integers(0, CLIENTS - 1)))
@settings(max_examples=settings.default.max_examples, suppress_health_check=list(HealthCheck))
async def test_all_clients_end_with_the_newest_of_each_key(kind, program, slow, reading):
    async with wired(Patient(), kind, CLIENTS) as (connections, wires):
        for connection in connections[:-1]:
            connection.join("group")
        market = Market(connections, wires)
        for client in slow:
            market.filled[client] = fill(connections[client])
        for steps in program:
            for step in steps:
                await market.do(step)
            for client in reading:
                market.read(client)
            await turns(2)
        await until(market.everybody_has_all)
        await turns()
        market.everybody_has_all()
        assert all(connection.is_open for connection in connections)
        assert hub_of_thread(asyncio.get_running_loop(), dict, dict).backlog_len == 0
        market.check()
        connections.clear()
