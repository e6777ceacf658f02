"""The `fastws` command: serve the services of a file, and say where they listen; tell a process that does; or connect.

What a user can get wrong is one line on stderr, without a traceback: status 2 for the command itself (no such file, no
service in it), status 1 for what came of it (a service that is wrong, a port in use). Only an exception in the user's
own module is shown with its traceback, from the first line of theirs.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError, StartError
from ..logs import LOG_FORMAT
from ..net.sockets import inherited_socket
from ..options import ServerOptions
from . import reload, telling
from .announcement import announce
from .command_line import parse, server_options
from .loading import describe, files_of, load
from .run import run
from .saying import say
from .supervisor import supervise

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ..options import ServeOptions
    from ..server.server import Server

__all__ = ["main"]

# Errors of listen() for which the address is to blame.
_ADDRESS_ERRORS: Final = frozenset({errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        arguments: without the program's name; None takes those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(given)
    if options.command == "bench":
        return _bench(options)
    if options.command == "connect":
        return _connect(options)
    if options.command != "run":
        return _tell(options)
    if options.reload:
        arguments = [argument for argument in given if argument != "--reload"]
        inherited = () if options.fd is None else (options.fd,)
        return reload.watch(arguments, files_of(options.services), inherited)
    try:
        return _run(options)
    except ConfigurationError as error:
        return _fail(error)


def _bench(options: argparse.Namespace) -> int:
    # Nobody else needs it
    from ..load.command import bench

    return bench(options)


def _connect(options: argparse.Namespace) -> int:
    # A server does not need it
    from ..terminal.talk import Talk, talk

    asked = Talk(
        options.url,
        headers=tuple(options.header),
        subprotocols=tuple(options.subprotocol),
        origin=options.origin,
        insecure=options.insecure,
        binary=options.binary,
        ping=options.ping,
        once=options.once,
    )
    return talk(asked)


def _tell(options: argparse.Namespace) -> int:
    tell = telling.drain if options.command == "drain" else telling.restart
    try:
        tell(options.pid, options.timeout)
    except (ConfigurationError, StartError) as error:
        return _fail(error)
    except KeyboardInterrupt:  # to wait no longer, which changes nothing
        return 130
    return 0


def _fail(error: Exception) -> int:
    text, status = describe(error)
    say(text, sys.stderr)
    return status


def _run(options: argparse.Namespace) -> int:
    lifeline = reload.Lifeline()
    _configure_logging(options)
    serve_there = _serve_here if options.workers is None else _serve_in_workers
    try:
        return serve_there(options, lifeline)
    except OSError as error:
        if error.errno not in _ADDRESS_ERRORS and not isinstance(error, socket.gaierror):
            raise
        return _fail(ConfigurationError(_explain(error, options)))


def _serve_here(options: argparse.Namespace, lifeline: reload.Lifeline) -> int:
    try:
        services = load(options.services)
    except Exception as error:
        # Whoever watches has to know what to wait for.
        reload.report(error)
        return _fail(error)
    reload.report()
    run(*services, on_listening=functools.partial(_begin, lifeline), **_options_of_server(options))
    return 0


def _serve_in_workers(options: argparse.Namespace, lifeline: reload.Lifeline) -> int:
    given = _options_of_server(options)
    try:
        supervise(options.services, options.workers, given, log_level=options.log_level.upper(), lifeline=lifeline)
    except StartError as error:
        return _fail(error)
    return 0


def _options_of_server(options: argparse.Namespace) -> ServeOptions:
    given = server_options(options)
    if options.fd is not None:
        given["sock"] = inherited_socket(options.fd)
    return given


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
