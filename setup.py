"""Build the one extension of fastws.

Everything that can be said declaratively is in ``pyproject.toml``, and the compiler directives stand in the first line
of ``fastws/_speedups.pyx``. What is left for this file is the kind of build, chosen by the environment variable
``FASTWS_BUILD``:

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

import os
import sys
from dataclasses import dataclass, field
from glob import glob
from typing import Any

from setuptools import Extension, setup


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
        depends=sorted(glob("fastws/core/*.pxi") + glob("fastws/core/*.h")),
        define_macros=list(kind.macros.items()),
        extra_compile_args=[*kind.compile, "-pthread"],
        extra_link_args=[*kind.link, "-pthread"],
    )
    # Read by Cython's build_ext. Coverage finds the C text only beside the .pyx; all other kinds leave the tree clean.
    module.cython_directives = kind.directives
    module.cython_c_in_temp = name != "coverage"
    return module


# Each kind has its own directory for what it makes, so that going from one to the other never links old objects.
KIND = chosen_kind()
setup(ext_modules=[extension(KIND)], options={"build": {"build_base": f"build/{KIND}"}})
