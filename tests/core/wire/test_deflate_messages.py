"""Compressed messages, in and out (RFC 7692 section 6 and 7.2): bytes on the wire, limits, histories."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest

from fastws import ws
from fastws._speedups import FrameReader
from fastws.handshake.deflate import Deflate

from ...kit.client import BINARY, CLOSE, TEXT, close_payload, frame, take_frames, turns
from ...kit.deflated import RSV1, Inflating, deflate
from ...kit.services import Echo, Log, Watch, at
from ...kit.wires import PacketWire, wired

# The examples of RFC 7692 section 7.2.3
HELLO = bytes.fromhex("f248cdc9c90700")
HELLO_AGAIN = bytes.fromhex("f200110000")
HELLO_STORED = bytes.fromhex("000500faff48656c6c6f00")
HELLO_FINAL = bytes.fromhex("f348cdc9c9070000")
HELLO_IN_TWO_BLOCKS = bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", ""))

SHARED = Deflate(b"", 15, 15, False, False)
DEDICATED = Deflate(b"", 15, 15, True, True)


def ways(stream: bytes) -> list[list[bytes]]:
    """Whole, byte by byte, and in pieces of seven."""
    return [[stream], [bytes([byte]) for byte in stream], [stream[i : i + 7] for i in range(0, len(stream), 7)]]


def read(stream: bytes, **options) -> list:
    """What a reader makes of a stream, however it is cut."""
    outcomes = []
    for pieces in ways(stream):
        reader = FrameReader(window_bits=15, **options)
        events = []
        for piece in pieces:
            events += reader.feed(piece)
            if events and events[-1][1] is None:
                break
        outcomes.append(events)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    return outcomes[0]


# ---------------------------------------------------------------------------------------------------------------------
# In


@pytest.mark.parametrize("payload", [HELLO, HELLO_STORED, HELLO_FINAL, HELLO_IN_TWO_BLOCKS])
def test_the_examples_of_the_rfc_are_read(payload):
    assert read(frame(TEXT | RSV1, payload)) == [(TEXT, "Hello")]


def test_fragments_of_a_compressed_message_are_one_stream():
    first, second = frame(TEXT | RSV1, HELLO[:3], fin=False), frame(0, HELLO[3:])
    assert read(first + frame(9, b"ping") + second) == [(9, b"ping"), (TEXT, "Hello")]


def test_a_message_may_refer_to_the_one_before_only_where_that_was_negotiated():
    stream = frame(TEXT | RSV1, HELLO) + frame(TEXT | RSV1, HELLO_AGAIN)
    assert read(stream, takeover=True) == [(TEXT, "Hello"), (TEXT, "Hello")]
    assert read(stream) == [(TEXT, "Hello"), (1007, None)]


FORGETTING = Deflate(b"", 15, 15, True, False)
NARROW = Deflate(b"", 15, 9, False, True)
RULED_OUT = "refers further back than the handshake allows"


def remembering(*messages: bytes) -> list[bytes]:
    """The payloads of messages that a client with the largest window compressed with what came before."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    return [(compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4] for message in messages]


@pytest.mark.parametrize(
    ("extension", "payloads", "reason"),
    [
        (SHARED, [HELLO, HELLO_AGAIN], RULED_OUT),
        (FORGETTING, [HELLO, HELLO, HELLO_AGAIN], RULED_OUT),
        (NARROW, remembering(noise := random.Random(7).randbytes(2000), noise[:300]), RULED_OUT),
        (SHARED, [HELLO_AGAIN], "invalid payload"),
        (DEDICATED, [HELLO_AGAIN], "invalid payload"),
        (SHARED, [HELLO, b"\xff\xff\xff\xff"], "invalid payload"),
        (NARROW, [HELLO, b"\xff\xff\xff\xff"], "invalid payload"),
    ],
)
async def test_1007_tells_data_that_needs_a_window_which_was_ruled_out_from_nonsense(extension, payloads, reason):
    async with wired(Watch(), PacketWire, 1, extensions=(extension,)) as ((connection,), (wire,)):
        for payload in payloads:
            assert connection.is_open
            wire.send(frame(BINARY | RSV1, payload))
        assert (connection.close_code, connection.close_reason) == (1007, reason)
        assert take_frames(wire.packets()[-1]) == [(CLOSE, close_payload(1007, reason))]


