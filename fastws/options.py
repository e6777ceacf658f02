"""The options of `serve` and `run`: their names, their defaults, and what each may be.

All of it is checked before anything listens, and a message names the option.
"""

from __future__ import annotations

import os
import re
import socket
import ssl as ssllib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict, TypeVar

from . import kernel_backlog
from .errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Options", "ServeOptions", "read_options"]

_Path = str | os.PathLike[str]
_T = TypeVar("_T")

MAX_FANOUT_THREADS: Final = 15  # the core has room for so many


class ServeOptions(TypedDict, total=False):
    """The options of `serve` and `run`."""

    host: str | None
    port: int | None
    sock: socket.socket | None
    unix: _Path | None
    unix_mode: int
    reuse_port: bool
    backlog: int
    proxy_protocol: bool
    ssl: ssllib.SSLContext | None
    certfile: _Path | None
    keyfile: _Path | None
    keyfile_password: str | None
    client_ca: _Path | None
    access_log: bool
    redacted_parameters: str | Iterable[str]
    proxy_headers: bool | str | Iterable[str] | None
    forwarded_field: str | None
    max_connections: int
    max_connections_per_address: int | None
    max_handshakes: int
    max_total_backlog: int
    kernel_backlog: int | str | None
    fanout_threads: int
    handshake_timeout: float
    keep_alive_timeout: float
    close_timeout: float
    slow_handler_time: float | None
    max_head_size: int
    max_head_fields: int
    max_body_size: int


@dataclass(frozen=True)
class Options:
    """All options of a server, each with its default; `serve` says what they mean.

    Raises:
        ConfigurationError: one of them is not what it may be, or does not go with another.
    """

    host: str | None = "127.0.0.1"
    port: int | None = 9090
    sock: socket.socket | None = None
    unix: _Path | None = None
    unix_mode: int = 0o600
    reuse_port: bool = False
    backlog: int = 4096
    proxy_protocol: bool = False
    ssl: ssllib.SSLContext | None = None
    certfile: _Path | None = None
    keyfile: _Path | None = None
    keyfile_password: str | None = None
    client_ca: _Path | None = None
    access_log: bool = False
    redacted_parameters: str | Iterable[str] = ()
    proxy_headers: bool | str | Iterable[str] | None = None
    forwarded_field: str | None = None
    max_connections: int = 100_000
    max_connections_per_address: int | None = None
    max_handshakes: int = 8192
    max_total_backlog: int = 1 << 28
    kernel_backlog: int | str | None = kernel_backlog.AUTO
    fanout_threads: int = 0
    handshake_timeout: float = 10.0
    keep_alive_timeout: float = 75.0
    close_timeout: float = 10.0
    slow_handler_time: float | None = 0.1
    max_head_size: int = 16384
    max_head_fields: int = 128
    max_body_size: int = 1 << 20

    def __post_init__(self) -> None:
        for name in _COUNTS:
            _check(name, getattr(self, name), _is_count, "a whole number from 1")
        for name in _TIMES:
            _check(name, getattr(self, name), _is_time, "a number of seconds above 0")
        what = f"a whole number from 0 to {MAX_FANOUT_THREADS}"
        _check("fanout_threads", self.fanout_threads, _is_thread_count, what)
        _check("kernel_backlog", self.kernel_backlog, kernel_backlog.is_valid, kernel_backlog.WHAT)
        if self.slow_handler_time is not None:
            what = "a number of seconds above 0, or None"
            _check("slow_handler_time", self.slow_handler_time, _is_time, what)
        if self.max_connections_per_address is not None:
            what = "a whole number from 1, or None"
            _check("max_connections_per_address", self.max_connections_per_address, _is_count, what)
        if self.forwarded_field is not None:
            _check("forwarded_field", self.forwarded_field, _is_field, 'the name of a header field such as "Forwarded"')
        self._check_address()
        self._check_tls()

    def _check_address(self) -> None:
        if self.sock is not None and self.unix is not None:
            raise ConfigurationError("sock and unix are two places to listen at; give one of them")
        if self.sock is not None:
            _check("sock", self.sock, lambda sock: sock.type == socket.SOCK_STREAM, "a stream socket")
        elif self.unix is not None:
            _check("unix", os.fspath(self.unix), lambda path: path and "\0" not in path, "the path of a socket")
            _check("unix_mode", self.unix_mode, lambda mode: 0 <= mode <= 0o777, "a mode such as 0o660")
        else:
            _check("port", self.port, lambda port: port in range(65536), "a number from 0 to 65535")
        if self.reuse_port and not hasattr(socket, "SO_REUSEPORT"):
            raise ConfigurationError("reuse_port: this system does not let processes share a port")

    def _check_tls(self) -> None:
        if self.ssl is not None:
            _check("ssl", self.ssl, lambda context: isinstance(context, ssllib.SSLContext), "an ssl.SSLContext")
        for name in ("keyfile", "keyfile_password", "client_ca"):
            if getattr(self, name) is not None and self.certfile is None:
                raise ConfigurationError(f"{name} needs a certfile beside it")
        if self.ssl is not None and self.certfile is not None:
            raise ConfigurationError("ssl and certfile are two ways to say the same; give one of them")


_COUNTS: Final = (
    "backlog",
    "max_connections",
    "max_handshakes",
    "max_total_backlog",
    "max_head_size",
    "max_head_fields",
    "max_body_size",
)
_TIMES: Final = ("handshake_timeout", "keep_alive_timeout", "close_timeout")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= sys.maxsize


def _is_thread_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_FANOUT_THREADS


def _is_field(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value) is not None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _check(name: str, value: _T, allowed: Callable[[_T], object], what: str) -> None:
    if not allowed(value):
        raise ConfigurationError(f"{name}={value!r}: give {what}")


def read_options(**options: Unpack[ServeOptions]) -> Options:
    """Check the options that `serve` was given.

    Raises:
        ConfigurationError: there is no such option, or it is wrong.
    """
    for name in options:
        if name not in ServeOptions.__annotations__:
            names = ", ".join(ServeOptions.__annotations__)
            raise ConfigurationError(f"there is no option {name!r}; there are {names}")
    return Options(**options)
