"""`on_upgrade`: a service decides about a client before its WebSocket opens.

The handler runs between the checks of the opening handshake and its response. It lets the client in by returning None.
Everything else keeps the client out, so that a mistake never opens a door: `http.Refuse` is the answer that the service
wants, any other exception or result is a failure of ours and a 500.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..handshake.server import accept
from .redaction import REDACTION
from .response import check_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..handshake.server import Accepted, Opening
    from ..service.model import Handler, Service
    from .request import Request

__all__ = ["ResponseHeaders", "Upgrade", "UpgradeCall"]


class ResponseHeaders:
    """Header fields to be sent with the 101: assign to replace, `add` for one line more.

    Raises:
        ValueError: the field belongs to the handshake or to the connection, or it cannot be sent.
    """

    __slots__ = ("raw",)

    def __init__(self) -> None:
        self.raw: list[tuple[bytes, bytes]] = []

    def __setitem__(self, name: str, value: str) -> None:
        field = _check_field(name, value)
        self.raw = [other for other in self.raw if other[0].lower() != field[0].lower()]
        self.raw.append(field)

    def add(self, name: str, value: str) -> None:
        """Add a field beside those of the same name, as ``Set-Cookie`` needs it."""
        self.raw.append(_check_field(name, value))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __repr__(self) -> str:
        return f"ResponseHeaders({list(self)!r})"


def _check_field(name: str, value: str) -> tuple[bytes, bytes]:
    if name.lower() == "sec-websocket-protocol":
        raise ValueError(f"header {name!r} is set by the server; assign to upgrade.subprotocol")
    if name.lower().startswith("sec-websocket-"):
        raise ValueError(f"header {name!r} belongs to the opening handshake and is set by the server")
    return check_header(name, value)


class Upgrade:
    """A client whose opening handshake is in order and that `on_upgrade` decides about.

    Attributes:
        request: what the client asks for, with its path, query, headers, cookies, address and certificate.
        subprotocols: the subprotocols that the client offers, in its order (RFC 6455 section 1.9).
    """

    __slots__ = ("_attributes", "_headers", "_subprotocol", "request", "subprotocols")

    def __init__(self, request: Request, subprotocols: tuple[str, ...] = (), subprotocol: str | None = None) -> None:
        self.request = request
        self.subprotocols = subprotocols
        self._subprotocol = subprotocol
        self._headers = ResponseHeaders()
        self._attributes: dict[str, Any] = {}

    @property
    def headers(self) -> ResponseHeaders:
        """Header fields to send with the 101: ``upgrade.headers["X-Version"] = "2"``, or ``add`` for one of many."""
        return self._headers

    @property
    def attributes(self) -> dict[str, Any]:
        """The dict that becomes `Connection.attributes`."""
        return self._attributes

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol to use: the first of the client's that the service speaks, until another one is set.

        Raises:
            ValueError: on setting, the client does not offer it; None is always possible.
        """
        return self._subprotocol

    @subprotocol.setter
    def subprotocol(self, value: str | None) -> None:
        # RFC 6455 section 4.1: a client fails the connection for one that it did not ask for.
        if value is not None and value not in self.subprotocols:
            raise ValueError(f"subprotocol {value!r} is not offered by the client, which offers {self.subprotocols!r}")
        self._subprotocol = None if value is None else str.__str__(value)

    def __repr__(self) -> str:
        return f"<Upgrade {REDACTION.redact(self.request.raw_target.decode('latin-1'))}>"


class UpgradeCall:
    """The call of `on_upgrade`, which decides about an opening handshake that is in order.

    Attributes:
        owner: the service.
        handler: what is called.
        upgrade: what it decides about.
    """

    __slots__ = ("_opening", "handler", "owner", "upgrade")

    def __init__(self, service: Service, handler: Handler, opening: Opening, request: Request) -> None:
        self.owner = service
        self.handler = handler
        self._opening = opening
        self.upgrade = Upgrade(request, opening.offered(), opening.subprotocol)

    def run(self) -> Any:
        """Call it with the arguments that it names; what it returns is awaited if that can be."""
        upgrade = self.upgrade
        given = {"request": upgrade.request, "upgrade": upgrade, **upgrade.request.path_parameters}
        positional = [given[name] for name in self.handler.positional]
        return self.handler.function(*positional, **{name: given[name] for name in self.handler.keywords})

    def conclude(self, result: object) -> Accepted:
        """Accept the opening handshake as it wants it.

        Raises:
            TypeError: the handler returned something, such as False, that may have been meant as a refusal.
        """
        if result is not None:
            raise TypeError(
                f"{self.handler.label} returned {type(result).__name__}; on_upgrade lets the client in by returning "
                f"None, and refuses it with raise http.Refuse(...)"
            )
        upgrade = self.upgrade
        accepted = accept(self._opening._replace(subprotocol=upgrade.subprotocol), upgrade.headers.raw)
        return accepted._replace(attributes=upgrade.attributes)
