"""The `fastws` command: serve the services of a file, and say where they listen.

What a user can get wrong is one line on stderr, without a traceback: status 2 for the command itself (no such file, no
service in it), status 1 for what came of it (a service that is wrong, a port in use). Only an exception in the user's
own module is shown with its traceback, from the first line of theirs.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import importlib
import importlib.util
import logging
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError
from ..logs import LOG_FORMAT
from ..net.sockets import inherited_socket
from ..options import ServerOptions
from ..server.loading import importing
from ..service.marks import is_marked
from . import reload
from .announcement import announce
from .command_line import parse, server_options
from .run import run
from .saying import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import ModuleType

    from ..server.server import Server

__all__ = ["main"]

# Errors of listen() for which the address is to blame.
_ADDRESS_ERRORS: Final = frozenset({errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL})


class _UsageError(Exception):
    """The command cannot be carried out as it was given."""


class _FailureError(Exception):
    """The command was carried out and failed; the message is empty when everything is said already."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(given)
    try:
        if options.reload:
            arguments = [argument for argument in given if argument != "--reload"]
            inherited = () if options.fd is None else (options.fd,)
            return reload.watch(arguments, _files(options.services), inherited)
        return _run(options)
    except (_UsageError, _FailureError) as error:
        if str(error):
            say(f"fastws: {error}", sys.stderr)
        return 2 if isinstance(error, _UsageError) else 1


# --- Running.


def _run(options: argparse.Namespace) -> int:
    lifeline = reload.Lifeline()
    _configure_logging(options)
    try:
        services = [service for target in options.services for service in _load(target)]
    except Exception as error:
        # Whoever watches has to know what to wait for.
        reload.report(error)
        raise
    reload.report()
    given = server_options(options)
    try:
        if options.fd is not None:
            given["sock"] = inherited_socket(options.fd)
        run(*services, on_listening=functools.partial(_begin, lifeline), **given)
    except ConfigurationError as error:
        raise _FailureError(error) from None
    except OSError as error:
        if error.errno not in _ADDRESS_ERRORS and not isinstance(error, socket.gaierror):
            raise
        raise _FailureError(_explain(error, options)) from None
    return 0


def _explain(error: OSError, options: argparse.Namespace) -> str:
    reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
    if hasattr(options, "unix"):
        return f"cannot listen at {options.unix}: {reason}; choose another --unix"
    host, port = (getattr(options, name, ServerOptions.default(name)) for name in ("host", "port"))
    return f"cannot listen at {host}:{port}: {reason}; choose another --host or --port"


def _configure_logging(options: argparse.Namespace) -> None:
    logging.basicConfig(level=options.log_level.upper(), format=LOG_FORMAT)
    if options.access_log:
        # Who asks for it gets it at every level.
        logging.getLogger("fastws.access").setLevel(logging.INFO)


def _begin(lifeline: reload.Lifeline, server: Server) -> None:
    lifeline.serves(lambda: asyncio.run_coroutine_threadsafe(server.close(), server.loop))
    announce(server)


# --- Finding services.


def _split(target: str) -> tuple[str, str]:
    """Split ``FILE.py:NAME`` or ``MODULE:NAME``; without a name it is empty."""
    source, _, name = target.rpartition(":")
    # The colon may be that of a drive.
    return (source, name) if source and name.isidentifier() else (target, "")


def _is_file(source: str) -> bool:
    # A dotted name may be that of a module, and of a file that is none
    return source.endswith(".py") or os.sep in source or ("." in source and Path(source).is_file())


def _files(targets: Sequence[str]) -> list[Path]:
    return [Path(source) for source, _ in map(_split, targets) if _is_file(source)]


def _load(target: str) -> list[object]:
    """Return the services that a target of the command names."""
    source, name = _split(target)
    module = _import(source)
    if name:
        try:
            return [getattr(module, name)]
        except AttributeError:
            raise _UsageError(f"{source} has no {name}") from None
    services = [member for member in vars(module).values() if _is_own_service(member, module)]
    if not services:
        raise _UsageError(
            f"{source} has no service; annotate a class of it with @http.base_path and @ws.upgrade_path, "
            f"or name one: {source}:NAME"
        )
    return services


def _is_own_service(member: object, module: ModuleType) -> bool:
    # What a module imports is served by the one that defines it.
    return isinstance(member, type) and is_marked(member) and member.__module__ == module.__name__


def _import(source: str) -> ModuleType:
    try:
        with importing(source):
            return _import_file(Path(source)) if _is_file(source) else _import_module(source)
    except _UsageError:
        raise
    except ConfigurationError as error:
        raise _FailureError(error) from None
    except Exception as error:
        _show(error)
        raise _FailureError from None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise _UsageError(f"there is no file {path}")
    # As with `python FILE.py`: what lies beside the file can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    name = path.stem if path.stem not in sys.modules else f"{path.stem} ({path})"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise _UsageError(f"{path} is no Python file; give the FILE.py that defines the services")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Not when the module is there and something that it imports is not.
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise _UsageError(f"there is no module {name}; a file is given as FILE.py") from None
        raise


def _show(error: Exception) -> None:
    """Print an exception of the user's module, without our own frames and those of the import system."""
    if sys.stderr is None:
        return
    frames: Any = error.__traceback__
    ours = (__file__, "<frozen importlib")
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(ours):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)
