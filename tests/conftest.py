"""Every coroutine test runs on each event loop that a server may run on, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import traceback
import types
from pathlib import Path

import hypothesis
import pytest

import fastws
from fastws import _speedups, ws
from fastws._speedups import hub_of_thread
from fastws.testing import connected_pair

from .kit import certificates, checker, wires
from .kit.client import TLS, Client, open_connection, until
from .kit.services import Log
from .kit.wires import SMALL, narrow_socket

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
# Who starts the tests in the background (`&`, nohup) has these ignored, and what they start would inherit it
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SUITES = {"adversary", "chaos", "fuzz", "reenter", "soak"}  # with clients of their own, which know no TLS
MOST_PROCESSES = 4  # two a core, since half of the time they wait; but each of them collects all tests first

# A slow machine is no failure: nothing generated is judged by its time.
hypothesis.settings.register_profile("default", deadline=None, max_examples=10)
hypothesis.settings.register_profile("long", deadline=None, max_examples=100)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("default")


def pytest_asyncio_loop_factories(config, item):
    factories = {"asyncio": asyncio.new_event_loop}
    if sys.platform != "win32":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


def pytest_addoption(parser):
    parser.addoption("--tls", action="store_true", help="have servers and clients speak TLS")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Share the whole suite among the cores; what is named runs in this process, where a debugger is at home."""
    if "PYTEST_XDIST_WORKER" in os.environ or not config.pluginmanager.hasplugin("xdist"):
        return  # a worker comes here, too
    if not config.option.file_or_dir and not config.option.usepdb and config.option.numprocesses is None:
        config.option.numprocesses = min(2 * (os.cpu_count() or 1), MOST_PROCESSES)
        config.option.dist = "worksteal"


def pytest_ignore_collect(collection_path, config):
    return (
        True
        if config.getoption("tls") and collection_path.parent == FOLDER and collection_path.name in SUITES
        else None
    )


@pytest.hookimpl(tryfirst=True)  # before they are chosen by their marks
def pytest_collection_modifyitems(config, items):
    for item in items:
        elsewhere = item.get_closest_marker("browser") or item.path.name == "test_talk.py"
        if elsewhere and "asyncio" in item.name:
            item.add_marker(pytest.mark.slow)  # what another process sees, it sees on one loop as on the other
        mark = item.get_closest_marker("plain")
        if mark is not None and config.getoption("tls"):
            item.add_marker(pytest.mark.skip(reason=f"without TLS only: {mark.args[0]}"))


def pytest_collection_finish(session):
    """Spare the garbage collector, which is asked after many a test, what lives as long as all of them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Spare it also what pytest keeps of the tests of a file."""
    if nextitem is None or nextitem.path != item.path:
        pytest_collection_finish(item.session)


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory):
    """Run in an empty directory, and have every process that a test starts import what the tests import.

    `python -c` and `python -m` look into the working directory first, where the sources may lie and not be built.
    """
    here = [Path(fastws.__file__).parents[1], ROOT]  # for fastws, and for the helpers of the tests
    before = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([*map(str, here), *before]))
        if "coverage" not in sys.modules:  # it knows the files of a compiled module by their relative paths
            patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield


class Failures(logging.Handler):
    """The errors that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []
        # Also of records that a test has dropped: pytest has them still
        self.errors: list[tuple[BaseException, types.TracebackType]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if record.exc_info:
            self.errors.append(record.exc_info[1:])

    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture(scope="module", params=[True, False], ids=["vectors", "plain"])
def vectors(request):
    """Run on the vectors that this machine has, and on the plain loops that all have."""
    before = _speedups.use_vectors(request.param)
    yield
    _speedups.use_vectors(before)


@pytest.fixture
def failures():
    """For tests that expect errors: those that were logged."""
    handler = Failures()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def more_than(before: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What lives beyond what lived before, and is no garbage: to collect that takes long, and is needed seldom."""
    for collect in (lambda: None, gc.collect):
        collect()
        more = {kind: (before[kind], count) for kind, count in _speedups.live_objects().items() if count > before[kind]}
        if not more:
            break
    return more


def forget(trace) -> None:
    """Clear the frames of a traceback and of their callers, or they keep alive what they saw."""
    for frame, _ in traceback.walk_tb(trace):
        with contextlib.suppress(RuntimeError):  # one that still runs, as do all that called it
            while frame is not None:
                frame.clear()
                frame = frame.f_back


