"""Files of a directory: the whole or a part of one, and no way out of the directory."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import stat
import tempfile
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastws
from fastws import http
from fastws.errors import ConfigurationError
from fastws.http1 import files as served
from fastws.http1.connection import FILE_PIECE
from fastws.service.compile import compile
from fastws.service.routing import Router

from ..kit.client import open_connection, until, within
from ..kit.services import at

if TYPE_CHECKING:
    from typing_extensions import Self

SECRET = b"the secret"
TEXT = b"0123456789"
MTIME = 1_700_000_000
MODIFIED = formatdate(MTIME, usegmt=True)
ETAG = f'"{MTIME * 10**9:x}-{len(TEXT):x}"'


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "public"
    (folder / "docs" / "sub").mkdir(parents=True)
    for name, content in {
        "ten.txt": TEXT,
        "empty.txt": b"",
        "große datei.bin": b"umlaut",
        "docs/index.html": b"<p>index",
        "docs/a.css": b"p {}",
        ".env": SECRET,
        "docs/.git": SECRET,
        "index.html": b"<p>root",
    }.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (MTIME, MTIME))
    (folder / ".well-known").mkdir()
    (folder / ".well-known" / "security.txt").write_bytes(b"ask us")
    (tmp_path / "secret.txt").write_bytes(SECRET)
    return folder


@pytest.fixture
def site(serve, directory):
    async def start(**options):
        @http.base_path("/")
        @http.files("/static", directory, **options)
        class Site:
            @http.get("/static/own.txt")
            def own(self) -> str:
                return "a resource"

        return await serve(Site)

    return start


async def ask(server, path: str, *, method: str = "GET", **fields: str) -> tuple[int, dict[str, str], bytes]:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    request = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", *lines, "", ""])
    reader, writer = await open_connection(server.addresses[0][1])
    writer.write(request.encode("latin-1"))
    answered = await within(reader.read(-1))
    writer.close()
    head, _, body = answered.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    return int(line.split()[1]), dict(text.lower().split(": ", 1)[:1] + text.split(": ", 1)[1:] for text in lines), body


# --- What is found.


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/static/ten.txt", "text/plain; charset=utf-8", TEXT),
        ("/static/ten.txt?v=3", "text/plain; charset=utf-8", TEXT),
        ("/static/%74en%2etxt", "text/plain; charset=utf-8", TEXT),
        ("/static/empty.txt", "text/plain; charset=utf-8", b""),
        ("/static/gro%C3%9Fe%20datei.bin", "application/octet-stream", b"umlaut"),
        ("/static/docs/a.css", "text/css; charset=utf-8", b"p {}"),
        ("/static/docs/", "text/html; charset=utf-8", b"<p>index"),
        ("/static/docs/index.html", "text/html; charset=utf-8", b"<p>index"),
        ("/static/", "text/html; charset=utf-8", b"<p>root"),
        ("/static/.well-known/security.txt", "text/plain; charset=utf-8", b"ask us"),
        ("/static/own.txt", "text/plain; charset=utf-8", b"a resource"),
    ],
)
async def test_a_file_is_sent_whole_and_its_name_says_what_it_is(site, path, kind, body):
    status, fields, received = await ask(await site(), path)
    assert (status, fields["content-type"], received) == (200, kind, body)
    assert fields["content-length"] == str(len(body))


async def test_a_file_is_described(site):
    server = await site(headers={"Cache-Control": "max-age=60"})
    status, fields, body = await ask(server, "/static/ten.txt")
    assert (status, body) == (200, TEXT)
    del fields["date"]
    assert fields == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "10",
        "x-content-type-options": "nosniff",
        "cache-control": "max-age=60",
        "etag": ETAG,
        "last-modified": MODIFIED,
        "accept-ranges": "bytes",
        "connection": "close",
    }
    head, described, nothing = await ask(server, "/static/ten.txt", method="HEAD")
    del described["date"]
    assert (head, described, nothing) == (200, fields, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/none.txt",
        "/static/none/ten.txt",
        "/static/ten.txt/",
        "/static/ten.txt/more",
        "/static/docs/sub/",
        "/static/docs/sub",
        "/static/" + "a" * 300,
        "/static/" + "a/" * 2000,
        "/static/.env",
        "/static/docs/.git",
        "/static/%2eenv",
        "/static/ten.txt%00",
        "/static/%00",
        "/static/ten.txt%00.html",
        "/static/..",
        "/static/../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/..%2fsecret.txt",
        "/static/%2e%2e%2fsecret.txt",
        "/static/docs/..%2f..%2fsecret.txt",
        "/static/docs%2fa.css",
        "/static/..\\secret.txt",
        "/static/..%5csecret.txt",
        "/static/%252e%252e/secret.txt",
        "/static/%c0%ae%c0%ae/secret.txt",
        "/static//ten.txt",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/./ten.txt",
        "/static/%ff",
        "/staticten.txt",
        "/secret.txt",
    ],
)
async def test_nothing_else_is_found(site, path):
    for method in ("GET", "HEAD"):
        status, _, body = await ask(await site(), path, method=method)
        assert status == 404
        assert SECRET not in body


async def test_no_symbolic_link_is_followed(site, directory):
    (directory / "out.txt").symlink_to(directory.parent / "secret.txt")
    (directory / "up").symlink_to(directory.parent)
    (directory / "in.txt").symlink_to("ten.txt")
    (directory / "loop").symlink_to("loop")
    (directory / "docs" / "sub" / "index.html").symlink_to(directory.parent / "secret.txt")
    server = await site()
    for path in ("out.txt", "up/secret.txt", "up/public/ten.txt", "in.txt", "loop", "docs/sub/", "up", "up/"):
        status, _, body = await ask(server, f"/static/{path}")
        assert status == 404
        assert SECRET not in body


NAMES = ["..", ".", "", "docs", "sub", "a.css", "ten.txt", "up", "in", "public", "secret.txt", "\0", "*", "~", "c:"]


def escaped(text: str) -> str:
    return "".join(f"%{ord(letter):02X}" for letter in text)


@given(
    st.lists(st.sampled_from(NAMES).flatmap(lambda name: st.sampled_from([name, escaped(name)])), max_size=6), st.data()
)
def test_no_path_leads_to_what_lies_outside(names, data):
    with tempfile.TemporaryDirectory() as name:
        public = Path(name) / "public"
        (public / "docs" / "sub").mkdir(parents=True)
        (public / "ten.txt").write_bytes(TEXT)
        (public / "docs" / "a.css").write_bytes(TEXT)
        (Path(name) / "secret.txt").write_bytes(SECRET)
        (public / "up").symlink_to("..")
        (public / "docs" / "in").symlink_to(Path(name))
        service = compile(http.base_path("/")(http.files("/", public)(type("Site", (), {}))))
        path = "".join(data.draw(st.sampled_from(["/", "/", "%2F", "//"])) + name for name in names)
        for route, (rest,) in Router([service]).resolve(path):
            handler = route.resources["GET"].handler.function
            answered = handler.__self__._answer(http.Request("GET", path.encode(), []), rest)
            assert answered.file is None or answered.file.read(0, 100) == TEXT


async def test_the_directory_itself_may_be_a_link_that_changes(serve, directory):
    current = directory.parent / "current"
    current.symlink_to(directory)
    server = await serve(http.base_path("/")(http.files("/", current)(type("Site", (), {}))))
    assert (await ask(server, "/ten.txt"))[2] == TEXT
    other = directory.parent / "other"
    other.mkdir()
    (other / "ten.txt").write_bytes(b"another ten")
    current.unlink()
    current.symlink_to(other)
    assert (await ask(server, "/ten.txt"))[2] == b"another ten"


async def test_what_is_no_file_is_not_opened_for_long(site, directory):
    os.mkfifo(directory / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "socket"))
        server = await site()
        for name in ("fifo", "socket"):
            status, _, body = await ask(server, f"/static/{name}")
            assert (status, body) == (404, b"Not Found\n")


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/static/docs", "./docs/"),
        ("/static/docs?a=b", "./docs/?a=b"),
        ("/static/%64ocs", "./%64ocs/"),
        ("/static", "./static/"),
    ],
)
async def test_a_folder_with_an_index_has_a_slash_behind_it(site, path, location):
    status, fields, _ = await ask(await site(), path)
    assert (status, fields["location"]) == (307, location)


async def test_an_index_may_have_another_name_or_none(site):
    server = await site(index=None)
    for path in ("/static/docs/", "/static/docs", "/static/"):
        assert (await ask(server, path))[0] == 404
    server = await site(index="a.css")
    assert (await ask(server, "/static/docs/"))[2] == b"p {}"


async def test_other_methods_are_refused(site):
    server = await site()
    for path in ("/static/ten.txt", "/static/none"):
        for method in ("POST", "DELETE"):
            status, fields, _ = await ask(server, path, method=method)
            assert (status, fields["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.JSON", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.tar.gz", "application/gzip"),
        ("a.html.br", "application/octet-stream"),
        ("html", "application/octet-stream"),
        ("data:text/html,b", "application/octet-stream"),
        ("a.", "application/octet-stream"),
    ],
)
def test_the_end_of_a_name_decides_its_type(name, kind):
    assert served.content_type(name).decode() == kind


# --- Conditions.

OLDER, NEWER = formatdate(MTIME - 1, usegmt=True), formatdate(MTIME + 1, usegmt=True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If_None_Match": ETAG}, 304),
        ({"If_None_Match": "W/" + ETAG}, 304),
        ({"If_None_Match": f'"x", {ETAG}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"x"'}, 200),
        ({"If_None_Match": ETAG.strip('"')}, 200),
        ({"If_Modified_Since": MODIFIED}, 304),
        ({"If_Modified_Since": NEWER}, 304),
        ({"If_Modified_Since": OLDER}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
        ({"If_Modified_Since": "Tue, 99 Nov 99999999 22:13:20 GMT"}, 200),
        # The first of them counts where there are both.
        ({"If_None_Match": '"x"', "If_Modified_Since": NEWER}, 200),
        ({"If_None_Match": ETAG, "If_Modified_Since": OLDER}, 304),
        ({"If_Match": ETAG}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": '"x"'}, 412),
        ({"If_Match": "W/" + ETAG}, 412),
        ({"If_Unmodified_Since": MODIFIED}, 200),
        ({"If_Unmodified_Since": OLDER}, 412),
        ({"If_Match": ETAG, "If_Unmodified_Since": OLDER}, 200),
        ({"If_Match": '"x"', "If_None_Match": ETAG}, 412),
    ],
)
async def test_who_has_a_file_already_is_not_sent_it_again(site, method, fields, status):
    answered, described, body = await ask(await site(), "/static/ten.txt", method=method, **fields)
    assert answered == status
    assert (body == TEXT) == (status == 200 and method == "GET")
    if status == 304:
        assert (described["etag"], described["last-modified"]) == (ETAG, MODIFIED)
        assert not {"content-type", "content-length"} & set(described)


async def test_a_file_that_changes_has_another_etag(site, directory):
    server = await site()
    seen = set()
    for content in (b"one", b"two", b"three"):
        (directory / "new.txt").write_bytes(content)
        os.utime(directory / "new.txt", ns=(0, MTIME * 10**9 + len(seen)))
        seen.add((await ask(server, "/static/new.txt"))[1]["etag"])
    assert len(seen) == 3


async def test_no_file_was_modified_in_the_future(site, directory):
    os.utime(directory / "ten.txt", (2**32, 2**32))
    _, fields, _ = await ask(await site(), "/static/ten.txt")
    assert fields["last-modified"] <= fields["date"] or fields["last-modified"][:16] == fields["date"][:16]


# --- Ranges.


@pytest.mark.parametrize(
    ("wanted", "status", "told", "body"),
    [
        ("bytes=0-3", 206, "bytes 0-3/10", b"0123"),
        ("bytes=4-", 206, "bytes 4-9/10", b"456789"),
        ("bytes=-3", 206, "bytes 7-9/10", b"789"),
        ("bytes=0-0", 206, "bytes 0-0/10", b"0"),
        ("bytes=9-9", 206, "bytes 9-9/10", b"9"),
        ("bytes=5-500", 206, "bytes 5-9/10", b"56789"),
        ("bytes=-500", 206, "bytes 0-9/10", TEXT),
        ("BYTES=0-1", 206, "bytes 0-1/10", b"01"),
        ("bytes=10-", 416, "bytes */10", b"Requested Range Not Satisfiable\n"),
        ("bytes=10-20", 416, "bytes */10", b"Requested Range Not Satisfiable\n"),
        ("bytes=-0", 416, "bytes */10", b"Requested Range Not Satisfiable\n"),
        # What is malformed is ignored, and several ranges may be.
        ("bytes=3-2", 200, None, TEXT),
        ("bytes=a-b", 200, None, TEXT),
        ("bytes=-", 200, None, TEXT),
        ("bytes=--1", 200, None, TEXT),
        ("bytes=0-1,3-4", 200, None, TEXT),
        ("bytes=" + "9" * 30 + "-", 200, None, TEXT),
        ("bytes=\xb2-", 200, None, TEXT),
        ("lines=0-1", 200, None, TEXT),
        ("", 200, None, TEXT),
    ],
)
async def test_a_part_is_sent_to_who_asks_for_one(site, wanted, status, told, body):
    answered, fields, received = await ask(await site(), "/static/ten.txt", Range=wanted)
    if status == 416:
        body = received  # the phrase differs from version to version of Python
    assert (answered, fields.get("content-range"), received) == (status, told, body)
    assert fields["content-length"] == str(len(body))


async def test_of_an_empty_file_there_is_no_part(site):
    server = await site()
    assert (await ask(server, "/static/empty.txt", Range="bytes=0-"))[0] == 416
    assert (await ask(server, "/static/empty.txt", Range="bytes=-5"))[0] == 200


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If_Range": ETAG}, 206),
        ({"If_Range": MODIFIED}, 206),
        ({"If_Range": '"x"'}, 200),
        ({"If_Range": "W/" + ETAG}, 200),
        ({"If_Range": NEWER}, 200),
        ({"If_None_Match": ETAG}, 304),
    ],
)
async def test_a_part_goes_on_only_with_the_same_file(site, fields, status):
    assert (await ask(await site(), "/static/ten.txt", Range="bytes=4-", **fields))[0] == status


async def test_head_knows_no_part(site):
    status, fields, body = await ask(await site(), "/static/ten.txt", method="HEAD", Range="bytes=4-")
    assert (status, fields["content-length"], body) == (200, "10", b"")


ANY_FIELD = st.text(alphabet='0123456789 :,-+=()"W/*bytesGMTueNovJan\xe9', max_size=40)


@given(ANY_FIELD, st.sampled_from([0, 1, 10]))
def test_whatever_a_field_says_a_part_lies_within_the_file(text, size):
    wanted = served._range({"range": text}, size)
    assert wanted is None or (wanted.start >= 0 and wanted.stop <= size)
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        served._has_changed({name: text}, ETAG, MTIME)
        served._is_known({name: text}, ETAG, MTIME)


# --- How it is sent.

LARGE = os.urandom(1 << 16) * 100 + b"and the end"


def descriptors_of(folder: Path) -> int:
    """How many files of a folder this process has open."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux tells what is open")
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(link.exists() and link.resolve().is_relative_to(folder) for link in links)


