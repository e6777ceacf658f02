"""Build the fuzz targets with clang and run them: ``fuzz.py [--runs N] [--keep] [TARGET...]``.

Each target starts from its seeds and its corpus in ``tests/fuzz/``; ``--keep`` writes what a run added to the coverage
back into the corpus. An input that finds something is left in ``build/fuzz/`` and the exit status is 1.
"""

import argparse
import glob
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "tests" / "fuzz"
BUILD = ROOT / "build" / "fuzz"
CLANG = os.environ.get("CLANG", "clang")
SANITIZE = ["-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined"]
LIMITS = ["-max_len=2000", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"]
KEPT_LEN = 200  # bytes; a longer input is not worth its place in the tree

sys.path.insert(0, str(ROOT))
from tests.fuzz import corpus  # noqa: E402


def is_c(target: str) -> bool:
    """Tell whether a target needs no Python."""
    return (FUZZ / f"{target}.c").exists()


def run(*command: object, **environment: str) -> int:
    """Run a command at the root of the project; return its exit status."""
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, cwd=ROOT, env=os.environ | environment, check=False).returncode


def build_c(target: str) -> Path:
    """Compile a target that needs no Python."""
    program = BUILD / target
    if run(CLANG, *SANITIZE, "-Ifastws/core", FUZZ / f"{target}.c", "-o", program):
        sys.exit(f"{target} does not compile")
    return program


def build_engine() -> None:
    """Compile the core, counting coverage, and the program that runs Python targets on it."""
    if run(sys.executable, "setup.py", "-q", "build", FASTWS_BUILD="fuzz", CC=CLANG, LDSHARED=f"{CLANG} -shared"):
        sys.exit("the core does not compile")
    include, library = sysconfig.get_path("include"), sysconfig.get_config_var("LIBDIR")
    name = f"python{sysconfig.get_config_var('LDVERSION')}"
    python = [f"-I{include}", f"-L{library}", f"-Wl,-rpath,{library}", f"-l{name}"]
    # The core finds the runtimes of the sanitizers and of libFuzzer in the program
    if run(CLANG, *SANITIZE, "-rdynamic", FUZZ / "engine.c", *python, "-o", BUILD / "engine"):
        sys.exit("the engine does not compile")


def environment(target: str, seeds: Path) -> dict[str, str]:
    """Return what the engine and its Python need to know."""
    [library] = glob.glob(str(BUILD / "lib.*"))
    return {
        "FUZZ_TARGET": target,
        "FUZZ_SEEDS": str(seeds),
        "FUZZ_PYTHON": sys.executable,
        "FUZZ_ROOT": str(ROOT),
        "PYTHONPATH": os.pathsep.join([library, str(ROOT)]),
        "PYTHONHASHSEED": "0",
        "PYTHONMALLOC": "malloc",  # so that every object has its red zones
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=32",  # the interpreter leaks at exit by design
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def empty(name: str) -> Path:
    """Return an empty directory of that name."""
    directory = BUILD / "corpora" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def fuzz(target: str, runs: int, keep: bool) -> int:
    """Run one target so often; return 1 if it found something."""
    program = build_c(target) if is_c(target) else BUILD / "engine"
    known, found, kept = (empty(f"{target}/{name}") for name in ("known", "found", "kept"))
    variables = {} if is_c(target) else environment(target, known)
    corpus.write(corpus.load(target), known)
    print(f"== {target}", flush=True)
    artifacts = f"-artifact_prefix={BUILD}/{target}-"
    failed = run(program, f"-runs={runs}", *LIMITS, artifacts, found, known, **variables)
    if keep and not failed:
        run(program, "-merge=1", f"-max_len={KEPT_LEN}", "-verbosity=0", kept, known, found, **variables)
        corpus.save(target, [file.read_bytes() for file in kept.iterdir()])
    return min(1, failed)


def main() -> int:
    """Run the targets that are named, or all; return 1 if one found something."""
    targets = corpus.targets()
    parser = argparse.ArgumentParser(description="Run the fuzz targets.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(targets)}; all when none is named")
    parser.add_argument("--runs", type=int, default=20000, help="executions of each target")
    parser.add_argument("--keep", action="store_true", help="write the corpora back")
    arguments = parser.parse_args()
    chosen = arguments.targets or targets
    if unknown := set(chosen) - set(targets):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    BUILD.mkdir(parents=True, exist_ok=True)
    if not all(is_c(target) for target in chosen):
        build_engine()
    return max([fuzz(target, arguments.runs, arguments.keep) for target in chosen])


if __name__ == "__main__":
    sys.exit(main())
