"""Every option: its name, its type, its default and its check, each on one line.

`ServeOptions` lists those of `serve` and `run`, `UpgradePathOptions` those of `ws.upgrade_path`, `ConnectOptions` those
of `connect`. Everything else comes from these lines: the typed keywords and what `help()` shows of them, the defaults
of the command, and the checked options that servers, clients and the core read as attributes (`ServerOptions`,
`UpgradeOptions`, `ClientOptions`).
"""

from __future__ import annotations

import inspect
import os
import re
import reprlib
import socket
import ssl as ssllib
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NamedTuple, TypedDict, TypeVar, get_type_hints

from ._speedups import OVERFLOWS, check_close_code
from .backplane.base import Backplane
from .errors import ConfigurationError
from .handshake.fields import is_token, normal_origin

__all__ = [
    "AUTO",
    "ClientOptions",
    "ConnectOptions",
    "ServeOptions",
    "ServerOptions",
    "UpgradeOptions",
    "UpgradePathOptions",
    "takes",
]

_Path = str | os.PathLike[str]
_F = TypeVar("_F", bound=Callable[..., Any])

AUTO: Final = "auto"
MAX_FLOAT: Final = sys.float_info.max
MAX_FANOUT_THREADS: Final = 15  # the core has room for so many


# --- Checks: each returns the value as it is used.


class _UnfitError(Exception):
    """A value cannot be; says what can, and which one it is if it is one of several."""

    def __init__(self, remedy: str, *values: object) -> None:
        super().__init__(remedy)
        self.values = values


def _as_given(value: Any) -> Any:
    return value


