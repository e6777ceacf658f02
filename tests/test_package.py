"""The package as a whole: what it exports, who imports whom, and that nothing needs more than it says."""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib
import inspect
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import fastws
from fastws import _speedups, http, testing, ws

# What the loop calls, and asyncio tells of
OF_ASYNCIO = {*dir(asyncio.BufferedProtocol), *dir(asyncio.Transport), *dir(asyncio.Protocol)}
PACKAGE = Path(fastws.__file__).parent
SOURCES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")
}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_all_that_a_module_exports_exists(module: str) -> None:
    if module != "__main__":
        imported = importlib.import_module(f"fastws.{module}".removesuffix(".__init__"))
        assert [name for name in getattr(imported, "__all__", ()) if not hasattr(imported, name)] == []


def test_every_function_of_the_service_api_is_the_core_s_own() -> None:
    verbs = ("push_", "broadcast_", "store_", "remove_", "add_", "close_", "create_")
    names = [name for name in ws.__all__ if name.startswith(verbs)]
    assert len(names) == 17
    assert [name for name in names if getattr(ws, name) is not getattr(_speedups, name)] == []


def _stub() -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """All that the stub of the core says, by name."""
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    path = Path(_speedups.__file__).parent / "_speedups.pyi"
    found = {node.name: node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, named)}
    for name, node in list(found.items()):
        if isinstance(node, ast.ClassDef):
            found.update({f"{name}.{member.name}": member for member in node.body if isinstance(member, named)})
    return found


def _object(name: str) -> Any:
    return functools.reduce(getattr, name.split("."), _speedups)


STUB = _stub()
FUNCTIONS = [
    name
    for name, node in STUB.items()
    if not isinstance(node, ast.ClassDef) and not node.decorator_list and not node.name.startswith("__")
]


@pytest.mark.parametrize("name", [name for name, node in STUB.items() if ast.get_docstring(node)])
def test_the_core_shows_the_docstring_that_stands_in_its_stub(name: str) -> None:
    assert inspect.getdoc(_object(name)) == ast.get_docstring(STUB[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_core_shows_the_signature_that_stands_in_its_stub(name: str) -> None:
    def shape(function: ast.stmt) -> str:
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        given = function.args
        for argument in (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs):
            if argument is not None:
                argument.annotation = None
        # That self is positional is all that a compiled method says of it
        return ast.unparse(given).replace("self, /", "self")

    shown = ast.parse(f"def _{inspect.signature(_object(name))}: pass").body[0]
    assert shape(shown) == shape(STUB[name])


@pytest.mark.parametrize("module", [fastws, ws, http, testing], ids=lambda module: module.__name__)
def test_every_public_name_tells_what_it_is_and_how_it_is_called(module: types.ModuleType) -> None:
    for name in module.__all__:
        value = getattr(module, name)
        assert inspect.getdoc(value), name
        if callable(value) and not (isinstance(value, type) and issubclass(value, Exception)):
            assert inspect.signature(value), name
        for member, attribute in vars(value).items() if isinstance(value, type) else ():
            # What has no methods of its own is told of by its class
            is_plain = isinstance(attribute, types.MemberDescriptorType)
            assert member.startswith("_") or member in OF_ASYNCIO or is_plain or attribute.__doc__, f"{name}.{member}"


def test_the_package_is_typed() -> None:
    assert (Path(fastws.__file__).parent / "py.typed").exists()


def test_importing_the_sources_unbuilt_says_so_and_what_to_do(tmp_path: Path) -> None:
    package = tmp_path / "fastws"
    shutil.copytree(Path(fastws.__file__).parent, package, ignore=shutil.ignore_patterns("_speedups.*", "core"))
    script = "import sys; sys.path.insert(0, sys.argv[1]); import fastws"
    done = _run("-S", "-c", script, str(tmp_path))  # without what an editable install does to the import of modules
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: the sources in {package} are not built for this Python: run `make build` beside them, "
        "or import an installed fastws from another directory"
    )
    assert "ModuleNotFoundError" not in done.stderr


def test_importing_it_starts_nothing_and_warns_of_nothing() -> None:
    script = "import fastws, threading; assert threading.active_count() == 1"
    done = _run("-W", "error", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interpreter_that_ends_with_open_connections_does_so_quietly() -> None:
    script = """
import asyncio, sys
import fastws
from fastws import http, ws
from fastws.testing import connected_pair

@http.base_path("/")
@ws.upgrade_path("/")
class Waits:
    @ws.on_open
    async def opened(self):
        await asyncio.Event().wait()

kept = []
async def main():
    pair = connected_pair(Waits, Waits)
    kept.append((pair, await pair.__aenter__()))
    kept[0][1][0].push_text("never read")

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""
    done = _run("-c", script)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr.replace("Task was destroyed", "")
