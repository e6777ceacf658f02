from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Sequence

import pytest

import fastws
from fastws.process import cli, reload
from fastws.service.compile import compile

from ..kit import certificates

CHAT = """
from fastws import http, ws

@http.base_path("/chat")
@ws.upgrade_path("/websocket")
class Chat:
    @http.get("/motd")
    def motd(self):
        return "be kind"

@http.base_path("/news")
class News:
    def __init__(self, text="none"):
        self.text = text

    @http.get("/")
    def latest(self):
        return self.text

news = News("some")
"""

CHAT_LISTING = """\
ws://{0}/chat/websocket  Chat
http://{0}/chat/motd     Chat  GET
http://{0}/news          News  GET
"""


class Listening:
    """What the command shows of a server, and the arguments that it gave."""

    def __init__(self) -> None:
        self.services: tuple[object, ...] = ()
        self.options: dict[str, object] = {}
        self.addresses: list[object] = [("127.0.0.1", 9090)]
        self.secure = False

    def run(self, *services, on_listening, **options) -> None:
        self.services = tuple(compile(service) for service in services)
        self.options = options
        on_listening(self)


@pytest.fixture
def served(monkeypatch):
    listening = Listening()
    monkeypatch.setattr("fastws.process.cli.run", listening.run)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    return listening


@pytest.fixture
def chat(tmp_path):
    path = tmp_path / "chat_service.py"
    path.write_text(CHAT)
    return path


def names(served: Listening) -> list[str]:
    return [service.name for service in served.services]


# --- Finding services.


def test_all_services_of_a_file_are_served_and_listed(served, chat, capsys):
    assert cli.main(["run", str(chat)]) == 0
    assert names(served) == ["Chat", "News"]
    assert capsys.readouterr().out == CHAT_LISTING.format("127.0.0.1:9090")


def test_the_options_reach_the_server(served, chat):
    given = ["--host", "::1", "--port", "0", "--access-log", "--proxy-headers", "10.0.0.0/8,unix"]
    assert cli.main(["run", str(chat), *given]) == 0
    assert served.options == {"host": "::1", "port": 0, "access_log": True, "proxy_headers": "10.0.0.0/8,unix"}


def test_what_is_not_given_is_left_to_the_server(served, chat):
    assert cli.main(["run", str(chat)]) == 0
    assert served.options == {"access_log": False}


def test_every_option_of_the_server_reaches_it(served, chat):
    arguments = (
        "--unix chat.sock --unix-mode 660 --proxy-protocol --forwarded-field Forwarded "
        "--certfile c.pem --keyfile k.pem --client-ca a.pem "
        "--max-connections 1 --max-connections-per-address 2 --max-handshakes 3 --backlog 4 --fanout-threads 5 "
        "--kernel-backlog 11 --handshake-timeout 0.5 --keep-alive-timeout 6 --close-timeout 7 --slow-handler-time off "
        "--max-head-size 8 --max-head-fields 9 "
        "--max-body-size 10 --drain 12 --health"
    )
    assert cli.main(["run", str(chat), *arguments.split()]) == 0
    assert served.options == {
        "access_log": False,
        "unix": "chat.sock",
        "unix_mode": 0o660,
        "proxy_protocol": True,
        "forwarded_field": "Forwarded",
        "certfile": "c.pem",
        "keyfile": "k.pem",
        "client_ca": "a.pem",
        "max_connections": 1,
        "max_connections_per_address": 2,
        "max_handshakes": 3,
        "kernel_backlog": 11,
        "fanout_threads": 5,
        "backlog": 4,
        "handshake_timeout": 0.5,
        "keep_alive_timeout": 6.0,
        "close_timeout": 7.0,
        "slow_handler_time": None,
        "max_head_size": 8,
        "max_head_fields": 9,
        "max_body_size": 10,
        "drain": 12.0,
        "health": True,
    }


