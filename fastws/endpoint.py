"""A compiled service as the core serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._speedups import Endpoint

if TYPE_CHECKING:
    from ._speedups import Hub
    from .service import Service

__all__ = ["SERVER_EVENTS", "make_endpoint"]

# Handlers that run where there is no connection; the core calls all others.
SERVER_EVENTS: Final = frozenset({"on_start", "on_stop", "on_upgrade"})


def make_endpoint(
    hub: Hub,
    service: Service,
    close_timeout: float,
    slow_handler_time: float | None = None,
    kernel_backlog: int = 0,
    inherits_kernel_backlog: bool = True,
) -> Endpoint:
    """Make what all connections of a service share.

    Args:
        hub: the hub of the loop that serves.
        service: one with an upgrade path.
        close_timeout: seconds to wait for a closing handshake, and for handlers after the end of their connection.
        slow_handler_time: seconds that a handler may keep the loop until it is named in the log; None is any time.
        kernel_backlog: bytes that may lie unsent in the kernel for a client; 0 is any number.
        inherits_kernel_backlog: its socket has that from the one that listens.
    """
    options = service.upgrade
    template = service.upgrade_path
    assert options is not None, f"{service.name} serves no WebSocket"
    assert template is not None
    endpoint = Endpoint(
        hub,
        service.name,
        [handler for event, handler in service.handlers.items() if event not in SERVER_EVENTS],
        template.names,
        max_message_size=options.max_message_size,
        max_backlog=options.max_backlog,
        high_water=options.high_water,
        overflow=options.overflow,
        overflow_code=options.overflow_code,
        max_queue=options.max_queue,
        max_fragments=options.max_fragments,
        max_message_rate=options.max_message_rate,
        deflate_level=options.compression_level,
        deflate_threshold=options.compression_threshold,
        ping_interval=options.ping_interval,
        ping_timeout=options.ping_timeout,
        idle_timeout=options.idle_timeout,
        close_timeout=close_timeout,
        slow_handler_time=slow_handler_time,
        kernel_backlog=kernel_backlog,
        inherits_kernel_backlog=inherits_kernel_backlog,
    )
    hub.offer(endpoint, service.cls, service.instance)
    return endpoint
