"""Processes that handlers fork: they have no part in the server, and it comes to no harm by them."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...kit import certificates
from ...kit.client import BINARY, CLOSE, REQUEST, TEXT, TIMEOUT, close_payload, frame, take_frame
from ...kit.services import Echo

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system knows no fork")
linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux shows what a process has open")

PROGRAM = """
import sys
if "asyncio" in sys.argv:
    sys.modules["uvloop"] = None  # not installed
import asyncio, concurrent.futures, ctypes, multiprocessing, os, signal, socket, subprocess, threading, time
import fastws
from fastws import http, ws

fork_past_python = ctypes.CDLL(None).fork  # and with the GIL released
children = {}

def start(work, method="fork"):
    process = multiprocessing.get_context(method).Process(target=work, daemon=True)
    process.start()
    children[process.pid] = process
    return process.pid

def sleep():
    time.sleep(60)

def started():
    # A child that is past its beginning
    reading, writing = os.pipe()

    def work():
        os.write(writing, b"x")
        sleep()

    pid = start(work)
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    return pid

def status_of(pid):
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)

def at_once(number):
    pid = start(sleep)
    os.kill(pid, number)
    return pid

def sockets_and_rings():
    # And how much the polls watch
    names, watched = [], 0
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{number}"))
            with open(f"/proc/self/fdinfo/{number}") as info:
                watched += info.read().count("tfd:")
        except OSError:
            pass
    return {name for name in names if name.startswith("socket:")}, names.count("anon_inode:[io_uring]"), watched

def told_by_child(question):
    reading, writing = os.pipe()
    if os.fork() == 0:
        answer = "nothing"
        try:
            answer = question()
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answers:
        return answers.read()

def shared():
    sockets, rings, watched = sockets_and_rings()
    assert watched > 20
    others = rings - server._hub.rings  # uvloop has one

    def compare():
        still, fewer, watching = sockets_and_rings()
        return f"{len(sockets & still)} sockets, {fewer - others} rings, {watching} watched"

    return told_by_child(compare)

def refused():
    said = []
    for call in (
        lambda: ws.push_text("x"), lambda: ws.broadcast_text("x"), lambda: ws.push_text_to_group("g", "x"),
        lambda: ws.push_text_to_connection("n", "x"), lambda: ws.store_connection("n"), lambda: ws.close_connection(),
        lambda: served.connection.push_text("x"), lambda: served.connection.join("g"),
        lambda: served.connection.close(), lambda: server.call_from_thread(print, "called"),
        lambda: asyncio.run(server.close()), lambda: server.groups, lambda: server.stored,
        lambda: server.connections(Forks),
    ):
        try:
            call()
            said.append("taken")
        except fastws.ForkedProcessError as error:
            assert "this process was forked from the one that serves" in str(error)
            said.append("refused")
    return f"{len(said)} {sorted(set(said))}"

def serve_too():
    signal.alarm(60)

    def listening(other):
        print("other", other.addresses[0][1], flush=True)

    fastws.run(Other, port=0, close_timeout=0.5, on_listening=listening)
    os._exit(5)

def inherited():
    script = "import os; print([os.readlink(x.path) for x in os.scandir('/proc/self/fd') if os.path.exists(x.path)])"
    command = [sys.executable, "-c", script]
    plain = subprocess.run(command, capture_output=True, close_fds=False, check=True).stdout
    return plain.decode() + subprocess.run(
        command, capture_output=True, close_fds=False, check=True, preexec_fn=lambda: None
    ).stdout.decode()

async def catches_in_child(number):
    def catches():
        with open("/proc/self/status") as status:
            mask = next(line for line in status if line.startswith("SigCgt:"))
        return str(bool(int(mask.split()[1], 16) >> number - 1 & 1))

    program = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        return told_by_child(catches)
    finally:
        program.kill()
        await program.wait()

def double(number):
    return 2 * number

@http.base_path("/other")
@ws.upgrade_path("/")
class Other:
    @ws.on_text_message
    def text(self, text):
        return f"other {text}"

@http.base_path("/")
@ws.upgrade_path("/")
class Forks:
    @ws.on_open
    def opened(self, connection):
        self.connection = connection
        ws.add_connection_to_group("g")

    @ws.on_text_message
    def text(self, text):
        if text.startswith("come back"):
            for number in range(3):
                ws.broadcast_text(f"{text} {number}")
            pid = (fork_past_python if "past" in text else os.fork)()
            return None if pid == 0 else f"child {pid}"
        if text == "exit":
            pid = os.fork()
            if pid == 0:
                sys.exit(3)
            return f"status {status_of(pid)}"
        if text == "raise":
            pid = os.fork()
            if pid == 0:
                raise ValueError("not caught")
            return f"status {status_of(pid)}"
        if text == "everybody":
            ws.broadcast_text("to everybody")
            return None
        return str(eval(text))

    @ws.on_binary_message
    async def binary(self, data):
        return str(await eval(data))

    @http.get("/resource")
    def resource(self):
        return f"status {status_of(os.fork() or os._exit(4))}"

    @http.get("/slow")
    async def slow(self):
        await asyncio.sleep(0)
        return f"status {status_of(os.fork() or sys.exit('a sentence'))}"

