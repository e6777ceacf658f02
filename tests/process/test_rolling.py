"""Drains and restarts of real processes: signals, the commands that send them, and clients that stay served."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys

import pytest

from ..kit.client import CLOSE, REQUEST, TEXT, Client, close_payload, frame, take_frame, until, within
from ..kit.workers import HAS_PROC, SERVICE, Workers, listening_inodes

pytestmark = [
    pytest.mark.skipif(not HAS_PROC, reason="needs /proc"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # which makes no difference to other processes
]

PUSHING = (
    SERVICE
    + """
    @http.post("/push/{text}")
    def push(self, text: str):
        ws.broadcast_text(text)
"""
)
PUSHES = 10_000  # that a second brings to all clients together
LONG = 120  # seconds; a restart with ten thousand clients takes its time


@pytest.fixture
async def tell():
    """Run a command beside: `status, errors = await tell("drain", pid)`."""

    async def tell(*arguments: object) -> tuple[int, str]:
        command = [sys.executable, "-m", "fastws", *map(str, arguments)]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, errors = await asyncio.wait_for(process.communicate(), LONG)
        return process.returncode, errors.decode()

    return tell


async def says_goodbye(client: Client, code: int = 1012) -> str:
    found, reason = await client.close_frame()
    assert found == code
    client.send_close(code)
    assert await client.rest() == []
    return reason


# ---------------------------------------------------------------------------------------------------------------------
# Drain


@pytest.mark.parametrize("arguments", [pytest.param((), marks=pytest.mark.slow), ("--workers", "2")])
async def test_sigterm_drains_where_that_was_asked_for(start, arguments):
    server = await start("--drain", "0.5", "--log-level", "info", *arguments)
    await server.listens()
    clients = [await server.connect() for _ in range(8)]
    server.signal(signal.SIGTERM)
    for reason in await asyncio.gather(*map(says_goodbye, clients)):
        assert int(re.fullmatch(r"reconnect in (\d+) ms", reason)[1]) >= 2000
    output, errors, status = await server.end()
    assert len(output) == (2 if arguments else 1) + ("" in output)
    assert all(line.startswith("stop ") for line in output if line)
    assert "draining over 0.5 seconds" in errors
    assert status == 0


@pytest.mark.parametrize("arguments", [(), pytest.param(("--workers", "2"), marks=pytest.mark.slow)])
async def test_a_second_signal_hurries(start, arguments):
    server = await start("--drain", "600", *arguments)
    await server.listens()
    clients = [await server.connect() for _ in range(8)]
    server.signal(signal.SIGTERM)
    for _ in range(2 if arguments else 1):
        await server.logs("draining over 600 seconds")
    server.signal(signal.SIGTERM)
    for reason in await asyncio.gather(*map(says_goodbye, clients)):
        assert reason.startswith("reconnect in ")
    assert (await server.end())[2] == 0


async def test_an_interrupt_does_not_drain(start):
    server = await start("--drain", "600")
    await server.listens()
    client = await server.connect()
    server.signal(signal.SIGINT)
    assert await says_goodbye(client, 1001) == "going away"
    assert (await server.end())[2] == 0


@pytest.mark.parametrize("arguments", [pytest.param((), marks=pytest.mark.slow), ("--workers", "2")])
async def test_the_command_drains_and_waits_for_the_end(start, tell, arguments):
    server = await start("--drain", "0.5", *arguments)
    await server.listens()
    client = await server.connect()
    telling = asyncio.create_task(tell("drain", server.process.pid))
    await says_goodbye(client)
    assert await telling == (0, "")
    assert (await server.end())[2] == 0


async def test_a_worker_that_drains_leaves_newcomers_to_the_others(start):
    server = await start("--workers", "2", "--drain", "600")
    await server.listens()
    clients = await server.client_of_each()
    leaving, staying = clients
    os.kill(leaving, signal.SIGTERM)
    await server.logs("draining over 600 seconds")
    for _ in range(10):
        assert await (await server.connect()).asks("who") == str(staying)
    os.kill(leaving, signal.SIGTERM)
    await says_goodbye(clients[leaving])
    assert leaving not in await server.replaced(leaving)


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.slow
async def test_who_serves_nothing_is_told_nothing(tell):
    other = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        for command in ("drain", "reload"):
            status, errors = await tell(command, other.pid)
            assert (status, errors) == (
                1,
                f"fastws: process {other.pid} does not serve with fastws.run or the command\n",
            )
        assert other.returncode is None
    finally:
        other.kill()
        await within(other.wait())
    status, errors = await tell("drain", other.pid)
    assert status == 1
    assert "No such process" in errors


async def test_who_has_no_workers_cannot_replace_them(start, tell):
    server = await start()
    await server.listens()
    status, errors = await tell("reload", server.process.pid)
    assert (status, "has no workers to replace; start it with --workers" in errors) == (1, True)
    assert server.process.returncode is None


@pytest.mark.slow
async def test_who_waits_does_so_for_a_time(start, tell):
    server = await start("--drain", "600")
    await server.listens()
    status, errors = await tell("drain", server.process.pid, "--timeout", "0.2")
    assert (status, "has not ended after 0.2 seconds" in errors) == (1, True)


# ---------------------------------------------------------------------------------------------------------------------
# Rolling restart


async def test_a_restart_runs_new_code_in_new_processes(start, tell, tmp_path):
    server = await start("--workers", "2", "--drain", "0.2", "--close-timeout", "0.5")
    await server.listens()
    before = server.pids()
    (tmp_path / "chat.py").write_text(SERVICE.replace("str(os.getpid())", "'new'", 1))
    assert await tell("reload", server.process.pid) == (0, "")
    assert len(server.pids()) == 2
    assert not set(before) & set(server.pids())
    assert await (await server.connect()).asks("what") == "new"
    server.signal(signal.SIGTERM)
    output, errors, status = await server.end()
    assert "ERROR" not in errors
    assert status == 0
    assert sorted(output[:2]) == sorted(f"stop {pid}" for pid in before)


@pytest.mark.slow
async def test_a_worker_that_cannot_start_ends_the_restart_and_nobody_else(start, tell, tmp_path):
    server = await start("--workers", "2", "--drain", "0.2", "--close-timeout", "0.5")
    await server.listens()
    clients = await server.client_of_each()
    (tmp_path / "chat.py").write_text("1 / 0\n")
    status, errors = await tell("reload", server.process.pid)
    assert status == 1
    assert "a worker could not start, and those that serve go on" in errors
    assert "those that serve go on: " in await server.logs("the restart ends here")
    assert "ZeroDivisionError" in await server.logs("ZeroDivisionError")
    for pid, client in clients.items():
        assert await client.asks("who") == str(pid)
    (tmp_path / "chat.py").write_text(SERVICE)
    assert await tell("reload", server.process.pid) == (0, "")


@pytest.mark.slow
async def test_one_that_dies_during_a_restart_is_started_again(start, tmp_path):
    server = await start("--workers", "2", "--drain", "1200", "--close-timeout", "0.5")
    await server.listens()
    clients = await server.client_of_each()
    server.signal(signal.SIGHUP)
    await server.logs("draining over 600 seconds")
    leaving, staying = server.pids()[:2]
    (new,) = set(server.pids()) - {leaving, staying}
    for killed in (new, staying):
        os.kill(killed, signal.SIGKILL)
        await server.logs("is started again")
    await until(lambda: len(set(server.pids()) - {new, staying}) == 3)
    assert await clients[leaving].asks("who") == str(leaving)
    os.kill(leaving, signal.SIGKILL)
    await server.logs("all workers were replaced")
    assert len(await server.client_of_each()) == 2
    server.signal(signal.SIGINT)
    _, errors, status = await server.end()
    assert status == 0, errors


async def test_the_end_comes_also_in_the_middle_of_a_restart(start):
    server = await start("--workers", "2", "--drain", "1200", "--close-timeout", "0.5")
    await server.listens()
    clients = await server.client_of_each()
    server.signal(signal.SIGHUP)
    await server.logs("draining over 600 seconds")
    server.signal(signal.SIGINT)
    codes = [(await client.close_frame())[0] for client in clients.values()]
    assert sorted(codes) == [1001, 1012]
    for client in clients.values():
        client.transport.abort()
    _, errors, status = await server.end()
    assert ("ERROR" in errors, status) == (False, 0)


AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "fastws", *sys.argv[2:]])
"""


