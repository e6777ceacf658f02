"""Services by their names, as the command, `fastws.run` and workers get them: files, modules, and what is in them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError, StartError
from ..server.loading import importing
from ..service.marks import is_marked

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

__all__ = ["UsageError", "WorkerError", "describe", "files_of", "load"]


# Files whose frames say nothing to a user.
_OURS: Final = (os.path.dirname(__file__) + os.sep, "<frozen importlib")


class UsageError(ConfigurationError):
    """What is to be served is not there: no such file, no service in it."""


class WorkerError(StartError):
    """A worker cannot start; the message is all that it said, a traceback for instance."""


def load(targets: Iterable[str]) -> list[object]:
    """Return the services that targets name, each as `FILE.py`, `FILE.py:NAME`, `MODULE` or `MODULE:NAME`.

    Raises:
        UsageError: there is no such thing.
        ConfigurationError: what is imported is wrong, or serves by itself.
        Exception: what else it raises.
    """
    return [service for target in targets for service in _load(target)]


def files_of(targets: Iterable[str]) -> list[Path]:
    """Return those targets that are files."""
    return [Path(source) for source, _ in map(_split, targets) if _is_file(source)]


def describe(error: Exception) -> tuple[str, int]:
    """Return what the command says of an error, on stderr, and its exit status.

    What a user can get wrong is one line. Any other exception has its traceback, from the first line of theirs.
    """
    if isinstance(error, WorkerError):
        return str(error), 1
    if isinstance(error, (ConfigurationError, StartError)):
        return f"fastws: {error}", 2 if isinstance(error, UsageError) else 1
    frames: Any = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OURS):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip("\n"), 1


def _split(target: str) -> tuple[str, str]:
    """Split ``FILE.py:NAME`` or ``MODULE:NAME``; without a name it is empty."""
    source, _, name = target.rpartition(":")
    # The colon may be that of a drive.
    return (source, name) if source and name.isidentifier() else (target, "")


def _is_file(source: str) -> bool:
    # A dotted name may be that of a module, and of a file that is none
    return source.endswith(".py") or os.sep in source or ("." in source and Path(source).is_file())


def _load(target: str) -> list[object]:
    source, name = _split(target)
    module = _import(source)
    if name:
        try:
            return [getattr(module, name)]
        except AttributeError:
            raise UsageError(f"{source} has no {name}") from None
    services = [member for member in vars(module).values() if _is_own_service(member, module)]
    if not services:
        raise UsageError(
            f"{source} has no service; annotate a class of it with @http.base_path and @ws.upgrade_path, "
            f"or name one: {source}:NAME"
        )
    return services


def _is_own_service(member: object, module: ModuleType) -> bool:
    # What a module imports is served by the one that defines it.
    return isinstance(member, type) and is_marked(member) and member.__module__ == module.__name__


def _import(source: str) -> ModuleType:
    with importing(source):
        return _import_file(Path(source)) if _is_file(source) else _import_module(source)


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    # As with `python FILE.py`: what lies beside the file can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    name = path.stem if path.stem not in sys.modules else f"{path.stem} ({path})"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file; give the FILE.py that defines the services")
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
            raise UsageError(f"there is no module {name}; a file is given as FILE.py") from None
        raise
