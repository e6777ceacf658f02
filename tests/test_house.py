"""The house: who imports whom, what the core calls upwards, how long functions are, and the walks of CONTRIBUTING."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fastws

from .conftest import ROOT

# Whom each room imports, types included; docs/design.md draws it. A room is a folder, or a module at the top.
ROOMS: dict[str, set[str]] = {
    "__init__": {"_speedups", "client", "errors", "http", "process", "server", "sync", "version", "ws"},
    "__main__": {"process"},
    "_speedups": {"errors", "logs"},
    "backplane": {"_speedups", "errors", "logs", "version"},
    "client": {"_speedups", "errors", "handshake", "net", "options", "service"},
    "errors": set(),
    "handshake": {"errors"},
    "http": {"errors", "handshake", "http1", "service"},
    "http1": {"_speedups", "errors", "handshake", "logs", "net", "options", "service"},
    "load": {"client", "errors", "version", "ws"},
    "logs": set(),
    "net": {"_speedups", "errors", "logs", "options"},
    "options": {"_speedups", "backplane", "errors", "handshake"},
    "process": {"backplane", "errors", "handshake", "logs", "net", "options", "server", "service", "version"}
    | {"load", "terminal"},
    "server": {"_speedups", "backplane", "errors", "handshake", "http1", "logs", "net", "options", "service"},
    "service": {"errors", "logs", "options"},
    "sync": {"_speedups", "client", "errors", "options"},
    "terminal": {"_speedups", "client", "errors", "options"},
    "testing": {"_speedups", "backplane", "errors", "handshake", "http1", "logs", "net", "options", "server"}
    | {"service"},
    "version": set(),
    "ws": {"_speedups", "backplane", "http1", "options", "service"},
}

PACKAGE = Path(fastws.__file__).parent
SOURCES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
CORE = PACKAGE / "_speedups.pyx"
WITH_CORE = pytest.mark.skipif(not CORE.exists(), reason="an installed package has no sources of the core")


# ---------------------------------------------------------------------------------------------------------------------
# Imports


def _imports(path: Path) -> set[str]:
    """Return what a module imports of fastws, as paths below it; imports for types count, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1].relative_to(PACKAGE).as_posix().strip(".").replace("/", ".")
            base = ".".join(part for part in (folder, node.module) if part)
            found.update(_module(base, name.name) for name in node.names)
        elif isinstance(node, ast.Import):
            found.update("__init__" for name in node.names if name.name == "fastws")
    return found


def _module(base: str, name: str) -> str:
    """Return the module that ``from base import name`` reads."""
    for module in (f"{base}.{name}".strip("."), base):
        if module in SOURCES or module == "_speedups":
            return module
    return f"{base}.__init__".strip(".")


IMPORTS = {module: _imports(path) for module, path in SOURCES.items()}


def _room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("room", sorted({*map(_room, SOURCES)} - {"_speedups"}))
def test_a_room_imports_what_the_table_says(room: str) -> None:
    imported = {_room(name) for module, names in IMPORTS.items() if _room(module) == room for name in names}
    assert imported - {room} == ROOMS[room]