@pytest.fixture(params=["memory", "disk", "unknown"])
def kernel(request, monkeypatch):
    """Whether the kernel has a file in memory, or has to ask a disk for it, or cannot tell."""
    if request.param == "disk":
        monkeypatch.setattr(os, "preadv", _not_in_memory)
    elif request.param == "unknown":
        monkeypatch.setattr(served, "_CACHED_ONLY", None)


def _not_in_memory(*_):
    raise BlockingIOError


async def test_a_large_file_arrives_whole_and_the_next_response_behind_it(site, directory, kernel):
    (directory / "large.bin").write_bytes(LARGE)
    server = await site()
    reader, writer = await open_connection(server.addresses[0][1])
    large = b"GET /static/large.bin HTTP/1.1\r\nHost: a\r\n%b\r\n"
    writer.write(large % b"" + large % b"Range: bytes=70000-200000\r\n" + large % b"Connection: close\r\n")
    received = await within(reader.read(-1))
    writer.close()
    _, first, second, third = received.split(b"HTTP/1.1 ")
    assert first.partition(b"\r\n\r\n")[2] == LARGE
    assert second.partition(b"\r\n\r\n")[2] == LARGE[70000:200001]
    assert third.partition(b"\r\n\r\n")[2] == LARGE
    assert descriptors_of(directory) == 0


