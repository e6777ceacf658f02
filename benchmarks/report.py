"""Write the tables of README.md from the newest run of each question in results/: medians of all samples."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
MARK = "<!-- The rest is written by report.py. -->\n"

Row = dict[str, str]

TITLES = {
    "echo": "One message in, one message back",
    "broadcast": "One message to all connections",
    "idle": "Memory of a connection that says nothing",
    "handshake": "Opening handshakes",
    "parts": "The parts, in process",
    "adversary": "Under attack",
}


# --- Numbers and tables


def bytes_text(size: int) -> str:
    for unit, length in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % length == 0:
            return f"{size // length} {unit}"
    return f"{size} B"


def time_text(seconds: float) -> str:
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def table(rows: list[Row]) -> str:
    """Markdown; the first column is what a row is about."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([row.get(name, "") for name in names] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def grouped(samples: Iterable[dict], *keys: str) -> dict[tuple, list[dict]]:
    groups: dict[tuple, list[dict]] = {}
    for sample in samples:
        groups.setdefault(tuple(sample[key] for key in keys), []).append(sample)
    return groups


def median(samples: list[dict], key: str) -> float:
    return statistics.median(sample[key] for sample in samples)


# --- One row for a peer


def work_row(samples: list[dict], floor: float | None) -> Row:
    cpu = median(samples, "cpu_us")
    what = "message" if "messages_per_second" in samples[0] else "handshake"
    row = {
        f"CPU per {what}": time_text(cpu / 1e6),
        "of the floor": f"{cpu / floor:.2f}" if floor else "",
        "spread": spread(samples, "cpu_us"),
        f"{what}s/s": f"{median(samples, f'{what}s_per_second'):,.0f}",
        "server busy": f"{median(samples, 'cpu_share'):.0%}",
    }
    latencies = [name for name in ("p50", "p99") if f"{name}_ms" in samples[0]]
    return row | {name: time_text(median(samples, f"{name}_ms") / 1e3) for name in latencies}


def idle_row(samples: list[dict]) -> Row:
    return {
        "bytes per connection": f"{median(samples, 'bytes_per_connection'):,.0f}",
        "spread": spread(samples, "bytes_per_connection"),
    }


def spread(samples: list[dict], key: str) -> str:
    """How far the lowest and the highest sample lie from the median."""
    values = [sample[key] for sample in samples]
    middle = statistics.median(values)
    return f"{min(values) / middle - 1:+.0%} {max(values) / middle - 1:+.0%}"


# --- One question


def scenario_tables(run: dict) -> str:
    text = ""
    for (connections, size, window), samples in grouped(run["samples"], "connections", "size", "window").items():
        what = f", {bytes_text(size)}, {window} under way" if size else ""
        text += f"\n**{connections:,} connections{what}**\n\n"
        peers = {peer: found for (peer,), found in grouped(samples, "peer").items()}
        good = {peer: [sample for sample in found if "error" not in sample] for peer, found in peers.items()}
        floor = median(good["floor"], "cpu_us") if good.get("floor") and run["question"] != "idle" else None
        order = [peer for peer in run.get("peers", peers) if peer in peers]
        text += table([peer_row(run["question"], peer, good[peer], len(peers[peer]), floor) for peer in order])
    return text


def peer_row(question: str, peer: str, good: list[dict], count: int, floor: float | None) -> Row:
    failed = f" ({count - len(good)} of {count} samples failed)" if len(good) < count else ""
    row = {"": peer + failed}
    if good:
        row |= idle_row(good) if question == "idle" else work_row(good, floor)
    return row


def parts_tables(run: dict) -> str:
    text = ""
    for (question,), samples in grouped(run["samples"], "question").items():
        rows = []
        for (size,), found in sorted(grouped(samples, "size").items()):
            times = {sample["contender"]: sample["median"] for sample in found}
            best = min(times.values())
            cells = {who: f"**{time_text(time)}**" if time == best else time_text(time) for who, time in times.items()}
            rows.append({question: bytes_text(size)} | cells)
        text += "\n" + table(rows)
    return text


def adversary_tables(run: dict) -> str:
    """What guests waited for without and with the attack, and what the server held before, at most and after."""
    text = f"\n{run['connections']:,} attackers of each kind; {run['guests']} guests who stay. "
    text += f"{sum(len(sample['after']['failures']) for sample in run['samples'])} failures among guests.\n"
    for (kind,), samples in grouped(run["samples"], "kind").items():
        text += "\n" + table([adversary_row(kind, sample) for sample in samples])
    return text


def adversary_row(kind: str, sample: dict) -> Row:
    rounds = sample["rounds"]
    attacked = rounds[0]["attacked"]
    times = {
        f"{what} {rank}": " → ".join(time_text(seen[what][rank] / 1e3) for seen in (sample["quiet"], attacked))
        for what, rank in (("echo", "p50"), ("echo", "p99"), ("broadcast", "p99"), ("opening", "p99"), ("http", "p99"))
        if what in attacked
    }
    failures = len(sample["after"]["failures"])
    memory = [sample["before"], sample["peak"], *(done["memory"] for done in rounds)]
    return {
        kind: sample["attack"] + (f" ({failures} failures)" if failures else ""),
        "server busy": f"{attacked['server_busy']:.0%}",
        **times,
        "MiB": " ".join(f"{size / 2**20:.0f}" for size in memory),
        "gone after": f"{max(done['gone_after'] for done in rounds):.1f} s" + ("!" if rounds[-1]["left"] else ""),
    }


# Questions whose samples are not of peers
TABLES = {"parts": parts_tables, "adversary": adversary_tables}


def section(run: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    machine = run["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"
    how = f" {run['rounds']} samples of {run['seconds']:g} s each." if "rounds" in run else ""
    head = f"\n## {TITLES[run['question']]}\n\n{run['date'][:10]}, commit {run['commit']}; {where}; {versions}.{how}\n"
    return head + TABLES.get(run["question"], scenario_tables)(run)


def main() -> None:
    runs = sorted((json.loads(path.read_text()) for path in HERE.glob("results/*.json")), key=lambda run: run["date"])
    newest = {run["question"]: run for run in runs}
    readme = HERE / "README.md"
    prose = readme.read_text().partition(MARK)[0]
    readme.write_text(prose + MARK + "".join(section(newest[question]) for question in TITLES if question in newest))


if __name__ == "__main__":
    main()
