"""NATS: a session whose subscriptions have their subjects for ids, so that nothing here remembers them.

The URL is ``nats://`` or ``tls://`` with the servers of one cluster, and has one of these to be let in: a user and a
password, a token in place of the user, the file of an nkey's seed (``?nkey=``), or one of credentials (``?creds=``).
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from .._speedups import NatsProtocolError, NatsReader, NatsWriter
from ..logs import Log
from ..version import __version__
from .address import MAX_SERVERS, TLS_PARAMETERS, Address, Server, server_of
from .base import Backplane, Receiver
from .nats_key import Key, why
from .session import Conversation, ConversationError, Session, Wire

__all__ = ["Nats"]

PORT: Final = 4222
MAX_PAYLOAD: Final = 64 << 20  # bytes, whatever a server says
MAX_REASON: Final = 200  # characters of an error of the server's
_PARAMETERS: Final = ("creds", "nkey", "tls_first", *TLS_PARAMETERS)

# No own messages, no answers to what goes well; with headers those of others come, which are taken off.
_OPTIONS: Final = {"verbose": False, "pedantic": False, "echo": False, "headers": True, "no_responders": False}
_CLIENT: Final = {"name": "fastws", "lang": "python", "version": __version__, "protocol": 1}

_log = Log("fastws.backplane")


class Nats(Backplane):
    """A NATS server, or a cluster.

    Args:
        url: see above; ``tls_first`` begins with TLS instead of going on with it, as servers with ``handshake_first``
            want it; ``ca``, ``cert`` and ``key`` are files of TLS.

    Attributes:
        violations: how often the server has refused to publish or to subscribe for want of permission.
        skipped: messages that were none of a node's.

    Raises:
        ConfigurationError: something is wrong with the URL, or a file that it names.
    """

    def __init__(self, url: str) -> None:
        self.address = Address(url, port=PORT, parameters=_PARAMETERS)
        if self.address.path:
            self.address.refuse("there is no path behind the servers")
        first = self.address.flag("tls_first")
        self.says_tls = first or self.address.scheme == "tls"
        self.violations = 0
        self.skipped = 0
        self._writer = NatsWriter()
        self._talk: _Talk | None = None
        self._discovered: tuple[Server, ...] = ()
        self.key = Key.of(self.address)
        needed = self.says_tls or set(TLS_PARAMETERS) & self.address.parameters.keys()
        self._tls = self.address.make_tls_context() if needed else None
        self._session = Session(self, self.address.redacted, self._tls if first else None)

    # --- As a backplane.

    async def open(self, receiver: Receiver) -> None:
        """Begin; see `Backplane`."""
        self.receiver = receiver
        await self._session.open()

    async def close(self) -> None:
        """End; see `Backplane`."""
        self.flush()
        await self._session.close()
        self._away()

    def subscribe(self, subject: bytes) -> None:
        """Want a subject."""
        self._session.changed(subject)
        if self._session.is_up:
            self._writer.subscribe(subject)

    def unsubscribe(self, subject: bytes) -> None:
        """Want it no longer."""
        self._session.changed(subject)
        if self._session.is_up:
            self._writer.unsubscribe(subject)

    def has_room(self) -> bool:
        """Tell whether there is room for what a node publishes in a turn."""
        return self._session.has_room

    def publish(self, subject: bytes, payload: bytes) -> bool:
        """Hand a message over; False also if it has more than `max_payload`."""
        return self._writer.publish(subject, payload) or self._publish_again(subject, payload)

    def _publish_again(self, subject: bytes, payload: bytes) -> bool:
        """Look whether there is room by now: it was measured with the last `flush`."""
        self._writer.limit = self._session.room
        return self._writer.publish(subject, payload)

    def flush(self) -> None:
        """Send what was published and subscribed since."""
        self._session.send(self._writer.take())
        self._writer.limit = self._session.room

    # --- As a speaker.

    async def servers(self) -> Sequence[Server]:
        """Return those of the URL, then those that they told of; in any order, so that nodes do not all go to one."""
        given = random.sample(self.address.servers, len(self.address.servers))
        return *given, *random.sample(self._discovered, len(self._discovered))

    def converse(self, wire: Wire) -> Conversation:
        """Begin to talk."""
        return _Talk(self, wire)

    def subscriptions(self) -> Iterable[bytes]:
        """Return all subjects that are wanted."""
        return self.receiver.subscriptions()

    def adopt(self, conversation: Conversation) -> None:
        """Keep to the limits of another server."""
        assert isinstance(conversation, _Talk)
        self._talk = conversation
        self.limit_payload(conversation)
        self._writer.limit = self._session.room

    def up(self) -> None:
        """Tell it."""
        self.receiver.up()

    def down(self, reason: str) -> None:
        """Drop what waits, and tell it."""
        self._away()
        self.receiver.down(reason)

    def _away(self) -> None:
        self._writer.clear()
        self._writer.limit = 0

    # --- For conversations.

    def tls(self) -> ssl.SSLContext:
        """Return how to check a server, which may ask for TLS where the URL does not."""
        if self._tls is None:
            self._tls = self.address.make_tls_context()
        return self._tls

    def limit_payload(self, talk: _Talk) -> None:
        """Take over how long a message may be, if it is said by whom we publish to."""
        if talk is self._talk:
            said = talk.info.get("max_payload")
            self.max_payload = min(said, MAX_PAYLOAD) if type(said) is int and said > 0 else Backplane.max_payload
            self._writer.max_payload = self.max_payload

    def discover(self, info: dict[str, Any], asked: Server) -> None:
        """Remember the other servers of the cluster, if it names any."""
        places = info.get("connect_urls")
        if isinstance(places, list):
            found = (_discovered(place, asked) for place in places[:MAX_SERVERS])
            known = {(server.host, server.port) for server in self.address.servers}
            self._discovered = tuple(server for server in found if server and (server.host, server.port) not in known)

    def note_violation(self, text: str) -> None:
        """Tell of the first time that something is not permitted."""
        self.violations += 1
        if self.violations == 1:
            _log.error("backplane %s: %s; it is told once, and what follows is counted", self.address.redacted, text)


class _Talk:
    """What is said on one connection; see `Conversation`."""

    def __init__(self, engine: Nats, wire: Wire) -> None:
        self.info: dict[str, Any] = {}
        self._engine = engine
        self._wire = wire
        self._reader = NatsReader()
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = self._too_early

    def feed(self, data: bytes) -> None:
        try:
            self._reader.feed(data, self)
        except NatsProtocolError as error:
            raise ConversationError(f"the server does not speak as NATS does: {error}") from None

    async def greet(self) -> None:
        await self._greeted
        engine = self._engine
        if engine.says_tls or self.info.get("tls_required"):
            await self._secure()
        self._wire.write(b"CONNECT %b\r\n" % json.dumps(self._introduction()).encode())
        self.received = engine.receiver.received
        await self._wire.barrier()
        engine.discover(self.info, self._wire.server)

    def ping(self) -> bytes:
        return b"PING\r\n"

    def subscribing(self, subjects: Sequence[bytes]) -> bytes:
        writer = NatsWriter()
        wants = self._engine.receiver.wants
        for subject in subjects:
            (writer.subscribe if wants(subject) else writer.unsubscribe)(subject)
        return writer.take()

    async def _secure(self) -> None:
        if not self._wire.is_secure:
            if not (self.info.get("tls_required") or self.info.get("tls_available")):
                raise ConversationError("the server has no TLS, which the URL asks for")
            # Whatever somebody has put between INFO and TLS is not read
            self._reader = NatsReader()
            await self._wire.start_tls(self._engine.tls())

    def _introduction(self) -> dict[str, Any]:
        server = self._wire.server
        said = {**_OPTIONS, **_CLIENT, "tls_required": self._wire.is_secure}
        if self._engine.key is not None:
            said.update(self._sign(self._engine.key))
        if server.password is not None:
            said.update({"user": server.user, "pass": server.password})
        elif server.user is not None:
            said["auth_token"] = server.user
        return said

    def _sign(self, key: Key) -> dict[str, str]:
        try:
            return key.sign(self.info)
        except (OSError, ValueError) as error:
            raise ConversationError(f"creds or nkey cannot be used: {why(error)}") from None

    # --- What comes; called by the reader.

    def on_info(self, text: bytes) -> None:
        try:
            info = json.loads(text)
        except (ValueError, RecursionError):
            info = None
        if not isinstance(info, dict):
            raise ConversationError("the server does not speak as NATS does: INFO is no JSON object")
        self.info = info
        if not self._greeted.done():
            self._greeted.set_result(None)
        elif self.received != self._too_early:
            self._changed(info)

    def _changed(self, info: dict[str, Any]) -> None:
        self._engine.limit_payload(self)
        self._engine.discover(info, self._wire.server)
        if info.get("ldm") is True:
            self._wire.leave()

    def on_ping(self) -> None:
        self._wire.write(b"PONG\r\n")

    def on_pong(self) -> None:
        self._wire.answered()

    def on_error(self, text: bytes) -> None:
        said = _printable(text).lower()
        if said.startswith("permissions violation"):
            self._engine.note_violation(said)
        else:
            raise ConversationError(f"the server refuses: {said}")

    def on_status(self, subject: bytes, status: bytes) -> None:
        self._engine.skipped += 1

    def _too_early(self, subject: bytes, payload: bytes) -> None:
        raise ConversationError("the server does not speak as NATS does: a message comes before we are let in")


def _discovered(place: object, asked: Server) -> Server | None:
    """Return a server that another one told of, with the same credentials."""
    try:
        server = server_of(str(place), PORT)
    except ValueError:
        return None
    # The certificate of a cluster is for its name, and an address of a part of it not in there
    name = asked.tls_name if server.has_address and not asked.has_address else None
    return replace(asked, host=server.host, port=server.port, name=name)


def _printable(text: bytes) -> str:
    said = text.decode("utf-8", "replace").strip(" '")[:MAX_REASON]
    return "".join(letter if letter.isprintable() else "?" for letter in said)
