"""What workers get from their supervisor: sockets, options, certificates, log settings, and links to each other."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import socket
import ssl
import threading
from pathlib import Path

import pytest

import fastws
from fastws import ConfigurationError, StartError
from fastws.process import cli, order
from fastws.process.control import MAX_MESSAGE, Control

from ..kit import certificates
from ..kit.client import within
from ..kit.workers import HAS_PROC, SERVICE, Workers, listening_inodes

needs_proc = pytest.mark.skipif(not HAS_PROC, reason="needs /proc")
# Which makes no difference to other processes
once = pytest.mark.asyncio(loop_factories=["uvloop"])


# ---------------------------------------------------------------------------------------------------------------------
# Sockets


@needs_proc
@once
async def test_the_file_of_a_unix_socket_goes_with_the_supervisor_alone(start, tmp_path):
    workers = await start("--workers", "2", "--unix", "chat.sock", port=False)
    assert (await workers.says()).startswith("ws+unix:chat.sock:/ ")
    workers.count = 2
    killed = workers.pids()[0]
    os.kill(killed, signal.SIGKILL)
    await workers.replaced(killed)
    assert (tmp_path / "chat.sock").is_socket()
    reader, writer = await within(asyncio.open_unix_connection(tmp_path / "chat.sock"))
    writer.write(b"GET /pid HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert int((await within(reader.read())).split(b"\r\n\r\n")[1]) in workers.pids()
    writer.close()
    workers.signal(signal.SIGTERM)
    assert await within(workers.process.wait()) == 0
    assert not (tmp_path / "chat.sock").exists()


@needs_proc
@once
async def test_an_inherited_socket_is_listened_at_by_all(start):
    with socket.create_server(("127.0.0.1", 0)) as parent:
        workers = await start("--workers", "2", "--fd", str(parent.fileno()), port=False, pass_fds=[parent.fileno()])
        assert await workers.listens() == parent.getsockname()[1]
        assert len(await workers.client_of_each()) == 2


@needs_proc
@once
async def test_where_a_port_may_be_shared_each_listens_at_a_socket_of_its_own(start):
    program = "import fastws; fastws.run('chat:Chat', port=0, workers=2, reuse_port=True, close_timeout=0.2)"
    workers = await start(program=program)
    await workers.listens()
    assert len(await workers.client_of_each()) == 2
    inodes = {listening_inode(pid, workers.port) for pid in workers.pids()}
    assert len(inodes) == 2
    workers.signal(signal.SIGTERM)
    assert (await workers.end())[1:] == ("", 0)


def listening_inode(pid: int, port: int) -> str:
    """The socket at which a process listens."""
    opened = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    (found,) = [inode for inode in listening_inodes(port) if f"socket:[{inode}]" in opened]
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Certificates, logs, limits


@needs_proc
@once
async def test_a_hangup_has_all_of_them_read_the_certificate_again(start, tmp_path):
    files = certificates.Files(tmp_path)
    workers = await start("--workers", "2", "--certfile", str(files.certfile), "--keyfile", str(files.keyfile))
    port = await workers.listens()
    serial = files.renew()
    # As a terminal does: no worker ends by that
    workers.signal_all(signal.SIGHUP)
    said = {re.search(r"INFO (worker \d) fastws", await workers.logs("was read again"))[1] for _ in range(2)}
    assert said == {"worker 1", "worker 2"}
    context = certificates.client_context()
    serials = set()
    for _ in range(20):
        _, writer = await within(asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost"))
        encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        serials.add(certificates.serial_of(ssl.DER_cert_to_PEM_cert(encoded).encode()))
        writer.transport.abort()
    assert serials == {serial}


@needs_proc
@once
async def test_logs_say_which_worker(start):
    service = (
        SERVICE + "    @ws.on_start\n    def start(self):\n        import logging\n        logging.warning('began')\n"
    )
    workers = await start("--workers", "2", service=service)
    await workers.listens()
    lines = [await workers.logs("began") for _ in range(2)]
    assert {re.search(r"WARNING (worker \d) root: began$", line)[1] for line in lines} == {"worker 1", "worker 2"}


@pytest.mark.slow
@needs_proc
@once
async def test_a_program_s_own_format_can_say_it_too(start):
    service = (
        "import logging\nlogging.basicConfig(format='%(processName)s|%(message)s', force=True)\n"
        + SERVICE
        + "    @ws.on_start\n    def start(self):\n        logging.warning('began')\n"
    )
    workers = await start("--workers", "2", service=service)
    await workers.listens()
    assert {await workers.logs("began") for _ in range(2)} == {"worker 1|began", "worker 2|began"}


@needs_proc
@once
async def test_each_raises_its_limit_of_open_files(start):
    service = SERVICE.replace("return str(os.getpid())", "return repr(resource.getrlimit(resource.RLIMIT_NOFILE))", 1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    workers = await start("--workers", "2", service="import resource\n" + service)
    await workers.listens()
    assert await (await workers.connect()).asks("how many") == repr((hard, hard))


# ---------------------------------------------------------------------------------------------------------------------
# Links

# Instead of the engine that has the links: each worker tells the others who it is, and shows who it has heard
LINKED = """
import asyncio, socket
from fastws.backplane.workers import Mesh

heard = set()

