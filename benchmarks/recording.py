"""What every run writes down: when, which commit, on what machine, with which versions, and every sample."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import platform
import ssl
import subprocess
from pathlib import Path

from contenders import PACKAGES
from machine import machine

import fastws

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def versions() -> dict[str, str]:
    found = {
        "python": platform.python_version(),
        "compiler": output("cc", "--version").partition("\n")[0],
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "fastws": fastws.__version__,
    }
    return found | {package: version(package) for package in PACKAGES}


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit that was measured, with a + where the tree had changes."""
    changed = output("git", "status", "--porcelain", "--untracked-files=no", "--", "fastws", "benchmarks/*.[ch]")
    return output("git", "rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def output(*command: str) -> str:
    try:
        return subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def circumstances(question: str) -> dict[str, object]:
    date = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    return {"question": question, "date": date, "commit": commit(), "machine": machine(), "versions": versions()}


def target(run: dict, folder: Path) -> Path:
    """A file of its own for a run."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{run['question']}-{run['date'][:19].replace(':', '')}.json"


def record(question: str, samples: list[dict], path: str | None = None, folder: Path = RESULTS, **more: object) -> Path:
    """Write one run; returns its file."""
    run = circumstances(question) | more
    file = Path(path) if path else target(run, folder)
    write(file, run, "samples", samples)
    return file


def write(file: Path, run: dict, name: str, rows: list[dict]) -> None:
    """Write a run as JSON, with each of its rows on a line."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    file.write_text(json.dumps(run)[:-1] + f', "{name}": [\n{lines}\n]}}\n')
