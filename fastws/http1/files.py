"""Files of a directory over HTTP: what `http.files` finds, and what of it answers a request (RFC 9110 sections 13, 14).

Nothing leads out of the directory. A name is opened segment by segment, each in the folder that the one before it
opened, and no symbolic link is followed on the way: what is checked is what is opened, whoever renames what meanwhile.
Dot segments and escaped slashes never come as far as here (`service.paths`).

Files are found and opened in a thread, for a disk or a network may take its time. They are sent piece by piece
(`connection`): a piece that the kernel has in memory is read at once, any other one in a thread, and the next one when
the client has taken this one.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import re
import stat
import time
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from ..errors import ConfigurationError
from ..handshake.fields import seconds_of
from ..service.marks import mark_files
from ..service.model import Bundle
from ..service.paths import check_path
from .response import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .request import Request

__all__ = ["Answer", "FileResponse", "Files", "OpenFile"]

_C = TypeVar("_C", bound=type)
_Fields = list[tuple[bytes, bytes]]

# Of a folder only the right to go through it is needed, where the system can say so.
_FOLDER: Final = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
# A FIFO that nobody writes to must not hold us up.
_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

# Errors that make a name none of ours, as opposed to a failure.
_ABSENT: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENXIO}
)
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_CACHED_ONLY: Final[int | None] = getattr(os, "RWF_NOWAIT", None)

# RFC 8615: the one name with a dot in front that is meant for the public.
_WELL_KNOWN: Final = ".well-known"


class OpenFile:
    """An open file, closed with the last reference to it: a thread may still read when a connection ends."""

    __slots__ = ("_descriptor", "mode", "modified", "size")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.mode = status.st_mode
        self.size = status.st_size
        self.modified = status.st_mtime_ns

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, position: int, length: int) -> bytes:
        """Read, and wait for the disk; less at the end."""
        return os.pread(self._descriptor, length, position)

    def read_cached(self, position: int, length: int) -> bytes | None:
        """Read what the kernel has in memory; None where that is nothing, or where it cannot tell."""
        if _CACHED_ONLY is None:
            return None
        piece = bytearray(length)
        try:
            count = os.preadv(self._descriptor, [piece], position, _CACHED_ONLY)
        except OSError:
            return None
        return bytes(memoryview(piece)[:count])


class FileResponse(Response):
    """An answer whose body is a part of a file.

    Attributes:
        file: the file.
        start: where the part begins.
    """

    __slots__ = ("_length", "file", "start")

    def __init__(self, file: OpenFile, start: int, length: int, status: int) -> None:
        super().__init__(status=status)
        self.file = file
        self.start = start
        self._length = length

    @property
    def length(self) -> int:
        """Bytes of the part."""
        return self._length


class Answer(NamedTuple):
    """An answer: a status, fields, and a part of a file where there is one to send."""

    status: int
    fields: _Fields
    file: OpenFile | None = None
    start: int = 0
    length: int = 0


class Files(Bundle):
    """A directory that is served; `http.files` tells of the arguments, and what it returns annotates a class.

    Raises:
        ConfigurationError: one of the arguments is not what it may be.
    """

    def __init__(self, path: str, directory: str | os.PathLike[str], index: str | None, fields: _Fields) -> None:
        super().__init__(check_path(path, "http.files"))
        try:
            self._directory = Path(directory).absolute()
        except TypeError:
            raise ConfigurationError(f"http.files: directory={directory!r}: give the path of a directory") from None
        if index is not None and not _is_name(index):
            raise ConfigurationError(f"http.files: index={index!r}: give the name of a file, or None")
        self._index = index
        # A name decides what a file is, and no browser's guess
        self._fields = [(b"X-Content-Type-Options", b"nosniff"), *fields]

    def __call__(self, cls: _C) -> _C:
        """Annotate a class with it."""
        return mark_files(cls, self)

    def check(self, label: str) -> None:
        """Refuse to be served without the directory."""
        if not self._directory.is_dir():
            raise ConfigurationError(f"{label}: http.files: there is no directory {str(self._directory)!r}")

    async def answer(self, request: Request, file: str) -> Answer:
        """Answer GET and HEAD."""
        return await asyncio.get_running_loop().run_in_executor(None, self._answer, request, file)

    # --- In a thread.

    def _answer(self, request: Request, name: str) -> Answer:
        names = name.split("/") if name else []
        # What is not found must be no exception here: its traceback would keep the request
        try:
            found = self._open(names)
            is_folder = stat.S_ISDIR(found.mode)
            if is_folder and self._index is not None:
                names.append(self._index)
                found = self._open(names)
        except (OSError, ValueError) as error:
            return _explain(error)
        has_slash = request.raw_path.endswith("/")
        if not stat.S_ISREG(found.mode) or (has_slash and not is_folder):
            return Answer(404, [])
        if is_folder and not has_slash:
            return _redirect(request)
        return _select(request, found, [(b"Content-Type", content_type(names[-1])), *self._fields])

    def _open(self, names: list[str]) -> OpenFile:
        """Open a file or a folder by the names that lead to it.

        Raises:
            OSError, ValueError: there is none, or it cannot be opened.
        """
        if any(name.startswith(".") and name != _WELL_KNOWN for name in names):
            raise FileNotFoundError(errno.ENOENT, "names with a dot in front are nobody's business")
        folder = os.open(self._directory, _FOLDER)
        for name in names[:-1]:
            folder = _step(folder, name, _FOLDER | os.O_NOFOLLOW)
        return OpenFile(_step(folder, names[-1] if names else ".", _FILE))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and {"/", "\0"}.isdisjoint(value)


def _step(folder: int, name: str, flags: int) -> int:
    """Open a name in a folder, and let go of that."""
    try:
        return os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)


def _explain(error: OSError | ValueError) -> Answer:
    # A ValueError is a name that no file can have
    if not isinstance(error, OSError) or error.errno in _ABSENT:
        return Answer(404, [])
    if error.errno in _EXHAUSTED:
        return Answer(503, [(b"Retry-After", b"10")])
    raise error


def _redirect(request: Request) -> Answer:
    """Lead to the same path with a slash behind it, which the relative links of an index need."""
    # From here, since a proxy may know us under another path; the dot, since a colon would make it a URL
    last = request.raw_path.rpartition("/")[2]
    query = f"?{request.raw_query}" if request.raw_query else ""
    return Answer(307, [(b"Location", f"./{last}/{query}".encode("latin-1"))])


# --- Which part of it, if any.

_ETAGS: Final = re.compile(r'(W/)?("[^"]*")')
_RANGE: Final = re.compile(r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)


def _select(request: Request, file: OpenFile, fields: _Fields) -> Answer:
    headers = request.headers
    etag = f'"{file.modified:x}-{file.size:x}"'
    seconds = file.modified // 1_000_000_000
    # RFC 9110 section 8.8.2.1: never in the future
    modified = formatdate(min(seconds, int(time.time())), usegmt=True)
    state = [(b"ETag", etag.encode()), (b"Last-Modified", modified.encode())]
    if _has_changed(headers, etag, seconds):
        return Answer(412, [])
    if _is_known(headers, etag, seconds):
        return Answer(304, [*state, *(field for field in fields if field[0] != b"Content-Type")])
    fields = [*fields, *state, (b"Accept-Ranges", b"bytes")]
    wanted = _range(headers, file.size) if request.method == "GET" and _is_same(headers, etag, modified) else None
    if wanted is None:
        return Answer(200, fields, file, 0, file.size)
    if wanted.start >= wanted.stop:
        return Answer(416, [(b"Content-Range", b"bytes */%d" % file.size)])
    fields.append((b"Content-Range", b"bytes %d-%d/%d" % (wanted.start, wanted.stop - 1, file.size)))
    return Answer(206, fields, file, wanted.start, len(wanted))


def _has_changed(headers: Mapping[str, str], etag: str, seconds: int) -> bool:
    """Tell whether what the client wants is no more (section 13.1.1 and 13.1.4)."""
    wanted = headers.get("if-match")
    if wanted is not None:
        return wanted.strip() != "*" and ("", etag) not in _ETAGS.findall(wanted)
    since = seconds_of(headers.get("if-unmodified-since"))
    return since is not None and seconds > since


def _is_known(headers: Mapping[str, str], etag: str, seconds: int) -> bool:
    """Tell whether the client has it already (section 13.1.2 and 13.1.3)."""
    known = headers.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or any(tag == etag for _, tag in _ETAGS.findall(known))
    since = seconds_of(headers.get("if-modified-since"))
    return since is not None and seconds <= since


def _is_same(headers: Mapping[str, str], etag: str, modified: str) -> bool:
    """Tell whether a range goes on with what the client has a part of (section 13.1.5)."""
    return headers.get("if-range", etag).strip() in (etag, modified)


def _range(headers: Mapping[str, str], size: int) -> range | None:
    """Return the one range that is wanted, empty where there is nothing of it; None for all.

    What is malformed is ignored, and so are several ranges (section 14.2).
    """
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return None if not size and int(suffix) else range(max(0, size - int(suffix)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


# --- What it is.

# An instance of its own knows nothing of the system's tables, which differ from machine to machine.
_TYPES: Final = mimetypes.MimeTypes()
for _type, _suffixes in {
    "application/manifest+json": ".webmanifest",
    "application/wasm": ".wasm",
    "font/otf": ".otf",
    "font/ttf": ".ttf",
    "font/woff": ".woff",
    "font/woff2": ".woff2",
    "image/avif": ".avif",
    "image/webp": ".webp",
    "text/javascript": ".js .mjs",
    "text/markdown": ".md",
}.items():
    for _suffix in _suffixes.split():
        _TYPES.add_type(_type, _suffix)
_COMPRESSED: Final = {"gzip": b"application/gzip", "bzip2": b"application/x-bzip2", "xz": b"application/x-xz"}


def content_type(name: str) -> bytes:
    """Return the media type that the end of a name stands for."""
    # The end alone: of a whole name that begins with "data:" another type would be read
    _, dot, end = name.rpartition(".")
    found, encoding = _TYPES.guess_type(f"file{dot}{end}" if dot else "file")
    if encoding is not None:
        return _COMPRESSED.get(encoding, b"application/octet-stream")
    if found is None:
        return b"application/octet-stream"
    return found.encode() + (b"; charset=utf-8" if found.startswith("text/") else b"")
