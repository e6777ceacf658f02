"""What systemd is told and what it gives: readiness, reloads, the end, the watchdog, and sockets that it has opened."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time

import pytest

from fastws import ConfigurationError
from fastws.process.activation import activated
from fastws.process.escalation import Escalation, Step
from fastws.process.notify import Notifier

from ..kit import certificates
from ..kit.client import within
from ..kit.workers import HAS_PROC, SERVICE

needs_proc = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
once = pytest.mark.asyncio(loop_factories=["uvloop"])  # which makes no difference to other processes

# Runs the command as systemd does: with its number in the environment, and the socket as descriptor 3
ACTIVATED = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(text), fcntl.F_DUPFD, 100) for text in sys.argv[1].split(",")]
for place, copy in enumerate(copies):
    os.dup2(copy, 3 + place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)))
os.execv(sys.executable, [sys.executable, "-m", "fastws", *sys.argv[2:]])
"""


class Systemd:
    """The socket at which it listens, and what came there."""

    def __init__(self, name: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + name[1:] if name.startswith("@") else name)
        self.sock.setblocking(False)

    async def hears(self) -> dict[str, str]:
        """The next message, but for those of the watchdog."""
        while (message := await self.next()) == {"WATCHDOG": "1"}:
            pass
        return message

    async def silence(self, seconds: float) -> None:
        """Wait until nothing has come for so long."""
        with contextlib.suppress(asyncio.TimeoutError):
            while True:
                await asyncio.wait_for(self.next(), seconds)

    async def next(self) -> dict[str, str]:
        data = await within(asyncio.get_running_loop().sock_recv(self.sock, 4096))
        return dict(line.split("=", 1) for line in data.decode().split("\n"))


@pytest.fixture(params=["a path", "abstract"])
def address(request, tmp_path):
    return str(tmp_path / "notify") if request.param == "a path" else f"@fastws-test-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    found = Systemd(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield found
    found.sock.close()


# ---------------------------------------------------------------------------------------------------------------------
# What it is told


@once
async def test_it_is_told_at_a_path_and_in_the_abstract(address):
    systemd = Systemd(address)
    environment = {"NOTIFY_SOCKET": address, "OTHER": "1"}
    notifier = Notifier.of_environment(environment)
    assert environment == {"OTHER": "1"}
    notifier.ready()
    assert await systemd.hears() == {"READY": "1", "STATUS": "serving"}
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    message = await systemd.hears()
    assert message.pop("RELOADING") == "1"
    assert before <= int(message["MONOTONIC_USEC"]) < before + 60_000_000
    notifier.stopping(2.5)
    notifier.stopping(9.0)
    notifier.ready()
    assert await systemd.hears() == {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "2500000", "STATUS": "stopping"}
    systemd.sock.close()
    notifier.reloading()  # nobody hears it, which is no reason to fail


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "vsock:2:1"},
        {"WATCHDOG_USEC": "1000"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "often"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
    ],
)
async def test_without_systemd_nothing_is_said(environment):
    notifier = Notifier.of_environment(environment)
    assert environment == {}
    notifier.ready()
    notifier.live(asyncio.get_running_loop())
    assert notifier._timer is None


@once
async def test_a_server_tells_when_it_is_ready_drains_and_lives(systemd, start, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    server = await start("--drain", "0.5", "--close-timeout", "1")
    assert await systemd.hears() == {"READY": "1", "STATUS": "serving"}
    for _ in range(3):
        assert await systemd.next() == {"WATCHDOG": "1"}
    server.signal(signal.SIGTERM)
    # What was asked for, and what a close may take
    assert (await systemd.hears())["EXTEND_TIMEOUT_USEC"] == "7500000"
    assert (await server.end())[2] == 0


@once
async def test_a_server_whose_loop_stands_still_is_no_more_alive(systemd, start, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    service = SERVICE.replace("return str(os.getpid())", "import time; time.sleep(60)", 1)
    server = await start(service=service)
    await server.listens()
    client = await server.connect()
    client.send("stand still")
    await within(systemd.silence(1.0))


@needs_proc
@once
async def test_a_supervisor_tells_of_its_restarts_too(systemd, start):
    server = await start("--workers", "2", "--drain", "0.2")
    assert (await systemd.hears())["READY"] == "1"
    server.signal(signal.SIGHUP)
    assert (await systemd.hears())["RELOADING"] == "1"
    assert (await systemd.hears())["READY"] == "1"
    server.signal(signal.SIGINT)
    assert (await systemd.hears())["STOPPING"] == "1"
    assert (await server.end())[2] == 0


@once
async def test_a_certificate_that_is_read_again_is_a_reload(systemd, start, tmp_path):
    files = certificates.Files(tmp_path)
    server = await start("--certfile", str(files.certfile), "--keyfile", str(files.keyfile))
    assert (await systemd.hears())["READY"] == "1"
    server.signal(signal.SIGHUP)
    assert (await systemd.hears())["RELOADING"] == "1"
    assert (await systemd.hears())["READY"] == "1"


@once
async def test_who_cannot_start_is_never_ready(systemd, start):
    server = await start(service="1 / 0\n")
    assert (await server.end())[2] == 1
    with pytest.raises(BlockingIOError):
        systemd.sock.recv(100)


# ---------------------------------------------------------------------------------------------------------------------
# The sockets that it opened


@needs_proc
@once
@pytest.mark.parametrize("arguments", [(), ("--workers", "2")])
async def test_sockets_that_it_opened_are_served(start, arguments):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        numbers = [one.fileno(), other.fileno()]
        ports = [one.getsockname()[1], other.getsockname()[1]]
        command = [",".join(map(str, numbers)), "run", "chat.py", *arguments]
        server = await start(*command, program=ACTIVATED, pass_fds=numbers)
        assert await server.listens() == ports[0]
        for port in ports:
            server.port = port
            client = await server.connect()
            assert await client.asks("who") in map(str, [server.process.pid, *server.pids()])
            client.transport.abort()
        server.signal(signal.SIGTERM)
        assert (await server.end())[2] == 0


def test_sockets_of_somebody_else_are_not_taken():
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert activated({}, environment) is None
    assert len(environment) == 2


def test_who_says_where_to_listen_listens_there():
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    assert activated({"port": 0}, environment) is None


@pytest.mark.parametrize("count", ["0", "-1", "65", "many", "", "9" * 5000])
def test_a_wrong_number_of_sockets_is_refused(count):
    environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    with pytest.raises(ConfigurationError, match="it is no number of sockets from 1 to 64"):
        activated({}, environment)


# ---------------------------------------------------------------------------------------------------------------------
# Signals go further and further


TERM, INT, USR1 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR1


@pytest.mark.parametrize(
    ("drains", "numbers", "steps"),
    [
        (False, [TERM, TERM, INT, TERM], [Step.CLOSE, Step.HURRY, Step.KILL, Step.KILL]),
        (True, [TERM, TERM, TERM, TERM], [Step.DRAIN, Step.CLOSE, Step.HURRY, Step.KILL]),
        (True, [INT, TERM], [Step.CLOSE, Step.HURRY]),
        (True, [TERM, INT], [Step.DRAIN, Step.CLOSE]),
        (False, [USR1, USR1, TERM, TERM], [Step.DRAIN, Step.NONE, Step.CLOSE, Step.HURRY]),
        (True, [TERM, USR1, TERM, USR1], [Step.DRAIN, Step.NONE, Step.CLOSE, Step.NONE]),
    ],
)
def test_each_signal_goes_a_step_further(drains, numbers, steps):
    escalation = Escalation(drains)
    assert [escalation.next(number) for number in numbers] == steps
