"""The proxies of docs/deployment.md, each run with the configuration that stands there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..kit.certificates import Files
from ..kit.engines import free_port

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
TIMEOUT = 20  # seconds

# What stands in the configurations, and what the tests have instead: nothing of theirs is open to the network.
LISTENING = {
    "listen 443": "listen 127.0.0.1:{port}",
    "bind :443": "bind 127.0.0.1:{port}",
    "<VirtualHost *:443>": "<VirtualHost 127.0.0.1:{port}>",
    '":443"': '"127.0.0.1:{port}"',
    '"[*]:443"': '"[127.0.0.1]:{port}"',
    "accept = 443": "accept = 127.0.0.1:{port}",
    ":443 {": ":{port} {\n    bind 127.0.0.1",
}


def configuration(language: str) -> str:
    """The one block of the page in this language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return block


def write_certificates(folder: Path) -> int:
    """Write a new certificate in the forms that the configurations want; returns its serial number."""
    files = Files(folder)
    serial = files.renew()
    certificate, key = files.certfile.read_bytes(), files.keyfile.read_bytes()
    for name, content in (("fullchain.pem", certificate), ("privkey.pem", key), ("combined.pem", key + certificate)):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)  # for workers that are not root
    return serial


@dataclass
class Proxy:
    """A proxy, and how it is started in the foreground.

    Attributes:
        name: as the page has it.
        program: what is looked for.
        command: its arguments; ``{folder}`` and ``{port}`` are filled in.
        around: the file that the configuration stands in, where it is not a whole one, at ``{block}``.
        tls: whether its clients speak TLS.
        secure: whether it tells so.
        options: of the server behind it.
        reload: the signal that has it read its configuration again and keep its connections.
        unix: what says where the server is, and what says so of a Unix socket.
        change: what stands in the configuration, and what a test has there instead.
    """

    name: str
    program: str
    command: list[str]
    around: str = "{block}"
    tls: bool = True
    secure: bool = True
    options: dict = field(
        default_factory=lambda: {"proxy_headers": "127.0.0.1,unix", "forwarded_field": "X-Forwarded-For"}
    )
    reload: int | None = None
    unix: tuple[str, str] | None = None
    change: tuple[str, str] = ("", "")

    @property
    def language(self) -> str:
        """What its block on the page is marked with."""
        return "vcl" if self.name == "varnish" else self.name

    @property
    def path(self) -> str | None:
        return shutil.which(self.program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


PROXIES = [
    Proxy(
        "nginx",
        "nginx",
        ["-p", "{folder}", "-c", "{folder}/configuration", "-e", "stderr"],
        """
daemon off;
pid {folder}/pid;
error_log stderr;
worker_processes 1;
{user}
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {block}
}}
""",
        reload=signal.SIGHUP,
        unix=("server 127.0.0.1:9090;", "server unix:{socket};"),
    ),
    Proxy(
        "haproxy",
        "haproxy",
        ["-W", "-db", "-f", "{folder}/configuration"],
        reload=signal.SIGUSR2,
        unix=("127.0.0.1:9090", "unix@{socket}"),
    ),
    Proxy(
        "apache",
        "apache2",
        ["-D", "FOREGROUND", "-f", "{folder}/configuration"],
        """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
ErrorLog /dev/stderr
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule headers_module {modules}/mod_headers.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule ssl_module {modules}/mod_ssl.so
{identity}
{block}
""",
        reload=signal.SIGUSR1,
        unix=("http://127.0.0.1:9090/", "unix:{socket}|http://localhost/"),
    ),
    Proxy(
        "caddy",
        "caddy",
        ["run", "--config", "{folder}/configuration", "--adapter", "caddyfile"],
        """
{{
    admin off
    auto_https off
    default_sni localhost
}}
{block}
""",
        unix=("127.0.0.1:9090", "unix/{socket}"),
    ),
    Proxy(
        "lighttpd",
        "lighttpd",
        ["-D", "-f", "{folder}/configuration"],
        """
server.document-root = "{folder}"
server.bind = "127.0.0.1"
server.port = {other_port}
{block}
""",
        unix=('"host" => "127.0.0.1", "port" => 9090', '"host" => "{socket}"'),
    ),
    Proxy(
        "varnish",
        "varnishd",
        [
            "-F",
            "-j",
            "none",
            "-n",
            "{folder}/state",
            "-a",
            "127.0.0.1:{port}",
            "-f",
            "{folder}/configuration",
            "-s",
            "malloc,16m",
        ],
        tls=False,
        secure=False,
        unix=('.host = "127.0.0.1";\n    .port = "9090";', '.path = "{socket}";'),
    ),
    Proxy(
        "hitch",
        "hitch",
        ["--config={folder}/configuration"],
        """
{hitch_user}
{block}
""",
        options={"proxy_protocol": True},
        reload=signal.SIGHUP,
        unix=('"[127.0.0.1]:9090"', '"{socket}"'),
    ),
    Proxy(
        "stunnel",
        "stunnel",
        ["{folder}/configuration"],
        """
foreground = yes
pid =
debug = warning
{block}
""",
        secure=False,
        options={"proxy_protocol": True},
        reload=signal.SIGHUP,
    ),
]


@contextlib.contextmanager
def running(proxy: Proxy, folder: Path, backend: int | Path):
    """Run a proxy in front of a port or of the path of a socket; yields its own port and its process."""
    write_certificates(folder)
    folder.chmod(0o755)
    port = free_port()
    (folder / "configuration").write_text(_fill(proxy, folder, port, backend))
    if proxy.name == "varnish":
        (folder / "state").mkdir()
    command = [text.format(folder=folder, port=port) for text in proxy.command]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [proxy.path, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True
    )
    try:
        _wait_until_it_listens(process, port, folder)
        yield port, process
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, if it left any
        log.close()


def _fill(proxy: Proxy, folder: Path, port: int, backend: int | Path) -> str:
    block = configuration(proxy.language)
    assert proxy.change[0] in block
    block = block.replace(*proxy.change) if proxy.change[0] else block
    if isinstance(backend, Path):
        assert proxy.unix is not None
        tcp, unix = proxy.unix
        assert tcp in block
        block = block.replace(tcp, unix.format(socket=backend))
    else:
        block = block.replace("9090", str(backend))
    for listening, here in LISTENING.items():
        block = block.replace(listening, here.replace("{port}", str(port)))
    block = block.replace("/etc/chat", str(folder))
    root = os.getuid() == 0
    return proxy.around.format(
        block=block,
        folder=folder,
        port=port,
        other_port=free_port(),
        modules="/usr/lib/apache2/modules",
        identity="User nobody\nGroup nogroup" if root else "",
        user="user root;" if root else "",
        hitch_user='user = "nobody"' if root else "",
    )


def _wait_until_it_listens(process: subprocess.Popen, port: int, folder: Path) -> None:
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError((folder / "log").read_text(errors="replace"))
