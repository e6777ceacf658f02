"""Every case of Autobahn's test suite against our client, awaited and called, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import fastws

from ..kit.services import Echo
from .exceptions import EXCEPTIONS_OF_CLIENT
from .test_autobahn import COMPRESSION, LARGE, LIMITS, PROTOCOL, SMALL, on_uvloop
from .wstest import run_client

OPTIONS = {"max_message_size": 16 << 20, "max_fragments": (1 << 16) + 1, "proxy": None}


async def awaited(url: str, **options: object) -> None:
    async with fastws.connect(url, **OPTIONS, **options) as connection:
        with contextlib.suppress(fastws.ConnectionClosed):
            async for message in connection:
                await connection.send(message)


async def called(url: str, **options: object) -> None:
    async with fastws.connect(url, Echo(), **OPTIONS, **options) as connection:
        await connection.wait_closed()


@pytest.fixture
def assert_conforms(wstest, tmp_path, totals, no_task_left):
    async def assert_conforms(parts: list[list[str]], count: int, style=awaited, compression: str = "shared") -> None:
        def client(url: str) -> asyncio.Future[None]:
            return style(url, compression=compression)

        verdicts = await run_client(wstest, client, parts, tmp_path)
        totals.update(map(str, verdicts.values()))
        assert len(verdicts) == count
        right = {case: EXCEPTIONS_OF_CLIENT[case][0] if case in EXCEPTIONS_OF_CLIENT else "OK" for case in verdicts}
        assert {case: verdict for case, verdict in verdicts.items() if str(verdict) != right[case]} == {}

    return assert_conforms


@pytest.mark.parametrize("style", [awaited, called])
@pytest.mark.parametrize("group", PROTOCOL)
async def test_the_protocol(assert_conforms, group, style):
    cases, count = PROTOCOL[group]
    await assert_conforms([[cases]], count, style)


@on_uvloop
@pytest.mark.parametrize("style", [awaited, called])
async def test_limits(assert_conforms, style):
    await assert_conforms([[cases] for cases in LIMITS], sum(LIMITS.values()), style)


@on_uvloop
@pytest.mark.parametrize(
    ("compression", "forms", "style"),
    [
        pytest.param("shared", SMALL, awaited, id="small"),
        pytest.param("shared", LARGE, called, id="large", marks=pytest.mark.slow),
        pytest.param("dedicated", SMALL, awaited, id="small and dedicated", marks=pytest.mark.slow),
        pytest.param("dedicated", LARGE, called, id="large and dedicated", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("group", COMPRESSION)
async def test_compression(assert_conforms, group, compression, forms, style):
    parts = [[f"{name}.{form}" for form in forms] for name in COMPRESSION[group]]
    await assert_conforms(parts, len(parts) * len(forms), style, compression)
