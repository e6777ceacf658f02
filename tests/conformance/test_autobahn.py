"""Every case of Autobahn's test suite against an echo service, on real sockets: OK, or an exception that we know.

The groups are Autobahn's. The cases of 9 send up to 16 MiB in one message, and one in up to 65,537 frames. Those of 12
and 13 send a thousand messages each, of five kinds and under seven sets of parameters, in eighteen forms. Seven of the
forms are large, and their cases slow.
"""

from __future__ import annotations

import pytest

from ..kit.services import Echo, at
from .exceptions import EXCEPTIONS
from .wstest import run

# What wstest takes for a group, and how many cases that must be: it is content with none
PROTOCOL = {
    "framing": ("1.*", 16),
    "pings": ("2.*", 11),
    "reserved bits": ("3.*", 7),
    "opcodes": ("4.*", 10),
    "fragments": ("5.*", 20),
    "UTF-8": ("6.*", 145),
    "closing": ("7.*", 37),
    "pieces": ("10.*", 1),
}
LIMITS = {"9.1.*": 6, "9.2.*": 6, "9.3.*": 9, "9.4.*": 9, "9.5.*": 6, "9.6.*": 6, "9.7.*": 6, "9.8.*": 6}
COMPRESSION = {"kinds of data": [f"12.{kind}" for kind in range(1, 6)], "parameters": [f"13.{n}" for n in range(1, 8)]}
SMALL = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13)  # messages up to 32 KiB
LARGE = (9, 10, 14, 15, 16, 17, 18)  # 64 and 128 KiB, whole and in frames from 256 bytes

on_uvloop = pytest.mark.asyncio(loop_factories=["uvloop"])  # what takes long is run on the loop that servers use


def echo(compression: str) -> Echo:
    annotate = at(max_message_size=16 << 20, max_fragments=(1 << 16) + 1, compression=compression)
    return annotate(type("Echo", (Echo,), {}))()


@pytest.fixture
def assert_conforms(serve, wstest, tmp_path, totals):
    """Have so many cases judged, in parts side by side: `await assert_conforms([["1.*"], ["2.*"]], 27)`."""

    async def assert_conforms(parts: list[list[str]], count: int, compression: str = "shared") -> None:
        server = await serve(echo(compression))
        verdicts = await run(wstest, f"ws://127.0.0.1:{server.addresses[0][1]}", parts, tmp_path)
        totals.update(map(str, verdicts.values()))
        assert len(verdicts) == count
        right = {case: EXCEPTIONS[case][0] if case in EXCEPTIONS else "OK" for case in verdicts}
        assert {case: verdict for case, verdict in verdicts.items() if str(verdict) != right[case]} == {}

    return assert_conforms


@pytest.mark.parametrize("group", PROTOCOL)
async def test_the_protocol(assert_conforms, group):
    cases, count = PROTOCOL[group]
    await assert_conforms([[cases]], count)


@on_uvloop
async def test_limits(assert_conforms):
    await assert_conforms([[cases] for cases in LIMITS], sum(LIMITS.values()))


@on_uvloop
@pytest.mark.parametrize(
    ("compression", "forms"),
    [
        pytest.param("shared", SMALL, id="small"),
        pytest.param("shared", LARGE, id="large", marks=pytest.mark.slow),
        pytest.param("dedicated", SMALL, id="small and dedicated", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("group", COMPRESSION)
async def test_compression(assert_conforms, group, compression, forms):
    parts = [[f"{name}.{form}" for form in forms] for name in COMPRESSION[group]]
    await assert_conforms(parts, len(parts) * len(forms), compression)
