"""Run the two commands of the README as they stand there, each in a new clone: ``readme.py [serve] [test]``.

``serve`` waits for the page, opens a WebSocket, ends the server with SIGTERM and wants status 0. ``test`` wants status
0 within ``--seconds``. Needs git and what the README says, and no fastws. Only what is committed is in the clone.
"""

import argparse
import base64
import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"serve": "fastws run", "test": "pytest"}  # what each of them ends with
ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
START_TIMEOUT = 600  # seconds, for everything to be installed and compiled
END_TIMEOUT = 30
ANSWER_TIMEOUT = 10


def command_and_page(name: str) -> tuple[str, str]:
    """Return a command of the README, and the page that it speaks of."""
    _, _, section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Two commands\n")
    section = section.partition("\n## ")[0]
    commands = re.findall(r"```sh\n(.+)\n```", section)
    assert len(commands) == len(COMMANDS), commands
    [command] = [command for command in commands if COMMANDS[name] in command.rpartition("&&")[2]]
    [page] = re.findall(r"<(http://\S+)>", section)
    return command, page


@contextlib.contextmanager
def running(command: str) -> Iterator[subprocess.Popen]:
    """Run a command in a new clone, as a user's shell would; whatever is left of it is killed in the end."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), directory], check=True)
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        print(f"$ {command}", flush=True)
        process = subprocess.Popen(
            # A signal to all is for the program; the shell waits for it and passes its status on
            ["bash", "-c", f"trap : TERM\n{command}"],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_page(page: str, process: subprocess.Popen) -> bytes:
    """Return the page as soon as the server gives it."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the command ended with status {process.returncode} before it served {page}")
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(page, timeout=ANSWER_TIMEOUT) as answer:
            return answer.read()
        time.sleep(0.2)
    sys.exit(f"{page} did not answer within {START_TIMEOUT} s")


def open_websocket(url: str) -> socket.socket:
    """Return a connection after an opening handshake that succeeded."""
    where = urlsplit(url)
    key = base64.b64encode(os.urandom(16))
    sock = socket.create_connection((where.hostname, where.port), ANSWER_TIMEOUT)
    sock.sendall(
        f"GET {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        got = sock.recv(4096)
        assert got, f"{url}: closed within the answer {head!r}"
        head += got
    accept = base64.b64encode(hashlib.sha1(key + ACCEPT_GUID).digest())
    assert re.match(rb"HTTP/1.1 101 .*" + re.escape(accept), head, re.DOTALL), f"{url}: {head!r}"
    return sock


def closing_code(sock: socket.socket) -> int:
    """Return the code of the close frame with which the server ends the connection."""
    with sock, sock.makefile("rb") as stream:
        while head := stream.read(2):
            payload = stream.read(head[1])  # nothing that the chat says to a guest without a name is longer
            if head[0] == 0x88:
                return int.from_bytes(payload[:2], "big")
    return 1006


def serve() -> None:
    """Run the command that serves the chat, visit it and end it."""
    command, page = command_and_page("serve")
    port = urlsplit(page).port
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT):
        sys.exit(f"port {port} is in use already")
    with running(command) as process:
        content = wait_for_page(page, process)
        assert b"WebSocket" in content, content
        sock = open_websocket(urljoin(page, "websocket"))
        os.killpg(process.pid, signal.SIGTERM)
        code = closing_code(sock)
        status = process.wait(END_TIMEOUT)
    if (code, status) != (1001, 0):
        sys.exit(f"at SIGTERM the WebSocket was closed with {code} and the status was {status}, instead of 1001 and 0")
    print(f"{page} answered, its WebSocket opened and was closed with 1001, and SIGTERM ended it with status 0")


def test(seconds: float) -> None:
    """Run the command that tests, and see how long it takes."""
    command, _ = command_and_page("test")
    started = time.monotonic()
    with running(command) as process:
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            sys.exit(f"the command that tests takes longer than {seconds:g} s")
    if status:
        sys.exit(f"the command that tests ended with status {status}")
    print(f"the command that tests took {time.monotonic() - started:.0f} s of {seconds:g}")


def main() -> None:
    """Run what is named, or both."""
    parser = argparse.ArgumentParser(description="Run the commands of the README, each in a new clone.")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help="serve or test (default: both)")
    parser.add_argument("--seconds", type=float, default=600, help="that the tests may take (default: %(default)s)")
    arguments = parser.parse_args()
    chosen = arguments.commands or list(COMMANDS)
    if unknown := set(chosen) - set(COMMANDS):
        parser.error(f"no such command: {', '.join(sorted(unknown))}")
    if "serve" in chosen:
        serve()
    if "test" in chosen:
        test(arguments.seconds)


if __name__ == "__main__":
    main()
