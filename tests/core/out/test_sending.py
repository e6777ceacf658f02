"""How a large fan-out is sent: by io_uring, by threads that help, and without either."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from pathlib import Path

import pytest

import fastws
from fastws._speedups import hub_of_thread

from ...kit.client import turns
from ...kit.services import Echo
from ...kit.wires import PacketWire, texts, wired

CROWD = 300  # more than helpers are woken up for
DESCRIPTORS = Path("/proc/self/fd")

SETUP = 425  # the number of the system call
FLAGS = 1 << 12 | 1 << 13  # IORING_SETUP_SINGLE_ISSUER, IORING_SETUP_DEFER_TASKRUN


def has_io_uring() -> bool:
    """Ask the system itself."""
    if sys.platform != "linux":
        return False
    parameters = (ctypes.c_uint32 * 30)(0, 0, FLAGS)
    descriptor = ctypes.CDLL(None).syscall(SETUP, 1, parameters)
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


needs_io_uring = pytest.mark.skipif(not has_io_uring(), reason="io_uring is not there, or forbidden")


@contextlib.asynccontextmanager
async def crowd(**senders):
    """Connections of a hub that sends in a manner of its own; yields both, and their wires."""
    async with wired(Echo(), PacketWire, CROWD) as (connections, wires):
        hub = hub_of_thread(asyncio.get_running_loop(), dict, dict)
        hub.send_with(**senders)
        yield hub, connections, wires


async def hears_all(connections: list, wires: list, text: str) -> bool:
    connections[0].broadcast_text(text)
    await turns()
    return [texts(wire.packets()) for wire in wires] == [[[text]]] * len(wires)


def ring_descriptors() -> set[int]:
    """All rings of the process: libuv may have some, too."""
    return {int(path.name) for path in DESCRIPTORS.iterdir() if path.is_symlink() and "io_uring" in os.readlink(path)}


@needs_io_uring
async def test_a_large_fanout_goes_through_a_ring_that_stays_open():
    async with crowd() as (hub, connections, wires):
        assert hub.rings == 0
        others = ring_descriptors()
        assert await hears_all(connections, wires, "first")
        assert hub.rings == 1
        (descriptor,) = ring_descriptors() - others
        assert await hears_all(connections, wires, "second")
        assert ring_descriptors() - others == {descriptor}
    assert ring_descriptors() == others


@needs_io_uring
async def test_a_ring_that_breaks_loses_nothing():
    async with crowd() as (hub, connections, wires):
        others = ring_descriptors()
        assert await hears_all(connections, wires, "first")
        (descriptor,) = ring_descriptors() - others
        with open(os.devnull) as file:
            os.dup2(file.fileno(), descriptor)
        assert await hears_all(connections, wires, "second")
        assert hub.rings == 0
        assert await hears_all(connections, wires, "third")
        assert hub.rings == 0


async def test_without_io_uring_no_ring_is_opened():
    async with crowd(by_ring=False) as (hub, connections, wires):
        assert await hears_all(connections, wires, "hello")
        assert hub.rings == 0


@pytest.mark.parametrize(("value", "rings"), [("0", 0), ("1", 1)])
@needs_io_uring
async def test_the_environment_forbids_io_uring(monkeypatch, value, rings):
    monkeypatch.setenv("FASTWS_IO_URING", value)
    async with wired(Echo(), PacketWire, CROWD) as (connections, wires):
        assert await hears_all(connections, wires, "hello")
        assert hub_of_thread(asyncio.get_running_loop(), dict, dict).rings == rings


@needs_io_uring
async def test_too_few_sends_are_not_worth_a_ring():
    async with wired(Echo(), PacketWire, 15) as (connections, wires):
        assert await hears_all(connections, wires, "hello")
        assert hub_of_thread(asyncio.get_running_loop(), dict, dict).rings == 0


@pytest.mark.parametrize("by_ring", [False, True])
async def test_helpers_come_with_the_first_large_fanout_and_go_with_the_hub(by_ring):
    async with crowd(by_ring=by_ring, helpers=3) as (hub, connections, wires):
        connections[0].push_text("alone")
        await turns()
        wires[0].packets()
        assert hub.helping == 0
        for number in range(20):
            assert await hears_all(connections, wires, str(number))
            assert hub.helping == 3
        assert hub.rings <= 4
    assert hub.helping == 0


async def test_no_thread_helps_unless_it_is_asked_to():
    async with crowd() as (hub, connections, wires):
        assert await hears_all(connections, wires, "hello")
        assert hub.helping == 0


async def test_the_most_threads_that_a_server_asks_for_help_all():
    async with crowd() as (hub, connections, wires):
        for threads in (2, 3, 1):
            hub.help_fanouts(threads)
        assert await hears_all(connections, wires, "hello")
        assert hub.helping == 3


async def test_the_threads_of_a_server_help():
    async with (
        fastws.serve(Echo(), port=0, fanout_threads=2),
        wired(Echo(), PacketWire, CROWD) as (connections, wires),
    ):
        assert await hears_all(connections, wires, "hello")
        assert hub_of_thread(asyncio.get_running_loop(), dict, dict).helping == 2
