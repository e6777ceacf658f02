"""Servers that are none, or worse: each is a clear error, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import zlib

import pytest

import fastws
from fastws._speedups import build_frame

from ..kit.client import within
from ..kit.raw_server import Peer, close_frame, raw_server, text_frame


async def refused_by(serve, **options) -> fastws.ConnectError:
    async with raw_server(serve) as url:
        with pytest.raises(fastws.ConnectError) as caught:
            await within(fastws.connect(url, **options))
    return caught.value


def says(*pieces: bytes):
    async def serve(peer: Peer) -> None:
        for piece in pieces:
            peer.send(piece)
            await peer.writer.drain()
            await asyncio.sleep(0)
        await peer.reader.read()

    return serve


NO_HTTP = [
    b"hello\r\n\r\n",
    b"\x00\x01\x02\x03",
    b"HTTP/1.1 OK\r\n\r\n",
    b"HTTP/1.1 101\r\nUpgrade websocket\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
]


@pytest.mark.parametrize("data", NO_HTTP)
async def test_what_is_no_http_is_called_so(data):
    error = await refused_by(says(data))
    assert isinstance(error, fastws.InvalidHandshake)
    assert "no HTTP" in str(error)


async def test_a_server_that_hangs_up_at_once_is_told_of():
    async def serve(peer: Peer) -> None:
        pass

    assert "instead of answering" in str(await refused_by(serve))


async def test_a_head_without_an_end_is_cut():
    sent = 0

    async def serve(peer: Peer) -> None:
        nonlocal sent
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
        for _ in range(10_000):
            peer.send(b"X: " + b"y" * 1000 + b"\r\n")
            sent += 1003
            await peer.writer.drain()

    assert "larger than 16384 bytes" in str(await refused_by(serve))
    assert sent < 10_000_000


async def test_a_field_without_an_end_is_cut():
    assert "larger than 16384 bytes" in str(await refused_by(says(b"HTTP/1.1 101 S\r\nX: ", b"y" * 20_000)))


async def test_fields_without_number_are_cut():
    error = await refused_by(says(b"HTTP/1.1 101 S\r\n" + b"a:\r\n" * 200))
    assert str(error) == "the answer has more than 128 header fields"


async def test_interim_answers_without_end_are_cut():
    error = await refused_by(says(*[b"HTTP/1.1 102 Processing\r\n\r\n" * 100] * 10))
    assert "larger than 16384 bytes" in str(error)


async def test_an_interim_answer_is_passed_over():
    async def serve(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + peer.answer() + text_frame("hello"))
        await peer.reader.read()

    async with raw_server(serve) as url:
        connection = await within(fastws.connect(url, close_timeout=0.01))
        assert await within(connection.receive()) == "hello"
        assert "link" not in connection.headers
        await connection.close()


async def test_one_byte_at_a_time_is_read_and_what_is_glued_behind_the_answer_delivered():
    async def serve(peer: Peer) -> None:
        for byte in peer.answer() + text_frame("one") + text_frame("two") + close_frame(1000, "done"):
            peer.send(bytes([byte]))
            await asyncio.sleep(0)
        await peer.read_frame()

    async with raw_server(serve) as url, fastws.connect(url) as connection:
        assert [message async for message in connection] == ["one", "two"]
        assert (connection.close_code, connection.close_reason) == (1000, "done")


async def test_slow_bytes_do_not_outlast_the_time_to_open():
    async def serve(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
        while not peer.reader.at_eof():
            peer.send(b"y")
            await asyncio.sleep(0.01)

    error = await refused_by(serve, open_timeout=0.1)
    assert isinstance(error, fastws.OpenTimeoutError)
    assert isinstance(error, TimeoutError)
    assert str(error) == "the connection was not open within 0.1 seconds (open_timeout)"


async def test_an_accept_of_another_key_is_refused():
    error = await refused_by(says(Peer.answer(_Other(), b"")))
    assert "does not belong to our Sec-WebSocket-Key" in str(error)


class _Other(Peer):
    def __init__(self) -> None:
        self.head = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


async def test_a_switch_to_something_else_is_refused():
    error = await refused_by(says(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"))
    assert "no Upgrade: websocket" in str(error)


# ---------------------------------------------------------------------------------------------------------------------
# Refusals


async def test_a_refusal_has_its_status_its_headers_and_its_body():
    error = await refused_by(
        says(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 5\r\n\r\nNo, s", b"orry")
    )
    assert isinstance(error, fastws.InvalidStatus)
    assert (error.status, error.headers["www-authenticate"], error.body) == (401, "Basic", b"No, s")
    assert str(error) == "the server answers with status 401 instead of 101"


async def test_a_body_in_chunks_is_put_together():
    chunks = b"3\r\nNo,\r\n", b"6\r\n sorry\r\n0\r\n\r\n"
    error = await refused_by(says(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n", *chunks))
    assert error.body == b"No, sorry"


async def test_a_body_that_ends_with_the_connection_is_read_to_its_end():
    async def serve(peer: Peer) -> None:
        peer.send(b"HTTP/1.0 200 OK\r\n\r\nhel")
        await peer.writer.drain()
        peer.send(b"lo")

    error = await refused_by(serve)
    assert (error.status, error.body) == (200, b"hello")


async def test_of_a_long_body_the_first_64_kib_are_kept():
    async def serve(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 500 No\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            peer.send(b"x" * 10_000)
            await peer.writer.drain()

    assert (await refused_by(serve)).body == b"x" * 65536


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("fastws.client.opening.BODY_TIME", 0.02)
    error = await refused_by(says(b"HTTP/1.1 429 Slow\r\nContent-Length: 100\r\n\r\nwa"))
    assert (error.status, error.body) == (429, b"wa")


# ---------------------------------------------------------------------------------------------------------------------
# Frames


async def ended_by(data: bytes, *fields: bytes, **options) -> tuple[int, bytes]:
    """What the client says when it is sent these frames: the code and the reason of its close frame."""
    said: list[bytes] = []

    async def serve(peer: Peer) -> None:
        peer.send(peer.answer(*fields) + data)
        opcode, payload = await peer.read_frame()
        assert opcode == 8
        said.append(payload)

    async with raw_server(serve) as url:
        connection = await within(fastws.connect(url, **options))
        with pytest.raises(fastws.ConnectionClosed) as caught:
            await within(connection.receive())
        await within(connection.wait_closed())
    code = int.from_bytes(said[0][:2], "big")
    assert (caught.value.code, caught.value.reason) == (code, said[0][2:].decode())
    return code


@pytest.mark.parametrize(
    "data",
    [
        build_frame(1, b"masked", b"abcd"),
        b"\x83\x00",
        b"\xc1\x00",
        b"\x80\x00",
        b"\x09\x00",
        b"\x88\x01\x03",
        close_frame(1005),
        b"\x81\x7e\x00\x01a",
    ],
)
async def test_a_breach_of_the_protocol_fails_with_1002(data):
    assert await ended_by(data) == 1002


async def test_text_that_is_not_utf_8_fails_with_1007():
    assert await ended_by(build_frame(1, b"\xff")) == 1007


async def test_a_huge_frame_fails_before_it_is_there():
    assert await ended_by(b"\x82\x7f" + (1 << 62).to_bytes(8, "big")) == 1009
    assert await ended_by(build_frame(2, bytes(101)), max_message_size=100) == 1009


async def test_a_bomb_fails_at_the_limit():
    compressor = zlib.compressobj(wbits=-15)
    bomb = compressor.compress(bytes(50_000_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    extension = b"Sec-WebSocket-Extensions: permessage-deflate"
    assert await ended_by(build_frame(0x42, bomb[:-4]), extension) == 1009


async def test_what_is_compressed_wrongly_fails_with_1007():
    extension = b"Sec-WebSocket-Extensions: permessage-deflate"
    assert await ended_by(build_frame(0x42, b"\xff\xff\xff"), extension) == 1007


async def test_fragments_without_end_fail():
    assert await ended_by(b"\x01\x00" + b"\x00\x00" * 20, max_fragments=10) == 1008


async def test_a_connection_that_is_cut_ends_with_1006():
    async def serve(peer: Peer) -> None:
        peer.send(peer.answer() + text_frame("hello") + b"\x81\x05he")

    async with raw_server(serve) as url:
        connection = await within(fastws.connect(url))
        assert await within(connection.receive()) == "hello"
        for _ in range(2):
            with pytest.raises(fastws.ConnectionClosed) as caught:
                await within(connection.receive())
            assert (caught.value.code, caught.value.reason) == (1006, "")
        with pytest.raises(fastws.ConnectionClosed):
            await connection.send("anybody?")
        with pytest.raises(fastws.ConnectionClosed):
            await connection.ping()
        await connection.close()
        assert not connection.was_clean
