"""One sample: a server is started, loaded and killed, and the load generator says what it saw.

Server and load generator have one core each. Every step is bounded in time, and only processes that were started here
are ended. A server that does not start, or fails under load, is an answer too: the sample says why it has no figures.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import selectors
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contenders import Peer
from questions import Scenario

HERE = Path(__file__).parent
START_WITHIN = 15.0  # seconds until a server must have told its port
PATIENCE = 40.0  # seconds that one sample may take beyond the time that it measures
REASON_LEN = 160  # of what a failed program complains about, at most

# What a sample takes besides measuring, in seconds: for estimates only
STARTING = 0.5
CONNECTING = {False: 1 / 4000, True: 1 / 700}  # each, over TLS or not


@dataclass(frozen=True)
class Cores:
    """Where server and load generator run."""

    server: int
    load: int

    @classmethod
    def here(cls) -> Cores:
        """Return two different ones where there are two."""
        mine = sorted(os.sched_getaffinity(0))
        return cls(mine[0], mine[-1])


class NotMeasured(Exception):
    """There are no figures, and the reason is the message."""


# --- What has to be there first


@functools.cache
def folder() -> Path:
    """A directory of this process."""
    directory = tempfile.TemporaryDirectory(prefix="fastws-bench-")
    folder.keep = directory  # type: ignore[attr-defined]  # until the interpreter ends
    return Path(directory.name)


@functools.cache
def binaries() -> Path:
    """Compile the load generator and the floor server."""
    include = str(HERE.parent / "fastws" / "core")
    for source in (HERE / "load.c", HERE / "peers" / "floor.c"):
        target = str(folder() / source.stem)
        subprocess.run(["cc", "-O3", "-I", include, "-o", target, str(source), "-lm", "-ldl"], check=True)
    return folder()


@functools.cache
def certificate() -> Path:
    """A certificate for loopback, and its key, in one file."""
    try:
        import trustme
    except ImportError:
        raise NotMeasured("trustme, which makes certificates, is not installed") from None
    path = folder() / "certificate.pem"
    trustme.CA().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return path


def allow_many_files() -> None:
    """Let all programs that are started open as many as the system allows them."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


# --- Server and load


def first_line(process: subprocess.Popen, within: float) -> str:
    """What a program says first, or nothing if it ends or keeps silent."""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(within) else ""


def reason(complaints: str) -> str:
    lines = complaints.strip().splitlines()
    return lines[-1][:REASON_LEN] if lines else "no word of why"


@contextmanager
def server(command: list[str], core: int) -> Iterator[tuple[int, int]]:
    """Run a server on one core; yields its port and process id."""
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        try:
            port = first_line(process, START_WITHIN)
            if not port.strip().isdigit():
                complaints.seek(0)
                raise NotMeasured(f"did not start: {reason(port + complaints.read())}")
            yield int(port), process.pid
        finally:
            process.kill()
            process.communicate()


def load(scenario: Scenario, port: int, pid: int, seconds: float, core: int) -> dict:
    """Load a server; returns what the load generator found."""
    settings = scenario.facts() | {"port": port, "pid": pid, "seconds": seconds}
    arguments = [f"{name}={int(value) if isinstance(value, bool) else value}" for name, value in settings.items()]
    return found_by([str(binaries() / "load"), scenario.load, *arguments], seconds, core)


def found_by(command: list[str], seconds: float, core: int) -> dict:
    """Run what measures on one core; returns the figures that it prints."""
    command = ["taskset", "-c", str(core), *command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"did not finish within {seconds + PATIENCE:g} s") from None
    if done.returncode:
        raise NotMeasured(f"failed under load: {reason(done.stderr)}")
    return json.loads(done.stdout)


def client(peer: Peer, scenario: Scenario, port: int, seconds: float, core: int) -> dict:
    """Let a client measure itself at an echo server; returns what it found."""
    if peer.program == "floor":
        return floor_of_clients(scenario, port, seconds, core)
    settings = {"size": scenario.size, "window": scenario.window, "connections": scenario.connections}
    arguments = [f"--{name}={value}" for name, value in (settings | {"seconds": seconds}).items()]
    return found_by(peer.client_command(port, *arguments), seconds, core)


def floor_of_clients(scenario: Scenario, port: int, seconds: float, core: int) -> dict:
    """What the load generator, in C, needs itself: the least that a client can do."""
    if not scenario.size:
        raise NotMeasured("the load generator tells nothing of its own memory")
    settings = {"connections": 1, "size": scenario.size, "window": scenario.window, "port": port, "pid": os.getpid()}
    arguments = [f"{name}={value}" for name, value in (settings | {"seconds": seconds}).items()]
    found = found_by([str(binaries() / "load"), "echo", *arguments], seconds, core)
    rate = found["messages_per_second"]
    return {
        "messages_per_second": rate,
        "cpu_us": found["load_share"] / rate * 1e6,
        "client_share": found["load_share"],
    }


def sample(peer: Peer, scenario: Scenario, seconds: float, cores: Cores) -> dict:
    """Measure once; raises NotMeasured where that cannot be."""
    if scenario.is_of_clients:
        # The one whose CPU time counts has the core of those whose CPU time counts
        with server([str(binaries() / "floor"), "echo"], cores.load) as (port, _):
            return client(peer, scenario, port, seconds * scenario.lasts, cores.server)
    for feature, excuse in peer.cannot.items():
        if getattr(scenario, feature):
            raise NotMeasured(excuse)
    secret = certificate() if scenario.tls else None
    command = peer.command(binaries(), scenario.mode, scenario.deflate, secret)
    with server(command, cores.server) as (port, pid):
        return load(scenario, port, pid, seconds * scenario.lasts, cores.load)


def estimate(scenario: Scenario, seconds: float) -> float:
    """Seconds that one sample takes, about."""
    return STARTING + scenario.connections * CONNECTING[scenario.tls] + 1.2 * seconds * scenario.lasts
