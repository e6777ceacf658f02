"""From a URL to its engine: ours, and those that other packages register."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .base import Backplane

__all__ = ["engine_of"]

_GROUP: Final = "fastws.backplanes"
_NATS: Final = ("nats", "Nats")
_REDIS: Final = ("redis", "Redis")
_OURS: Final = {
    "nats": _NATS,
    "tls": _NATS,
    "redis": _REDIS,
    "rediss": _REDIS,
    "redis+sentinel": _REDIS,
    "rediss+sentinel": _REDIS,
    "redis+cluster": _REDIS,
    "rediss+cluster": _REDIS,
}


def engine_of(url: str) -> Backplane:
    """Make the engine of a URL; nothing is connected yet.

    Raises:
        ConfigurationError: no engine has this scheme, or something is wrong with the rest.
    """
    scheme, is_url, _ = url.partition("://")
    if not is_url:
        raise ConfigurationError("backplane: give the URL of an engine, such as nats://localhost:4222")
    scheme = scheme.lower()
    if scheme in _OURS:
        module, name = _OURS[scheme]
        engine: Backplane = getattr(importlib.import_module(f".{module}", __package__), name)(url)
        return engine
    # On use: who needs none of other packages, as most, is spared 8 ms
    from importlib.metadata import entry_points

    others = entry_points(group=_GROUP)
    for entry in others:
        if entry.name == scheme:
            other: Backplane = entry.load()(url)
            return other
    known = sorted({*_OURS, *(entry.name for entry in others)})
    raise ConfigurationError(f"backplane: there is no engine for {scheme}://; there are {', '.join(known)}")
