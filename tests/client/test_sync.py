"""The client for programs without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import subprocess
import sys
import threading

import pytest

import fastws
import fastws.sync
from fastws import http, ws
from fastws.client.background import Background

from ..kit.client import TIMEOUT, until, url, within

pytestmark = pytest.mark.plain("a blocking client is the same over TLS")


@http.base_path("/")
@ws.upgrade_path("/", subprotocols=["shout"])
class House:
    """Shouts; does what it is told."""

    def __init__(self) -> None:
        self.connections: list[ws.Connection] = []
        self.closed: list[int] = []

    @ws.on_open
    def came(self, connection: ws.Connection) -> None:
        self.connections.append(connection)

    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> str | None:
        if text.startswith("close "):
            connection.close(int(text[6:]), "as told")
            return None
        return text.upper()

    @ws.on_binary_message
    def sent(self, data: bytes) -> bytes:
        return data[::-1]

    @ws.on_close
    def left(self, code: int) -> None:
        self.closed.append(code)


@pytest.fixture(scope="module", autouse=True)
def loop_in_background():
    """Start it before anything is counted, and once for all tests."""
    Background.shared()


@pytest.fixture
async def house(serve):
    service = House()
    service.url = url(await serve(service))
    yield service
    await until(lambda: len(service.closed) == len(service.connections))
    # What the loop in the background has to do still is done when it answers
    await blocking(lambda: Background.shared().call("sleep", lambda: asyncio.sleep(0)))


async def blocking(function, *arguments):
    """Call what blocks in a thread, while the server runs here."""
    return await within(asyncio.to_thread(function, *arguments))


async def test_messages_go_out_and_come_in(house):
    def script() -> list[str | bytes]:
        with fastws.sync.connect(house.url) as connection:
            connection.send("hello")
            connection.send(b"\x01\x02")
            connection.send(bytearray(b"ab"))
            return [connection.receive() for _ in range(3)]

    assert await blocking(script) == ["HELLO", b"\x02\x01", b"ba"]
    await until(lambda: house.closed == [1000])


@pytest.mark.parametrize(("code", "ends"), [(1000, True), (1001, True), (4000, False)])
async def test_iterating_ends_with_the_connection(house, code, ends):
    def script() -> list[str]:
        heard = []
        with fastws.sync.connect(house.url) as connection:
            for text in ("one", "two", f"close {code}"):
                connection.send(text)
            try:
                heard.extend(connection)
            except fastws.ConnectionClosed as error:
                heard.append(str(error))
        assert (connection.close_code, connection.close_reason, connection.was_clean) == (code, "as told", True)
        return heard

    assert await blocking(script) == ["ONE", "TWO"] + (
        [] if ends else ["the connection is closed with code 4000: as told"]
    )


async def test_it_tells_what_it_knows(house):
    def script() -> None:
        with fastws.sync.connect(house.url, subprotocols=["shout"]) as connection:
            assert (connection.subprotocol, connection.compression, connection.path) == ("shout", "shared", "/")
            assert connection.headers["upgrade"] == "websocket"
            assert connection.remote_address[0] == "127.0.0.1"
            assert (connection.is_open, connection.secure, connection.close_code) == (True, False, None)
            assert "fastws.sync.Connection" in repr(connection)
            assert 0 < connection.ping(TIMEOUT) < TIMEOUT
        assert not connection.is_open

    await blocking(script)


async def test_a_timeout_ends_the_waiting_and_loses_nothing(house):
    def script() -> list[str | bytes]:
        with fastws.sync.connect(house.url) as connection:
            with pytest.raises(fastws.CallTimeoutError, match=r"connection\.receive took longer than 0\.01 s"):
                connection.receive(timeout=0.01)
            with pytest.raises(TimeoutError):
                connection.receive(timeout=0)
            connection.send("late")
            return [connection.receive(timeout=TIMEOUT)]

    assert await blocking(script) == ["LATE"]


async def test_what_is_here_is_received_without_waiting(house):
    def script() -> str | bytes:
        with fastws.sync.connect(house.url) as connection:
            connection.send("here")
            connection.ping()  # its pong is behind the answer
            return connection.receive(timeout=0)

    assert await blocking(script) == "HERE"


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
async def test_a_timeout_is_a_number_of_seconds(house, timeout):
    def script() -> None:
        with (
            fastws.sync.connect(house.url) as connection,
            pytest.raises(fastws.ConfigurationError, match="give a number of seconds from 0"),
        ):
            connection.receive(timeout)

    await blocking(script)


async def test_several_threads_may_use_it(house):
    count = 200

    def script() -> list[str]:
        with fastws.sync.connect(house.url) as connection, concurrent.futures.ThreadPoolExecutor(8) as pool:
            receiving = [pool.submit(lambda: [connection.receive() for _ in range(count // 4)]) for _ in range(4)]
            list(pool.map(lambda number: connection.send(f"m{number}"), range(count)))
            return [message for one in receiving for message in one.result(TIMEOUT)]

    assert sorted(await blocking(script)) == sorted(f"M{number}" for number in range(count))


async def test_all_connections_share_one_thread(house):
    def script() -> set[str]:
        with fastws.sync.connect(house.url), fastws.sync.connect(house.url):
            return {thread.name for thread in threading.enumerate() if thread.name.startswith("fastws")}

    assert await blocking(script) == {"fastws.sync"}
    threads = [thread for thread in threading.enumerate() if thread.name == "fastws.sync"]
    assert [thread.daemon for thread in threads] == [True]


async def test_a_running_loop_in_the_same_thread_does_not_matter(house):
    """As in Jupyter, whose cells run inside of one."""
    other = House()
    ready: concurrent.futures.Future[tuple[str, asyncio.Event]] = concurrent.futures.Future()

    async def serve_there() -> None:
        async with fastws.serve(other, port=0) as server:
            ended = asyncio.Event()
            ready.set_result((url(server), ended, asyncio.get_running_loop()))
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve_there(),))
    thread.start()
    where, ended, loop = ready.result(TIMEOUT)
    with fastws.sync.connect(where) as connection:  # blocks this loop
        connection.send("cell")
        assert connection.receive(TIMEOUT) == "CELL"
    loop.call_soon_threadsafe(ended.set)
    thread.join(TIMEOUT)


async def test_a_connection_that_nobody_has_any_more_is_closed(house):
    def script() -> None:
        fastws.sync.connect(house.url).send("x")

    await blocking(script)
    await until(lambda: house.closed == [1001])


async def test_errors_are_those_of_the_client(house, unused_tcp_port):
    def script() -> None:
        with pytest.raises(fastws.ConfigurationError, match="its scheme is none of"):
            fastws.sync.connect("ftp://a")
        with pytest.raises(fastws.DialError, match="Connection refused"):
            fastws.sync.connect(f"ws://127.0.0.1:{unused_tcp_port}")
        with pytest.raises(fastws.InvalidStatus, match="404"):
            fastws.sync.connect(f"{house.url}nowhere")
        with fastws.sync.connect(house.url) as connection:
            with pytest.raises(TypeError):
                connection.send(7)
            connection.close()
            connection.close()
            with pytest.raises(fastws.ConnectionClosed):
                connection.send("late")
            with pytest.raises(fastws.ConnectionClosed):
                connection.receive()
            with pytest.raises(ValueError, match="1005"):
                connection.close(1005)

    await blocking(script)


# --- Interrupts, forks and the end of the interpreter: in programs of their own.


async def program(script: str, *arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdin=pipe, stdout=pipe, stderr=pipe
    )


async def outcome(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    out, err = await within(process.communicate())
    return process.returncode, out.decode(), err.decode()


async def test_ctrl_c_interrupts_and_loses_no_message(house):
    script = """
