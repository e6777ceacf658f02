"""What the fixtures of pytest give: servers in memory that end with the test, and clients of theirs.

The fixtures themselves stand in `pytest_fastws`, outside of this package: pytest imports that in every run, and this
only for tests that use it. They are no coroutines, so that any plugin may run the test; a server is closed at the end
of the test's own coroutine, in its loop.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..options import ServeOptions, takes
from .dialing import ConnectOptions
from .server import PATIENCE, MemoryServer, serve

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .client import MemoryClient

__all__ = ["ClientFactory", "ServerFactory", "closing_after"]


class ServerFactory:
    """The fixture `fastws_server`: serves services in memory until the test ends.

    Args:
        stack: of all servers; whoever made it closes it.
    """

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack

    @takes(ServeOptions)
    async def __call__(
        self, *services: object, patience: float = PATIENCE, **options: Unpack[ServeOptions]
    ) -> MemoryServer:
        """Serve services, as `fastws.testing.serve` does: ``server = await fastws_server(Chat)``."""
        return await self._stack.enter_async_context(serve(*services, patience=patience, **options))


class ClientFactory:
    """The fixture `fastws_client`: serves a service in memory, and connects a client to it.

    Args:
        serve: the fixture `fastws_server`.
    """

    def __init__(self, serve: ServerFactory) -> None:
        self._serve = serve
        self._servers: dict[int, MemoryServer] = {}  # by the identity of what is served

    async def __call__(
        self, service: object, path: str | None = None, **options: Unpack[ConnectOptions]
    ) -> MemoryClient:
        """Connect a client: ``client = await fastws_client(Chat, "/chat")``.

        Args:
            service: what is to be served. All clients of the same one have the same server. A `MemoryServer` is that.
            path: as for `MemoryServer.connect`.
            options: likewise.
        """
        server = service if isinstance(service, MemoryServer) else self._servers.get(id(service))
        if server is None:
            server = self._servers[id(service)] = await self._serve(service)
        return await server.connect(path, **options)


@contextlib.contextmanager
def closing_after(item: Any) -> Iterator[contextlib.AsyncExitStack]:
    """Have a test close a stack at its end.

    Args:
        item: the test, as pytest knows it.

    Raises:
        ConfigurationError: it is no coroutine.
    """
    test, stack = item.obj, contextlib.AsyncExitStack()
    if not inspect.iscoroutinefunction(test):
        raise ConfigurationError(f"fastws_server and fastws_client are for async tests, and {item.name} is none")

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        async with stack:
            await test(*args, **kwargs)

    item.obj = run
    try:
        yield stack
    finally:
        item.obj = test
