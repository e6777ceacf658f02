"""Where there is no memory something fails, and nothing else: nothing is lost for ever, no stream is damaged.

Each allocation of the core fails once, in a program that comes to all of them; debug builds can have them fail.
"""

from __future__ import annotations

import contextlib
import gc
import itertools

import pytest

from fastws._speedups import fail_allocation, live_objects
from fastws.handshake.deflate import Deflate

from ...kit.client import BINARY, TEXT, frame, turns
from ...kit.deflated import Inflating
from ...kit.services import Echo, at
from ...kit.wires import MemoryWire, StreamWire, wired

CAN_FAIL = fail_allocation(0) >= 0
EXTENSIONS = (None, Deflate(b"", 15, 15, True, True), Deflate(b"", 15, 15, False, False), None)
MANNERS = ({}, {"key": "k"})


@at(max_backlog=1 << 30, high_water=1000, compression_threshold=100)
class Server(Echo):
    """Has a backlog in nearly every manner."""


def everything(connections, wires, *lengths: int) -> None:
    """Push in all manners; who has no memory for that is told so, and nobody else."""
    for length, manner in itertools.product(lengths, MANNERS):
        data, text = bytes(range(length % 256)) * (length // 200 + 1), "t" * length
        attempt(connections[0].push_binary, data, **manner)
        attempt(connections[1].push_text, text, **manner)
        attempt(connections[2].broadcast_binary, data, **manner)
        attempt(connections[3].broadcast_text, text, exclude=connections[0], **manner)
        attempt(connections[1].join, f"g{length}")
        attempt(connections[0].leave, f"g{length}")
    for wire in wires:
        cut = frame(BINARY, b"x" * 5000)
        with contextlib.suppress(BrokenPipeError):  # it is the one that there was no memory for
            wire.send(frame(TEXT, b"hello") + cut[:4000])
            wire.send(cut[4000:])


def attempt(function, *arguments, **options) -> None:
    with contextlib.suppress(MemoryError):
        function(*arguments, **options)


async def read(wires, streams: list[bytes]) -> None:
    for place, wire in enumerate(wires):
        streams[place] += wire.receive()
    await turns()


async def read_all(connections, wires, streams: list[bytes]) -> None:
    for _ in range(5):
        while any(connection.buffered for connection in connections):
            await read(wires, streams)
        await read(wires, streams)


@pytest.mark.skipif(not CAN_FAIL, reason="this build cannot have an allocation fail")
@pytest.mark.parametrize("kind", [MemoryWire, StreamWire])
async def test_each_allocation_may_fail_and_only_that_fails(kind, failures):
    count = 0
    left = 0
    while left == 0:
        count += 1
        async with wired(Server(), kind, 4, extensions=EXTENSIONS) as (connections, wires):
            streams = [b"" for _ in wires]

            fail_allocation(count)
            everything(connections, wires, 300, 9000)
            await read(wires, streams)
            everything(connections[::-1], wires[::-1], 9000, 40_000)
            await read_all(connections, wires, streams)
            left = fail_allocation(0)
            alive = [connection.push_text("the end").queued for connection in connections]
            await read_all(connections, wires, streams)
            assert sum(alive) >= 3, f"allocation {count} ended more than one"
            for lives, stream, extension in zip(alive, streams, EXTENSIONS, strict=True):
                frames = list(Inflating(extension).frames(stream)) if lives else []
                assert not lives or frames[-1] == (TEXT, b"the end"), f"allocation {count}"
        failures.records.clear()
        gc.collect()
        left_over = live_objects()
        assert (left_over["chunks"], left_over["backlogs"]) == (0, 0), f"allocation {count}"
    assert count > 50
