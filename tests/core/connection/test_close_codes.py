"""Which codes and reasons go out in close frames and which may come in (RFC 6455 5.5.1, 7.4), each of them."""

from __future__ import annotations

import pytest

from fastws import ws

from ...kit.client import CLOSE, close_payload, frame, take_frames, turns
from ...kit.services import Commanded, Watch
from ...kit.wires import MemoryWire, wired

MEANINGFUL = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]
CODES = [*range(5100), 32768, 65535]
MEANINGLESS = sorted({-(1 << 31), -1, *CODES, 65536, (1 << 31) - 1} - set(MEANINGFUL))


async def test_every_code_that_means_something_is_sent(pair):
    async with wired(Watch, MemoryWire, len(MEANINGFUL)) as (connections, wires):
        for connection, code in zip(connections, MEANINGFUL, strict=True):
            assert connection.close(code, "why") is True
        await turns()
        sent = [take_frames(wire.receive()) for wire in wires]
    assert sent == [[(CLOSE, close_payload(code, "why"))] for code in MEANINGFUL]


@pytest.mark.parametrize("role", ["server", "client"])
async def test_no_other_code_is_sent_and_the_connection_stays_open(role):
    async with wired(Watch, MemoryWire, 1, client=role == "client") as ((connection,), (wire,)):
        for code in MEANINGLESS:
            with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
                connection.close(code)
        assert connection.is_open
        await turns()
        assert wire.receive() == b""


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
async def test_every_way_to_close_refuses_the_same_codes(opened, code):
    def current() -> str:
        connection = service.connections[0]
        connection.store("name")
        connection.join("group")
        ways = (
            lambda: ws.close_connection(code),
            lambda: ws.close_stored_connection("name", code),
            lambda: ws.close_connection_group("group", code),
            lambda: connection.close(code),
        )
        for way in ways:
            with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
                way()
        return "still open"

    service = Commanded(close=current)
    server, client, _ = await opened(service)
    assert await client.asks("close") == "still open"
    with pytest.raises(ValueError, match=f"close code {code} may not be sent"):
        await server.close(code)
    assert await client.asks("close") == "still open"


async def test_every_code_that_comes_in_is_sent_back_if_it_means_something_and_fails_otherwise():
    async with wired(Watch, MemoryWire, len(CODES)) as (connections, wires):
        for wire, code in zip(wires, CODES, strict=True):
            wire.send(frame(CLOSE, close_payload(code, "why")))
        await turns()
        ends = [(connection.close_code, connection.close_reason, connection.was_clean) for connection in connections]
        sent = [take_frames(wire.receive()) for wire in wires]
    right = {code: ((code, "why", True), [(CLOSE, close_payload(code))]) for code in MEANINGFUL}
    failed = (1002, "protocol error", False), [(CLOSE, close_payload(1002, "protocol error"))]
    assert list(zip(ends, sent, strict=True)) == [right.get(code, failed) for code in CODES]


REASONS = {
    "the longest": ("r" * 123, "r" * 123),
    "a letter too long": ("r" * 124, "r" * 123),
    "very long": ("r" * 100_000, "r" * 123),
    "two bytes at the end": ("r" * 121 + "é", "r" * 121 + "é"),
    "two bytes over the end": ("r" * 122 + "é", "r" * 122),
    "three bytes at the end": ("r" * 120 + "€", "r" * 120 + "€"),
    "three bytes, one over the end": ("r" * 121 + "€", "r" * 121),
    "three bytes, two over the end": ("r" * 122 + "€", "r" * 122),
    "four bytes at the end": ("r" * 119 + "🐈", "r" * 119 + "🐈"),
    "four bytes, one over the end": ("r" * 120 + "🐈", "r" * 120),
    "four bytes, two over the end": ("r" * 121 + "🐈", "r" * 121),
    "four bytes, three over the end": ("r" * 122 + "🐈", "r" * 122),
    "four bytes behind the end": ("r" * 123 + "🐈", "r" * 123),
    "cats": ("🐈" * 100, "🐈" * 30),
    "a lone surrogate": ("why \udc80?", "why ??"),
    "lone surrogates over the end": ("r" * 122 + "\ud800\ud801", "r" * 122 + "?"),
    "a zero": ("a\0b", "a\0b"),
}


@pytest.mark.parametrize(("reason", "sent"), REASONS.values(), ids=REASONS)
async def test_a_reason_is_cut_to_123_bytes_between_two_characters(reason, sent):
    async with wired(Watch, MemoryWire, 1) as ((connection,), (wire,)):
        connection.close(4000, reason)
        await turns()
        assert take_frames(wire.receive()) == [(CLOSE, close_payload(4000, sent))]


@pytest.mark.parametrize(("reason", "sent"), REASONS.values(), ids=REASONS)
async def test_what_the_peer_reads_of_a_reason_is_text(pair, reason, sent):
    server_side, client_side = Watch(), Watch()
    connection, client = await pair(server_side, client_side)
    connection.close(4000, reason)
    assert await client_side.next() == ("closed", 4000, sent)
    assert client.close_reason == sent
    assert await server_side.next() == ("closed", 4000, "")