class Slow:
    """A client that takes nothing of what it asked for until it is told to."""

    def __init__(self, server) -> None:
        self.server = server

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.server.addresses[0][1]))
        self.reader, self.writer = await open_connection(sock=sock)
        self.writer.write(b"GET /static/large.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await until(lambda: any(not protocol._writable for protocol in self.server.http_connections))
        (self.protocol,) = self.server.http_connections
        return self

    async def __aexit__(self, *_) -> None:
        self.writer.transport.abort()
        await until(lambda: not self.server.http_connections)


async def test_a_slow_client_holds_no_more_than_a_piece(site, directory, kernel):
    (directory / "large.bin").write_bytes(LARGE)
    server = await site()
    async with Slow(server) as slow:
        transport = slow.protocol._transport
        assert 0 < transport.get_write_buffer_size() <= FILE_PIECE + 65536  # TLS has a record or two under way
        assert descriptors_of(directory) == 1
        received = await within(slow.reader.read(-1))
        assert received.endswith(LARGE[-1000:])
        assert len(received.partition(b"\r\n\r\n")[2]) == len(LARGE)
    assert descriptors_of(directory) == 0


async def test_who_leaves_in_the_middle_leaves_no_file_open(site, directory, kernel):
    (directory / "large.bin").write_bytes(LARGE)
    server = await site()
    gc.disable()
    try:
        async with Slow(server):
            pass
        await until(lambda: descriptors_of(directory) == 0)
    finally:
        gc.enable()


async def test_a_file_that_becomes_shorter_ends_the_connection(site, directory):
    (directory / "large.bin").write_bytes(LARGE)
    server = await site()
    async with Slow(server) as slow:
        os.truncate(directory / "large.bin", 0)
        received = b""
        try:
            while piece := await within(slow.reader.read(1 << 16)):
                received += piece
        except ConnectionError:
            pass
        assert len(received) < len(LARGE)


async def test_a_disk_that_fails_ends_the_connection_and_is_logged(site, directory, failures, monkeypatch):
    (directory / "large.bin").write_bytes(LARGE)
    server = await site()

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", _not_in_memory)
    monkeypatch.setattr(os, "pread", fail)
    reader, writer = await open_connection(server.addresses[0][1])
    writer.write(b"GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await within(reader.readexactly(len(LARGE)))
    writer.close()
    (message,) = failures.messages()
    assert message.startswith("a file could not be read: OSError(5")


async def test_a_server_that_closes_lets_a_download_end(site, directory):
    (directory / "large.bin").write_bytes(LARGE)
    server = await site()
    async with Slow(server) as slow:
        closing = asyncio.ensure_future(server.close())
        received = await within(slow.reader.read(-1))
        assert len(received.partition(b"\r\n\r\n")[2]) == len(LARGE)
        await within(closing)


async def test_a_server_does_not_wait_for_a_client_that_takes_nothing(serve, directory):
    (directory / "large.bin").write_bytes(LARGE)
    service = http.base_path("/")(http.files("/static", directory)(type("Site", (), {})))
    server = await serve(service, close_timeout=0.05)
    async with Slow(server):
        await within(server.close())
    assert descriptors_of(directory) == 0


async def test_no_descriptor_left_is_told_as_such(site, monkeypatch):
    server = await site()

    def fail(*_, **__):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        status, fields, _ = await ask(server, "/static/ten.txt")
    assert (status, fields["retry-after"]) == (503, "10")


# --- How it is annotated.


async def test_files_may_be_an_attribute_of_a_class_or_an_instance(serve, directory):
    @http.cors("*")
    @at("/ws")
    class Site:
        docs = http.files("/docs", directory / "docs")

        def __init__(self) -> None:
            self.all = http.files("/all", directory)

    server = await serve(Site)
    assert (await ask(server, "/docs/a.css"))[2] == b"p {}"
    status, fields, body = await ask(server, "/all/ten.txt", Origin="https://a.example")
    assert (status, body, fields["access-control-allow-origin"]) == (200, TEXT, "*")


async def test_a_class_may_have_several_and_inherits_them(serve, directory):
    @http.base_path("/")
    @http.files("/one", directory)
    @http.files("/two", directory / "docs")
    class Base:
        pass

    @http.base_path("/more")
    @http.files("/three", directory / "docs")
    class Derived(Base):
        pass

    server = await serve(Base, Derived)
    for path, body in (
        ("/one/ten.txt", TEXT),
        ("/two/a.css", b"p {}"),
        ("/more/one/ten.txt", TEXT),
        ("/more/three/a.css", b"p {}"),
    ):
        assert (await ask(server, path))[2] == body


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        (("static", "."), {}, r"http\.files\('static'\): a path starts with a slash"),
        (("/static", 5), {}, "directory=5: give the path of a directory"),
        (("/static", "."), {"index": "a/b"}, "index='a/b': give the name of a file, or None"),
        (("/static", "."), {"index": ""}, "index='': give the name"),
        (
            ("/static", "."),
            {"headers": {"Content-Length": "5"}},
            "headers: header 'Content-Length' is set by the server",
        ),
    ],
)
def test_what_is_wrong_is_said_by_name(arguments, options, told):
    with pytest.raises(ConfigurationError, match=told):
        http.files(*arguments, **options)


def test_a_directory_has_to_be_there_when_it_is_served(tmp_path):
    site = http.base_path("/")(http.files("/static", tmp_path / "none")(type("Site", (), {})))
    with pytest.raises(ConfigurationError, match=r"Site: http\.files: there is no directory '.*none'"):
        fastws.serve(site)
    (tmp_path / "none").write_text("a file")
    with pytest.raises(ConfigurationError, match="there is no directory"):
        fastws.serve(site)
    with pytest.raises(ConfigurationError, match=r"@http\.files annotates a class"):
        http.files("/static", tmp_path)(lambda: None)


def test_what_was_opened_is_closed_with_its_last_reference(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"a")
    opened = served.OpenFile(os.open(path, os.O_RDONLY))
    assert stat.S_ISREG(opened.mode)
    assert descriptors_of(tmp_path) == 1
    del opened
    assert descriptors_of(tmp_path) == 0
