"""What all measurements of the parts share: the payload sizes, and a name for the question that a table answers."""

from __future__ import annotations

import logging
import platform
import warnings

import pytest

from fastws._speedups import use_vectors

from .machine import machine

SIZES = "1,64,1024,16384,65536,1048576"


def pytest_addoption(parser):
    parser.addoption("--sizes", default=SIZES, help=f"payload sizes in bytes (default: {SIZES})")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Comparing with a run of another machine warns; it is no error."""
    if config.pluginmanager.hasplugin("benchmark"):
        from pytest_benchmark.logger import PytestBenchmarkWarning

        warnings.simplefilter("default", PytestBenchmarkWarning)


def pytest_generate_tests(metafunc):
    if "size" in metafunc.fixturenames:
        sizes = [int(size) for size in metafunc.config.getoption("--sizes").split(",")]
        metafunc.parametrize("size", sizes, scope="session")


def pytest_benchmark_generate_machine_info():
    return machine() | {"python": platform.python_version()}


def pytest_benchmark_update_commit_info(commit_info):
    del commit_info["project"]  # which may be the name of a folder


@pytest.fixture(autouse=True)
def nobody_logs():
    """Our tests log at level DEBUG, at which libraries describe every frame; no server runs like that."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=["vectors", "plain loops"])
def fastws_kernels(request):
    """For contenders that are all fastws: with the vectors of this machine, and without."""
    before = use_vectors(request.param == "vectors")
    yield request.param
    use_vectors(before)


@pytest.fixture
def measure(benchmark):
    """Time one contender: `measure("mask", size, "fastws", function, *arguments)`; rows of one group share a table."""

    def measure(question: str, size: int, contender: str, function, *arguments, messages: int = 1, **pedantic):
        benchmark.group = f"{question}, {size} B"
        benchmark.extra_info.update(question=question, size=size, contender=contender, messages=messages)
        if pedantic:
            return benchmark.pedantic(function, **pedantic)
        return benchmark(function, *arguments)

    return measure
