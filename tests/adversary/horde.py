"""A process of attackers, told on its standard input whom to attack and how.

`python -m tests.adversary.horde` reads one order a line, as JSON: `names` of attacks, the `port`, the `count` of
connections for each, and `seconds`. When the time is up it holds what is still connected, in silence, and prints what
it did. With the next line, which may be empty, it hangs up; with the last it ends.
"""

from __future__ import annotations

import asyncio
import json
import sys

from .attacks import ATTACKS, Attack, Wire

RETRY = 0.01  # seconds


class Horde:
    """Attackers, and the connections that they hold."""

    def __init__(self) -> None:
        self.wires: set[Wire] = set()
        self.tried = 0

    async def attack(self, names: list[str], port: int, count: int, seconds: float) -> dict[str, int]:
        self.tried = 0
        attackers = [
            asyncio.ensure_future(self._attack(ATTACKS[name], port, number))
            for name in names
            for number in range(count)
        ]
        _, pending = await asyncio.wait(attackers, timeout=seconds)
        for attacker in pending:
            attacker.cancel()
        for done in await asyncio.gather(*attackers, return_exceptions=True):
            if isinstance(done, Exception):
                raise done
        return {"tried": self.tried, "held": len(self.wires)}

    async def _attack(self, attack: Attack, port: int, number: int) -> None:
        while True:
            wire = Wire(port, number)
            self.wires.add(wire)
            self.tried += 1
            try:
                await attack.once(wire)
            except ConnectionRefusedError:
                await asyncio.sleep(RETRY)
            except OSError:
                # The server ended it, which is what it is here for
                await asyncio.sleep(0)
            self.wires.discard(wire)
            wire.close()

    def hang_up(self) -> None:
        for wire in self.wires:
            wire.close()
        self.wires.clear()


async def main() -> None:
    loop = asyncio.get_running_loop()
    horde = Horde()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        horde.hang_up()
        done = await horde.attack(**json.loads(line)) if line.strip() else {}
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
