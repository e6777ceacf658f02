"""The engine between the workers of one machine: a Unix socket between each two of them, and nothing else.

Each tells each other which subjects it wants, so that nothing is sent for whom nobody is there. A message is made a
frame once, whoever gets it, and each turn of the loop is one write to each peer.

A peer that does not read, because it is stopped or busy for long, is sent nothing more once `MAX_UNSENT` bytes wait for
it. When it reads again it is told that it has missed messages, and all subjects that are wanted here: it keeps nothing
of before. A peer whose socket ends is gone, and with it all that it wanted.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, cast

from .._speedups import LinkReader, link_frame, link_message
from ..logs import Log
from .base import Backplane

if TYPE_CHECKING:
    import socket

    from .base import Receiver

__all__ = ["Mesh"]

logger = Log("fastws")

MAX_UNSENT: Final = 1 << 24  # bytes that wait for one peer
OPEN_TIMEOUT: Final = 4.0  # seconds for all peers to say who they are
CLOSE_TIMEOUT: Final = 2.0  # seconds for them to read what was said last
READ_LEN: Final = 1 << 18  # bytes
VERSION: Final = 1

# Kinds of frames, besides messages.
_HELLO: Final = 2  # the version and the id of the node
_WANT: Final = 3  # a subject
_UNWANT: Final = 4  # a subject
_ANEW: Final = 5  # forget all that was wanted: what is follows
_READY: Final = 6  # all that was wanted when the link began is told
_LOST: Final = 7  # messages were


class Mesh(Backplane):
    """The links of a worker to all others."""

    max_payload = 1 << 25
    sees_nodes = True

    def __init__(self) -> None:
        self._receiver: Receiver | None = None
        self._links: dict[int, _Link] = {}  # by bit
        self._wanted: dict[bytes, int] = {}  # subject -> the bits of those who want it
        self._sets: dict[int, tuple[_Link, ...]] = {}  # bits -> their links
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []  # until it is open
        self._poll = select.poll()
        self._by_descriptor: dict[int, _Link] = {}
        self._closed = False

    def connect(self, sock: socket.socket) -> None:
        """Take a link to another worker: one end of a pair of Unix sockets, which is the mesh's from here on."""
        if self._closed:
            sock.close()
        elif self._receiver is None:
            self._sockets.append(sock)
        else:
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> _Link:
        assert self._receiver is not None
        bit = next(bit for bit in _bits() if bit not in self._links)
        link = self._links[bit] = _Link(self, bit, self._receiver)
        self._sets.clear()
        task = asyncio.get_running_loop().create_task(link.live(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return link

    async def open(self, receiver: Receiver) -> None:
        """Begin; returns when all peers have told what they want, or have gone."""
        self._receiver = receiver
        links = [self._begin(sock) for sock in self._sockets]
        self._sockets.clear()
        if links:
            ready = [asyncio.ensure_future(link.ready.wait()) for link in links]
            _, late = await asyncio.wait(ready, timeout=OPEN_TIMEOUT)
            for waiting in late:
                waiting.cancel()
                logger.warning("a worker does not answer another one that begins")
        receiver.up()

    async def close(self) -> None:
        """End all links, when what was said on them is read or `CLOSE_TIMEOUT` is over."""
        self._closed = True
        self.flush()
        links = list(self._links.values())
        for link in links:
            link.end()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT)
        for link in links:
            link.abort()

    # --- What is published and wanted here.

    def subscribe(self, subject: bytes) -> None:
        """Tell all peers."""
        self._say(link_frame(_WANT, subject))

    def unsubscribe(self, subject: bytes) -> None:
        """Tell all peers."""
        self._say(link_frame(_UNWANT, subject))

    def _say(self, frame: bytes) -> None:
        for link in self._links.values():
            link.put(frame)

    def publish(self, subject: bytes, payload: bytes) -> bool:
        """Send a message to all who want it; False if nobody reads. Who alone does not is told so when he does."""
        wanted = self._wanted.get(subject)
        if not wanted:
            return True
        frame = link_message(subject, payload)
        for link in self._those(wanted):
            link.put(frame)
        return self.has_room()

    def _those(self, bits: int) -> tuple[_Link, ...]:
        links = self._sets.get(bits)
        if links is None:
            links = self._sets[bits] = tuple(link for bit, link in self._links.items() if bits & bit)
        return links

    def flush(self) -> None:
        """Write to all for whom something collected."""
        for link in list(self._links.values()):
            if link.collected:
                link.flush()

    def catch_up(self) -> None:
        """Read what peers have said, before the loop gets to it."""
        for descriptor, _ in self._poll.poll(0):
            link = self._by_descriptor.get(descriptor)
            if link is not None:
                link.catch_up()

    def has_room(self) -> bool:
        """Tell whether any peer reads: one that does not is no reason to keep messages from the others."""
        return not self._links or not all(link.is_stuck for link in self._links.values())

    def audience(self, subject: bytes) -> bool:
        """Tell whether another worker wants a subject."""
        return subject in self._wanted

    # --- What a link tells.

    def want(self, link: _Link, subject: bytes) -> None:
        """Note that a peer wants a subject."""
        self._wanted[subject] = self._wanted.get(subject, 0) | link.bit

    def unwant(self, link: _Link, subject: bytes) -> None:
        """Note that a peer wants it no longer."""
        wanted = self._wanted.get(subject, 0) & ~link.bit
        if wanted:
            self._wanted[subject] = wanted
        else:
            self._wanted.pop(subject, None)

    def unwant_all(self, link: _Link) -> None:
        """Note that a peer wants nothing."""
        for subject in [subject for subject, bits in self._wanted.items() if bits & link.bit]:
            self.unwant(link, subject)

    def watch(self, link: _Link, descriptor: int) -> None:
        """Have `catch_up` look at a link that has begun."""
        self._by_descriptor[descriptor] = link
        self._poll.register(descriptor, select.POLLIN)

    def forget(self, link: _Link) -> None:
        """Let go of a link that has ended."""
        if self._by_descriptor.get(link.descriptor) is link:
            del self._by_descriptor[link.descriptor]
            self._poll.unregister(link.descriptor)
        if self._links.get(link.bit) is link:
            del self._links[link.bit]
        self._sets.clear()
        self.unwant_all(link)


def _bits() -> Iterator[int]:
    bit = 1
    while True:
        yield bit
        bit <<= 1


class _Link(asyncio.Protocol):
    """The socket to one peer."""

    def __init__(self, mesh: Mesh, bit: int, receiver: Receiver) -> None:
        self.bit = bit
        self.ready = asyncio.Event()
        self._ended = asyncio.Event()
        self.collected: list[bytes] = []
        self.descriptor = -1
        self.is_stuck = False
        self._missed = False  # something was not sent, since it is stuck
        self._mesh = mesh
        self._receiver = receiver
        self._reader = LinkReader(receiver.received, self._on_frame)
        self._transport: asyncio.WriteTransport | None = None
        self._node: bytes | None = None

    async def live(self, sock: socket.socket) -> None:
        """Have the loop watch the socket until it ends."""
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)
        except OSError as error:
            logger.warning("a link between workers could not begin: %s", error)
            sock.close()
            self.connection_lost(error)
        await self._ended.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are and what we want."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self.descriptor = transport.get_extra_info("socket").fileno()
        self._mesh.watch(self, self.descriptor)
        self._transport.set_write_buffer_limits(high=MAX_UNSENT, low=MAX_UNSENT // 4)
        self.collected = [link_frame(_HELLO, b"%d %s" % (VERSION, self._receiver.node))]
        self._say_wanted()
        self.collected.append(link_frame(_READY, b""))
        self.flush()

    def _say_wanted(self) -> None:
        self.collected.extend(link_frame(_WANT, subject) for subject in self._receiver.subscriptions())

    def put(self, frame: bytes) -> None:
        """Let a frame collect; a peer that does not read misses it."""
        if self.is_stuck:
            self._missed = True
        else:
            self.collected.append(frame)

    def flush(self) -> None:
        """Write what collected, at once: what is said to clients next may rest on it."""
        transport = self._transport
        if transport is None:
            return
        frames, self.collected = self.collected, []
        data = b"".join(frames) if len(frames) > 1 else frames[0]
        if transport.get_write_buffer_size() == 0:
            data = data[self._send(data) :]
        if data:
            transport.write(data)

    def _send(self, data: bytes) -> int:
        """Send past the transport, which leaves that for later; returns how many bytes went."""
        try:
            return os.write(self.descriptor, data)
        except OSError:  # there is no room, or nobody any more: the transport sees to both
            return 0

    def pause_writing(self) -> None:
        """Note that the peer does not read."""
        self.is_stuck = True

    def resume_writing(self) -> None:
        """Tell the peer all over, if something was kept from it."""
        self.is_stuck = False
        if self._missed:
            self._missed = False
            self.collected.append(link_frame(_LOST, b""))
            self.collected.append(link_frame(_ANEW, b""))
            self._say_wanted()
            self.flush()

    def catch_up(self) -> None:
        """Take what the peer has said, and leave to the transport what else happens."""
        try:
            data = os.read(self.descriptor, READ_LEN)
        except OSError:
            return
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """Take what the peer says."""
        try:
            self._reader.feed(data)
        except ValueError as error:
            logger.error("a worker said what no worker says: %s", error)
            self.end()

    def _on_frame(self, kind: int, data: bytes) -> None:
        if kind == _WANT:
            self._mesh.want(self, data)
            self._receiver.wanted(data)
        elif kind == _UNWANT:
            self._mesh.unwant(self, data)
        elif kind == _ANEW:
            self._mesh.unwant_all(self)
        elif kind == _LOST:
            self._receiver.gap("this worker did not read for a while")
        elif kind == _HELLO:
            self._node = data.partition(b" ")[2]
            self._receiver.joined(self._node)
        elif kind == _READY:
            self.ready.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the peer."""
        self._transport = None
        self.collected.clear()
        self.ready.set()
        self._ended.set()
        self._mesh.forget(self)
        if self._node is not None:
            self._receiver.left(self._node)

    def end(self) -> None:
        """Close the socket, after what is still to be sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the socket, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()
