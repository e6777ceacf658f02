"""Build the one extension of fastws.

Everything that can be said declaratively is in ``pyproject.toml``, and the compiler directives stand in the first line
of ``fastws/_speedups.pyx``. What is left for this file is to give the module its docstrings, which stand in
``fastws/_speedups.pyi`` and nowhere else, and the kind of build, chosen by the environment variable ``FASTWS_BUILD``:

``release``
    what users get: optimised, without debug information. The default.
``debug``
    unoptimised, with debug information and assertions; ``FASTWS_DEBUG`` is defined for the C compiler, so that the core
    counts its live objects.
``coverage``
    line tracing in the compiled code, for ``coverage`` with the plugin in ``tools/cython_coverage.py``.
``sanitize``
    AddressSanitizer and UndefinedBehaviorSanitizer; ``tools/sanitize.sh`` runs the tests on it.
``fuzz``
    the same by clang, counting coverage for libFuzzer; ``tools/fuzz.py`` builds and runs it.

No kind names an instruction set (``-march``): a wheel must run on every machine of its architecture.
"""

import ast
import os
import sys
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from Cython.Compiler import AutoDocTransforms
from Cython.Compiler.StringEncoding import EncodedString
from setuptools import Extension, setup

STUB = "fastws/_speedups.pyi"


@dataclass(frozen=True)
class Kind:
    """The flags that make one kind of build."""

    compile: list[str]
    link: list[str] = field(default_factory=list)
    macros: dict[str, str] = field(default_factory=dict)
    directives: dict[str, Any] = field(default_factory=dict)


# The interpreter's own flags come first and may say -g, -O2 or -DNDEBUG: the last word wins, and the last word is ours.
STRIP = "-Wl,-x" if sys.platform == "darwin" else "-Wl,--strip-all"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
CHECKED = ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer", *SANITIZERS]
KINDS = {
    "release": Kind(["-O3", "-g0", "-fvisibility=hidden"], [STRIP]),
    "debug": Kind(["-O0", "-g3", "-UNDEBUG"], ["-g"], {"FASTWS_DEBUG": "1"}),
    # CPython 3.12 and later would trace through sys.monitoring, which coverage does not offer to plugins.
    "coverage": Kind(
        ["-O0", "-g0"],
        macros={"CYTHON_TRACE": "1", "CYTHON_TRACE_NOGIL": "1", "CYTHON_USE_SYS_MONITORING": "0"},
        directives={"linetrace": True},
    ),
    "sanitize": Kind(CHECKED, ["-g", *SANITIZERS], {"FASTWS_DEBUG": "1"}),
    # Not linked with any runtime: the fuzzer's program has it
    "fuzz": Kind([*CHECKED, "-fsanitize=fuzzer-no-link"], ["-g"], {"FASTWS_DEBUG": "1"}),
}


def read_docstrings(path: str) -> dict[str, str]:
    """Return the docstrings of a stub by name: ``"push_text"``, ``"Connection"``, ``"Connection.id"``.

    That of a class begins with its signature, in the form in which CPython takes it out again.
    """
    docstrings: dict[str, str] = {}

    def read(body: list[ast.stmt], prefix: str = "") -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                docstrings[prefix + node.name] = ast.get_docstring(node) or ""
            elif isinstance(node, ast.ClassDef):
                docstrings[node.name] = signature_of(node) + (ast.get_docstring(node) or "")
                read(node.body, node.name + ".")

    read(ast.parse(Path(path).read_text(encoding="utf-8")).body)
    return docstrings


def signature_of(node: ast.ClassDef) -> str:
    """Return how a class is called, or nothing where its stub does not say it."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name in ("__new__", "__init__"):
            arguments = member.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                argument.annotation = None
            del (arguments.posonlyargs or arguments.args)[0]
            return f"{node.name}({ast.unparse(arguments)})\n--\n\n"
    return ""


class Documented(AutoDocTransforms.EmbedSignature):
    """Cython's step that writes signatures into docstrings, after the stub has given its own."""

    docstrings = read_docstrings(STUB)

    def document(self, holder: Any, *names: str) -> None:
        """Give what Cython knows of a name its docstring, if the stub has one."""
        docstring = self.docstrings.get(".".join(filter(None, names)))
        if docstring:
            holder.doc = EncodedString(docstring)

    def visit_CClassDefNode(self, node: Any) -> Any:  # noqa: N802 (Cython's name)
        """Document a class, then its members."""
        if node.scope is not None:
            self.document(node.scope, node.class_name)
        return self.visit_ClassDefNode(node)

    def visit_DefNode(self, node: Any) -> Any:  # noqa: N802
        """Document a function or method."""
        self.document(node.entry, self.class_name, node.name)
        return super().visit_DefNode(node)

    def visit_CFuncDefNode(self, node: Any) -> Any:  # noqa: N802
        """Document a function that C and Python both call."""
        self.document(node.entry, self.class_name, node.entry.name)
        return super().visit_CFuncDefNode(node)

    def visit_PropertyNode(self, node: Any) -> Any:  # noqa: N802
        """Document a property, or an attribute that is shown as one."""
        self.document(node.entry, self.class_name, node.name)
        return super().visit_PropertyNode(node)


AutoDocTransforms.EmbedSignature = Documented


def chosen_kind() -> str:
    """Return the kind of build that the environment asks for."""
    name = os.environ.get("FASTWS_BUILD") or "release"
    if name not in KINDS:
        sys.exit(f"FASTWS_BUILD={name!r} is not a kind of build: choose one of {', '.join(KINDS)}")
    return name


def extension(name: str) -> Extension:
    """Return the extension, as the named kind of build wants it."""
    kind = KINDS[name]
    module = Extension(
        "fastws._speedups",
        ["fastws/_speedups.pyx"],
        include_dirs=["fastws/core"],
        depends=sorted(
            [STUB, *glob("fastws/core/**/*.pxi", recursive=True), *glob("fastws/core/**/*.h", recursive=True)]
        ),
        define_macros=list(kind.macros.items()),
        extra_compile_args=[*kind.compile, "-pthread"],
        extra_link_args=[*kind.link, "-pthread"],
    )
    # Read by Cython's build_ext. Coverage finds the C text only beside the .pyx; all other kinds leave the tree clean.
    module.cython_directives = kind.directives
    module.cython_c_in_temp = name != "coverage"
    return module


def is_stale(build: str) -> bool:
    """Tell whether what was made of the core is older than its docstrings, which Cython does not know of."""
    newest = max(os.path.getmtime(path) for path in (STUB, __file__))
    return any(os.path.getmtime(path) < newest for path in glob(f"{build}/temp.*/fastws/_speedups.c"))


# Each kind has its own directory for what it makes, so that going from one to the other never links old objects.
KIND = chosen_kind()
BUILD = f"build/{KIND}"
setup(
    ext_modules=[extension(KIND)],
    options={"build": {"build_base": BUILD}, "build_ext": {"force": is_stale(BUILD)}},
)