def test_the_help_shows_the_defaults_of_the_server(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "answered with 503 (default: 100000)" in text
    assert "(default: 1048576)" in text
    assert "(default: 600)" in text


def test_tls_is_listed_as_such(served, chat, capsys):
    served.secure = True
    cli.main(["run", str(chat)])
    assert capsys.readouterr().out.splitlines()[:2] == [
        "wss://127.0.0.1:9090/chat/websocket  Chat",
        "https://127.0.0.1:9090/chat/motd     Chat  GET",
    ]


def test_a_unix_socket_is_listed_with_its_path(served, chat, capsys):
    served.addresses = ["/run/chat.sock"]
    cli.main(["run", str(chat)])
    assert "ws+unix:/run/chat.sock:/chat/websocket" in capsys.readouterr().out


def test_a_descriptor_becomes_a_socket(served, chat):
    with socket.create_server(("127.0.0.1", 0)) as parent:
        assert cli.main(["run", str(chat), "--fd", str(os.dup(parent.fileno()))]) == 0
        with served.options["sock"] as sock:
            assert sock.getsockname() == parent.getsockname()


def test_a_descriptor_that_does_not_listen_is_one_line_and_a_status(served, chat, capsys):
    with socket.socket() as idle:
        assert cli.main(["run", str(chat), "--fd", str(idle.fileno())]) == 1
    assert capsys.readouterr().err.endswith("it is no stream socket that listens\n")


def test_an_address_of_ipv6_is_listed_in_brackets(served, chat, capsys):
    served.addresses = [("::1", 9090, 0, 0)]
    cli.main(["run", str(chat)])
    assert "ws://[::1]:9090/chat/websocket" in capsys.readouterr().out


def test_one_class_or_instance_is_served_by_its_name(served, chat):
    assert cli.main(["run", f"{chat}:Chat", f"{chat}:news"]) == 0
    assert names(served) == ["Chat", "News"]
    assert served.services[1].instance.text == "some"


def test_a_module_is_found_beside_the_working_directory(served, chat, monkeypatch):
    monkeypatch.chdir(chat.parent)
    assert cli.main(["run", "chat_service:News"]) == 0
    assert names(served) == ["News"]


def test_what_a_file_imports_is_not_served_twice(served, chat):
    other = chat.parent / "other.py"
    other.write_text("from chat_service import Chat, News\nclass Mine(Chat): pass\n" + CHAT.replace("Chat", "Talk"))
    assert cli.main(["run", str(other)]) == 0
    assert sorted(names(served)) == ["News", "Talk"]


# --- What goes wrong.


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("nowhere.py", 2, "there is no file nowhere.py"),
        ("nowhere.module", 2, "there is no module nowhere.module; a file is given as FILE.py"),
        ("chat_service:Nobody", 2, "chat_service has no Nobody"),
        ("chat_service:http", 1, "is no service"),
        ("string", 2, "string has no service; annotate a class of it"),
        ("wrong.py", 1, 'Wrong has no base path; annotate the class with @http.base_path("/...")'),
        ("marked.py", 1, 'http.base_path needs a path: write @http.base_path("/...")'),
    ],
)
def test_a_mistake_is_one_line_and_a_status(served, chat, monkeypatch, capsys, target, status, message):
    monkeypatch.chdir(chat.parent)
    (chat.parent / "wrong.py").write_text("from fastws import ws\n@ws.upgrade_path('/')\nclass Wrong: pass\n")
    (chat.parent / "marked.py").write_text("from fastws import http\n@http.base_path\nclass Wrong: pass\n")
    assert cli.main(["run", target]) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("fastws: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(("code", "last"), [("1 / 0", "ZeroDivisionError: division by zero"), ("def", "SyntaxError: ")])
def test_an_exception_in_a_file_is_shown_from_its_first_line(served, tmp_path, capsys, code, last):
    path = tmp_path / "failing.py"
    path.write_text(code + "\n")
    assert cli.main(["run", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(last)
    assert not any("cli.py" in line or "loading.py" in line or "importlib" in line for line in lines)
    assert any("failing.py" in line for line in lines[:2])


def test_an_import_that_a_module_misses_is_not_taken_for_the_module(served, tmp_path, monkeypatch, capsys):
    (tmp_path / "needs_more.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "needs_more"]) == 1
    assert "No module named 'nowhere_to_be_found'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["walk"],
        ["run", "a.py", "--rel"],
        ["run", "a.py", "--port", "70000"],
        ["run", "a.py", "--unix", "a.sock", "--port", "80"],
        ["run", "a.py", "--unix", "a.sock", "--fd", "3"],
        ["run", "a.py", "--fd", "three"],
        ["run", "a.py", "--unix-mode", "rw-"],
        ["run", "a.py", "--close-timeout", "soon"],
    ],
)
def test_a_wrong_command_is_refused_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: fastws" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastws {fastws.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_the_help_has_examples(arguments, capsys):
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert "fastws run chat.py --reload" in capsys.readouterr().out


# --- The command itself.


@pytest.fixture
def start(tmp_path):
    children = []

    def start(*arguments: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen[str]:
        # With --reload a file changes too soon for the time in what Python keeps of it
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "fastws", "run", *arguments]
        child = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        # Not killed: with --reload it has a child of its own to end.
        child.terminate()
        child.communicate(timeout=10)


def url_in(line: str) -> str:
    match = re.search(r"http://\S+", line)
    assert match is not None, line
    return match[0]


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_served_file_answers_until_a_signal_ends_it_with_status_0(start, chat, number):
    child = start(str(chat), "--port", "0")
    assert child.stdout is not None
    assert child.stdout.readline().startswith("ws://127.0.0.1:")
    assert read(url_in(child.stdout.readline())) == b"be kind"
    child.send_signal(number)
    assert child.wait(10) == 0
    assert child.stderr is not None
    assert child.stderr.read() == ""


def test_a_port_in_use_is_said_in_one_line(start, chat):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        child = start(str(chat), "--port", str(taken.getsockname()[1]))
        _, errors = child.communicate(timeout=10)
    assert child.returncode == 1
    assert re.fullmatch(
        r"fastws: cannot listen at 127\.0\.0\.1:\d+: .*in use; choose another --host or --port\n", errors
    )


@pytest.mark.parametrize("reloading", [[], ["--reload"]])
def test_an_inherited_socket_is_listened_at(start, chat, reloading):
    with socket.create_server(("127.0.0.1", 0)) as parent:
        child = start(str(chat), "--fd", str(parent.fileno()), *reloading, pass_fds=[parent.fileno()])
        assert child.stdout is not None
        child.stdout.readline()
        assert url_in(child.stdout.readline()) == f"http://127.0.0.1:{parent.getsockname()[1]}/chat/motd"
        assert read(f"http://127.0.0.1:{parent.getsockname()[1]}/chat/motd") == b"be kind"


@pytest.mark.parametrize("path", ["nowhere/chat.sock", "x" * 200])
def test_a_path_that_cannot_be_is_said_in_one_line(start, chat, path):
    child = start(str(chat), "--unix", path)
    _, errors = child.communicate(timeout=10)
    assert child.returncode == 1
    assert errors.startswith(f"fastws: unix='{path}': give a path of a folder that exists")


def test_a_path_in_use_is_said_in_one_line(start, chat):
    child = start(str(chat), "--unix", "chat.sock")
    assert child.stdout is not None
    assert child.stdout.readline() == "ws+unix:chat.sock:/chat/websocket  Chat\n"
    other = start(str(chat), "--unix", "chat.sock")
    _, errors = other.communicate(timeout=10)
    assert other.returncode == 1
    assert errors == "fastws: cannot listen at chat.sock: Address already in use; choose another --unix\n"


def test_a_hangup_renews_the_certificate_and_bad_files_leave_it(start, chat, tmp_path):
    files = certificates.Files(tmp_path)
    arguments = ["--port", "0", "--certfile", str(files.certfile), "--keyfile", str(files.keyfile)]
    child = start(str(chat), *arguments)
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.readline().startswith("wss://127.0.0.1:")
    port = int(child.stdout.readline().split("/")[2].rpartition(":")[2])
    serial = files.renew()
    child.send_signal(signal.SIGHUP)
    assert "the certificate was read again" in child.stderr.readline()
    assert certificate_at(port) == serial
    files.keyfile.unlink()
    child.send_signal(signal.SIGHUP)
    assert "ERROR fastws: the certificate stays as it is: certfile " in child.stderr.readline()
    assert certificate_at(port) == serial


def certificate_at(port: int) -> int:
    context = certificates.client_context()
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    with context.wrap_socket(sock, server_hostname="localhost") as secure:
        return certificates.serial_of(ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True)).encode())