async def test_a_terminal_that_is_closed_ends_all(start):
    ours, theirs = os.openpty()
    command = ["run", "chat.py", "--port", "0", "--workers", "2"]
    server = await start(str(theirs), *command, program=AT_TERMINAL, pass_fds=[theirs])
    os.close(theirs)
    await server.listens()
    client = await server.connect()
    os.close(ours)
    assert await says_goodbye(client, 1001) == "going away"
    assert (await server.end())[1:] == ("", 0)


@pytest.mark.slow
async def test_sockets_of_their_own_are_handed_on_with_all_who_wait_there(start, tell):
    program = "import fastws; fastws.run('chat:Chat', port=0, workers=2, reuse_port=True, drain=0.2)"
    server = await start(program=program)
    await server.listens()
    inodes = listening_inodes(server.port)
    before = server.pids()
    assert await tell("reload", server.process.pid) == (0, "")
    assert not set(before) & set(server.pids())
    assert listening_inodes(server.port) == inodes
    assert set(await server.client_of_each()) == set(server.pids())


# ---------------------------------------------------------------------------------------------------------------------
# A crowd


class Visitor(asyncio.Protocol):
    """A client that comes back when it was told to.

    Attributes:
        visits: what it got, text by text, a list for each connection.
        gone: when it was told to go.
        came: when it was let in again.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.visits: list[list[str]] = []
        self.gone: list[float] = []
        self.came: list[float] = []
        self.is_in = False
        self.refused: bytes | None = None
        self.ends = False
        self.transport: asyncio.Transport | None = None

    async def visit(self) -> None:
        loop = asyncio.get_running_loop()
        self.data = bytearray()
        self.transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self.port)
        self.transport.write(REQUEST % (b"/", b""))

    def data_received(self, data: bytes) -> None:
        self.data += data
        if not self.is_in:
            head, end, rest = bytes(self.data).partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.refused = head
                return
            self.data[:] = rest
            self.is_in = True
            self.visits.append([])
            self.came.append(asyncio.get_running_loop().time())
        while (taken := take_frame(self.data)) is not None:
            self.take(*taken)

    def take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self.visits[-1].append(payload.decode())
        elif opcode == CLOSE:
            loop = asyncio.get_running_loop()
            self.gone.append(loop.time())
            self.is_in = False
            assert payload[:2] == close_payload(1012)
            delay = int(re.fullmatch(r"reconnect in (\d+) ms", payload[2:].decode())[1]) / 1000
            self.transport.write(frame(CLOSE, close_payload(1012)))
            self.transport.close()
            if not self.ends:
                loop.call_later(delay, lambda: loop.create_task(self.visit()))

    def connection_lost(self, error: Exception | None) -> None:
        # A restart loses nobody without a word
        assert not self.is_in or self.ends, error


async def post(port: int, number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /push/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % number)
    assert (await reader.read()).startswith(b"HTTP/1.1 204 ")
    writer.close()


async def push_all_the_while(port: int, ended: asyncio.Event, pause: float) -> int:
    """Push numbers, each through whichever worker is there; returns how many."""
    count = 0
    while not ended.is_set():
        await post(port, count)
        count += 1
        await asyncio.sleep(pause)
    return count


def assert_got_each_once(visitor: Visitor) -> None:
    """No number twice on a connection, and none left out between the first and the last of it."""
    for visit in visitor.visits:
        numbers = sorted(map(int, visit))
        assert not numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def restart_under(visitors: list[Visitor], server: Workers, tell) -> int:
    """Restart while numbers are pushed to all of them; returns how many numbers."""
    for start in range(0, len(visitors), 100):
        await within(asyncio.gather(*(visitor.visit() for visitor in visitors[start : start + 100])))
    await until(lambda: all(visitor.is_in for visitor in visitors))
    ended = asyncio.Event()
    pushing = asyncio.create_task(push_all_the_while(server.port, ended, len(visitors) / PUSHES))
    assert await tell("reload", server.process.pid) == (0, "")
    await until(lambda: all(visitor.is_in and len(visitor.visits) > 1 for visitor in visitors))
    ended.set()
    count = await pushing
    await until(lambda: all(str(count - 1) in visitor.visits[-1] for visitor in visitors if visitor.visits[-1]))
    return count


def most_in_a_second(moments: list[float], length: float = 1.0) -> int:
    """The size of the largest crowd within a time."""
    moments = sorted(moments)
    return max(sum(moment <= other < moment + length for other in moments) for moment in moments)


@pytest.mark.parametrize(("count", "over"), [(500, 2.0), pytest.param(10_000, 30.0, marks=pytest.mark.slow)])
async def test_a_crowd_comes_back_over_the_time_and_gets_every_push_once(start, tell, count, over):
    server = await start("--workers", "2", "--drain", str(over), service=PUSHING)
    await server.listens()
    visitors = [Visitor(server.port) for _ in range(count)]
    pushed = await restart_under(visitors, server, tell)
    assert pushed > 5
    assert [visitor.refused for visitor in visitors if visitor.refused] == []
    for visitor in visitors:
        assert_got_each_once(visitor)
    left = [moment for visitor in visitors for moment in visitor.gone]
    returned = [visitor.came[1] for visitor in visitors]
    # Evenly they would be a third, or a thirtieth, within a second
    assert most_in_a_second(left) < 2 * len(left) / over + 10
    assert most_in_a_second(returned) < 2 * len(left) / over + 10
    for visitor in visitors:
        visitor.ends = True
        visitor.transport.abort()
