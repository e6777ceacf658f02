"""What a supervisor and its workers say to each other, on a socket that each worker inherits.

A message is a line of JSON: its name, what it tells, and how many descriptors come with it. They travel beside the
bytes (SCM_RIGHTS) and arrive with the first of them at the latest, so whoever has the whole line has them all.

    start      what to serve, and the sockets to listen at      supervisor to worker, once
    link       one end of a connection to another worker        supervisor to worker, for each of the others
    serve      begin                                            supervisor to worker
    reload     read the certificate again                       supervisor to worker
    drain      end over a time                                  supervisor to worker
    yield      likewise, in favour of a successor               supervisor to worker
    close      end                                              supervisor to worker
    hurry      end without waiting for anybody                  supervisor to worker
    loaded     the services are there                           worker to supervisor
    ready      it serves, and where                             worker to supervisor
    failed     why it cannot start                              worker to supervisor

The end of the stream is the end of the other process.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..net import forking

if TYPE_CHECKING:
    from collections.abc import Collection

    from typing_extensions import Self

__all__ = ["Control", "Message"]

MAX_MESSAGE: Final = 1 << 18  # bytes; a whole one fits into the socket's buffer
MAX_DESCRIPTORS: Final = 128  # of one message


class Message(NamedTuple):
    """What was said."""

    name: str
    told: dict[str, Any]
    descriptors: list[int]


class Control:
    """One end of the socket; a message is sent whole or not at all.

    Args:
        sock: connected to the other end.
    """

    def __init__(self, sock: socket.socket) -> None:
        forking.note(sock)
        self.sock = sock
        self._data = b""
        self._descriptors: list[int] = []

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """Return our end, which does not block, and the socket that another process inherits."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE)
        ours.setblocking(False)
        return cls(ours), theirs

    def send(self, name: str, descriptors: Collection[int] = (), /, **told: object) -> None:
        """Send a message.

        Raises:
            OSError: nobody is there, or nobody has read for long.
        """
        line = json.dumps([name, told, len(descriptors)]).encode() + b"\n"
        if socket.send_fds(self.sock, [line], descriptors) < len(line):
            raise BlockingIOError(f"a message of {len(line)} bytes does not fit")

    def receive(self) -> list[Message] | None:
        """Return the messages that have come since, at least a part of one; None at the end.

        Raises:
            ValueError: it is no message.
        """
        try:
            data, descriptors = self._read()
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self._data = (self._data + data).split(b"\n")
        self._descriptors += descriptors
        if len(self._data) > MAX_MESSAGE:
            raise ValueError("a message without an end")
        return [self._message(line) for line in lines]

    def _read(self) -> tuple[bytes, list[int]]:
        cloexec = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        data, descriptors, flags, _ = socket.recv_fds(self.sock, MAX_MESSAGE, MAX_DESCRIPTORS, cloexec)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if flags & socket.MSG_CTRUNC:
            raise ValueError("descriptors were lost: too many files are open")
        return data, descriptors

    def _message(self, line: bytes) -> Message:
        try:
            name, told, count = json.loads(line)
        except TypeError:
            raise ValueError(f"{line[:40]!r} is no message") from None
        taken, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return Message(name, told, taken)

    def close(self) -> None:
        """Say and hear nothing more."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self.sock.close()
