"""What do well-behaved clients notice while others attack the server, and what is left of the attack afterwards?

Each attack has a server of its own, on a core of its own. The guests, who come first and leave last, share the other
core with the attackers, but go first there: what they wait for is the server. Attackers attack, then hold on in silence
until the server has let go of them (those that flood hang up: what they sent before would keep it busy for long). Then
everything once more, because memory that grows again is lost for good.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recording import HERE, record

ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from tests.adversary.attacks import ATTACKS  # noqa: E402
from tests.adversary.hall import GONE_WITHIN, TIMEOUTS  # noqa: E402

CLOCK = os.sysconf("SC_CLK_TCK")  # a second
POLL = 0.05  # seconds
SETTLE = 1.0  # seconds until the guests are there
CONNECTIONS = ("websockets", "http", "handshakes")  # of what a server tells
LAST = 19  # of all who want a core: `nice`


class Program:
    """A program of the adversary suite, which answers lines with lines of JSON."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return json.loads(line)

    def write(self, line: str = "") -> None:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def ask(self, line: str = "") -> dict:
        self.write(line)
        return self.read()

    # --- What the system knows of it.

    def memory(self, field: str) -> int:
        """Bytes: VmRSS now, or VmHWM at most."""
        status = Path("/proc", str(self._process.pid), "status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))

    def cpu(self) -> float:
        """Seconds."""
        fields = Path("/proc", str(self._process.pid), "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK


@contextmanager
def program(core: int, name: str, *arguments: str, nice: int = 0) -> Iterator[Program]:
    """Run a program until the end of its input, at which it leaves by itself."""
    command = ["taskset", "-c", str(core), "nice", "-n", str(nice), sys.executable, "-m", f"tests.adversary.{name}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, *arguments], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Program(process)
    finally:
        process.communicate()


def measure(server: Program, guests: Program, seconds: float) -> dict:
    """Let some time pass; what guests saw, and how busy the server was."""
    guests.ask()
    cpu, started = server.cpu(), time.perf_counter()
    time.sleep(seconds)
    seen = guests.ask()
    return seen | {"server_busy": round((server.cpu() - cpu) / (time.perf_counter() - started), 3)}


def wait_until_gone(server: Program, usual: dict) -> tuple[float, dict]:
    """Seconds until only guests are connected, and who stays too long."""
    started = time.perf_counter()
    while True:
        here = server.ask()
        left = {
            kind: here[kind] - usual[kind] for kind in ("websockets", "http", "handshakes") if here[kind] > usual[kind]
        }
        passed = time.perf_counter() - started
        if not left or passed > GONE_WITHIN:
            return round(passed, 2), left
        time.sleep(POLL)


def attack(name: str, server: Program, guests: Program, horde: Program, port: int, options: argparse.Namespace) -> dict:
    usual = server.ask()
    order = {"names": [name], "port": port, "count": options.connections, "seconds": options.seconds}
    horde.write(json.dumps(order))
    seen = measure(server, guests, options.seconds)
    done = horde.read()
    if ATTACKS[name].floods:
        horde.ask()
    gone_after, left = wait_until_gone(server, usual)
    horde.ask()
    return done | {"attacked": seen, "gone_after": gone_after, "left": left, "memory": server.memory("VmRSS")}


def sample(name: str, options: argparse.Namespace) -> dict:
    tls = ATTACKS[name].kind == "tls"
    with (
        program(options.server_core, "hall", json.dumps({"tls": tls, **TIMEOUTS})) as server,
        program(options.load_core, "horde", nice=LAST) as horde,
    ):
        port = server.read()
        with program(options.load_core, "guests", str(port), str(options.guests), str(int(tls))) as guests:
            time.sleep(SETTLE)
            quiet = measure(server, guests, options.seconds)
            before = server.memory("VmRSS")
            rounds = [attack(name, server, guests, horde, port, options) for _ in range(options.rounds)]
            after = measure(server, guests, options.seconds)
            facts = {"before": before, "peak": server.memory("VmHWM"), "quiet": quiet, "after": after}
    return {"attack": name, "kind": ATTACKS[name].kind, "rounds": rounds} | facts


def verdict(sample: dict) -> list[str]:
    """What must not be, whatever the machine."""
    faults = list(sample["after"]["failures"])
    return faults + [f"{done['left']} stay for {GONE_WITHIN:g} s" for done in sample["rounds"] if done["left"]]


def show(sample: dict) -> None:
    quiet, attacked = sample["quiet"], sample["rounds"][0]["attacked"]
    cells = [f"{sample['attack']:36}", f"busy {attacked['server_busy']:4.0%}"]
    for what in ("echo", "broadcast", "opening", "http"):
        times = [f"{seen.get(what, {}).get('p99', float('nan')):.1f}" for seen in (quiet, attacked)]
        cells.append(f"{what} {' -> '.join(times)} ms")
    memory = [sample["before"], sample["peak"], *(done["memory"] for done in sample["rounds"])]
    cells.append("MiB " + " ".join(f"{size / 2**20:.0f}" for size in memory))
    cells.append("gone " + " ".join(f"{done['gone_after']:.1f}" for done in sample["rounds"]) + " s")
    print("  ".join(cells), *verdict(sample), sep="\n    ", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", help="which, separated by semicolons; their kinds do as well (default: all)")
    parser.add_argument("--connections", type=int, default=1000, help="of attackers (default: %(default)s)")
    parser.add_argument("--guests", type=int, default=10, help="who stay (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="that a round attacks (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of each attack (default: %(default)s)")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="where to write (default: a new file in results)")
    return parser.parse_args()


def main() -> int:
    options = parse()
    asked = options.attacks.split(";") if options.attacks else None
    names = [name for name, attack in ATTACKS.items() if asked is None or {name, attack.kind} & set(asked)]
    samples = []
    for number, name in enumerate(names, 1):
        print(f"{number}/{len(names)}", end=" ", flush=True)
        samples.append(sample(name, options))
        show(samples[-1])
    facts = {name: getattr(options, name) for name in ("connections", "guests", "seconds", "rounds")}
    print(record("adversary", samples, options.json, **facts))
    return 1 if any(verdict(found) for found in samples) else 0


if __name__ == "__main__":
    sys.exit(main())