def test_an_uncompressed_message_between_compressed_ones_changes_nothing():
    stream = frame(TEXT | RSV1, HELLO) + frame(TEXT, b"plain") + frame(TEXT | RSV1, HELLO_AGAIN)
    assert read(stream, takeover=True) == [(TEXT, "Hello"), (TEXT, "plain"), (TEXT, "Hello")]


def test_a_stream_that_ended_within_a_message_begins_anew():
    stream = frame(TEXT | RSV1, HELLO_FINAL) + frame(TEXT | RSV1, HELLO) + frame(TEXT | RSV1, HELLO_AGAIN)
    assert read(stream, takeover=True) == [(TEXT, "Hello")] * 3
    assert read(frame(BINARY | RSV1, HELLO_FINAL[:-1] * 3 + b"\0")) == [(BINARY, b"Hello" * 3)]


def test_a_stream_that_ends_again_and_again_is_no_message():
    assert read(frame(BINARY | RSV1, b"\x03\x00" * 17)) == [(1007, None)]


@pytest.mark.parametrize("data", [b"", b"\x00"], ids=["nothing", "one-zero"])
def test_an_empty_message_may_be_compressed(data):
    assert read(frame(TEXT | RSV1, data)) == [(TEXT, "")]


@pytest.mark.parametrize(
    "stream",
    [
        frame(TEXT | RSV1, HELLO[:3], fin=False) + frame(0 | RSV1, HELLO[3:]),
        frame(9 | RSV1, b""),
        frame(CLOSE | RSV1, b""),
        frame(TEXT | 0x20, HELLO),
        frame(TEXT | 0x10, HELLO),
        frame(TEXT | 0x50, HELLO),
    ],
)
def test_reserved_bits_where_they_mean_nothing_fail_the_connection(stream):
    assert read(stream) == [(1002, None)]


def test_without_the_extension_no_message_may_be_compressed():
    assert FrameReader().feed(frame(TEXT | RSV1, HELLO)) == [(1002, None)]


@pytest.mark.parametrize("payload", [b"\x07", b"\xff\xff\xff\xff", HELLO_STORED[:3] + b"\0\0" + HELLO_STORED[5:]])
def test_what_is_not_deflate_fails_the_connection(payload):
    assert read(frame(BINARY | RSV1, payload)) == [(1007, None)]


def test_wrong_utf8_fails_as_soon_as_it_is_inflated():
    payload = deflate(b"ok \xed\xa0\x80 and more" + bytes(random.Random(1).choices(range(32, 127), k=999)))
    reader = FrameReader(window_bits=15)
    assert reader.feed(frame(TEXT | RSV1, payload, fin=False)[:200]) == [(1007, None)]


