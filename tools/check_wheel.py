"""Check what a wheel or an sdist carries: ``check_wheel.py FILE...``; says what is wrong and exits 1."""

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

WHEEL_MEMBER = re.compile(
    r"""
    fastws/(\w+/)*\w+\.py            # the package
    | fastws/(\w+/)*\w+\.pyi         # its stubs
    | fastws/py\.typed
    | fastws/_speedups\.[\w-]+\.so   # the one compiled module
    | pytest_fastws\.py              # the plugin of pytest
    | fastws-[\w.]+\.dist-info/.+
    """,
    re.VERBOSE,
)
WHEEL_NEEDS = ["fastws/__init__.py", "fastws/py.typed", "fastws/_speedups.pyi", "pytest_fastws.py"]
SDIST_NEEDS = [
    *WHEEL_NEEDS,
    *["setup.py", "pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "LICENSE", "CONTRIBUTING.md"],
    *[
        "fastws/_speedups.pyx",
        "fastws/core/",
        "tests/",
        "examples/",
        "benchmarks/load.c",
        "tools/check_wheel.py",
        ".ci/run",
    ],
]
SDIST_FORBIDS = re.compile(r"\.so$|\.py[co]$|__pycache__|(^|/)_speedups\.c$")
# Names of ELF and Mach-O sections; a stripped release has none of them.
DEBUG_SECTIONS = [b".debug_info", b".debug_line", b".symtab\0", b"__debug_info"]


def wheel_faults(path: Path) -> Iterator[str]:
    """Yield what is wrong with a wheel."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        yield from (f"carries {name}" for name in names if not WHEEL_MEMBER.fullmatch(name))
        yield from (f"lacks {name}" for name in WHEEL_NEEDS if name not in names)
        compiled = [name for name in names if name.endswith(".so")]
        if len(compiled) != 1:
            yield f"carries {len(compiled)} compiled modules instead of one"
        for name in compiled:
            content = archive.read(name)
            yield from (f"{name} has the section {section!r}" for section in DEBUG_SECTIONS if section in content)
        if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
            yield "lacks the licence"


def sdist_faults(path: Path) -> Iterator[str]:
    """Yield what is wrong with an sdist."""
    with tarfile.open(path) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    yield from (f"lacks {need}" for need in SDIST_NEEDS if not any(name.startswith(need) for name in names))
    yield from (f"carries {name}" for name in names if SDIST_FORBIDS.search(name))


def main(arguments: list[str]) -> int:
    """Check the files; return 1 if any is at fault."""
    paths = [Path(argument) for argument in arguments]
    faults = [
        f"{path.name} {fault}"
        for path in paths
        for fault in (wheel_faults(path) if path.suffix == ".whl" else sdist_faults(path))
    ]
    print("\n".join(faults or [f"{path.name}: contents as they should be" for path in paths]))
    return 1 if faults or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
