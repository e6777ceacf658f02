"""Everything that fastws raises, in one tree.

::

    FastWSError                         catch this to catch them all
    ├── ConfigurationError              (TypeError) a service or an option is wrong; raised before anything listens
    ├── HandshakeError                  the opening handshake is refused: an HTTP status instead of 101
    ├── NoCurrentConnectionError        (RuntimeError) a function on "this connection" outside of a handler
    ├── WrongThreadError                (RuntimeError) called from another thread than the server's
    ├── NotServingError                 (RuntimeError) no server runs in this process, or none serves what was named
    ├── StartError                      (RuntimeError) a server cannot begin here, or not once more
    ├── ForkedProcessError              (RuntimeError) called in a child that was forked from the server's process
    ├── GroupRemovedError               (LookupError) the group was removed and its name retired
    ├── HandlerError                    (TypeError) a handler returned what cannot be a reply
    ├── ConnectError                    (OSError) a client's connection does not come about
    │   ├── DialError                   the server, or the proxy before it, cannot be reached
    │   ├── ProxyError                  the proxy refuses, or is none
    │   ├── RedirectError               the server sends the client where it does not go
    │   ├── InvalidStatus               the server answers with another status than 101
    │   ├── InvalidHandshake            what the server answers is no answer to what it was asked
    │   └── OpenTimeoutError            (TimeoutError) it takes longer than `open_timeout`
    ├── ConnectionClosed                a client sends or receives on a connection that has ended
    ├── ConcurrentReceiveError          (RuntimeError) two tasks receive at once
    ├── LoadError                       (RuntimeError) `fastws bench` has no answer
    ├── ClientRoleError                 (RuntimeError) called on a client's connection, and only a server's has it
    ├── CallTimeoutError                (TimeoutError) a call of fastws.sync took longer than it was given
    ├── testing.Refused                 a server in memory refuses the opening handshake of a test's client
    ├── testing.ExpectationError        (AssertionError) something else came than a test expects, or nothing
    └── http.Refuse                     raised by a resource or an on_upgrade, in order to answer with a status

Who is at fault decides the branch: the author of the service or of the client (`ConfigurationError`, `HandlerError` and
the seven about misuse), the peer (`HandshakeError`, `ConnectionClosed`), or what a client meets on its way
(`ConnectError`). What an error knows is in its attributes; `str(error)` makes a sentence of them. This module imports
nothing of fastws, so that every other module may import it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

__all__ = [
    "CallTimeoutError",
    "ClientRoleError",
    "ConcurrentReceiveError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionClosed",
    "DialError",
    "FastWSError",
    "ForkedProcessError",
    "GroupRemovedError",
    "HandlerError",
    "HandshakeError",
    "InvalidHandshake",
    "InvalidStatus",
    "LoadError",
    "NoCurrentConnectionError",
    "NotServingError",
    "OpenTimeoutError",
    "ProxyError",
    "RedirectError",
    "StartError",
    "WrongThreadError",
]


class FastWSError(Exception):
    """The root of all errors of fastws."""


class ConfigurationError(FastWSError, TypeError):
    """A service, or an option of it, is wrong.

    Raised when the class is annotated or when it is served, never while it serves. The message names the class, the
    method and the remedy.
    """


class HandshakeError(FastWSError):
    """The opening handshake is refused (RFC 6455 section 4.2.1 and 4.2.2).

    Attributes:
        status: the HTTP status of the refusal, such as 400, 403, 405 or 426.
        headers: what the status asks for besides, such as ``(b"Allow", b"GET")``.
        body: a constant sentence for the client; it reveals nothing of the server.
    """

    def __init__(self, status: int, headers: tuple[tuple[bytes, bytes], ...] = (), body: bytes = b"") -> None:
        super().__init__(status, headers, body)
        self.status = status
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        reason = self.body.decode("latin-1").strip()
        return f"opening handshake refused with {self.status}" + (f": {reason}" if reason else "")


class _MisplacedCallError(FastWSError, RuntimeError):
    """A function was called where it cannot work.

    Attributes:
        function: the name of the function, such as ``"push_text"``.
    """

    def __init__(self, function: str) -> None:
        super().__init__(function)
        self.function = function


class NoCurrentConnectionError(_MisplacedCallError):
    """A function that acts on the current connection was called where there is none.

    Attributes:
        function: the name of the function, such as ``"push_text"``.
    """

    def __str__(self) -> str:
        return (
            f"ws.{self.function} acts on the connection whose handler runs, and no handler of a connection runs here; "
            f"{self._remedy()}"
        )

    def _remedy(self) -> str:
        if self.function.startswith("broadcast"):
            return "name the service: to=Service, or to=self in a method of its own"
        return "keep the connection and call its method, or push to a stored connection or a group"


class WrongThreadError(_MisplacedCallError):
    """A function of fastws was called from another thread than the one of the server's event loop.

    Attributes:
        function: the name of the function, such as ``"push_text"``.
    """

    def __str__(self) -> str:
        return (
            f"{self.function} was called from another thread than the server's; "
            f"use server.call_from_thread({self.function}, ...)"
        )


class ClientRoleError(_MisplacedCallError):
    """A function for the clients of a server was called for a connection that is a client itself.

    Attributes:
        function: the name of the function, such as ``"add_connection_to_group"``.
    """

    def __str__(self) -> str:
        return f"{self.function} is for the connections of a server; this one is a client's, made by fastws.connect"


class NotServingError(_MisplacedCallError):
    """A function needs a running server, or the service that it names a server that serves it, and there is none.

    Attributes:
        function: the name of the function, such as ``"push_text_to_group"``.
        service: what was named and is not served with a WebSocket, or None.
    """

    def __init__(self, function: str, service: object = None) -> None:
        super().__init__(function)
        self.service = service

    def __str__(self) -> str:
        if self.service is not None:
            return (
                f"ws.{self.function}: {reprlib.repr(self.service)} is not served with a WebSocket on this event loop; "
                f"name the class, or the instance, that was given to fastws.serve() or fastws.run()"
            )
        return f"{self.function} needs a running server; start one with fastws.serve() or fastws.run()"


class ForkedProcessError(_MisplacedCallError):
    """A function of fastws was called in a process that was forked from the one that serves.

    Attributes:
        function: the name of the function, such as ``"push_text"``.
    """

    def __str__(self) -> str:
        return (
            f"{self.function} has no connections here: this process was forked from the one that serves; "
            f"let that one act on what the child returns, or tells it through a queue or a pipe"
        )


class StartError(FastWSError, RuntimeError):
    """A server cannot begin here or now; the message says why, and the way to go."""


class GroupRemovedError(FastWSError, LookupError):
    """The group was removed, and its name is retired until `create_connection_group` brings it back.

    Attributes:
        group: the name of the group.
    """

    def __init__(self, group: str) -> None:
        super().__init__(group)
        self.group = group

    def __str__(self) -> str:
        return f"group {self.group!r} was removed; ws.create_connection_group({self.group!r}) brings it back"


class HandlerError(FastWSError, TypeError):
    """A message handler returned what is neither `str` nor `bytes` nor None.

    Attributes:
        handler: the label of the handler, such as ``"Chat.said"``.
        returned: the name of the type that it returned.
    """

    def __init__(self, handler: str, returned: str) -> None:
        super().__init__(handler, returned)
        self.handler = handler
        self.returned = returned

    def __str__(self) -> str:
        return f"{self.handler} returned {self.returned}; a reply is str (text), bytes (binary) or None (no reply)"


class ConnectError(FastWSError, OSError):
    """A connection to a server does not come about; the message says why, and `__cause__` what was behind it."""

    def __init__(self, *values: object) -> None:
        super().__init__()
        self.args = values  # of which OSError would make an errno and a file's name


class DialError(ConnectError):
    """A client cannot reach the server, or the proxy before it: no such name, nobody there, no way there.

    Attributes:
        address: whom it wanted to reach, such as ``"example.com:443"`` or ``"unix:/run/chat.sock"``.
        errno: of the system or of its resolver; None where several addresses failed for different reasons.
    """

    def __init__(self, address: str, reason: str, errno: int | None = None) -> None:
        super().__init__(address, reason, errno)
        self.address = address
        self.strerror = reason
        self.errno = errno

    def __str__(self) -> str:
        return f"cannot connect to {self.address}: {self.strerror}"


class ProxyError(ConnectError):
    """A proxy does not connect a client to the server.

    Attributes:
        proxy: its URL, without user and password.
        reason: what it says, or what is wrong with it.
        status: of HTTP, or the reply of SOCKS (RFC 1928 section 6); None where it gave none.
    """

    def __init__(self, proxy: str, reason: str, status: int | None = None) -> None:
        super().__init__(proxy, reason, status)
        self.proxy = proxy
        self.reason = reason
        self.status = status

    def __str__(self) -> str:
        return f"proxy {self.proxy} does not connect: {self.reason}"


class RedirectError(ConnectError):
    """A server sends a client where it does not go.

    Attributes:
        url: of who answered with the redirect, without user and password.
        status: such as 302.
        location: where it leads, as the server said it; empty if it did not.
        reason: why that is not followed.
    """

    def __init__(self, url: str, status: int, location: str, reason: str) -> None:
        super().__init__(url, status, location, reason)
        self.url = url
        self.status = status
        self.location = location
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.url} redirects with {self.status} to {self.location[:200]!r}: {self.reason}"


class InvalidStatus(ConnectError):
    """The server answers the opening handshake with another status than 101 (RFC 6455 section 4.1).

    Attributes:
        status: such as 401.
        headers: the header fields, a mapping that does not care about the case of names.
        body: what came of the body: 64 KiB of it at most.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        super().__init__(status, headers, body)
        self.status = status
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        return f"the server answers with status {self.status} instead of 101"


