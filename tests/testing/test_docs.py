"""Every example of docs/testing.md runs, and says what is so."""

from __future__ import annotations

import inspect
import re
import unittest

import pytest

from ..conftest import ROOT
from .test_plugin import run_pytest

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
SOURCE = "\n\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def names() -> dict[str, object]:
    """What the examples define, one after the other."""
    defined: dict[str, object] = {"__name__": "docs"}
    exec(compile(SOURCE, "docs/testing.md", "exec"), defined)
    return defined


ALONE: list[str] = re.findall(r"^async def (test_\w+)\(\)", SOURCE, re.MULTILINE)


@pytest.mark.parametrize("name", ALONE)
async def test_the_example_holds(no_task_left, name):
    example = names()[name]
    assert inspect.iscoroutinefunction(example)
    await example()


def test_the_examples_are_a_file_of_tests_for_pytest(tmp_path):
    path = tmp_path / "test_page.py"
    path.write_text(SOURCE, encoding="utf-8")
    done = run_pytest(path, ["pytest_asyncio.plugin"], "-o", "asyncio_mode=auto")
    assert f"{len(ALONE) + 2} passed" in done.stdout, done.stdout + done.stderr


def test_the_example_of_unittest_holds():
    example = names()["ChatTest"]
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(example).run(result)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])
