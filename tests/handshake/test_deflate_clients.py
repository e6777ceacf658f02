"""permessage-deflate with clients that others wrote: every parameter that they can offer, to every kind of service.

What is negotiated must be right (RFC 7692 7.1), and whatever was pushed, broadcast and echoed before, each message must
come out as it went in: one bit wrong in the history of a connection spoils all that follows.
"""

from __future__ import annotations

import contextlib
import itertools
import random

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from fastws import ws

from ..kit.client import turns, until, url
from ..kit.node import IS_INSTALLED, Node
from ..kit.peers import Aiohttp, Websockets
from ..kit.services import Echo, at
from ..kit.slow import slow

LIMIT = 1 << 20  # bytes of a message

KINDS = {
    "shared": {"compression": "shared"},
    "shared with small windows": {"compression": "shared", "compression_window_bits": 9},
    "shared, everything": {"compression": "shared", "compression_threshold": 0, "compression_level": 9},
    "dedicated": {"compression": "dedicated"},
    "dedicated with small windows": {"compression": "dedicated", "compression_window_bits": 9},
    "dedicated with large windows, everything": {
        "compression": "dedicated",
        "compression_window_bits": 15,
        "compression_threshold": 0,
    },
    "none": {"compression": None},
}
each_kind = pytest.mark.parametrize("kind", KINDS)
# Where a kind takes a second, all but three are left to the long suite
each_kind_in_time = pytest.mark.parametrize(
    "kind",
    ["shared", "dedicated", "none", *slow(kind for kind in KINDS if kind not in ("shared", "dedicated", "none"))],
)
each_compressing_kind = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
on_uvloop = pytest.mark.asyncio(loop_factories=["uvloop"])  # thousands of handshakes


def echo(kind: str):
    @at(max_message_size=LIMIT, max_backlog=1 << 24, **KINDS[kind])
    class Kind(Echo):
        pass

    return Kind()


# ---------------------------------------------------------------------------------------------------------------------
# Messages

noise = random.Random(7692)

