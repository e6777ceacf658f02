"""Whatever is pushed to whom, from where and when: every client gets exactly its frames, in the order of the calls.

Programs of pushes, broadcasts and changes of groups run against a model of a few lines. They mix what the core treats
differently: short frames, those that are borrowed and those too long to be joined; pushes from a handler, from another
connection's handler and from outside; recipients that read and recipients that do not.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastws import ws

from ...kit.client import BINARY, CLOSE, TEXT, frame, take_frames, turns, until
from ...kit.services import Commanded, at
from ...kit.wires import MemoryWire, StreamWire, wired

pytestmark = pytest.mark.usefixtures("senders")

CLIENTS = 4
EXAMPLES = min(settings.default.max_examples, 1000) * 2 // 3  # each takes twenty milliseconds, and sixteen ways
GROUPS = ("red", "green")

# Lengths on both sides of every border: of the header's forms, of a connection's own chunk, of borrowing, of joining
LENGTHS = (0, 1, 125, 126, 250, 1000, 32767, 32768, 32769, 65535, 65536, 70000)


def frame_length(frame: tuple[int, bytes]) -> int:
    length = len(frame[1])
    return length + (2 if length < 126 else 4 if length < 65536 else 10)


class Model:
    """What the clients should get."""

    def __init__(self) -> None:
        self.expected: list[list[tuple[int, bytes]]] = [[] for _ in range(CLIENTS)]
        self.groups: dict[str, list[int]] = {name: [] for name in GROUPS}
        self.closed: set[int] = set()

    def push(self, recipients, opcode: int, payload: bytes) -> ws.Delivery:
        taking = [recipient for recipient in recipients if recipient not in self.closed]
        for recipient in taking:
            self.expected[recipient].append((opcode, payload))
        return ws.Delivery(len(recipients), len(taking), len(recipients) - len(taking))

    def close(self, client: int) -> None:
        if client not in self.closed:
            self.expected[client].append((CLOSE, b"\x03\xe8"))
            self.closed.add(client)


class Program:
    """Runs steps on the connections and on the model, and compares what each returns."""

    def __init__(self, connections: list[ws.Connection], wires: list, service: Commanded) -> None:
        self.connections = connections
        self.wires = wires
        self.service = service
        self.model = Model()
        self.received = [bytearray() for _ in wires]
        self.count = 0

    def payload(self, length: int) -> bytes:
        """A payload unlike all others, so that nothing can take another's place."""
        self.count += 1
        return (b"%d " % self.count + b"." * length)[: max(length, 6)]

    def excluded(self, clients: list[int]) -> tuple:
        return tuple(self.connections[client] for client in clients)

    def do(self, step: tuple) -> None:
        getattr(self, step[0])(*step[1:])

    def push(self, client: int, length: int) -> None:
        payload = self.payload(length)
        delivery = self.connections[client].push_text(payload.decode())
        assert delivery == self.model.push([client], TEXT, payload)

    def broadcast(self, excluded: list[int], length: int) -> None:
        payload = self.payload(length)
        delivery = self.connections[0].broadcast_binary(payload, exclude=self.excluded(excluded))
        assert delivery == self.model.push([i for i in range(CLIENTS) if i not in excluded], BINARY, payload)

    def group(self, name: str, excluded: list[int], length: int) -> None:
        payload = self.payload(length)
        delivery = ws.push_text_to_group(name, payload.decode(), exclude=self.excluded(excluded))
        members = [client for client in self.model.groups[name] if client not in excluded]
        assert delivery == self.model.push(members, TEXT, payload)

    def join(self, client: int, name: str) -> None:
        self.connections[client].join(name)
        if client not in self.model.groups[name]:
            self.model.groups[name].append(client)

    def leave(self, client: int, name: str) -> None:
        assert self.connections[client].leave(name) == (client in self.model.groups[name])
        if client in self.model.groups[name]:
            self.model.groups[name].remove(client)

    def close(self, client: int) -> None:
        self.connections[client].close()
        self.model.close(client)

    def read(self, client: int) -> None:
        self.received[client] += self.wires[client].receive()

    def several(self, steps: list[tuple]) -> None:
        for step in steps:
            self.do(step)

    async def run(self, step: tuple) -> None:
        """A step of its own kind of callback: from outside, from a callback of the loop or from a handler."""
        place, *steps = step
        done = asyncio.Event()

        def act() -> None:
            self.several(steps)
            done.set()

        if place == "turns":
            await turns()
        elif place == "outside":
            self.several(steps)
        elif place == "callback" or place in self.model.closed:
            asyncio.get_running_loop().call_soon(act)
            await done.wait()
        else:
            self.service.does["act"] = act
            self.wires[place].send(frame(TEXT, b"act"))
            await until(done.is_set)

    async def finish(self) -> None:
        """Everybody reads to the end of what is to come."""
        lengths = [sum(map(frame_length, frames)) for frames in self.model.expected]

        def complete() -> bool:
            for client in range(CLIENTS):
                self.read(client)
            return all(len(received) >= length for received, length in zip(self.received, lengths, strict=True))

        await until(complete)
        await turns()
        complete()
        assert [take_frames(received) for received in self.received] == self.model.expected
        for connection in self.connections:
            assert connection.buffered == 0


