"""fastws: a WebSocket server connector whose broadcasts run at the speed of the kernel's sockets."""

from __future__ import annotations

from . import http, ws
from .errors import (
    ConfigurationError,
    FastWSError,
    GroupRemovedError,
    HandlerError,
    NoCurrentConnectionError,
    NotServingError,
    WrongThreadError,
)
from .server import Server, run, serve

__all__ = [
    "ConfigurationError",
    "FastWSError",
    "GroupRemovedError",
    "HandlerError",
    "NoCurrentConnectionError",
    "NotServingError",
    "Server",
    "WrongThreadError",
    "http",
    "run",
    "serve",
    "ws",
]

__version__ = "0.1.0"