def _whole(lowest: int, highest: int, what: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise _UnfitError(f"give {what}")
        return value

    return check


def _between(lowest: int, highest: int) -> Callable[[Any], int]:
    return _whole(lowest, highest, f"an int from {lowest} to {highest}")


def _number_of(unit: str) -> Callable[[Any], int]:
    return _whole(1, sys.maxsize, f"a number of {unit}, an int above 0")


def _above_zero(what: str) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= MAX_FLOAT:
            raise _UnfitError(f"give {what} above 0")
        return value

    return check


def _or_none(check: Callable[[Any], Any], what_for: str = "") -> Callable[[Any], Any]:
    def check_or_none(value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except _UnfitError as error:
            if error.values:  # one of several, which cannot be None
                raise
            raise _UnfitError(f"{error}, or None{what_for}") from None

    return check_or_none


def _one_of(names: Iterable[str], what: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        # Not the value itself: that of an enumeration's member is another text
        found = next((name for name in names if name == value), None)
        if found is None:
            raise _UnfitError(f"give {what}")
        return found

    return check


_count: Final = _whole(1, sys.maxsize, "a whole number from 1")
_thread_count: Final = _whole(0, MAX_FANOUT_THREADS, f"a whole number from 0 to {MAX_FANOUT_THREADS}")
_seconds: Final = _above_zero("a number of seconds")
_seconds_or_off: Final = _or_none(_above_zero("seconds, a number"), " to turn it off")
_rate_or_off: Final = _or_none(_above_zero("messages a second, a number"), " to turn it off")
_overflow: Final = _one_of(OVERFLOWS, f"one of {', '.join(OVERFLOWS)}")


def _compression(value: Any) -> str | None:
    return None if value is None else _one_of(("shared", "dedicated"), '"shared", "dedicated" or None')(value)


def _kernel_backlog(value: Any) -> int | str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31:
        return value
    if value is not None and value != AUTO:
        raise _UnfitError(f'give a number of bytes above 0, None for as many as the kernel takes, or "{AUTO}"')
    return None if value is None else AUTO


def _close_code(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _UnfitError("give a close code, such as 1013 or one from 3000 to 4999")
    try:
        check_close_code(value)
    except (ValueError, OverflowError):
        raise _UnfitError("give 1000 to 1003, 1007 to 1014 or 3000 to 4999") from None
    return value


def _field(value: Any) -> str:
    if not isinstance(value, str) or not is_token(value):
        raise _UnfitError('give the name of a header field such as "Forwarded"')
    return value


def _strings(values: object) -> list[str]:
    # A lone string is an iterable of its letters, the mistake that everybody makes once
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise _UnfitError("give a list of strings")
    strings = list(values)
    for value in strings:
        if not isinstance(value, str):
            raise _UnfitError("give a list of strings", value)
    return strings


def _subprotocols(values: object) -> tuple[str, ...]:
    names = _strings(values)
    for name in names:
        if not is_token(name):
            raise _UnfitError("a subprotocol is a token: letters, digits and some signs, no spaces", name)
    if len(set(names)) < len(names):
        raise _UnfitError("name each subprotocol once", names)
    return tuple(map(str.__str__, names))


def _origins(values: object) -> frozenset[str]:
    return frozenset(map(_origin, _strings(values)))


def _origin(value: str) -> str:
    origin = normal_origin(value)
    if origin is None:
        raise _UnfitError('an origin is like "https://example.com", without a path', value)
    return origin


def _backplane(value: object) -> object:
    if not isinstance(value, (str, Backplane)):
        raise _UnfitError('give the URL of an engine such as "nats://localhost:4222", or a Backplane')
    return value


def _cluster(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise _UnfitError("give 1 to 64 of the letters A to Z, digits, _ and -")
    return value


# What the handshake says itself.
_OF_HANDSHAKE: Final = re.compile(r"(?i)connection|upgrade|content-length|transfer-encoding|origin|sec-websocket-.*")


def _pairs(value: object, what: str) -> list[tuple[str, str]]:
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Iterable):
        raise _UnfitError(f"give {what}, a mapping or pairs of strings")
    found = []
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise _UnfitError(f"give {what}, a mapping or pairs of strings", pair)
        found.append(pair)
    return found


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(value, "header fields")
    for name, text in pairs:
        if not is_token(name):
            raise _UnfitError("the name of a header field is a token: letters, digits and some signs", name)
        if _OF_HANDSHAKE.fullmatch(name):
            raise _UnfitError("the handshake says that itself; subprotocols, origin and compression are options", name)
        if not _is_field_value(text):
            raise _UnfitError("the value of a header field is Latin-1 without control characters", name)
    return tuple(pairs)


def _is_field_value(text: str) -> bool:
    # A line break would end the field and begin one of somebody else's
    return all(character == "\t" or (" " <= character <= "\xff" and character != "\x7f") for character in text)


def _cookies(value: object) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(value, "cookies")
    for name, text in pairs:
        if not is_token(name):
            raise _UnfitError("the name of a cookie is a token: letters, digits and some signs", name)
        if not re.fullmatch(r'[!#-+\--:<-\[\]-~]*|"[!#-+\--:<-\[\]-~]*"', text):
            raise _UnfitError("the value of a cookie is ASCII without blanks, commas, semicolons and the like", name)
    return tuple(pairs)


def _auth(value: Any) -> tuple[str, str]:
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, str) for part in value)
    if not pair or ":" in value[0] or not all(map(_is_field_value, "".join(value).encode().decode("latin-1"))):
        # Not the value itself, which has the password
        raise _UnfitError("give a user, which has no colon, and a password", "...")
    user, password = value
    return user, password


def _local_address(value: Any) -> tuple[str, int]:
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], str) or value[1] not in range(65536):
        raise _UnfitError('give a host and a port of this machine, such as ("192.0.2.1", 0)')
    host, port = value
    return host, port


def _context(value: Any) -> ssllib.SSLContext:
    if not isinstance(value, ssllib.SSLContext):
        raise _UnfitError("give an ssl.SSLContext")
    return value


def _proxy(value: Any) -> Any:
    if value is not None and value is not True and not isinstance(value, str):
        raise _UnfitError("give True for that of the environment, None for none, or the URL of one")
    return value


def _stream(value: Any) -> socket.socket:
    if not isinstance(value, socket.socket) or value.type != socket.SOCK_STREAM:
        raise _UnfitError("give a connected stream socket")
    return value


