"""A transport of the core's: an accepted socket that uvloop's libuv watches."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import struct
import subprocess
import sys

import pytest

from fastws._speedups import accept_connection, hub_of_thread, live_objects

from ...kit.client import Client, turns, until, within
from ...kit.services import Echo, Patient

uvloop = pytest.importorskip("uvloop")

pytestmark = [
    pytest.mark.asyncio(loop_factories=["uvloop"]),
    pytest.mark.plain("TLS has a transport of the loop's"),
    pytest.mark.skipif(os.environ.get("FASTWS_TRANSPORT") == "loop", reason="there are none, as the environment says"),
]


class Recorder(asyncio.Protocol):
    """What a transport tells."""

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.received = b""
        self.events: list[object] = []
        self.lost = asyncio.Event()
        self.keeps_open = keeps_open

    def connection_made(self, transport):
        self.events.append("made")
        self.transport = transport

    def data_received(self, data):
        assert type(data) is bytes
        self.received += data

    def eof_received(self):
        self.events.append("end")
        return self.keeps_open

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def connection_lost(self, error):
        self.events.append(error)
        self.lost.set()


def the_hub():
    return hub_of_thread(asyncio.get_running_loop(), dict, dict)


def open_pair(protocol=None, family=socket.AF_UNIX):
    """A transport with its protocol, and the socket of the peer."""
    if family == socket.AF_UNIX:
        ours, peer = socket.socketpair()
    else:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        with socket.create_server((host, 0), family=family) as listening:
            peer = socket.create_connection(listening.getsockname()[:2])
            ours, _ = listening.accept()
    peer.setblocking(False)
    protocol = protocol or Recorder()
    transport = the_hub().make_transport(ours.detach(), protocol)
    transport.start()
    assert protocol.events == ["made"]
    return transport, protocol, peer


async def read_all(peer: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while piece := await within(loop.sock_recv(peer, 1 << 20)):
        data += piece
    return data


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def test_what_the_peer_sends_is_received_and_its_end_is_ours():
    _, protocol, peer = open_pair()
    with peer:
        peer.send(b"one")
        await until(lambda: protocol.received == b"one")
        peer.send(b"two")
        peer.shutdown(socket.SHUT_WR)
        await within(protocol.lost.wait())
        assert protocol.received == b"onetwo"
        assert protocol.events == ["made", "end", None]
        await turns()
        assert peer.recv(1) == b"", "closed"


async def test_a_protocol_may_go_on_writing_behind_the_end_of_the_peer():
    transport, protocol, peer = open_pair(Recorder(keeps_open=True))
    with peer:
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: "end" in protocol.events)
        transport.resume_reading()
        await turns(20)
        assert protocol.events == ["made", "end"], "told once"
        transport.write(b"still here")
        transport.close()
        assert await read_all(peer) == b"still here"


async def test_what_the_kernel_does_not_take_waits_and_goes_in_order():
    transport, protocol, peer = open_pair()
    sent = b""
    with peer:
        for letter in b"abcdefgh":
            data = bytes([letter]) * 200_000
            transport.write(data)
            sent += data
        assert protocol.events == ["made", "pause"]
        assert 0 < transport.get_write_buffer_size() < len(sent)
        transport.write_eof()
        transport.write(b"too late")
        assert await read_all(peer) == sent
        await until(lambda: protocol.events == ["made", "pause", "resume"])
        assert transport.get_write_buffer_size() == 0
        transport.abort()
        await within(protocol.lost.wait())


async def test_close_sends_what_waits_and_takes_nothing_more():
    transport, protocol, peer = open_pair()
    with peer:
        transport.write(b"x" * 1_000_000)
        transport.close()
        transport.write(b"too late")
        assert transport.is_closing()
        assert not transport.is_reading()
        assert await read_all(peer) == b"x" * 1_000_000
        await within(protocol.lost.wait())


async def test_abort_drops_what_waits():
    transport, protocol, peer = open_pair()
    with peer:
        transport.write(b"x" * 1_000_000)
        transport.abort()
        transport.abort()
        await within(protocol.lost.wait())
        assert protocol.events == ["made", "pause", None]
        assert len(await read_all(peer)) < 1_000_000


async def test_the_socket_stays_open_until_the_protocol_knows_of_the_end():
    transport, protocol, peer = open_pair()
    descriptor = int(repr(transport).partition("fd=")[2][:-1])
    told = []
    protocol.connection_lost = lambda error: told.append(is_open(descriptor))
    with peer:
        transport.close()
        assert not told, "in a later turn"
        await until(lambda: told == [True])
        assert not is_open(descriptor)


async def test_a_reset_is_told_behind_what_came_before():
    _, protocol, peer = open_pair(family=socket.AF_INET)
    peer.send(b"last words")
    await until(lambda: protocol.received == b"last words")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await within(protocol.lost.wait())
    assert type(protocol.events[-1]) is ConnectionResetError


async def test_a_reset_is_found_by_who_writes_and_does_not_read():
    transport, protocol, peer = open_pair(family=socket.AF_INET)
    transport.pause_reading()
    transport.write(b"x" * 10_000_000)
    assert protocol.events == ["made", "pause"]
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await within(protocol.lost.wait())
    assert isinstance(protocol.events[-1], ConnectionError)


async def test_reading_pauses_and_goes_on():
    transport, protocol, peer = open_pair()
    with peer:
        transport.pause_reading()
        assert not transport.is_reading()
        peer.send(b"later")
        await turns(20)
        assert protocol.received == b""
        transport.resume_reading()
        assert transport.is_reading()
        await until(lambda: protocol.received == b"later")
        transport.abort()
        await within(protocol.lost.wait())


async def test_a_protocol_may_be_changed_from_within_its_own_callback():
    class Changer(Recorder):
        def data_received(self, data):
            self.transport.set_protocol(second)

    second = Recorder()
    transport, _, peer = open_pair(Changer())
    with peer:
        peer.send(b"for the first")
        await until(lambda: transport.get_protocol() is second)
        peer.send(b"for the second")
        await until(lambda: second.received == b"for the second")
        transport.abort()
        await within(second.lost.wait())


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_a_protocol_may_end_it_from_within_its_own_callback(ending):
    class Ender(Recorder):
        def data_received(self, data):
            getattr(self.transport, ending)()

    _, protocol, peer = open_pair(Ender())
    with peer:
        peer.send(b"go")
        await within(protocol.lost.wait())
        assert protocol.events == ["made", None]


async def test_an_error_of_the_protocol_is_reported_and_ends_it():
    class Clumsy(Recorder):
        def data_received(self, data):
            raise LookupError("oh")

    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    transport, protocol, peer = open_pair(Clumsy())
    with peer:
        peer.send(b"go")
        await within(protocol.lost.wait())
    (context,) = contexts
    assert context["transport"] is transport
    assert context["protocol"] is protocol
    assert protocol.events.pop() is context["exception"]
    contexts.clear()
    context.pop("exception").__traceback__ = None


@pytest.mark.parametrize(("family", "count"), [(socket.AF_INET, 2), (socket.AF_INET6, 4)])
async def test_the_address_of_the_peer_is_known_even_when_it_is_gone(family, count):
    transport, protocol, peer = open_pair(family=family)
    name = peer.getsockname()
    peer.close()
    await within(protocol.lost.wait())
    assert transport.get_extra_info("peername") == name
    assert len(name) == count
    assert transport.get_extra_info("sslcontext") is None
    assert transport.get_extra_info("nothing", "else") == "else"


async def test_small_messages_are_not_delayed():
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        ours, _ = listening.accept()
        with socket.socket(fileno=os.dup(ours.fileno())) as same:
            transport = the_hub().make_transport(ours.detach(), Recorder())
            transport.start()
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.abort()
            await turns()


async def test_a_protocol_that_cannot_begin_ends_it():
    class Refusing(Recorder):
        def connection_made(self, transport):
            raise LookupError

    ours, peer = socket.socketpair()
    with peer:
        transport = the_hub().make_transport(ours.detach(), Refusing())
        with pytest.raises(LookupError):
            transport.start()
        await turns()
        assert peer.recv(1) == b""
        del transport


async def test_what_cannot_be_watched_stays_open_and_the_callers(tmp_path):
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(OSError, match=r"[Nn]ot permitted|non-socket"):
            the_hub().make_transport(file.fileno(), Recorder())
        assert is_open(file.fileno())


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_another_loop_has_none():
    hub = the_hub()
    assert not hub.has_transports
    ours, peer = socket.socketpair()
    with ours, peer, pytest.raises(ValueError, match="uvloop"):
        hub.make_transport(ours.fileno(), Recorder())


async def test_a_slow_client_is_waited_for_without_a_byte_in_its_transport(serve):
    patient = Patient()
    server = await serve(patient, max_total_backlog=1 << 30)
    client = await Client.connect(server.addresses[0][1], receive_buffer=4096)
    await until(lambda: patient.connections)
    (connection,) = patient.connections
    connection.push_binary(b"x" * 10_000_000)
    assert 1_000_000 < connection.buffered < 10_000_000
    assert 10_000_010 <= the_hub().backlog_len < 10_002_000, "all of it is counted while a byte of it waits"
    assert len((await client.receive())[1]) == 10_000_000
    await until(lambda: not patient.connections[0].buffered)
    patient.connections.clear()
    del connection
    client.transport.abort()
    await patient.next()


async def test_the_environment_may_ask_for_transports_of_the_loop(serve, connect, monkeypatch):
    monkeypatch.setenv("FASTWS_TRANSPORT", "loop")
    server = await serve(Echo())
    client = await connect(server)
    assert await client.asks("hello") == "hello"
    assert live_objects()["transports"] == 0


# ---------------------------------------------------------------------------------------------------------------------
# The loop

LEFT_OPEN = """
import socket, sys, uvloop
from fastws._speedups import hub_of_thread
import asyncio

