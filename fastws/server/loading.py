"""The file or module that the `fastws` command imports now: it is to define services, and serves none by itself."""

from __future__ import annotations

import contextlib
import contextvars
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["importing", "refuse_while_importing"]

# Threads that the module starts have a context of their own, and may do what they like.
_imported: Final = contextvars.ContextVar[str | None]("fastws.imported", default=None)


@contextlib.contextmanager
def importing(source: str) -> Iterator[None]:
    """Note that a file or module is being imported by the command."""
    token = _imported.set(source)
    try:
        yield
    finally:
        _imported.reset(token)


def refuse_while_importing() -> None:
    """Raise ConfigurationError if a server is started by what the command imports in order to serve it."""
    source = _imported.get()
    if source is not None:
        raise ConfigurationError(
            f"{source} starts a server when it is imported, and `fastws run` serves what it defines; "
            f'put the call under  if __name__ == "__main__":'
        )