def _socket_path(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
    if not isinstance(path, str) or not path or "\0" in path[1:]:
        raise _UnfitError("give the path of a socket")
    return path


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _UnfitError("give a name")
    return value


# --- The options.


class Option(NamedTuple):
    """An option, besides its name and its type."""

    default: Any
    check: Callable[[Any], Any] = _as_given


class ServeOptions(TypedDict, total=False):
    """The options of `serve` and `run`."""

    host: Annotated[str | None, Option("127.0.0.1")]
    port: Annotated[int | None, Option(9090)]
    sock: Annotated[socket.socket | None, Option(None)]
    unix: Annotated[_Path | None, Option(None)]
    unix_mode: Annotated[int, Option(0o600)]
    reuse_port: Annotated[bool, Option(False)]
    backplane: Annotated[str | Backplane | None, Option(None, _or_none(_backplane))]
    cluster: Annotated[str, Option("main", _cluster)]
    backlog: Annotated[int, Option(4096, _count)]
    proxy_protocol: Annotated[bool, Option(False)]
    ssl: Annotated[ssllib.SSLContext | None, Option(None)]
    certfile: Annotated[_Path | None, Option(None)]
    keyfile: Annotated[_Path | None, Option(None)]
    keyfile_password: Annotated[str | None, Option(None)]
    client_ca: Annotated[_Path | None, Option(None)]
    access_log: Annotated[bool, Option(False)]
    redacted_parameters: Annotated[str | Iterable[str], Option(())]
    proxy_headers: Annotated[bool | str | Iterable[str] | None, Option(None)]
    forwarded_field: Annotated[str | None, Option(None, _or_none(_field))]
    max_connections: Annotated[int, Option(100_000, _count)]
    max_connections_per_address: Annotated[int | None, Option(None, _or_none(_count))]
    max_handshakes: Annotated[int, Option(8192, _count)]
    max_total_backlog: Annotated[int, Option(1 << 28, _count)]  # bytes
    kernel_backlog: Annotated[int | str | None, Option(AUTO, _kernel_backlog)]  # bytes
    fanout_threads: Annotated[int, Option(0, _thread_count)]
    handshake_timeout: Annotated[float, Option(10.0, _seconds)]
    keep_alive_timeout: Annotated[float, Option(75.0, _seconds)]
    close_timeout: Annotated[float, Option(10.0, _seconds)]
    drain: Annotated[float | None, Option(None, _or_none(_above_zero("seconds, a number"), " to close all at once"))]
    health: Annotated[bool, Option(False)]
    slow_handler_time: Annotated[float | None, Option(0.1, _or_none(_seconds))]
    max_head_size: Annotated[int, Option(16384, _count)]  # bytes
    max_head_fields: Annotated[int, Option(128, _count)]
    max_body_size: Annotated[int, Option(1 << 20, _count)]  # bytes


class UpgradePathOptions(TypedDict, total=False):
    """The options of `ws.upgrade_path`."""

    subprotocols: Annotated[Iterable[str], Option((), _subprotocols)]
    max_message_size: Annotated[int, Option(1 << 20, _number_of("bytes"))]
    idle_timeout: Annotated[float | None, Option(None, _seconds_or_off)]
    ping_interval: Annotated[float | None, Option(20.0, _seconds_or_off)]
    ping_timeout: Annotated[float | None, Option(20.0, _seconds_or_off)]
    max_backlog: Annotated[int, Option(1 << 20, _number_of("bytes"))]
    high_water: Annotated[int | None, Option(None, _or_none(_number_of("bytes")))]
    overflow: Annotated[str, Option("close", _overflow)]
    overflow_code: Annotated[int, Option(1013, _close_code)]
    kernel_backlog: Annotated[int | str | None, Option(AUTO, _kernel_backlog)]  # bytes
    max_queue: Annotated[int, Option(16, _number_of("messages"))]
    max_fragments: Annotated[int, Option(1 << 17, _number_of("frames"))]
    max_message_rate: Annotated[float | None, Option(None, _rate_or_off)]
    allowed_origins: Annotated[Iterable[str] | None, Option(None, _or_none(_origins))]
    upgrade_timeout: Annotated[float | None, Option(10.0, _seconds_or_off)]
    compression: Annotated[str | None, Option("shared", _compression)]
    compression_threshold: Annotated[int, Option(256, _between(0, sys.maxsize))]  # bytes
    compression_level: Annotated[int, Option(6, _between(1, 9))]
    compression_window_bits: Annotated[int | None, Option(None, _or_none(_between(9, 15)))]


class ConnectOptions(TypedDict, total=False):
    """The options of `connect`."""

    subprotocols: Annotated[Iterable[str], Option((), _subprotocols)]
    headers: Annotated[Mapping[str, str] | Iterable[tuple[str, str]], Option((), _headers)]
    origin: Annotated[str | None, Option(None, _or_none(_origin))]
    cookies: Annotated[Mapping[str, str] | Iterable[tuple[str, str]], Option((), _cookies)]
    auth: Annotated[tuple[str, str] | None, Option(None, _or_none(_auth))]
    ssl: Annotated[ssllib.SSLContext | None, Option(None, _or_none(_context))]
    server_hostname: Annotated[str | None, Option(None, _or_none(_text))]
    proxy: Annotated[bool | str | None, Option(True, _proxy)]
    max_redirects: Annotated[int, Option(5, _between(0, 100))]
    unix: Annotated[_Path | None, Option(None, _or_none(_socket_path))]
    local_addr: Annotated[tuple[str, int] | None, Option(None, _or_none(_local_address))]
    sock: Annotated[socket.socket | None, Option(None, _or_none(_stream))]
    open_timeout: Annotated[float | None, Option(10.0, _seconds_or_off)]
    close_timeout: Annotated[float, Option(10.0, _seconds)]
    ping_interval: Annotated[float | None, Option(20.0, _seconds_or_off)]
    ping_timeout: Annotated[float | None, Option(20.0, _seconds_or_off)]
    idle_timeout: Annotated[float | None, Option(None, _seconds_or_off)]
    max_message_size: Annotated[int, Option(1 << 20, _number_of("bytes"))]
    max_fragments: Annotated[int, Option(1 << 17, _number_of("frames"))]
    max_queue: Annotated[int, Option(16, _number_of("messages"))]
    max_backlog: Annotated[int, Option(1 << 20, _number_of("bytes"))]
    high_water: Annotated[int | None, Option(None, _or_none(_number_of("bytes")))]
    overflow: Annotated[str, Option("close", _overflow)]
    compression: Annotated[str | None, Option("shared", _compression)]
    compression_threshold: Annotated[int, Option(256, _between(0, sys.maxsize))]  # bytes
    compression_level: Annotated[int, Option(6, _between(1, 9))]
    compression_window_bits: Annotated[int | None, Option(None, _or_none(_between(9, 15)))]


class _Checked:
    """Options after their check, each an attribute; the class has the defaults.

    Raises:
        ConfigurationError: there is no such option, it is not what it may be, or it does not go with another.
    """

    _declared: ClassVar[dict[str, Option]]
    _where: ClassVar[str]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, declared: type, where: str = "") -> None:
        hints = get_type_hints(declared, include_extras=True)
        cls._declared = {name: hint.__metadata__[0] for name, hint in hints.items()}
        cls._where = where
        for name, option in cls._declared.items():
            setattr(cls, name, option.default)

    def __init__(self, **given: Any) -> None:
        for name in given:
            if name not in self._declared:
                raise ConfigurationError(
                    f"{self._where}there is no option {name!r}; there are {', '.join(self._declared)}"
                )
        vars(self).update({name: self._check(name, value) for name, value in given.items()})

    @classmethod
    def default(cls, name: str) -> Any:
        """Return the default of an option."""
        return cls._declared[name].default

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} is decided already")

    def _check(self, name: str, value: object) -> Any:
        try:
            return self._declared[name].check(value)
        except _UnfitError as error:
            raise self.wrong(name, error.values[0] if error.values else value, str(error)) from None

    def wrong(self, name: str, value: object, remedy: str) -> ConfigurationError:
        """Return the error that says what is wrong with an option, and what to give."""
        return ConfigurationError(f"{self._where}{name}={reprlib.repr(value)}: {remedy}")