def connect(mesh, sock):
    sock.setblocking(False)
    sock.send(b"%d" % os.getpid())
    asyncio.get_running_loop().add_reader(sock, hear, sock)

def hear(sock):
    said = sock.recv(100)
    if not said:
        asyncio.get_running_loop().remove_reader(sock)
        heard.discard(peers.pop(sock))
        return
    peers[sock] = int(said)
    heard.add(int(said))

peers = {}
Mesh.connect = connect
""" + SERVICE.replace("return str(os.getpid())", "return ' '.join(map(str, [os.getpid(), *heard]))", 1)


async def everybody_knows_everybody(workers: Workers) -> None:
    known: dict[int, set[int]] = {}

    async def ask() -> bool:
        client = await workers.connect()
        own, *others = map(int, (await client.asks("whom")).split())
        client.transport.abort()
        known[own] = set(others)
        pids = set(workers.pids())
        return all(known.get(pid) == pids - {pid} for pid in pids)

    async def poll() -> None:
        while not await ask():
            pass

    await within(poll())


@needs_proc
@once
async def test_each_is_connected_to_each_also_to_those_that_come_later(start):
    workers = await start("--workers", "3", service="import os\n" + LINKED)
    await workers.listens()
    await everybody_knows_everybody(workers)
    killed = workers.pids()[1]
    os.kill(killed, signal.SIGKILL)
    assert killed not in await workers.replaced(killed)
    await everybody_knows_everybody(workers)


@pytest.fixture
def controls():
    ours, theirs = Control.pair()
    both = ours, Control(theirs)
    yield both
    for control in both:
        control.close()


def test_descriptors_come_with_the_message_that_they_were_sent_with(controls):
    one, other = controls
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    one.send("first", files[:1])
    one.send("second", number=2)
    one.send("third", files[1:])
    messages = []
    while len(messages) < 3:
        messages += other.receive()
    assert [(message.name, message.told, len(message.descriptors)) for message in messages] == [
        ("first", {}, 1),
        ("second", {"number": 2}, 0),
        ("third", {}, 2),
    ]
    got = [descriptor for message in messages for descriptor in message.descriptors]
    assert not any(map(os.get_inheritable, got))
    for descriptor in (*files, *got):
        os.close(descriptor)


def test_a_message_may_come_in_pieces(controls):
    one, other = controls
    one.sock.send(b'["link", {"a"')
    assert other.receive() == []
    one.sock.send(b': 1}, 0]\n["close"')
    assert other.receive() == [("link", {"a": 1}, [])]


def test_who_does_not_read_is_no_reason_to_wait(controls):
    one, _ = controls
    with pytest.raises(BlockingIOError):
        one.send("link", text="x" * (1 << 24))


def test_the_end_is_the_end_of_the_other(controls):
    one, other = controls
    one.sock.close()
    assert other.receive() is None


def test_a_line_without_an_end_is_no_message(controls):
    one, other = controls
    for _ in range(MAX_MESSAGE // 1024):
        one.sock.send(b"x" * 1024)
        assert other.receive() == []
    one.sock.send(b"x")
    with pytest.raises(ValueError, match="without an end"):
        other.receive()


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class Chat:
    """Given as a class."""


@pytest.mark.parametrize(
    ("services", "options", "message"),
    [
        ([], {"workers": 2}, "there is nothing to serve"),
        ([Chat], {"workers": 2}, 'workers import what they serve: name it, as "module:Class"'),
        (["chat"], {"workers": 0}, 'workers=0: give a whole number from 1 to 64, or "auto"'),
        (["chat"], {"workers": True}, "workers=True: give a whole number"),
        (["chat"], {"workers": 65}, "workers=65: give a whole number"),
        (["chat"], {"workers": "many"}, "workers='many': give a whole number"),
        (["chat"], {"workers": 2, "on_listening": print}, "on_listening: with workers no server is in this process"),
        (
            ["chat"],
            {"workers": 2, "ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)},
            "ssl: a context cannot go to workers",
        ),
        (["chat"], {"workers": 2, "redacted_parameters": [object()]}, "redacted_parameters=<object"),
        (["chat"], {"workers": 2, "port": -1}, "port=-1: give a number from 0 to 65535"),
        (["chat"], {"workers": 2, "prot": 1}, "there is no option 'prot'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(services, options, message):
    with pytest.raises(ConfigurationError) as caught:
        fastws.run(*services, **options)
    assert message in str(caught.value)


def test_workers_need_the_main_thread():
    caught: list[BaseException] = []

    def serve() -> None:
        try:
            fastws.run("chat", workers=2)
        except StartError as error:
            caught.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert "workers are started in the main thread" in str(caught[0])


@pytest.mark.parametrize("text", ["0", "65", "many", "-1", "1.5"])
def test_the_command_refuses_a_wrong_number(text, capsys):
    try:
        status = cli.main(["run", "chat.py", "--workers", text])
    except SystemExit as error:
        status = error.code
    assert status == (1 if text in ("0", "65") else 2)
    assert "workers" in capsys.readouterr().err


@pytest.mark.parametrize(("quota", "count"), [(1.5, 2), (0.2, 1), (float("inf"), 6)])
def test_auto_is_the_number_of_cores_to_use(monkeypatch, quota, count):
    monkeypatch.setattr(order, "_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    assert order.number_of("auto") == count
