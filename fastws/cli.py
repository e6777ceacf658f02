"""The `fastws` command: serve the services of a file, and say where they listen.

What a user can get wrong is one line on stderr, without a traceback: status 2 for the command itself (no such file, no
service in it), status 1 for what came of it (a service that is wrong, a port in use). Only an exception in the user's
own module is shown with its traceback, from the first line of theirs.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import importlib.util
import logging
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import reload
from .errors import ConfigurationError
from .service import is_marked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from .server import Server
    from .service import Service

__all__ = ["main"]

_DESCRIPTION: Final = "Serve annotated WebSocket and HTTP services."

_EPILOG: Final = """\
examples:
  fastws run chat.py                     all services of a file, at 127.0.0.1:9090
  fastws run chat.py --reload            the same, again after each change of the code
  fastws run chat.py news.py --port 80   the services of several files
  fastws run project.chat:Chat           one class of an importable module
  fastws run project.main:chat           an instance that the module has made

Ctrl-C or SIGTERM closes every WebSocket with 1001, runs on_close and on_stop, and ends with status 0.
"""

_LOG_LEVELS: Final = ("debug", "info", "warning", "error")

# What listen() fails with when the address is to blame.
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
    options = _parser().parse_args(given)
    try:
        if options.reload:
            return reload.watch([argument for argument in given if argument != "--reload"], _files(options.services))
        return _run(options)
    except (_UsageError, _FailureError) as error:
        if str(error):
            print(f"fastws: {error}", file=sys.stderr)
        return 2 if isinstance(error, _UsageError) else 1


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "fastws", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=style, allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run = commands.add_parser(
        "run",
        help="serve the services of files or modules",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=style,
        allow_abbrev=False,
    )
    run.add_argument(
        "services",
        nargs="+",
        metavar="FILE.py|MODULE[:NAME]",
        help="a file or module, all of whose services are served, or one class or instance of it",
    )
    run.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    run.add_argument(
        "--port", type=_port, default=9090, help="port to listen at, 0 for any free one (default: %(default)s)"
    )
    run.add_argument(
        "--log-level", choices=_LOG_LEVELS, default="info", help="least level to log (default: %(default)s)"
    )
    run.add_argument("--access-log", action="store_true", help="log each HTTP response and each opened WebSocket")
    run.add_argument(
        "--proxy-headers",
        metavar="ADDRESSES",
        help="proxies whose Forwarded or X-Forwarded-For is believed, such as 127.0.0.1,10.0.0.0/8,unix",
    )
    run.add_argument("--reload", action="store_true", help="start again when a file of the project changes")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        # Only here: the version lives in the package, which imports everything.
        import fastws

        print(f"fastws {fastws.__version__}")
        parser.exit()


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 to 65535")
    return int(text)


# --- Running.


def _run(options: argparse.Namespace) -> int:
    from .server import run

    _configure_logging(options)
    try:
        services = [service for target in options.services for service in _load(target)]
    except Exception as error:
        # Whoever watches has to know what to wait for.
        reload.report(error)
        raise
    reload.report()
    try:
        run(
            *services,
            host=options.host,
            port=options.port,
            access_log=options.access_log,
            proxy_headers=options.proxy_headers,
            on_listening=_announce,
        )
    except ConfigurationError as error:
        raise _FailureError(error) from None
    except OSError as error:
        if error.errno not in _ADDRESS_ERRORS and not isinstance(error, socket.gaierror):
            raise
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        where = f"{options.host}:{options.port}"
        raise _FailureError(f"cannot listen at {where}: {reason}; choose another --host or --port") from None
    return 0


def _configure_logging(options: argparse.Namespace) -> None:
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.access_log:
        # Who asks for it gets it at every level.
        logging.getLogger("fastws.access").setLevel(logging.INFO)


def _announce(server: Server) -> None:
    lines = [line for host, port, *_ in server.addresses for line in _listing(server.services, host, port)]
    width = max(len(url) for url, _ in lines)
    for url, what in lines:
        print(f"{url:{width}}  {what}")
    sys.stdout.flush()


def _listing(services: Sequence[Service], host: str, port: int) -> Iterator[tuple[str, str]]:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    for service in services:
        if service.upgrade_path is not None:
            yield f"ws://{address}{service.upgrade_path.text}", service.name
        for resource in service.resources:
            yield f"http://{address}{resource.path.text}", f"{service.name}  {resource.method}"


# --- Finding services.


def _split(target: str) -> tuple[str, str]:
    """Split ``FILE.py:NAME`` or ``MODULE:NAME``; without a name it is empty."""
    source, _, name = target.rpartition(":")
    # The colon may be that of a drive.
    return (source, name) if source and name.isidentifier() else (target, "")


def _is_file(source: str) -> bool:
    return source.endswith(".py") or os.sep in source


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
    assert spec is not None
    assert spec.loader is not None
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
    frames: Any = error.__traceback__
    ours = (__file__, "<frozen importlib")
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(ours):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)