class ServerOptions(_Checked, declared=ServeOptions):
    """The options of a server; `serve` says what they mean."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._check_address()
        self._check_tls()

    def _check_address(self) -> None:
        if self.sock is not None and self.unix is not None:
            raise ConfigurationError("sock and unix are two places to listen at; give one of them")
        if self.sock is not None:
            self._require("sock", self.sock.type == socket.SOCK_STREAM, "a stream socket")
        elif self.unix is not None:
            path = os.fspath(self.unix)
            self._require("unix", bool(path) and "\0" not in path, "the path of a socket")
            self._require("unix_mode", 0 <= self.unix_mode <= 0o777, "a mode such as 0o660")
        else:
            self._require("port", self.port in range(65536), "a number from 0 to 65535")
        if self.reuse_port and not hasattr(socket, "SO_REUSEPORT"):
            raise ConfigurationError("reuse_port: this system does not let processes share a port")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise self.wrong(name, getattr(self, name), f"give {what}")

    def _check_tls(self) -> None:
        if self.ssl is not None:
            self._require("ssl", isinstance(self.ssl, ssllib.SSLContext), "an ssl.SSLContext")
        for name in ("keyfile", "keyfile_password", "client_ca"):
            if getattr(self, name) is not None and self.certfile is None:
                raise ConfigurationError(f"{name} needs a certfile beside it")
        if self.ssl is not None and self.certfile is not None:
            raise ConfigurationError("ssl and certfile are two ways to say the same; give one of them")


class UpgradeOptions(_Checked, declared=UpgradePathOptions, where="ws.upgrade_path: "):
    """The options of a WebSocket path; `ws.upgrade_path` says what they mean.

    Attributes:
        high_water: a number, also where none was given.
        compression_window_bits: likewise.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        vars(self).update(_settle(self))