SENDERS = {
    "one by one": {"by_ring": False},
    "by ring": {"by_ring": True},
    "helped": {"by_ring": False, "helpers": 2},
    "helped, by ring": {"by_ring": True, "helpers": 2},
}


@pytest.fixture(params=SENDERS.values(), ids=SENDERS)
def senders(request, monkeypatch):
    """Each way to send what a turn collected, also where it does not pay."""

    def make_hub(*arguments):
        hub = hub_of_thread(*arguments)
        hub.send_with(**request.param, always=True)
        return hub

    monkeypatch.setattr(wires, "hub_of_thread", make_hub)


@pytest.fixture(autouse=True)
def nothing_left(request):
    """No error is logged but where a test looks for it, no client got a wrong byte, and nothing outlives a test."""
    expected = {"failures", "caplog", "capfd"} & set(request.fixturenames)
    failures = request.getfixturevalue("failures")
    before = _speedups.live_objects()
    yield
    assert not (damage := checker.found()), damage
    for error, trace in failures.errors:
        forget(trace)
        forget(error.__traceback__)  # another one, where it was raised once more
    request.node.funcargs.clear()  # or pytest keeps alive what fixtures made
    assert not more_than(before)
    assert expected or not failures.records, failures.messages()


@pytest.fixture
async def no_task_left():
    """Every task that a test started, or a server for it, has ended."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=1)
    assert not left


@pytest.fixture
async def serve(no_task_left, pytestconfig):
    """Serve services at a free port until the test ends: `server = await serve(Chat, close_timeout=1)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(*services: object, **options) -> fastws.Server:
            # Tests that wait for the end of this say so; others must not need it
            options = {"port": 0, "close_timeout": 5.0, **options}
            if not pytestconfig.getoption("tls") or "certfile" in options:
                return await stack.enter_async_context(fastws.serve(*services, **options))
            options = {"ssl": certificates.server_context(), **options}
            server = await stack.enter_async_context(fastws.serve(*services, **options))
            TLS.update({address[1]: certificates.client_context() for address in server.addresses})
            return server

        yield serve
    TLS.clear()


@pytest.fixture
async def connect(serve):
    """Connect a client: `client = await connect(server)`, to the first WebSocket or to a path."""
    clients: list[Client] = []

    async def connect(server: fastws.Server, path: str | None = None, **options) -> Client:
        if path is None:
            path = next(service.upgrade_path.text for service in server.services if service.upgrade)
        clients.append(await Client.connect(server.addresses[0][1], path, **options))
        return clients[-1]

    yield connect
    for client in clients:
        if not client.transport.is_closing():
            client.transport.abort()


@pytest.fixture
async def dial(serve):
    """Connect a client that has said these pieces and no more: `client = await dial(server, b"GET / HT")`."""
    clients: list[Client] = []

    async def dial(server: fastws.Server, *pieces: bytes, **options) -> Client:
        options = {"port": server.addresses[0][1], **options}
        clients.append(Client(*await open_connection(**options)))
        for piece in pieces:
            clients[-1].write(piece)
            await asyncio.sleep(0)
        return clients[-1]

    yield dial
    for client in clients:
        client.transport.abort()


@pytest.fixture
async def opened(serve, connect):
    """Serve one service to one client: `server, client, connection = await opened(Watch())`."""

    async def opened(service: Log, **options) -> tuple[fastws.Server, Client, ws.Connection]:
        server = await serve(service, **options)
        client = await connect(server)
        await until(lambda: service.connections)
        return server, client, service.connections[0]

    return opened


@pytest.fixture
async def pair(no_task_left):
    """Connect two services in memory: `connection, client = await pair(Chat, Recorder)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def pair(*sides: object, **options):
            return await stack.enter_async_context(connected_pair(*sides, **options))

        yield pair


@pytest.fixture
async def narrow(serve, connect):
    """A service at a narrow socket, clients that read only when told, and their connections in the same order."""

    async def narrow(service: Log, count: int = 1, **options):
        server = await serve(service, sock=narrow_socket(), port=None, **options)
        clients = []
        for number in range(count):
            clients.append(await connect(server, receive_buffer=SMALL))
            if server.secure:
                clients[-1].transport.set_read_buffer_limits(high=1)  # else TLS reads ahead
            clients[-1].transport.pause_reading()
            await until(lambda number=number: len(service.connections) > number)
        return clients, service.connections

    return narrow
