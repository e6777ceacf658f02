"""Listening sockets: at an address, at a path, or inherited.

They are made here and not by the event loop, so that a listening socket outlives a pause in accepting (`listening.py`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError
from . import forking

if TYPE_CHECKING:
    import asyncio

    from ..options import ServerOptions

MAX_PATH_LENGTH: Final = 103  # bytes, as macOS has it; Linux has four more

__all__ = ["ListeningSockets", "address_of", "inherited_socket", "keep_standard_descriptors"]


class ListeningSockets:
    """All sockets at which a server listens; made by `open`.

    Args:
        sockets: bound.
        path: of the file that goes when they are closed, if there is one.

    Attributes:
        sockets: listening and not blocking.
    """

    def __init__(self, sockets: list[socket.socket], path: Path | None = None) -> None:
        self.sockets = sockets
        self._path = path
        self._file = _identity(path) if path is not None else None

    @classmethod
    async def open(cls, loop: asyncio.AbstractEventLoop, options: ServerOptions) -> ListeningSockets:
        """Listen where the options say.

        Raises:
            OSError: it cannot listen there.
        """
        listening = await cls.bind(loop, options)
        listening.listen(options.backlog)
        return listening

    @classmethod
    async def bind(cls, loop: asyncio.AbstractEventLoop, options: ServerOptions) -> ListeningSockets:
        """Take the place where the options say, and do not listen yet.

        Raises:
            OSError: it is taken, or is not ours.
        """
        if options.sock is not None:
            return cls([_off_standard_streams(options.sock)])
        if options.unix is not None:
            path = Path(options.unix)
            return cls([_bind_path(path, options.unix_mode)], path)
        return cls(await _bind_addresses(loop, options))

    def listen(self, backlog: int) -> None:
        """Listen; what cannot is closed.

        Raises:
            OSError: it cannot.
        """
        try:
            for sock in self.sockets:
                forking.note(sock)
                sock.setblocking(False)
                sock.set_inheritable(False)
                sock.listen(backlog)
        except OSError:
            self.close()
            raise

    def again(self) -> list[socket.socket]:
        """Bind to the same addresses once more, for another process, where they may share a port."""
        return [_bind_address(sock.family, sock.proto, sock.getsockname(), True) for sock in self.sockets]

    def close(self) -> None:
        """Listen no more; the file of a Unix socket goes too, unless another server has put its own there."""
        for sock in self.sockets:
            sock.close()
        if self._path is not None and self._file is not None and _identity(self._path) == self._file:
            self._path.unlink(missing_ok=True)


def address_of(sock: socket.socket) -> Any:
    """Return where a socket listens: host, port and what IPv6 has besides; of a Unix socket its path."""
    name = sock.getsockname()
    # Of an abstract one, which is no file, the name begins with a null byte; it is written with an @
    return "@" + os.fsdecode(name[1:]) if isinstance(name, bytes) else name


def inherited_socket(descriptor: int) -> socket.socket:
    """Take over a listening socket that another process has opened, such as systemd for socket activation.

    Raises:
        ConfigurationError: the descriptor is none, or no listening stream socket.
    """
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        reason = "it is no socket" if error.errno == errno.ENOTSOCK else "it is not open"
        raise ConfigurationError(f"cannot listen at descriptor {descriptor}: {reason}") from None
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()  # it is not ours to close
        raise ConfigurationError(f"cannot listen at descriptor {descriptor}: it is no stream socket that listens")
    return sock


def keep_standard_descriptors() -> None:
    """Open what is closed of 0, 1 and 2, to read nothing and to write to nobody.

    Else the next sockets get these numbers: what anybody prints would go to a client, and libuv aborts the process when
    it closes one of them.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return
        os.set_inheritable(descriptor, True)


# When this is imported, too: the event loop of a program's own is made before it comes to serving
keep_standard_descriptors()


def _off_standard_streams(sock: socket.socket) -> socket.socket:
    """Return a socket that is no standard stream of the process: it may have been inherited as one."""
    number = sock.fileno()
    if not 0 <= number <= 2:
        return sock
    moved = sock.dup()
    sock.detach()
    with open(os.devnull, "r+b", buffering=0) as nowhere:
        os.dup2(nowhere.fileno(), number)
    return moved


# --- TCP.


async def _bind_addresses(loop: asyncio.AbstractEventLoop, options: ServerOptions) -> list[socket.socket]:
    """Bind to every address that the host has: a name may have several, None has one for IPv4 and one for IPv6."""
    host = options.host or None
    infos = await loop.getaddrinfo(host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, protocol, _, address in dict.fromkeys(infos):
            sockets.extend(_bind_where_possible(family, protocol, address, options.reuse_port))
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind_where_possible(family: int, protocol: int, address: Any, reuse_port: bool) -> list[socket.socket]:
    """Return a socket, or none: a name is resolved to IPv6 also where the system has none."""
    try:
        return [_bind_address(family, protocol, address, reuse_port)]
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        return []


def _bind_address(family: int, protocol: int, address: Any, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        # Without it a port is taken for minutes after its connections have ended
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


# --- Unix.


def _bind_path(path: Path, mode: int) -> socket.socket:
    if not path.parent.is_dir() or len(os.fsencode(path)) > MAX_PATH_LENGTH:
        raise ConfigurationError(f"unix={str(path)!r}: give a path of a folder that exists, in {MAX_PATH_LENGTH} bytes")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(str(path))
        # Nobody can have connected before: it does not listen yet
        path.chmod(mode)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove the socket that a server left which could not clean up; who listens, or what is no socket, stays."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode) and not _is_listening(path):
            path.unlink()


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Who does not accept at once has a long queue, and lives
        probe.setblocking(False)
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