def _settle(options: Any) -> dict[str, Any]:
    """Return what follows from other options, where those that say it are not given."""
    settled = {}
    if options.high_water is None:
        settled["high_water"] = max(1, options.max_backlog // 2)
    elif options.high_water > options.max_backlog:
        raise options.wrong("high_water", options.high_water, f"give no more than max_backlog, {options.max_backlog}")
    if options.compression_window_bits is None:
        # One window that all share may be the largest; one per connection has to be paid for each
        settled["compression_window_bits"] = 12 if options.compression == "dedicated" else 15
    return settled


class ClientOptions(_Checked, declared=ConnectOptions, where="connect: "):
    """The options of a client; `connect` says what they mean.

    Attributes:
        headers: all header fields, those that `cookies` and `auth` make, too.
        high_water: a number, also where none was given.
        compression_window_bits: likewise.
        overflow_code, max_message_rate, slow_handler_time: what the core wants to know and no client has to say.
    """

    overflow_code: Final = 1008
    max_message_rate: Final = None
    slow_handler_time: Final = 0.1  # seconds

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        if self.sock is not None and self.unix is not None:
            raise ConfigurationError("connect: sock and unix are two ways to a server; give one of them")
        vars(self).update(_settle(self), headers=self._all_headers())

    def _all_headers(self) -> tuple[tuple[str, str], ...]:
        headers: list[tuple[str, str]] = list(self.headers)
        names = {name.lower() for name, _ in headers}
        if self.cookies:
            if "cookie" in names:
                raise ConfigurationError("connect: cookies and the header Cookie say the same; give one of them")
            headers.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies)))
        if self.auth is not None:
            if "authorization" in names:
                raise ConfigurationError("connect: auth and the header Authorization say the same; give one of them")
            headers.append(authorization(self.auth))
        return tuple(headers)


def authorization(auth: tuple[str, str]) -> tuple[str, str]:
    """Return the header field that says who we are (RFC 7617)."""
    return "Authorization", f"Basic {b64encode(':'.join(auth).encode()).decode()}"


def takes(declared: type) -> Callable[[_F], _F]:
    """Decorate a function whose ``**options`` are declared: let `help()` show them, each with its default."""
    hints = get_type_hints(declared, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    shown = [
        inspect.Parameter(name, keyword, default=hint.__metadata__[0].default, annotation=hint.__origin__)
        for name, hint in hints.items()
    ]

    def show(function: _F) -> _F:
        signature = inspect.signature(function)
        own = [own for own in signature.parameters.values() if own.kind is not own.VAR_KEYWORD]
        vars(function)["__signature__"] = signature.replace(parameters=[*own, *shown])
        return function

    return show
