"""fastws: a WebSocket server connector whose broadcasts run at the speed of the kernel's sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from . import http, ws
except ModuleNotFoundError as error:
    if error.name != "fastws._speedups":
        raise
    raise ImportError(
        f"the sources in {__path__[0]} are not built for this Python: run `make build` beside them, or import an "
        "installed fastws from another directory"
    ) from None
from ._speedups import ClientConnection
from .errors import (
    CallTimeoutError,
    ClientRoleError,
    ConcurrentReceiveError,
    ConfigurationError,
    ConnectError,
    ConnectionClosed,
    DialError,
    FastWSError,
    ForkedProcessError,
    GroupRemovedError,
    HandlerError,
    InvalidHandshake,
    InvalidStatus,
    NoCurrentConnectionError,
    NotServingError,
    OpenTimeoutError,
    ProxyError,
    RedirectError,
    StartError,
    WrongThreadError,
)
from .process.run import run
from .server.server import Server, serve
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import sync, testing
    from .client.connect import connect
    from .client.reconnecting import Reconnecting, Retry, reconnect

__all__ = [
    "CallTimeoutError",
    "ClientConnection",
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
    "InvalidHandshake",
    "InvalidStatus",
    "NoCurrentConnectionError",
    "NotServingError",
    "OpenTimeoutError",
    "ProxyError",
    "Reconnecting",
    "RedirectError",
    "Retry",
    "Server",
    "StartError",
    "WrongThreadError",
    "connect",
    "http",
    "reconnect",
    "run",
    "serve",
    "sync",
    "testing",
    "ws",
]

# What a server has no use of is loaded when somebody asks for it.
_LAZY = {
    "Reconnecting": "client.reconnecting",
    "Retry": "client.reconnecting",
    "connect": "client.connect",
    "reconnect": "client.reconnecting",
}
_LAZY_DOORS = ("sync", "testing")


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _LAZY_DOORS:
        return import_module(f".{name}", __name__)
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_DOORS})