import fastws.sync, sys
with fastws.sync.connect(sys.argv[1]) as connection:
    for _ in range(2):
        try:
            print("waiting", flush=True)
            connection.receive()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    print(connection.receive())
"""
    process = await program(script, house.url)
    for _ in range(2):
        assert await within(process.stdout.readline()) == b"waiting\n"
        process.send_signal(signal.SIGINT)
        assert await within(process.stdout.readline()) == b"interrupted\n"
    house.connections[0].push_text("kept")
    assert await outcome(process) == (0, "kept\n", "")
    assert house.closed == [1000]


async def test_ctrl_c_interrupts_connecting():
    accepted = asyncio.Event()
    held = []

    async def hold(_, writer):
        held.append(writer)
        accepted.set()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    script = """
import fastws.sync, sys
try:
    fastws.sync.connect(sys.argv[1], open_timeout=None)
except KeyboardInterrupt:
    print("interrupted")
"""
    process = await program(script, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await within(accepted.wait())
    process.send_signal(signal.SIGINT)
    assert await outcome(process) == (0, "interrupted\n", "")
    server.close()
    for writer in held:
        writer.close()


async def test_what_is_open_at_the_end_of_the_program_is_closed(house):
    script = """
import fastws.sync, sys
connection = fastws.sync.connect(sys.argv[1])
connection.send("hello")
print(connection.receive())
"""
    assert await outcome(await program(script, house.url)) == (0, "HELLO\n", "")
    await until(lambda: house.closed == [1001])


async def test_a_forked_child_has_connections_of_its_own(house):
    script = """
import fastws, fastws.sync, os, sys
connection = fastws.sync.connect(sys.argv[1])
if (child := os.fork()) == 0:
    try:
        connection.send("from the child")
    except fastws.ForkedProcessError as error:
        print("forked", flush=True)
    with fastws.sync.connect(sys.argv[1]) as own:
        own.send("own")
        print(own.receive(), flush=True)
    sys.exit(0)
status = os.waitpid(child, 0)[1]
connection.send("parent")
print(connection.receive(), status)
connection.close()
"""
    code, out, err = await outcome(await program(script, house.url))
    assert (code, out) == (0, "forked\nOWN\nPARENT 0\n"), err
    await until(lambda: sorted(house.closed) == [1000, 1000])


async def test_a_notebook_may_use_it(house):
    """A loop runs in the main thread, and Ctrl-C reaches whoever waits there."""
    script = """
import asyncio, fastws.sync, sys
async def cell():
    with fastws.sync.connect(sys.argv[1]) as connection:
        connection.send("cell")
        print(connection.receive())
asyncio.run(cell())
"""
    assert await outcome(await program(script, house.url)) == (0, "CELL\n", "")


def test_importing_fastws_does_not_import_it():
    script = "import fastws, sys; assert 'fastws.sync' not in sys.modules; assert fastws.sync.connect"
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 0
