"""`fastws bench`, once its arguments are read: ask, show, and say by the exit status whether it is good enough."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConfigurationError, LoadError
from .plan import Plan
from .plot import plot, require_plots
from .processes import ask
from .progress import Progress
from .recording import require_histograms
from .report import excesses, table, values

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine
    from typing import Any

    from .findings import Findings

__all__ = ["bench", "run"]

_T = TypeVar("_T")


def bench(given: argparse.Namespace) -> int:
    """Load a server, show what came of it, and return the exit status.

    0: it is as good as `--max-p99` and `--max-lost` want it. 1: it is not, or there is no answer. 2: what was asked
    cannot be. 130: it was interrupted.
    """
    try:
        plan = Plan.of(given)
        _require_libraries(plan)
        found = _ask(plan)
        _show(plan, found)
    except ConfigurationError as error:
        return _complain(error, 2)
    except (LoadError, OSError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return 130
    wrong = excesses(plan, found)
    for text in wrong:
        print(f"fastws: {text}", file=sys.stderr)
    return 1 if wrong else 0


def _require_libraries(plan: Plan) -> None:
    if plan.json is not None:
        require_histograms()
    if plan.plot is not None:
        require_plots()


def _ask(plan: Plan) -> Findings:
    progress = Progress(sys.stderr, quiet=plan.quiet)
    try:
        return run(ask(plan, progress))
    finally:
        progress.end()


def _show(plan: Plan, found: Findings) -> None:
    """Write the table, and what else is wanted; JSON on stdout is alone there."""
    if plan.json == "-":
        print(json.dumps(values(plan, found), indent=2))
    else:
        print(table(plan, found))
    if plan.json not in (None, "-"):
        Path(str(plan.json)).write_text(json.dumps(values(plan, found), indent=2) + "\n", encoding="utf-8")
    if plan.plot is not None and found.latencies:
        plot(plan, found, plan.plot)


def _complain(error: Exception, status: int) -> int:
    print(f"fastws: {error}", file=sys.stderr)
    return status


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run on the best event loop that there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)