JSON = '{"symbol": "FASTWS", "price": 99.5, "currency": "€", "note": "grüße ☃ 🐈"}'
FEW = [JSON * 10, "", JSON * 10, noise.randbytes(300), JSON, JSON.encode() * 9]
SMALL = [
    *FEW,
    b"",
    "x" * 255,
    "x" * 256,
    "no " * 43_000,  # longer than any window, and than a frame of two bytes of length
    JSON * 10,
]
LARGE = [
    JSON * (LIMIT // len(JSON.encode())),
    noise.randbytes(LIMIT),
    bytes(LIMIT),
    "☃" * (LIMIT // 3),
    noise.randbytes(40_000) * 20,  # repeats that lie farther apart than any window
    JSON,
]


async def assert_echoes(client, messages: list[str | bytes], note: object = "") -> None:
    """All of them are sent at once: each has those before it in its history, if there is one."""
    for message in messages:
        await client.send(message)
    for i, message in enumerate(messages):
        assert await client.receive() == message, (i, note)


# ---------------------------------------------------------------------------------------------------------------------
# Offers


def parameters(extensions: str | None) -> dict[str, int | None] | None:
    """The parameters of an answer; None when nothing was agreed to."""
    if extensions is None:
        return None
    name, *rest = (part.strip() for part in extensions.split(";"))
    assert name == "permessage-deflate"
    pairs = [parameter.partition("=") for parameter in rest]
    found = {name: int(value) if equals else None for name, equals, value in pairs}
    assert len(found) == len(pairs), extensions
    return found


def assert_agreed(
    extensions: str | None,
    kind: str,
    *,
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: int | None,
    client_max_window_bits: bool | int | None,
) -> None:
    """The answer to this offer is one that RFC 7692 section 7.1 allows, and what the service promises."""
    options = KINDS[kind]
    agreed = parameters(extensions)
    if options["compression"] is None:
        assert agreed is None
        return
    assert agreed is not None
    most = options.get("compression_window_bits", 12 if options["compression"] == "dedicated" else 15)
    if options["compression"] == "shared" or server_no_context_takeover:
        assert "server_no_context_takeover" in agreed
    if options["compression"] == "shared":
        assert "client_no_context_takeover" in agreed
    if server_max_window_bits is None:
        assert "server_max_window_bits" not in agreed
    else:
        assert 9 <= agreed["server_max_window_bits"] <= min(most, server_max_window_bits)
    if "client_max_window_bits" in agreed:
        assert client_max_window_bits is not None
        offered = 15 if client_max_window_bits is True else client_max_window_bits
        assert 9 <= agreed["client_max_window_bits"] <= offered
    assert set(agreed) <= {
        "server_no_context_takeover",
        "client_no_context_takeover",
        "server_max_window_bits",
        "client_max_window_bits",
    }


BITS = range(9, 16)
OFFERS = [
    {
        "server_no_context_takeover": server_no_context_takeover,
        "client_no_context_takeover": client_no_context_takeover,
        "server_max_window_bits": server_max_window_bits,
        "client_max_window_bits": client_max_window_bits,
    }
    for server_no_context_takeover, client_no_context_takeover in itertools.product([False, True], repeat=2)
    for server_max_window_bits, client_max_window_bits in itertools.product([None, *BITS], [None, True, *BITS])
]


def websockets_client(server, offer: dict) -> Websockets:
    return Websockets(url(server), compression=None, extensions=[ClientPerMessageDeflateFactory(**offer)])


@on_uvloop
@each_kind_in_time
async def test_websockets_with_every_offer(serve, kind):
    server = await serve(echo(kind))
    for offer in OFFERS:
        async with websockets_client(server, offer) as client:
            assert_agreed(client.extensions, kind, **offer)
            await assert_echoes(client, FEW, offer)


@each_kind
@pytest.mark.parametrize("bits", BITS)
async def test_aiohttp_with_every_window(serve, kind, bits):
    server = await serve(echo(kind))
    async with Aiohttp(url(server), compress=bits) as client:
        assert (client.window_bits == 0) == (kind == "none")
        await assert_echoes(client, SMALL)


# In the words of `ws`, to which `clientNoContextTakeover: false` would mean that the server must not ask for it
NODE_OFFERS = [
    {
        **({"serverNoContextTakeover": True} if server_no_context_takeover else {}),
        **({"clientNoContextTakeover": True} if client_no_context_takeover else {}),
        **({} if server_max_window_bits is None else {"serverMaxWindowBits": server_max_window_bits}),
        "clientMaxWindowBits": client_max_window_bits,
        "threshold": 0,
    }
    for server_no_context_takeover, client_no_context_takeover in itertools.product([False, True], repeat=2)
    for server_max_window_bits, client_max_window_bits in itertools.product([None, *BITS], [True, *BITS])
]

needs_node = pytest.mark.skipif(not IS_INSTALLED, reason="Node's ws is not installed: tools/node_ws.sh does that")


@needs_node
@on_uvloop
@each_kind
async def test_node_with_every_offer(serve, kind):
    server = await serve(echo(kind))
    async with Node() as node:
        for offer in NODE_OFFERS:
            async with node.connect(url(server), offer) as client:
                assert_agreed(
                    client.extensions,
                    kind,
                    server_no_context_takeover="serverNoContextTakeover" in offer,
                    client_no_context_takeover="clientNoContextTakeover" in offer,
                    server_max_window_bits=offer.get("serverMaxWindowBits"),
                    client_max_window_bits=offer["clientMaxWindowBits"],
                )
                await assert_echoes(client, FEW, offer)


async def test_a_client_that_offers_nothing_gets_no_compression(serve):
    async with Websockets(url(await serve(echo("shared, everything"))), compression=None) as client:
        assert client.extensions is None
        await assert_echoes(client, SMALL)


# ---------------------------------------------------------------------------------------------------------------------
# Messages of all kinds


@contextlib.asynccontextmanager
async def each_make(server):
    """A client of every make that is here, with its defaults."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(make(url(server))) for make in (Websockets, Aiohttp)]
        if IS_INSTALLED:
            node = await stack.enter_async_context(Node())
            clients.append(await stack.enter_async_context(node.connect(url(server), offer=True)))
        yield clients


@each_kind_in_time
async def test_messages_up_to_the_limit_come_back_as_they_were(serve, kind):
    server = await serve(echo(kind))
    async with each_make(server) as clients:
        for client in clients:
            await assert_echoes(client, LARGE, client)


@each_compressing_kind
async def test_a_message_that_grows_beyond_the_limit_is_1009(serve, kind):
    server = await serve(echo(kind))
    async with each_make(server) as clients:
        for client in clients:
            await client.send(bytes(LIMIT))
            assert await client.receive() == bytes(LIMIT), client
            await client.send(bytes(LIMIT + 1))
            assert await client.closed() == (1009, "message too big"), client


@each_kind
async def test_fragments_of_a_compressed_message_make_one_message(serve, kind):
    server = await serve(echo(kind))
    async with each_make(server) as clients:
        for client in clients:
            if isinstance(client, Aiohttp):
                continue
            for fragments in ([JSON] * 20, ["", JSON, ""], list(JSON), ["é" * 70_000, "", "☃"]):
                await client.send_fragments(fragments)
                await client.send("between")
                assert await client.receive() == "".join(fragments), client
                assert await client.receive() == "between", client


@each_kind
async def test_pings_are_answered_between_compressed_messages(serve, kind):
    server = await serve(echo(kind))
    async with each_make(server) as clients:
        for client in clients:
            await client.send(JSON * 10)
            assert await client.receive() == JSON * 10
            await client.ping(b"are you there?")
            await client.send(JSON * 10)
            assert await client.receive() == JSON * 10


# ---------------------------------------------------------------------------------------------------------------------
# Broadcasts, group pushes, pushes and replies, one through another


class Everybody:
    """Clients of one service, and what each of them has yet to receive."""

    def __init__(self, clients: list, connections: list, chance: random.Random) -> None:
        self.members = list(zip(clients, connections, strict=True))
        self.expected: list[list[str | bytes]] = [[] for _ in clients]
        self.chance = chance

    def message(self) -> str | bytes:
        """One that resembles others, around the threshold or far from it."""
        chance = self.chance
        words = " ".join(
            chance.choice(("price", "grüße", "☃", "{}", "0.1")) for _ in range(chance.choice((1, 60, 900)))
        )
        return words.encode() if chance.random() < 0.3 else words

    async def act(self) -> None:
        """Do one thing that puts messages on the way, sometimes many in one turn of the loop."""
        number = self.chance.randrange(len(self.members))
        client, connection = self.members[number]
        for _ in range(self.chance.choice((1, 1, 1, 16))):
            message = self.message()
            match self.chance.randrange(4):
                case 0:
                    self._push(connection.push_text, connection.push_binary, message)
                    self.expected[number].append(message)
                case 1:
                    self._push(connection.broadcast_text, connection.broadcast_binary, message)
                    for expected in self.expected:
                        expected.append(message)
                case 2:
                    self._push_to_group(message)
                    for expected in self.expected[::2]:
                        expected.append(message)
                case 3:
                    await self.settle()
                    await client.send(message)
                    self.expected[number].append(message)
                    await self.settle()

    def _push(self, push_text, push_binary, message: str | bytes) -> None:
        delivery = (push_text if isinstance(message, str) else push_binary)(message)
        assert delivery.dropped == 0

    def _push_to_group(self, message: str | bytes) -> None:
        push = ws.push_text_to_group if isinstance(message, str) else ws.push_binary_to_group
        assert push("even", message).dropped == 0

    async def settle(self) -> None:
        """Receive all that is on its way."""
        for (client, _), expected in zip(self.members, self.expected, strict=True):
            while expected:
                assert await client.receive() == expected.pop(0), client


VARIETY = [
    {},
    {"server_no_context_takeover": True},
    {"client_no_context_takeover": True},
    {"server_max_window_bits": 9},
    {"server_max_window_bits": 12, "client_max_window_bits": 10},
    {"server_no_context_takeover": True, "server_max_window_bits": 10},
]


@each_kind_in_time
@pytest.mark.parametrize("seed", [0, *slow([1, 2])])
async def test_what_passes_by_spoils_no_history(serve, kind, seed):
    service = echo(kind)
    server = await serve(service)
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for make in (
            lambda: Websockets(url(server), compression=None),
            lambda: Aiohttp(url(server)),
            *(lambda offer=offer: websockets_client(server, offer) for offer in VARIETY),
        ):
            clients.append(await stack.enter_async_context(make()))
            await until(lambda: len(service.connections) == len(clients))
        for connection in service.connections[::2]:
            connection.join("even")
        everybody = Everybody(clients, service.connections, random.Random(seed))
        for _ in range(150):
            await everybody.act()
            if everybody.chance.random() < 0.3:
                await everybody.settle()
        await everybody.settle()


@each_kind
async def test_a_compressed_broadcast_that_joins_a_plain_one_spoils_no_history(serve, kind):
    service = echo(kind)
    server = await serve(service)
    async with each_make(server) as clients:
        await until(lambda: len(service.connections) == len(clients))
        for connection in service.connections:
            connection.push_text(JSON * 10)
        await turns()
        connection.broadcast_text("short")
        connection.broadcast_text("other words than before, " * 20)
        for connection in service.connections:
            connection.push_text(JSON * 11)
        for client in clients:
            texts = [await client.receive() for _ in range(4)]
            assert texts == [JSON * 10, "short", "other words than before, " * 20, JSON * 11], client


@each_kind
async def test_many_broadcasts_of_one_turn_arrive_in_order(serve, kind):
    service = echo(kind)
    server = await serve(service)
    async with each_make(server) as clients:
        await until(lambda: len(service.connections) == len(clients))
        messages = [f"{number}: {JSON}" * (number % 9 + 1) for number in range(300)]
        for number, message in enumerate(messages):
            if number % 50 == 25:
                service.connections[0].push_text("for one")
            assert service.connections[0].broadcast_text(message).queued == len(clients)
        for i, client in enumerate(clients):
            for number, message in enumerate(messages):
                if number % 50 == 25 and i == 0:
                    assert await client.receive() == "for one"
                assert await client.receive() == message, (number, client)
