"""Attackers in a process of their own, and guests of the same server who must not notice.

With tens of connections, in `make test-long`; `make adversary` has a thousand, and looks at latencies and memory, too.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from ..kit import certificates
from ..kit.client import TLS, until
from .attacks import ATTACKS
from .guests import guests
from .hall import TIMEOUTS, Hall, present

GUESTS = 4
ATTACKERS = 20
SECONDS = 0.15  # of one attack

pytestmark = pytest.mark.slow

NOBODY = {"websockets": 0, "http": 0, "handshakes": 0, "chunks": 0, "backlogs": 0, "partials": 0}


class Horde:
    """The process of attackers."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.adversary.horde"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _order(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    async def attack(self, server, *names: str, count: int, seconds: float) -> dict[str, int]:
        """Attack, and hold what is still connected then."""
        order = {"names": names, "port": server.addresses[0][1], "count": count, "seconds": seconds}
        return json.loads(await asyncio.to_thread(self._order, json.dumps(order)))

    async def hang_up(self) -> None:
        await asyncio.to_thread(self._order, "")

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def horde():
    horde = Horde()
    yield horde
    horde.end()


async def serve_hall(serve, *, tls: bool):
    if tls and sys.version_info < (3, 11) and not type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        pytest.skip("the TLS of asyncio before 3.11 warns of every transport that was lost or aborted")
    server = await serve(Hall, ssl=certificates.server_context() if tls else None, **TIMEOUTS)
    if tls:
        TLS[server.addresses[0][1]] = certificates.client_context()
    return server


@pytest.mark.parametrize("name", ATTACKS)
async def test_guests_notice_nothing(serve, horde, name):
    server = await serve_hall(serve, tls=ATTACKS[name].kind == "tls")
    async with guests(server.addresses[0][1], GUESTS) as journal:
        done = await horde.attack(server, name, count=ATTACKERS, seconds=SECONDS)
        await horde.hang_up()
    assert done["tried"] >= ATTACKERS
    assert journal.failures == []
    await until(lambda: present(server) == NOBODY)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_who_only_holds_on_is_let_go(serve, horde, tls):
    server = await serve_hall(serve, tls=tls)
    patient = [name for name, attack in ATTACKS.items() if not attack.floods and (attack.kind == "tls") is tls]
    async with guests(server.addresses[0][1], GUESTS) as journal:
        done = await horde.attack(server, *patient, count=5, seconds=1)
    assert done["held"] > 0
    assert journal.failures == []
    await until(lambda: present(server) == NOBODY)
    await horde.hang_up()
