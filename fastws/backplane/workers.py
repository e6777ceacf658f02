"""Unix sockets between the workers of one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Backplane

if TYPE_CHECKING:
    import socket

    from .base import Receiver

__all__ = ["Mesh"]


class Mesh(Backplane):
    """Links to the other workers; stands in for what is to come."""

    def connect(self, sock: socket.socket) -> None:
        """Take one end of a link to another worker."""
        sock.close()

    async def open(self, receiver: Receiver) -> None:
        """Begin."""

    async def close(self) -> None:
        """End."""

    def subscribe(self, subject: bytes) -> None:
        """Want a subject."""

    def unsubscribe(self, subject: bytes) -> None:
        """Want it no longer."""

    def publish(self, subject: bytes, payload: bytes) -> bool:
        """Hand nothing over."""
        return False

    def flush(self) -> None:
        """Send nothing."""