def test_a_change_starts_the_service_again_also_after_a_syntax_error(start, tmp_path):
    path = tmp_path / "motd.py"
    helper = tmp_path / "motd_text.py"
    helper.write_text("text = 'first'\n")
    path.write_text(
        "from fastws import http\nimport motd_text\n@http.base_path('/')\nclass Motd:\n"
        "    @http.get('/')\n    def motd(self):\n        return motd_text.text\n"
    )
    child = start(str(path), "--port", "0", "--reload")
    assert child.stdout is not None
    assert child.stderr is not None
    assert read(url_in(child.stdout.readline())) == b"first"
    helper.write_text("text = (\n")
    assert child.stderr.readline() == "fastws: code changed, starting again\n"
    while child.stderr.readline() != "fastws: ended; waiting for a change\n":
        pass
    helper.write_text("text = 'second'\n")
    assert read(url_in(child.stdout.readline())) == b"second"
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 0


@pytest.mark.slow
def test_a_service_that_cannot_start_is_started_when_its_file_is_mended(start, chat):
    broken = chat.parent / "broken.py"
    broken.write_text("def\n")
    chat.write_text("import broken\n" + CHAT)
    child = start(str(chat), "--port", "0", "--reload")
    assert child.stdout is not None
    assert child.stderr is not None
    while child.stderr.readline() != "fastws: ended; waiting for a change\n":
        pass
    broken.write_text("")
    assert child.stdout.readline().startswith("ws://127.0.0.1:")