class InvalidHandshake(ConnectError):
    """What the server answers is no HTTP, or is no answer to what it was asked (RFC 6455 section 4.1)."""


class OpenTimeoutError(ConnectError, TimeoutError):
    """A connection was not open within `open_timeout`.

    Attributes:
        seconds: how many that were.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the connection was not open within {self.seconds:g} seconds (open_timeout)"


class ConnectionClosed(FastWSError):
    """A client sends or receives on a connection that has ended.

    Attributes:
        code: the close code: the peer's, else ours, else 1006 (RFC 6455 section 7.1.5).
        reason: the reason that belongs to it.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"the connection is closed with code {self.code}" + (f": {self.reason}" if self.reason else "")


class ConcurrentReceiveError(FastWSError, RuntimeError):
    """A task receives from a connection while another one waits for its next message."""

    def __str__(self) -> str:
        return "another task receives from this connection already; have one task receive, and hand on what comes"


class CallTimeoutError(FastWSError, TimeoutError):
    """A blocking call of `fastws.sync` took longer than it was given.

    Attributes:
        function: what was called, such as ``"connection.receive"``.
        timeout: seconds.
    """

    def __init__(self, function: str, timeout: float) -> None:
        super().__init__()
        self.args = (function, timeout)  # of which OSError, a TimeoutError's base, would make an errno
        self.function = function
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.function} took longer than {self.timeout:g} s"


class LoadError(FastWSError, RuntimeError):
    """What `fastws bench` was asked has no answer; the message says why."""
