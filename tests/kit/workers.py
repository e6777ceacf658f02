"""A service in several processes: the command with ``--workers``, and what can be seen of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

from .client import Client, until, within

# Says on request which process it is, and tells when that ends; not with print, whose line another's may come into
SERVICE = """
import os
from fastws import http, ws

@http.base_path("/")
@ws.upgrade_path("/")
class Chat:
    @ws.on_text_message
    def said(self, text: str) -> str:
        return str(os.getpid())

    @ws.on_stop
    def stop(self):
        os.write(1, b"stop %d\\n" % os.getpid())

    @http.get("/pid")
    def pid(self):
        return str(os.getpid())
"""

HAS_PROC = Path("/proc/self/task").exists()


class Workers:
    """The command, in a process group of its own, as at a terminal.

    Attributes:
        process: the supervisor.
        port: where it listens, once `listens` has returned.
        count: of workers, likewise.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = self.count = 0
        self.clients: list[Client] = []

    @classmethod
    async def start(cls, folder: Path, *command: str, pass_fds: Collection[int] = ()) -> Workers:
        """Run Python with a command."""
        pipe = asyncio.subprocess.PIPE
        # With --reload a file changes too soon for the time in what Python keeps of it
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, *command),
                cwd=folder,
                env=environment,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        )

    # --- What it says.

    async def says(self) -> str:
        return (await within(self.process.stdout.readline())).decode().rstrip()

    async def listens(self) -> int:
        """Wait for the announcement of `SERVICE`."""
        found = re.match(r"wss?://127\.0\.0\.1:(\d+)/", await self.says())
        assert found is not None, (await within(self.process.stderr.read())).decode()
        await self.says()
        self.port = int(found[1])
        self.count = len(self.pids())
        return self.port

    async def logs(self, part: str) -> str:
        """Wait for a line on stderr with a part in it."""
        while part not in (line := (await within(self.process.stderr.readline())).decode()):
            assert line, f"it ended without saying {part!r}"
        return line.rstrip()

    async def end(self) -> tuple[list[str], str, int]:
        """The rest of its output, its errors and its status."""
        output, errors = await within(self.process.communicate())
        return output.decode().splitlines(), errors.decode(), self.process.returncode

    # --- Its processes.

    def pids(self) -> list[int]:
        number = self.process.pid
        try:
            children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        except OSError:
            return []
        return [int(child) for child in children]

    async def replaced(self, pid: int) -> list[int]:
        """Wait until there is another process instead of one that ends; returns all."""
        await until(lambda: pid not in self.pids() and len(self.pids()) == self.count)
        return self.pids()

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to all processes, as a terminal does."""
        os.killpg(self.process.pid, number)

    async def clean_up(self) -> None:
        for client in self.clients:
            client.transport.abort()
        left = self.pids()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await within(self.process.communicate())

    # --- Its clients.

    async def connect(self) -> Client:
        self.clients.append(await Client.connect(self.port, "/"))
        return self.clients[-1]

    async def client_of_each(self) -> dict[int, Client]:
        """Connect until every worker has a client; returns one of each, by its process."""
        found: dict[int, Client] = {}
        while set(found) != set(self.pids()):
            client = await self.connect()
            pid = int(await client.asks("who"))
            if found.setdefault(pid, client) is not client:
                client.transport.abort()
        return found


@contextlib.asynccontextmanager
async def starting(folder: Path) -> AsyncIterator[Callable[..., Awaitable[Workers]]]:
    """Yield what starts the command and ends with all that it has started.

    `await start("--workers", "2")` serves `SERVICE` at a port, another service if one is given, and elsewhere with
    `port=False`; with a `program` that runs, and the arguments are its own.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *arguments: str, service: str | None = SERVICE, port: bool = True, program: str | None = None, **options
        ) -> Workers:
            if service is not None:
                (folder / "chat.py").write_text(service)
            place = ["--port", "0"] if port else []
            run = ["-m", "fastws", "run", "chat.py", *place] if program is None else ["-c", program]
            workers = await Workers.start(folder, *run, *arguments, **options)
            stack.push_async_callback(workers.clean_up)
            return workers

        yield start


def is_alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def listening_inodes(port: int) -> set[str]:
    """The sockets that listen at a port, whoever has them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


async def visit(port: int, visitors: list[asyncio.StreamWriter], **options) -> int:
    """Connect, ask which process it is, and stay."""
    reader, writer = await within(asyncio.open_connection("127.0.0.1", port, **options))
    visitors.append(writer)
    writer.write(b"GET /pid HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await within(reader.readuntil(b"\r\n\r\n"))
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    return int(await within(reader.readexactly(length)))


async def crowd(port: int, count: int, **options) -> Counter[int]:
    """Have so many clients connect at once, and stay until all are served; returns how many each process has."""
    visitors: list[asyncio.StreamWriter] = []
    try:
        return Counter(await asyncio.gather(*(visit(port, visitors, **options) for _ in range(count))))
    finally:
        for writer in visitors:
            writer.transport.abort()