@WITH_CORE
def test_the_core_imports_what_the_table_says() -> None:
    imported = re.findall(r"^from fastws(?:\.(\w+))? import (\w+|\()", CORE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {module or name for module, name in imported} == ROOMS["_speedups"]


def test_the_stub_of_the_core_imports_nothing_of_ours() -> None:
    assert _imports(PACKAGE / "_speedups.pyi") == set()


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the nodes that are on a circle, or lead to one."""
    left = {node: graph[node] - {node} for node in graph}
    while free := [node for node, names in left.items() if not names & left.keys()]:
        for node in free:
            del left[node]
    return sorted(left)


def test_there_is_no_circle_of_imports() -> None:
    assert _circle(IMPORTS) == []
    assert _circle(ROOMS) == []


# ---------------------------------------------------------------------------------------------------------------------
# Functions of the core


class Function(NamedTuple):
    """A function, where it stands, and its lines without docstring and comments."""

    name: str
    part: str
    lines: list[str]


# A class that inherits looks like one
_SIGNATURE = re.compile(r"^( *)(?:cdef|cpdef|def|async def) (?!class )(?:inline )?[\w *.]*?(\w+)\(")
_OF_MODULE = re.compile(r"^(?:cdef|cpdef) (?!class )(?:inline )?[\w *]*?(\w+)\(", re.MULTILINE)


def parts() -> list[Path]:
    """The parts of the core in the order in which they are included."""
    return [PACKAGE / name for name in re.findall(r'^include "(.+)"', CORE.read_text(encoding="utf-8"), re.MULTILINE)]


def functions_of_core() -> Iterator[Function]:
    for path in parts():
        text = re.sub(r'"""(?:.|\n)*?"""', "", path.read_text(encoding="utf-8"))
        lines = [line for line in (line.partition("#")[0].rstrip() for line in text.splitlines()) if line]
        starts = [place for place, line in enumerate(lines) if _SIGNATURE.match(line)]
        for start in starts:
            found = _SIGNATURE.match(lines[start])
            assert found is not None
            first = next(place for place in range(start, len(lines)) if lines[place].endswith(":")) + 1
            body = []
            for line in lines[first:]:
                if len(line) - len(line.lstrip()) <= len(found[1]):
                    break
                body.append(line)
            if body:
                yield Function(found[2], path.relative_to(PACKAGE).as_posix(), body)


def functions_of_python() -> Iterator[Function]:
    for path in SOURCES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                yield Function(
                    node.name, path.relative_to(PACKAGE).as_posix(), "\n".join(map(ast.unparse, body)).splitlines()
                )


@WITH_CORE
def test_the_calls_that_go_upwards_are_those_that_are_told() -> None:
    order = {path.stem: place for place, path in enumerate(parts())}
    functions = [function for function in functions_of_core() if "." not in function.name]
    places = {}
    for path in parts():
        for name in _OF_MODULE.findall(path.read_text(encoding="utf-8")):
            places[name] = path.stem
    found = set()
    for function in functions:
        part = Path(function.part).stem
        for name in re.findall(r"(?<![\w.])(\w+)\(", "\n".join(function.lines)):
            if order.get(places.get(name, ""), -1) > order[part]:
                found.add((part, name))
    told = re.findall(r"^#.* (\w+) -> (.+)$", CORE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == {(part, name) for part, names in told for name in names.split(", ")}


def assert_short(functions: Iterator[Function], parser: str) -> None:
    """Most of them are seen at a glance, all but a parser of frames on a screen."""
    found = list(functions)
    lengths = sorted(len(function.lines) for function in found)
    assert statistics.median(lengths) <= 6
    assert lengths[len(lengths) * 9 // 10] < 16
    assert [function.name for function in found if len(function.lines) > 40 and function.name != parser] == []


@WITH_CORE
def test_functions_of_the_core_are_short() -> None:
    assert_short(functions_of_core(), parser="reader_next")


def test_functions_in_python_are_short() -> None:
    assert_short(functions_of_python(), parser="")


# ---------------------------------------------------------------------------------------------------------------------
# The walks


def walks() -> dict[str, list[tuple[str, str, str]]]:
    """The walks of CONTRIBUTING, each a list of functions, their files, and whether they are called from elsewhere."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^### ", text, flags=re.MULTILINE)
    steps = re.compile(r"^\| `(\w+)` \| `(.+?)` \| (from )?", re.MULTILINE)
    found = {section.partition("\n")[0]: steps.findall(section) for section in sections}
    return {title: walk for title, walk in found.items() if walk}


@WITH_CORE
def test_there_are_four_walks() -> None:
    assert list(walks()) == ["A text message", "A broadcast", "An opening handshake", "A slow client"]


@WITH_CORE
@pytest.mark.parametrize("title", ["A text message", "A broadcast", "An opening handshake", "A slow client"])
def test_each_step_of_a_walk_is_taken_by_one_before_it(title: str) -> None:
    bodies: dict[tuple[str, str], str] = {}
    for function in (*functions_of_core(), *functions_of_python()):
        key = function.name, function.part
        bodies[key] = bodies.get(key, "") + "\n".join(function.lines)
    passed = ""
    for name, part, elsewhere in walks()[title]:
        assert (name, part) in bodies, "there is no such function"
        assert elsewhere or not passed or re.search(rf"\b{name}\b", passed), f"nobody before calls {name}"
        passed += bodies[name, part]