def test_nothing_is_reported_when_nobody_watches(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTWS_RELOAD_REPORT", raising=False)
    reload.report()
    monkeypatch.setenv("FASTWS_RELOAD_REPORT", str(tmp_path / "files"))
    reload.report()
    files = [line.partition(" ")[2] for line in (tmp_path / "files").read_text().splitlines()]
    assert cli.__file__ in files or "site-packages" in cli.__file__
    assert os.__file__ not in files


# --- What people try.


@pytest.mark.parametrize("source", ["chat.html", "./chat.html", "README"])
def test_a_file_that_is_no_python_is_refused_in_one_line(tmp_path, monkeypatch, capsys, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chat.py").write_text(CHAT)
    for name in ("chat.html", "README"):
        (tmp_path / name).write_text("<!doctype html>")
    assert cli.main(["run", source]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastws: ")
    assert error.count("\n") == 1
    assert "FILE.py" in error
    assert "chat" not in sys.modules


SERVES_BY_ITSELF = {
    "fastws.run": "fastws.run(Chat, port=0)",
    "asyncio.run": """
async def main():
    async with fastws.serve(Chat, port=0):
        await asyncio.Event().wait()

asyncio.run(main())
""",
}


@pytest.mark.parametrize("call", SERVES_BY_ITSELF.values(), ids=SERVES_BY_ITSELF)
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "bare"])
def test_a_file_that_serves_by_itself_is_told_to_look_who_runs_it(tmp_path, monkeypatch, capsys, served, call, guarded):
    monkeypatch.chdir(tmp_path)
    lines = call.strip().splitlines()
    if guarded:
        lines = ['if __name__ == "__main__":', *(f"    {line}" for line in lines)]
    (tmp_path / "alone.py").write_text("\n".join([CHAT, "import asyncio, fastws", *lines]))
    try:
        assert cli.main(["run", "alone.py", "--port", "0"]) == (0 if guarded else 1)
    finally:
        sys.modules.pop("alone", None)
    error = capsys.readouterr().err
    assert error.count('if __name__ == "__main__":') == (0 if guarded else 1)
    assert guarded or error.startswith("fastws: alone.py starts a server when it is imported")


PROGRAM = """
import os, signal, sys
import fastws
{before}
from chat import Chat

@fastws.http.base_path("/stops")
@fastws.ws.upgrade_path("/")
class Stops:
    @fastws.ws.on_start
    async def ask(self, server):
        import asyncio
        reader, writer = await asyncio.open_connection(*server.addresses[0][:2])
        writer.write(b"GET /chat/motd?token=s3cret HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        await reader.read()
        writer.close()
        os.kill(os.getpid(), signal.SIGTERM)

fastws.run(Chat, Stops, port=0, access_log={access})
"""


@pytest.mark.parametrize("before", ["", "import logging; logging.basicConfig(level='WARNING', format='%(message)s')"])
@pytest.mark.parametrize("access", [True, False])
def test_a_program_says_where_it_listens_and_logs_what_it_is_asked_to(tmp_path, before, access):
    (tmp_path / "chat.py").write_text(CHAT)
    script = PROGRAM.format(before=before, access=access)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
    assert done.returncode == 0
    listing = [*CHAT_LISTING.splitlines()[:2], "ws://{0}/stops           Stops"]
    assert re.sub(r"127.0.0.1:\d+", "{0}", done.stdout).splitlines() == listing
    logged = [line for line in done.stderr.splitlines() if "GET /chat/motd?token=***" in line]
    assert len(logged) == access
    assert done.stderr.count("\n") == access
