"""The URLs of engines: ``scheme://user:password@host:port,host:port/path?name=value``.

Several servers stand between commas, an IPv6 address in brackets. What a user or a password has besides letters,
digits and ``-._~`` is percent-encoded. They stand with the first server, for all of them, or with each; a user alone is
what an engine makes of it, for NATS a token. Nothing that is said of a URL, neither an error nor a repr, shows what is
before an ``@``, or the value of a parameter.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn
from urllib.parse import unquote

from ..errors import ConfigurationError

__all__ = ["TLS_PARAMETERS", "Address", "Server", "server_of"]

MAX_SERVERS: Final = 64  # of a URL
TLS_PARAMETERS: Final = ("ca", "cert", "key")
_FLAGS: Final = {"true": True, "1": True, "": True, "false": False, "0": False}
_ENCODE: Final = "percent-encode what is special in a user, a password, a path and a parameter"


@dataclass(frozen=True)
class Server:
    """One of an engine's servers, and how to introduce oneself there.

    Attributes:
        host: a name or an address, without brackets.
        port: of TCP.
        user: None without.
        password: None without.
        name: for which its certificate is, where that is not `host`.
    """

    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    name: str | None = None

    @property
    def has_address(self) -> bool:
        """Whether its host is an address, and no name."""
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(self.host)
            return True
        return False

    @property
    def tls_name(self) -> str:
        """For whom its certificate has to be."""
        return self.name or self.host

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Address:
    """A URL, taken apart.

    Args:
        url: as the user wrote it.
        port: of servers without one.
        parameters: those that the engine knows.

    Attributes:
        scheme: in lower case.
        servers: at least one, each with its user and password.
        path: what follows the servers, decoded, without the first slash.
        parameters: name to value, decoded.

    Raises:
        ConfigurationError: it is no such URL, or a parameter is not known.
    """

    __slots__ = ("parameters", "path", "scheme", "servers")

    def __init__(self, url: str, *, port: int, parameters: Collection[str] = ()) -> None:
        scheme, separator, rest = url.strip().partition("://")
        self.scheme = scheme.lower() if separator else ""
        if not separator:
            self.refuse("it does not begin with a scheme")
        rest = rest.replace(f",{scheme}://", ",")  # lists of whole URLs are common, too
        authority = rest[: min(map(len, (rest.partition(mark)[0] for mark in "/?#")))]
        path, _, query = rest[len(authority) :].partition("?")
        if "@" in path + query or "#" in path + query:
            # Of a password that is not encoded the rest would pass for a path, and be shown
            self.refuse(f"there is an @ or a # behind the servers; {_ENCODE}")
        self.path = unquote(path[1:])
        self.parameters = self._read_query(query, parameters)
        self.servers = self._read_servers(authority, port)

    def __repr__(self) -> str:
        return f"<Address {self.redacted}>"

    @property
    def redacted(self) -> str:
        """The URL without its secrets, for logs."""
        secret = "***@" if self.servers[0].user is not None else ""
        path = f"/{self.path}" if self.path else ""
        return f"{self.scheme}://{secret}{','.join(map(str, self.servers))}{path}"

    def refuse(self, why: str) -> NoReturn:
        """Raise the error of a URL of this scheme.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(f"backplane: {self.scheme}:// cannot be used: {why}")

    def flag(self, name: str) -> bool:
        """Return a parameter that is true or false; false without it.

        Raises:
            ConfigurationError: it is neither.
        """
        value = self.parameters.get(name, "false").lower()
        if value not in _FLAGS:
            self.refuse(f"{name} is true or false")
        return _FLAGS[value]

    def make_tls_context(self) -> ssl.SSLContext:
        """Return how to check a server: by the authorities of the system, or those of `ca`; `cert` and `key` are ours.

        Raises:
            ConfigurationError: a file cannot be loaded.
        """
        ca, cert, key = map(self.parameters.get, TLS_PARAMETERS)
        if key and not cert:
            self.refuse("key is given without cert")
        try:
            context = ssl.create_default_context(cafile=ca)
            if cert:
                context.load_cert_chain(cert, key, self._no_password)
        except OSError as error:
            reason = getattr(error, "reason", None) or os.strerror(error.errno or 0)
            self.refuse(f"{' or '.join(TLS_PARAMETERS)} cannot be loaded: {reason}")
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _no_password(self) -> str:
        # Without this OpenSSL would ask for it at the terminal, and wait
        self.refuse("key is encrypted; give one that is not")

    def _read_query(self, query: str, known: Collection[str]) -> dict[str, str]:
        pairs = [pair.partition("=") for pair in query.split("&") if pair]
        for name, _, _ in pairs:
            if name not in known:
                self.refuse(f"there is no parameter {name!r}; there are {', '.join(sorted(known)) or 'none'}")
        return {name: unquote(value) for name, _, value in pairs}

    def _read_servers(self, authority: str, port: int) -> tuple[Server, ...]:
        texts = authority.split(",")
        if len(texts) > MAX_SERVERS:
            self.refuse(f"{len(texts)} servers are more than {MAX_SERVERS}")
        servers = [self._read_server(text, port) for text in texts]
        first = servers[0]
        if first.user is None and any(server.user is not None for server in servers):
            self.refuse(f"a user stands with the first server or with each; {_ENCODE}")
        return tuple(
            replace(server, user=first.user, password=first.password) if server.user is None else server
            for server in servers
        )

    def _read_server(self, text: str, port: int) -> Server:
        credentials, at, place = text.rpartition("@")
        user, colon, password = credentials.partition(":")
        try:
            server = server_of(place, port)
        except ValueError as error:
            self.refuse(f"{error}; {_ENCODE}")
        return replace(server, user=unquote(user) if at else None, password=unquote(password) if colon else None)


def server_of(place: str, port: int) -> Server:
    """Read ``host:port``, with the port of its own or the given one.

    Raises:
        ValueError: it is none; the text of it is not shown.
    """
    host, colon, number = place.rpartition(":") if not place.endswith("]") else (place, "", "")
    host = host if colon else place
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets")
    if not host or not host.isprintable() or set(host) & set(" []@/"):
        raise ValueError("a server has no host")
    if colon and not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 1 << 16):
        raise ValueError("a port is a number from 1 to 65535")
    return Server(host, int(number) if colon else port)