async def pool(method):
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        loop = asyncio.get_running_loop()
        results = await asyncio.gather(*(loop.run_in_executor(executor, double, number) for number in range(4)))
    return results

async def suspended():
    await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        await asyncio.sleep(0)  # which gets it into the loop
        print("it goes on", flush=True)
    return f"child {pid}"

def in_thread(function):
    return asyncio.to_thread(function)

served = Forks()

def listening(a_server):
    global server
    server = a_server
    if "helped" in sys.argv:
        server._hub.send_with(helpers=2, always=True)  # also where it does not pay
    print("port", server.addresses[0][1], flush=True)

options = dict(port=0, close_timeout=1)
if "tls" in sys.argv:
    options["certfile"] = sys.argv[-1]
"""

RUN = """
if __name__ == "__main__":
    fastws.run(served, **options, on_listening=listening)
"""

# A program's own loop and its own idea of signals
OWN_LOOP = """
async def main():
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with fastws.serve(served, **options) as server:
        listening(server)
        await stop.wait()

if __name__ == "__main__":
    if "asyncio" in sys.argv:
        asyncio.run(main())
    else:
        import uvloop
        uvloop.run(main())
"""

# A child that leaves the server's block
LEAVING = """
async def main():
    async with fastws.serve(served, unix=sys.argv[-1], close_timeout=1):
        pid = os.fork()
        if pid == 0:
            sys.exit(6)
        print("port", status_of(pid), flush=True)
        await asyncio.sleep(60)

if __name__ == "__main__":
    fastws.process.run.runner()(main())
"""

# A server in a thread, and another one that forks
IN_THREAD = """
async def main():
    async with fastws.serve(served, **options) as server:
        listening(server)
        ready.set()
        await asyncio.Event().wait()

ready = threading.Event()
if __name__ == "__main__":
    threading.Thread(target=fastws.process.run.runner(), args=(main(),), daemon=True).start()
    ready.wait()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            sys.exit(7)
        print("status", status_of(pid), flush=True)
    time.sleep(60)
"""

ENGINES = {
    "uvloop": ["by ring"],
    "uvloop, one by one": ["one by one"],
    "uvloop, helped": ["helped"],
    "uvloop's transports": ["loop"],
    "asyncio": ["asyncio"],
    "TLS": ["tls"],
    "TLS on asyncio": ["tls", "asyncio"],
}


class Caller:
    """A client that waits for what it asks."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        if context is not None:
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost", suppress_ragged_eofs=True)
        self.received = bytearray()

    def open(self, path: str = "/") -> Caller:
        self.sock.sendall(REQUEST % (path.encode(), b""))
        while b"\r\n\r\n" not in self.received:
            assert self.read()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        return self

    def read(self) -> bool:
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            data = self.sock.recv(1 << 16)
            self.received += data
            return bool(data)
        return False

    def get(self, path: str) -> bytes:
        """The body of a resource, up to the end of the connection."""
        self.sock.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
        while self.read():
            pass
        return bytes(self.received).partition(b"\r\n\r\n")[2]

    def send(self, text: str) -> None:
        """Send what a handler is to do; one that is async gets what it is to await."""
        asked = text.removeprefix("await ")
        self.sock.sendall(frame(TEXT if asked == text else BINARY, asked.encode()))

    def close(self) -> None:
        self.sock.sendall(frame(CLOSE, close_payload(1000)))

    def rest(self) -> list[tuple[int, bytes]]:
        """Every frame until the server ends the connection."""
        while self.read():
            pass
        return list(iter(lambda: take_frame(self.received), None))

    def text(self) -> str:
        while (taken := take_frame(self.received)) is None:
            assert self.read(), bytes(self.received)
        assert taken[0] == TEXT, taken
        return taken[1].decode()

    def texts(self, count: int) -> list[str]:
        return [self.text() for _ in range(count)]

    def asks(self, text: str) -> str:
        self.send(text)
        return self.text()