@pytest.mark.parametrize("size", [999, 1000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_up_to_the_limit_is_read(size, opcode):
    for data in (b"a" * size, bytes(random.Random(2).choices(range(128), k=size))):
        expected = data.decode() if opcode == TEXT else data
        payload = deflate(data)
        assert read(frame(opcode | RSV1, payload), max_message_size=1000) == [(opcode, expected)]
        halves = frame(opcode | RSV1, payload[:9], fin=False) + frame(0, payload[9:])
        assert read(halves, max_message_size=1000) == [(opcode, expected)]


@pytest.mark.parametrize("cut", [None, 1, 9])
@pytest.mark.parametrize("size", [1001, 70_000, 10_000_000])
def test_a_message_beyond_the_limit_fails_the_connection(size, cut):
    payload = deflate(b"a" * size)
    stream = frame(BINARY | RSV1, payload)
    if cut is not None:
        stream = frame(BINARY | RSV1, payload[:cut], fin=False) + frame(0, payload[cut:])
    reader = FrameReader(window_bits=15, max_message_size=1000)
    assert reader.feed(stream) == [(1009, None)]


def test_a_first_fragment_of_exactly_the_limit_lifts_no_limit():
    first, second = deflate(b"a" * 1000), deflate(b"b" * 10_000_000)
    stream = frame(BINARY | RSV1, first + b"\0\0\xff\xff", fin=False) + frame(0, second)
    assert read(stream, max_message_size=1000) == [(1009, None)]


def test_incompressible_data_of_exactly_the_limit_may_be_sent_in_little_blocks():
    data = random.Random(3).randbytes(1000)
    compressor = zlib.compressobj(0, zlib.DEFLATED, -15)
    blocks = [compressor.compress(data[i : i + 10]) + compressor.flush(zlib.Z_SYNC_FLUSH) for i in range(0, 1000, 10)]
    payload = b"".join(blocks)[:-4]
    assert len(payload) > 1400
    assert read(frame(BINARY | RSV1, payload), max_message_size=1000) == [(BINARY, data)]


def test_blocks_of_nothing_without_end_fail_the_connection():
    nothing = frame(BINARY | RSV1, b"\0\0\0\xff\xff" * 200, fin=False)
    reader = FrameReader(window_bits=15, max_message_size=1000)
    assert reader.feed(nothing) == []
    more = frame(0, b"\0\0\0\xff\xff" * 200, fin=False)
    assert [event for _ in range(9) for event in reader.feed(more)][:1] == [(1009, None)]


def test_a_bomb_costs_no_more_than_the_limit_and_a_constant():
    limit, constant = 1 << 20, 400_000
    bomb = frame(BINARY | RSV1, deflate(bytes(10_000_000), level=9))
    reader = FrameReader(window_bits=15, max_message_size=limit)
    tracemalloc.start()
    try:
        assert reader.feed(bomb) == [(1009, None)]
        assert tracemalloc.get_traced_memory()[1] < limit + constant
    finally:
        tracemalloc.stop()


def test_a_message_in_too_many_fragments_fails_the_connection():
    start, more = frame(BINARY, b"", fin=False), frame(0, b"", fin=False)
    assert FrameReader(max_fragments=3).feed(start + more + frame(0, b"x")) == [(BINARY, b"x")]
    assert FrameReader(max_fragments=3).feed(start + more + more + frame(0, b"x")) == [(1008, None)]


# ---------------------------------------------------------------------------------------------------------------------
# Out


@at("/", compression_threshold=32)
class Compressing(Log):
    pass


class Peer(Inflating):
    """Reads what a connection sends over a wire."""

    def __init__(self, wire: PacketWire, extension: Deflate | None) -> None:
        super().__init__(extension)
        self.wire = wire

    def texts(self) -> list[str]:
        frames = list(self.frames(b"".join(self.wire.packets())))
        assert {opcode for opcode, _ in frames} <= {TEXT}
        return [payload.decode() for _, payload in frames]


async def test_a_message_is_compressed_from_the_threshold_on():
    async with wired(Compressing(), PacketWire, 1, extensions=(SHARED,)) as ((connection,), (wire,)):
        connection.push_text("a" * 31)
        await turns()
        assert wire.packets() == [b"\x81\x1f" + b"a" * 31]
        connection.push_text("a" * 32)
        await turns()
        (packet,) = wire.packets()
        assert packet == bytes([0xC1, len(packet) - 2]) + deflate(b"a" * 32)


async def test_what_does_not_shrink_goes_out_as_it_is():
    noise = random.Random(4).randbytes(1000)
    async with wired(Compressing(), PacketWire, 1, extensions=(SHARED,)) as ((connection,), (wire,)):
        connection.push_binary(noise)
        connection.broadcast_binary(noise)
        await turns()
        assert b"".join(wire.packets()) == (b"\x82\x7e\x03\xe8" + noise) * 2


@at("/", compression_threshold=0)
class Eager(Echo):
    pass


@pytest.mark.parametrize("extension", [SHARED, DEDICATED], ids=["shared", "dedicated"])
async def test_with_a_threshold_of_nothing_all_but_the_empty_message_is_compressed(extension):
    noise = random.Random(4).randbytes(1000)
    async with wired(Eager(), PacketWire, 1, extensions=(extension,)) as ((connection,), (wire,)):
        peer = Peer(wire, extension)
        for message in (b"", b"a", noise):
            connection.push_binary(message)
            await turns()
            connection.broadcast_binary(message)
            await turns()
            packets = wire.packets()
            assert [packet[0] & RSV1 for packet in packets] == [RSV1 if message else 0] * 2
            assert list(peer.frames(b"".join(packets))) == [(BINARY, message)] * 2


async def test_each_shared_message_stands_alone():
    async with wired(Compressing(), PacketWire, 1, extensions=(SHARED,)) as ((connection,), (wire,)):
        packets = []
        for _ in range(3):
            connection.push_text("again and again and again and again")
            await turns()
            packets += wire.packets()
        assert packets[0] == packets[1] == packets[2]


async def test_a_dedicated_history_makes_the_next_message_smaller():
    async with wired(Compressing(), PacketWire, 1, extensions=(DEDICATED,)) as ((connection,), (wire,)):
        peer, sizes = Peer(wire, DEDICATED), []
        text = "".join(random.Random(5).choices("abcdefghijklmnopqrstuvwxyz", k=300))
        for _ in range(2):
            connection.push_text(text)
            await turns()
            packet = wire.packets()[0]
            sizes.append(len(packet))
            assert list(peer.frames(packet)) == [(TEXT, text.encode())]
        assert sizes[1] < sizes[0] / 4


MIXED = (None, SHARED, DEDICATED, Deflate(b"", 9, 15, False, False), Deflate(b"", 9, 9, True, False), SHARED, None)


async def test_a_broadcast_is_readable_for_everybody_and_costs_one_send_each():
    text = "".join(random.Random(6).choices("abcd", k=40_000))  # longer than the smallest windows
    async with wired(Compressing(), PacketWire, len(MIXED), extensions=MIXED) as (connections, wires):
        for count in (1, 3):
            for number in range(count):
                assert connections[0].broadcast_text(f"{number}{text}") == ws.Delivery(7, 7, 0)
            await turns()
            for wire, extension in zip(wires, MIXED, strict=True):
                packets = wire.packets()
                data = bytearray(b"".join(packets))
                assert bool(data[0] & RSV1) == (extension is not None)
                assert len(packets) <= count  # long frames are not joined; they never cost more than one send each
                wire.packets = lambda packets=packets: packets
                assert Peer(wire, extension).texts() == [f"{number}{text}" for number in range(count)]
                del wire.packets


async def test_broadcasts_of_one_turn_are_joined_for_all_who_need_the_same_bytes():
    async with wired(Compressing(), PacketWire, len(MIXED), extensions=MIXED) as (connections, wires):
        for number in range(16):
            connections[0].broadcast_text(f"{number} " + "tick " * 20)
        await turns()
        packets = [wire.packets() for wire in wires]
        assert [len(each) for each in packets] == [1] * len(MIXED)
        assert packets[0] == packets[6]
        assert packets[1] == packets[5] == packets[2]
        assert packets[3] == packets[4]


@pytest.mark.parametrize("seed", range(20))
async def test_no_history_is_corrupted_whatever_passes_by(seed):
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefgh ", k=30)) for _ in range(30)]
    async with wired(Compressing(), PacketWire, len(MIXED), extensions=MIXED) as (connections, wires):
        peers = [Peer(wire, extension) for wire, extension in zip(wires, MIXED, strict=True)]
        expected = [[] for _ in connections]
        received = [[] for _ in connections]
        for connection in connections[1:5]:
            connection.join("some")
        for _ in range(60):
            text = " ".join(chance.choices(words, k=chance.randrange(1, 8)))
            what = chance.randrange(10)
            if what < 5:
                target = chance.randrange(len(connections))
                connections[target].push_text(text)
                expected[target].append(text)
            elif what < 7:
                connections[0].broadcast_text(text)
                for each in expected:
                    each.append(text)
            elif what < 9:
                ws.push_text_to_group("some", text)
                for each in expected[1:5]:
                    each.append(text)
            else:
                await turns()
                for peer, texts in zip(peers, received, strict=True):
                    texts += peer.texts()
        await turns()
        for peer, texts in zip(peers, received, strict=True):
            texts += peer.texts()
        assert received == expected
        assert all((peer.compressed > 0) == (peer.extension is not None) for peer in peers)


async def test_a_compressed_echo_comes_back_compressed():
    async with wired(Eager(), PacketWire, 1, extensions=(DEDICATED,)) as ((connection,), (wire,)):
        peer = Peer(wire, DEDICATED)
        for text in ("Hello", "", "Hello", "grüße " * 100, "Hello"):
            wire.send(frame(TEXT | RSV1, deflate(text.encode())))
            await turns()
            assert peer.texts() == [text]
        assert connection.compression == "dedicated"
