"""What connections share that are made with the same options and the same listener: one Endpoint on each loop.

An Endpoint lives as long as a connection does that belongs to it, and so does what it needs of the loop.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Final

from .._speedups import Endpoint
from ..net.kernel_backlog import FRESH, FRESH_POLICIES, UNLIMITED
from ..service.compile import compile_listener
from ..service.model import Handler, Service
from ..service.paths import PathTemplate

if TYPE_CHECKING:
    from .._speedups import Hub
    from ..options import ClientOptions

__all__ = ["Listening", "endpoint_for", "forget_if_unused", "listening_of"]

# All that the core knows of a client's options
_LIMITS: Final = (
    "close_timeout",
    "compression_level",
    "compression_threshold",
    "high_water",
    "idle_timeout",
    "max_backlog",
    "max_fragments",
    "max_message_size",
    "max_queue",
    "overflow",
    "ping_interval",
    "ping_timeout",
)
_PATH: Final = PathTemplate("/")


class Listening:
    """A listener and its handlers.

    Attributes:
        listener: the object whose methods are annotated.
        handlers: by event.
    """

    __slots__ = ("__weakref__", "handlers", "listener")

    def __init__(self, listener: object) -> None:
        self.listener = listener
        self.handlers: dict[str, Handler] = compile_listener(listener)


_Key = tuple[object, ...]
_endpoints: dict[_Key, Endpoint] = {}
# By the id of the listener: many connections have the same one, and to compile it costs more than to open one
_listening: weakref.WeakValueDictionary[int, Listening] = weakref.WeakValueDictionary()


def listening_of(listener: object) -> Listening:
    """Return the handlers of a listener, compiled once as long as it has connections.

    Raises:
        ConfigurationError: it is none.
    """
    found = _listening.get(id(listener))
    if found is None:
        found = _listening[id(listener)] = Listening(listener)
    return found


def endpoint_for(hub: Hub, options: ClientOptions, listening: Listening | None) -> Endpoint:
    """Return the Endpoint for a connection that is about to open.

    Args:
        hub: of the loop.
        options: of the client.
        listening: who is called, or None where messages are awaited.
    """
    # What the endpoint holds is not made again elsewhere while it is here
    key = (id(hub), id(listening), *(getattr(options, name) for name in _LIMITS))
    endpoint = _endpoints.get(key)
    if endpoint is None:
        endpoint = _endpoints[key] = _make(hub, options, listening)
        endpoint.on_empty = functools.partial(_forget, key, listening)
        hub.attach(client=True)
    return endpoint


def forget_if_unused(endpoint: Endpoint) -> None:
    """Let go of an Endpoint whose first connection did not come about."""
    if not endpoint.live and endpoint.on_empty is not None:
        endpoint.on_empty()


def _make(hub: Hub, options: ClientOptions, listening: Listening | None) -> Endpoint:
    listener, handlers = (None, {}) if listening is None else (listening.listener, listening.handlers)
    name = "fastws.connect" if listener is None else type(listener).__name__
    service = Service(name, type(listener), listener, "/", options, _PATH, handlers, ())  # type: ignore[arg-type]
    most = FRESH if options.overflow in FRESH_POLICIES else UNLIMITED
    return Endpoint(hub, service, options, most, most == UNLIMITED, client=True)


def _forget(key: _Key, _: Listening | None) -> None:
    """Let go of an Endpoint, and of the handlers that it has kept."""
    endpoint = _endpoints.pop(key, None)
    if endpoint is not None:
        endpoint.on_empty = None  # or each would keep the other alive
        endpoint.hub.detach((endpoint,), client=True)