class Program:
    """A server in a process of its own, and the children that it says it has."""

    def __init__(self, folder: Path, *words: str, program: str = RUN, last: str = "") -> None:
        file = folder / "program.py"
        file.write_text(PROGRAM + program)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= {"FASTWS_TRANSPORT": "loop"} if "loop" in words else {}
        environment |= {"FASTWS_IO_URING": "0"} if "one by one" in words else {}
        self.context = None
        if "tls" in words:
            last = str(certificates.Files(folder).in_one())
            self.context = certificates.client_context()
        command = [sys.executable, "-W", "ignore", str(file), *words, last]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=folder, env=environment)
        self.children: list[int] = []
        self.callers: list[Caller] = []
        self.heard = {self.process.stdout: b"", self.process.stderr: b""}
        self.port = int(self.hears("port "))

    def hears(self, words: str, *, error: bool = False) -> str:
        """Read its output, or its errors, to a line with these words; what follows them."""
        stream = self.process.stderr if error else self.process.stdout
        while True:
            line, found, rest = self.heard[stream].partition(b"\n")
            if not found:
                assert select.select([stream], [], [], TIMEOUT)[0], self.heard
                data = os.read(stream.fileno(), 1 << 16)
                assert data, (self.heard, self.process.stderr.read())
                self.heard[stream] += data
                continue
            self.heard[stream] = rest
            _, found, rest = line.partition(words.encode())
            if found:
                return rest.decode().strip()

    def caller(self) -> Caller:
        self.callers.append(Caller(self.port, self.context))
        return self.callers[-1]

    def connect(self) -> Caller:
        return self.caller().open()

    def get(self, path: str) -> bytes:
        return self.caller().get(path)

    def child(self, caller: Caller, text: str) -> int:
        """Have a handler fork; the child's process id."""
        found = re.fullmatch(r"(?:child )?(\d+)", caller.asks(text))
        assert found is not None
        self.children.append(int(found[1]))
        return self.children[-1]

    def stop(self) -> int:
        """End it as a user does; its status."""
        self.process.terminate()
        for caller in self.callers:
            caller.sock.close()
        return self.process.wait(TIMEOUT)

    def end(self) -> None:
        for pid in (self.process.pid, *self.children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for caller in self.callers:
            caller.sock.close()
        self.process.communicate(timeout=TIMEOUT)


@pytest.fixture(scope="module", params=ENGINES.values(), ids=ENGINES)
def server(request, tmp_path_factory) -> Iterator[Program]:
    """A server that many tests use: no child of one may disturb another."""
    program = Program(tmp_path_factory.mktemp("server"), *request.param)
    yield program
    try:
        assert program.stop() == 0
    finally:
        program.end()


@pytest.fixture
def start(tmp_path):
    programs = []

    def start(*words: str, **options) -> Program:
        programs.append(Program(tmp_path, *words, **options))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


def is_running(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_child_ends_that_and_not_the_server(server, number):
    caller = server.connect()
    for _ in range(5):
        # At once, before the child has come to itself
        pid = server.child(caller, f"at_once({int(number)})")
        assert caller.asks(f"children[{pid}].join() or children[{pid}].exitcode") == str(-number)
    assert caller.asks("everybody") == "to everybody"
    assert server.get("/nowhere") == b"404 Not Found\n"


def test_a_child_is_interrupted_as_python_does_it(server):
    caller = server.connect()
    pid = server.child(caller, "started()")
    os.kill(pid, signal.SIGINT)
    server.hears("KeyboardInterrupt", error=True)
    assert caller.asks(f"children[{pid}].join() or children[{pid}].exitcode") == "1"
    assert caller.asks("everybody") == "to everybody"


@pytest.mark.parametrize("fork", ["start(sleep)", "os.fork() or sleep()", "fork_past_python() or sleep()"])
def test_connections_end_for_their_clients_while_a_child_lives(server, fork):
    caller, other, requesting = server.connect(), server.connect(), server.caller()
    pid = server.child(caller, fork)
    assert requesting.get("/nowhere") == b"404 Not Found\n"
    for client in (caller, other):
        client.close()
        assert [opcode for opcode, _ in client.rest()] == [CLOSE]
    assert is_running(pid)


@linux
def test_a_child_has_no_socket_and_no_poll_of_the_server(server):
    callers = [server.connect() for _ in range(20)]
    for caller in callers:
        caller.send("everybody")
    for caller in callers:
        assert caller.texts(20) == ["to everybody"] * 20
    # With two sockets a loop wakes itself up
    assert callers[0].asks("shared()") == "2 sockets, 0 rings, 0 watched"


async def test_a_socket_that_the_server_was_given_is_not_inherited(serve):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.set_inheritable(True)
    await serve(Echo(), sock=sock, port=None)
    assert not sock.get_inheritable()


@linux
def test_a_program_that_a_handler_starts_inherits_no_descriptor(server):
    said = server.connect().asks("inherited()")
    assert said.startswith("[")
    assert not re.search(r"socket|anon_inode", said), said


@pytest.mark.parametrize("fork", ["come back", "come back past python"])
def test_a_child_that_comes_back_sends_nothing_and_is_ended(server, fork):
    callers = [server.connect() for _ in range(40)]
    for _ in range(3):
        caller = callers[0]
        caller.send(fork)
        said = sorted(caller.texts(4))
        assert said[1:] == [f"{fork} {number}" for number in range(3)]
        pid = said[0].removeprefix("child ")
        server.hears(f"process {pid} was forked from the one that serves and came back", error=True)
        assert caller.asks(f"status_of({pid})") == "1"
        for caller in callers[1:]:
            assert caller.texts(3) == [f"{fork} {number}" for number in range(3)]
    for caller in callers:
        # All that they say is read by the server
        assert [caller.asks(repr(number)) for number in range(3)] == ["0", "1", "2"]


def test_a_child_that_is_suspended_does_not_go_on(server):
    caller = server.connect()
    pid = caller.asks("await suspended()").removeprefix("child ")
    server.hears(f"process {pid} was forked from the one that serves and came back", error=True)
    assert caller.asks(f"status_of({pid})") == "1"


def test_a_child_exits_with_the_status_that_it_wants(server):
    caller = server.connect()
    assert caller.asks("exit") == "status 3"
    assert caller.asks("raise") == "status 1"
    server.hears("came back into its event loop", error=True)
    assert server.get("/resource") == b"status 4"
    assert server.get("/slow") == b"status 1"
    assert caller.asks("everybody") == "to everybody"


def test_every_function_says_that_a_child_has_no_part_in_the_server(server):
    caller = server.connect()
    assert caller.asks("told_by_child(refused)") == "14 ['refused']"
    assert caller.asks("await in_thread(lambda: told_by_child(refused))") == "14 ['refused']"
    assert caller.asks("everybody") == "to everybody"


def test_a_child_may_serve_on_its_own(server):
    caller = server.connect()
    pid = server.child(caller, "os.fork() or serve_too()")
    child = Caller(int(server.hears("other ")))
    with contextlib.closing(child.sock):
        assert child.open("/other/").asks("hello") == "other hello"
        assert caller.asks("everybody") == "to everybody"
        os.kill(pid, signal.SIGTERM)
        assert child.rest() == [(CLOSE, close_payload(1001, "going away"))]
    assert caller.asks(f"status_of({pid})") == "5"


@linux
def test_a_child_catches_no_signal_for_programs_of_its_parent(server):
    assert server.connect().asks(f"await catches_in_child({int(signal.SIGCHLD)})") == "False"


def test_a_pool_of_processes_works_for_a_handler(server):
    assert server.connect().asks("await pool('fork')") == "[0, 2, 4, 6]"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_pool_that_does_not_fork_the_server_works_too(start, method):
    program = start()
    assert program.connect().asks(f"await pool('{method}')") == "[0, 2, 4, 6]"
    assert program.stop() == 0


@pytest.mark.parametrize("engine", [[], ["loop"], ["asyncio"], ["tls"]], ids=" ".join)
def test_a_child_keeps_neither_the_port_nor_a_connection_of_a_server_that_is_killed(start, engine):
    program = start(*engine)
    caller, requesting = program.connect(), program.caller()
    pid = program.child(caller, "started()")
    program.process.kill()
    program.process.wait(TIMEOUT)
    assert caller.rest() == []
    assert not requesting.read()
    with pytest.raises(ConnectionRefusedError):
        program.caller()
    assert is_running(pid)


@pytest.mark.parametrize("engine", [[], ["asyncio"]], ids=["uvloop", "asyncio"])
def test_a_child_handles_no_signal_of_the_loop_of_a_program_s_own(start, engine):
    program = start(*engine, program=OWN_LOOP)
    caller = program.connect()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        pid = program.child(caller, f"at_once({int(number)})")
        assert caller.asks(f"children[{pid}].join() or children[{pid}].exitcode") == str(-number)
    assert caller.asks("everybody") == "to everybody"
    assert program.stop() == 0


@pytest.mark.parametrize("engine", [[], ["asyncio"]], ids=["uvloop", "asyncio"])
def test_a_child_of_another_thread_than_the_server_s_goes_on_and_exits(start, engine):
    program = start(*engine, program=IN_THREAD)
    assert [program.hears("status ") for _ in range(3)] == ["7"] * 3
    assert program.connect().asks("everybody") == "to everybody"


@pytest.mark.parametrize("engine", [[], ["asyncio"]], ids=["uvloop", "asyncio"])
def test_a_child_that_leaves_the_block_of_a_server_closes_nothing(start, engine, tmp_path):
    path = tmp_path / "socket"
    program = start(*engine, program=LEAVING, last=str(path))
    assert program.port == 6, "the status of the child"
    assert path.exists()
