"""The plugin of fastws for pytest: fixtures that serve in memory what a test names, in the loop of the test.

It stands outside of the package because pytest imports it in every run, whether a test uses it or not: the package
takes a tenth of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastws.testing.plugin import ClientFactory, ServerFactory


@pytest.fixture
def fastws_server(request: pytest.FixtureRequest) -> Iterator[ServerFactory]:
    """Serve services in memory until the test ends.

    ::

        server = await fastws_server(Chat, close_timeout=1)
    """
    from fastws.testing.plugin import ServerFactory, closing_after

    with closing_after(request.node) as stack:
        yield ServerFactory(stack)


@pytest.fixture
def fastws_client(fastws_server: ServerFactory) -> ClientFactory:
    """Serve a service in memory and connect a client.

    ::

        client = await fastws_client(Chat, "/chat")
    """
    from fastws.testing.plugin import ClientFactory

    return ClientFactory(fastws_server)
