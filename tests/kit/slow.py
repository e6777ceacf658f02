"""Parameters that are left to the long suite."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def slow(values: Iterable[object]) -> list:
    """Mark each of these: `@pytest.mark.parametrize("seed", [0, *slow(range(1, 20))])`."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
