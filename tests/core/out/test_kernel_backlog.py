"""What lies unsent in the kernel: bounded where that is wanted, since no policy sees it."""

from __future__ import annotations

import socket
import sys

import pytest

import fastws
from fastws import ws
from fastws.net.kernel_backlog import bytes_for, bytes_for_all
from fastws.options import ServerOptions, UpgradeOptions

from ...kit.client import turns, until
from ...kit.services import Patient, Watch, at
from ...kit.wires import SMALL, MemoryWire, wired

UNLIMITED, AMPLE, FRESH = 0, 1 << 20, 16384  # bytes
PIECE = 16384  # bytes


@pytest.mark.parametrize(
    ("options", "of_server", "expected"),
    [
        ({}, "auto", AMPLE),
        ({"overflow": "close"}, "auto", AMPLE),
        ({"overflow": "drop_new"}, "auto", AMPLE),
        ({"overflow": "drop_old"}, "auto", FRESH),
        ({"overflow": "conflate"}, "auto", FRESH),
        ({"overflow": "conflate"}, 5000, 5000),
        ({"overflow": "conflate"}, None, UNLIMITED),
        ({"kernel_backlog": 7000}, "auto", 7000),
        ({"kernel_backlog": 7000}, None, 7000),
        ({"kernel_backlog": None}, 5000, UNLIMITED),
    ],
)
def test_a_service_says_it_or_its_server_or_its_policy(options, of_server, expected):
    assert bytes_for(UpgradeOptions(**options), of_server) == expected


def test_listening_sockets_have_what_all_services_want():
    fresh, ample = UpgradeOptions(overflow="conflate"), UpgradeOptions(overflow="close")
    assert bytes_for_all([fresh, fresh], "auto") == FRESH
    assert bytes_for_all([ample], "auto") == AMPLE
    assert bytes_for_all([fresh, ample], "auto") == UNLIMITED
    assert bytes_for_all([fresh, ample], 5000) == 5000
    assert bytes_for_all([fresh], None) == UNLIMITED


@pytest.mark.parametrize("value", [0, -1, 1 << 31, True, 1.5, "16384", "off"])
def test_what_is_no_number_of_bytes_is_refused(value):
    with pytest.raises(fastws.ConfigurationError, match=r"kernel_backlog=.*: give a number of bytes above 0, None"):
        ws.upgrade_path("/", kernel_backlog=value)
    with pytest.raises(fastws.ConfigurationError, match=r"kernel_backlog=.*: give a number of bytes above 0, None"):
        ServerOptions(kernel_backlog=value)


async def test_where_there_is_no_such_limit_it_is_not_missed(serve, tmp_path, monkeypatch):
    monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT", raising=False)
    await serve(Watch(), kernel_backlog=5000)
    await serve(Watch(), kernel_backlog=5000, port=None, unix=str(tmp_path / "socket"))


def services(*limits):
    """A service for each of these limits, which keeps whatever its clients do not read."""
    return [
        at(f"/{number}", kernel_backlog=limit, max_backlog=1 << 30)(type("Some", (Watch,), {}))()
        for number, limit in enumerate(limits)
    ]


async def held_by_the_kernel(connect, server, target) -> int:
    """How many bytes kernels take for a client that does not read."""
    client = await connect(server, target.upgrade_path.text, receive_buffer=SMALL)
    client.transport.pause_reading()
    await until(lambda: target.instance.connections)
    (connection,) = target.instance.connections
    pushed = 0
    lasting = 0
    while lasting < 20:
        lasting += 1
        if not connection.buffered:
            lasting = 0
            connection.push_binary(bytes(PIECE))
            pushed += PIECE
        await turns(2)
    held = pushed - connection.buffered
    client.reset()
    return held


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux stops to take what is too much")


@linux
@pytest.mark.plain("TLS holds messages of its own")
@pytest.mark.parametrize("of_server", ["auto", None, 40_000])
async def test_the_kernel_takes_no_more_than_each_service_wants(serve, connect, of_server):
    server = await serve(*services(16384, 200_000, None), kernel_backlog=of_server)
    little, more, most = [await held_by_the_kernel(connect, server, target) for target in server.services]
    assert little <= 16384 + 4 * PIECE
    assert 200_000 <= more <= 200_000 + 4 * PIECE
    assert more < most


@linux
@pytest.mark.plain("TLS holds messages of its own")
async def test_a_service_that_says_nothing_has_what_its_server_says(serve, connect):
    server = await serve(*services("auto"), kernel_backlog=40_000)
    held = await held_by_the_kernel(connect, server, server.services[0])
    assert 40_000 <= held <= 40_000 + 4 * PIECE


@pytest.mark.parametrize("most", [3 * PIECE, 10 * PIECE])
async def test_a_transport_that_takes_all_is_given_no_more_at_once(most):
    async with wired(Patient(), MemoryWire, 1, kernel_backlog=most) as ((connection,), (wire,)):
        connection.push_binary(bytes(PIECE))
        await turns()
        for _ in range(12):
            connection.push_binary(bytes(PIECE - 8))
        wire.receive()
        await until(lambda: wire.near.get_write_buffer_size() >= most - PIECE)
        assert wire.near.get_write_buffer_size() <= most


@linux
@pytest.mark.plain("TLS holds messages of its own")
async def test_a_client_that_lags_soon_reads_the_newest_value(serve, connect):
    @at(overflow="conflate")
    class Prices(Watch):
        pass

    prices = Prices()
    server = await serve(prices)
    client = await connect(server, receive_buffer=SMALL)
    client.transport.pause_reading()
    await until(lambda: prices.connections)
    (connection,) = prices.connections
    for number in range(1000):
        connection.push_binary(b"%d " % number * 1000, key="price")
        await turns(1)
    client.transport.resume_reading()
    await until(lambda: connection.buffered == 0)
    connection.push_text("the end")
    count = 0
    while (await client.receive())[1] != b"the end":
        count += 1
    assert count < 50
    assert connection.dropped == 1000 - count