class Protocol(asyncio.Protocol):
    def data_received(self, data):
        sys.exit(int(data))

loop = uvloop.new_event_loop()
ours, peer = socket.socketpair()

async def main():
    hub_of_thread(loop, dict, dict).make_transport(ours.detach(), Protocol()).start()
    peer.send(sys.argv[1].encode())
    await asyncio.sleep(float(sys.argv[2]))

try:
    loop.run_until_complete(main())
finally:
    loop.close()
    with peer:
        assert peer.recv(1) == b""
"""


def run_left_open(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-X", "dev", "-c", LEFT_OPEN, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def test_a_loop_may_be_closed_while_there_are_transports():
    finished = await asyncio.to_thread(run_left_open, "", "0")
    assert (finished.returncode, finished.stderr) == (0, "")


async def test_an_exit_in_a_callback_ends_the_process():
    finished = await asyncio.to_thread(run_left_open, "7", "60")
    assert (finished.returncode, finished.stderr) == (7, "")


async def test_nothing_outlives_its_end():
    before = live_objects()["transports"]
    for _ in range(3):
        transport, protocol, peer = open_pair()
        peer.close()
        await within(protocol.lost.wait())
        del transport, protocol
    await turns()
    gc.collect()
    assert live_objects()["transports"] == before


async def test_an_accepted_connection_is_ready_for_a_loop_and_not_inherited():
    with socket.create_server(("127.0.0.1", 0)) as waiting:
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            accept_connection(waiting.fileno())
        with socket.create_connection(waiting.getsockname()) as peer:
            descriptor = accept_connection(waiting.fileno())
            with socket.socket(fileno=descriptor) as ours:
                assert not os.get_blocking(descriptor)
                assert not os.get_inheritable(descriptor)
                assert ours.getpeername() == peer.getsockname()
    with pytest.raises(OSError, match="Bad file descriptor"):
        accept_connection(-1)