@at(max_backlog=1 << 30)
class Unlimited(Commanded):
    pass


clients = st.integers(0, CLIENTS - 1)
groups = st.sampled_from(GROUPS)
excluded = st.lists(clients, max_size=2, unique=True)
lengths = st.sampled_from(LENGTHS) | st.integers(0, 300)
actions = st.one_of(
    st.tuples(st.just("push"), clients, lengths),
    st.tuples(st.just("broadcast"), st.just([]) | excluded, lengths),
    st.tuples(st.just("group"), groups, st.just([]) | excluded, lengths),
    st.tuples(st.just("join"), clients, groups),
    st.tuples(st.just("leave"), clients, groups),
    st.tuples(st.just("read"), clients),
    st.tuples(st.just("close"), clients),
)
# Short frames to all make the chunks that are shared; they deserve to meet each other often
short = st.integers(0, 40)
short_actions = st.one_of(
    st.tuples(st.just("push"), clients, short),
    st.tuples(st.just("broadcast"), st.just([]), short),
    st.tuples(st.just("broadcast"), excluded, short),
    st.tuples(st.just("group"), groups, st.just([]), short),
    st.tuples(st.just("join"), clients, groups),
    st.tuples(st.just("leave"), clients, groups),
)
places = st.sampled_from(["outside", "callback", *range(CLIENTS)])


def steps(one):
    callback = st.tuples(places, st.lists(one, min_size=1, max_size=12)).map(lambda drawn: (drawn[0], *drawn[1]))
    return st.lists(callback | callback | st.just(("turns",)), min_size=1, max_size=10)


async def check(kind, program: list[tuple]) -> None:
    service = Unlimited()
    async with wired(service, kind, CLIENTS) as (connections, wires):
        running = Program(connections, wires, service)
        for client in range(CLIENTS):
            running.join(client, "red")
        for step in program:
            await running.run(step)
        await running.finish()
        connections.clear()


@pytest.mark.parametrize("kind", [StreamWire, MemoryWire])
@given(program=steps(actions))
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
async def test_frames_of_all_lengths_arrive_in_the_order_of_the_calls(kind, program):
    await check(kind, program)


@pytest.mark.parametrize("kind", [StreamWire, MemoryWire])
@given(program=steps(short_actions))
@settings(max_examples=3 * EXAMPLES, suppress_health_check=list(HealthCheck))
async def test_short_frames_that_share_chunks_arrive_in_the_order_of_the_calls(kind, program):
    await check(kind, program)
