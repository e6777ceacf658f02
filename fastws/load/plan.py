"""What the user wants to know, checked before anything is opened."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from .template import Expectation, Template

if TYPE_CHECKING:
    import argparse

__all__ = ["Plan"]

_OF_MESSAGES: Final = ("seq", "due", "n", "room", "pad")
_OF_SUBSCRIBERS: Final = ("n", "room")
_OPENED_A_SECOND: Final = 1000.0  # connections, unless --ramp says otherwise
_PICTURES: Final = (".svg", ".png")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The arguments of `fastws bench`, by their names; see there. Times are seconds but for `max_p99`, milliseconds.

    Raises:
        ConfigurationError: one of them cannot be, or does not go with another.
    """

    url: str
    question: str
    connections: int
    rate: float
    duration: float = 10.0
    ramp: float | None = None
    header: tuple[str, ...] = ()
    subprotocol: tuple[str, ...] = ()
    origin: str | None = None
    insecure: bool = False
    local_address: tuple[str, ...] = ()
    open_timeout: float = 10.0
    processes: int = 1
    subscribe: tuple[str, ...] = ()
    payload: str = "fastws {seq} {due} {pad}"
    expect: str | None = None
    size: int = 64
    binary: bool = False
    warmup: float = 10.0
    patience: float = 5.0
    publisher: str | None = None
    passive: bool = False
    rooms: int = 1
    stalled: float = 0.0
    under_way: int | None = None
    json: str | None = None
    plot: str | None = None
    max_p99: float | None = None
    max_lost: int | None = None
    quiet: bool = False

    @classmethod
    def of(cls, given: argparse.Namespace) -> Plan:
        """Take the arguments of the command."""
        return cls.of_values(
            {field.name: getattr(given, field.name) for field in fields(cls) if hasattr(given, field.name)}
        )

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> Plan:
        """Take the arguments by their names; lists stand for tuples."""
        arguments: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**arguments)

    def __post_init__(self) -> None:
        _check_url(self.url, "URL")
        if self.publisher is not None:
            _check_url(self.publisher, "--publisher")
        self._check_counts()
        self._check_addresses()
        self._check_fields()
        if self.plot is not None and PurePath(self.plot).suffix not in _PICTURES:
            raise ConfigurationError(f"--plot {self.plot}: give a file whose name ends with .svg or .png")
        self._check_messages()

    def _check_counts(self) -> None:
        for name in ("connections", "rate", "duration", "open_timeout", "processes", "size", "rooms", "under_way"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigurationError(f"--{name.replace('_', '-')} {value}: give a number above 0")
        for name in ("ramp", "warmup", "patience", "max_p99", "max_lost"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigurationError(f"--{name.replace('_', '-')} {value}: give 0 or more")
        if self.processes > self.connections:
            raise ConfigurationError(
                f"--processes {self.processes}: there are only {self.connections} --connections for them"
            )
        if not 0 <= self.stalled < 1 or (self.question == "slow" and not self.stalled_count):
            raise ConfigurationError(
                f"--stalled {self.stalled:g}: give the share of the {self.connections} connections that do not read, "
                f"one of them at least and not all"
            )
        if self.rate * self.duration < 1:
            raise ConfigurationError(
                f"--duration {self.duration:g}: at --rate {self.rate:g} nothing is due in this time"
            )

    def _check_addresses(self) -> None:
        for address in self.local_address:
            _check_address(address)

    def _check_fields(self) -> None:
        for text in self.header:
            if not text.partition(":")[0].strip() or ":" not in text:
                raise ConfigurationError(f"--header {text!r}: give a name and a value, as in 'Cookie: id=7'")

    def _check_messages(self) -> None:
        for text in self.subscribe:
            Template(text, "--subscribe", _OF_SUBSCRIBERS)
        if self.question == "storm":
            return
        expectation = self.expectation
        if self.passive and self.max_p99 is not None and not expectation.has_due:
            raise ConfigurationError(
                "--max-p99 with --passive: what the server sends has to say when it was due; give --expect with {due}"
            )
        if self.passive and self.expect is None:
            raise ConfigurationError("--passive: say with --expect what the server sends, such as '\"n\": {seq}'")
        if self.passive and self.publisher is not None:
            raise ConfigurationError("--passive and --publisher are two who publish; give one of them")
        _ = self.template  # checked when it is made

    # --- What follows from it.

    @property
    def template(self) -> Template:
        """What is sent."""
        return Template(self.payload, "--payload", _OF_MESSAGES, self.size)

    @property
    def expectation(self) -> Expectation:
        """What is delivered."""
        text, option = (self.payload, "--payload") if self.expect is None else (self.expect, "--expect")
        return Expectation(Template(text, option, _OF_MESSAGES), option)

    @property
    def subscriptions(self) -> list[Template]:
        """What each connection sends first."""
        return [Template(text, "--subscribe", _OF_SUBSCRIBERS) for text in self.subscribe]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Header fields of each opening handshake."""
        pairs = [text.partition(":") for text in self.header]
        return [(name.strip(), value.strip()) for name, _, value in pairs]

    @property
    def ramp_seconds(self) -> float:
        """Over which the connections are opened."""
        return self.connections / _OPENED_A_SECOND if self.ramp is None else self.ramp

    @property
    def stalled_count(self) -> int:
        """How many connections do not read: the first ones."""
        return round(self.connections * self.stalled)

    @property
    def has_publisher(self) -> bool:
        """Whether one connection more is ours, which publishes."""
        return self.question in ("fanout", "slow") and not self.passive


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ConfigurationError(f"--local-address {text}: give an IP address of this machine") from None


def _check_url(url: str, option: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ConfigurationError(f"{option} {url!r}: give a URL such as ws://localhost:9090/chat")
