"""fastws: a WebSocket server connector whose broadcasts run at the speed of the kernel's sockets."""

from __future__ import annotations

try:
    from . import http, ws
except ModuleNotFoundError as error:
    if error.name != "fastws._speedups":
        raise
    raise ImportError(
        f"the sources in {__path__[0]} are not built for this Python: run `make build` beside them, or import an "
        "installed fastws from another directory"
    ) from None
from .errors import (
    ConfigurationError,
    FastWSError,
    ForkedProcessError,
    GroupRemovedError,
    HandlerError,
    NoCurrentConnectionError,
    NotServingError,
    StartError,
    WrongThreadError,
)
from .process.run import run
from .server.server import Server, serve
from .version import __version__ as __version__

__all__ = [
    "ConfigurationError",
    "FastWSError",
    "ForkedProcessError",
    "GroupRemovedError",
    "HandlerError",
    "NoCurrentConnectionError",
    "NotServingError",
    "Server",
    "StartError",
    "WrongThreadError",
    "http",
    "run",
    "serve",
    "ws",
]
