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
    ├── testing.Refused                 a server in memory refuses the opening handshake of a test's client
    ├── testing.ExpectationError        (AssertionError) something else came than a test expects, or nothing
    └── http.Refuse                     raised by a resource or an on_upgrade, in order to answer with a status

Who is at fault decides the branch: the author of the service (`ConfigurationError`, `HandlerError` and the five about
misuse) or the peer (`HandshakeError`). What an error knows is in its attributes; `str(error)` makes a
sentence of them. This module imports nothing of fastws, so that every other module may import it.
"""

from __future__ import annotations

import reprlib

__all__ = [
    "ConfigurationError",
    "FastWSError",
    "ForkedProcessError",
    "GroupRemovedError",
    "HandlerError",
    "HandshakeError",
    "NoCurrentConnectionError",
    "NotServingError",
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
