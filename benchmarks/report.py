"""Write the tables of README.md, and the pictures beside it, from the newest run of each question in results/.

Figures are medians of all samples. The same results always give the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from charts import Bar, Panel, chart
from tables import Row, bytes_text, grouped, memory_text, spread, table, time_text

HERE = Path(__file__).parent
MARK = "<!-- The rest is written by report.py. -->\n"

TITLES = {
    "echo": "One message in, one message back",
    "broadcast": "One message to all connections",
    "chat": "All connections to all connections",
    "slow": "Clients that do not read",
    "handshake": "Opening handshakes",
    "idle": "Memory of a connection that says nothing",
    "scale": "More and more connections",
    "client": "Clients: one message out, one message back",
    "client-idle": "Clients: memory of a connection that says nothing",
    "tls": "The same over TLS",
    "parts": "The parts, in process",
    "adversary": "Under attack",
    "nodes": "Several nodes",
}

# What a scenario is, with what older runs leave out
SCENARIO = {
    "load": "",
    "connections": 0,
    "size": 0,
    "window": 1,
    "stalled": 0,
    "rate": 0,
    "deflate": False,
    "tls": False,
}


# --- Figures


@dataclass(frozen=True)
class Figure:
    """What a summary compares: a field of samples, what it means and how it is written."""

    key: str
    title: str
    text: Callable[[float], str]


CPU = Figure("cpu_us", "CPU time of the server per message that a client received", lambda us: time_text(us / 1e6))
FIGURES = {
    "slow": [
        Figure("p99_ms", "p99 until all who read have a message", lambda ms: time_text(ms / 1e3)),
        Figure("memory_growth", "Memory that the server took meanwhile", memory_text),
    ],
    "handshake": [Figure("cpu_us", "CPU time of the server per handshake", CPU.text)],
    "idle": [Figure("bytes_per_connection", "Memory per connection", memory_text)],
    "client": [Figure("cpu_us", "CPU time of the client per message that it received", CPU.text)],
    "client-idle": [Figure("bytes_per_connection", "Memory of the client per connection", memory_text)],
}


def figures(question: str) -> list[Figure]:
    return FIGURES.get(question, [CPU])


def is_good(sample: dict) -> bool:
    return "not_measured" not in sample and "error" not in sample


def values(samples: Iterable[dict], key: str) -> list[float]:
    return [sample[key] for sample in samples if is_good(sample) and key in sample]


# --- Scenarios


def by_scenario(run: dict) -> dict[str, list[dict]]:
    """The samples of each scenario under its name."""
    found: dict[str, list[dict]] = {}
    for sample in run["samples"]:
        found.setdefault(scenario_text(sample), []).append(sample)
    return found


def scenario_text(sample: dict) -> str:
    facts = SCENARIO | sample
    parts = [
        facts["load"] if facts["tls"] else "",  # one question asks several
        "1 connection" if facts["connections"] == 1 else f"{facts['connections']:,} connections",
        f"{facts['stalled']} of them stalled" if facts["stalled"] else "",
        bytes_text(facts["size"]) if facts["size"] else "",
        f"{facts['rate']} messages/s" if facts["rate"] else f"{facts['window']} under way" if facts["size"] else "",
        "compressed" if facts["deflate"] else "",
    ]
    return ", ".join(part for part in parts if part)


def by_peer(run: dict, samples: list[dict]) -> dict[str, list[dict]]:
    """The samples of each peer, in the order of the run."""
    found = {peer: samples for (peer,), samples in grouped(samples, "peer").items()}
    return {peer: found[peer] for peer in run.get("peers", found) if peer in found}


# --- What a question shows first: one table and one picture a figure


def summary(run: dict, figure: Figure) -> str:
    scenarios = by_scenario(run)
    cells: dict[str, Row] = {}
    for name, samples in scenarios.items():
        peers = {peer: values(found, figure.key) for peer, found in by_peer(run, samples).items()}
        best = min((median(found) for peer, found in peers.items() if found and peer != "floor"), default=None)
        for peer, found in peers.items():
            text = figure.text(median(found)) if found else "not measured"
            cells.setdefault(peer, {"": peer})[name] = f"**{text}**" if found and median(found) == best else text
    order = [peer for peer in run.get("peers", cells) if peer in cells]
    return table([cells[peer] for peer in order])


def panels(run: dict, figure: Figure) -> list[Panel]:
    found = []
    for name, samples in by_scenario(run).items():
        peers = {peer: values(taken, figure.key) for peer, taken in by_peer(run, samples).items()}
        bars = [
            Bar(peer, median(taken), min(taken), max(taken), figure.text(median(taken)))
            for peer, taken in peers.items()
            if taken
        ]
        found.append(Panel(name, bars))
    return found


def pictures(run: dict) -> dict[str, str]:
    """The pictures of a run: file name to SVG."""
    if run["question"] == "nodes":
        return {"nodes.svg": chart(f"{TITLES['nodes']}: CPU time of the node per client", node_panels(run))}
    if run["question"] in TABLES:
        return {}
    return {
        picture_name(run, figure): chart(f"{TITLES[run['question']]}: {figure.title}", panels(run, figure))
        for figure in figures(run["question"])
    }


def node_panels(run: dict) -> list[Panel]:
    """A message to all, pushed elsewhere, of everybody; beside it what fastws takes when it is pushed here."""
    panels: dict[str, list[Bar]] = {}
    for sample in run["samples"]:
        if sample["what"] == "group":
            place = "here" if sample["place"] == "local" else "elsewhere"
            name = sample.get("peer") or f"fastws {WORDS[sample['engine']]}, {place}"
            panels.setdefault(f"to all, {sample['burst']} at a time", []).append(node_bar(name, sample))
        elif sample["what"] == "far":
            panels.setdefault("push to a group of others only", []).append(
                node_bar(sample.get("peer") or f"fastws {WORDS[sample['engine']]}", sample)
            )
    return [Panel(title, bars) for title, bars in panels.items()]


def node_bar(name: str, sample: dict) -> Bar:
    found = sample["cpu"]
    return Bar(name, median(found), min(found), max(found), time_text(median(found)))


def picture_name(run: dict, figure: Figure) -> str:
    several = len(figures(run["question"])) > 1
    return f"{run['question']}-{figure.key.split('_')[0]}.svg" if several else f"{run['question']}.svg"


# --- All that was measured


def work_row(samples: list[dict], floor: float | None) -> Row:
    """Whatever these samples have of this."""
    columns: list[tuple[str, str, Callable[[float], str]]] = [
        ("bytes_per_connection", "bytes per connection", lambda size: f"{size:,.0f}"),
        ("cpu_us", "CPU per message", lambda us: time_text(us / 1e6)),
        ("messages_per_second", "messages/s", lambda rate: f"{rate:,.0f}"),
        ("handshakes_per_second", "handshakes/s", lambda rate: f"{rate:,.0f}"),
        ("cpu_share", "server busy", "{:.0%}".format),
        ("client_share", "client busy", "{:.0%}".format),
        ("load_share", "load busy", "{:.0%}".format),
        ("p50_ms", "p50", lambda ms: time_text(ms / 1e3)),
        ("p99_ms", "p99", lambda ms: time_text(ms / 1e3)),
        ("memory_growth", "memory growth", memory_text),
        ("unfinished", "not received in time", lambda count: f"{count:,.0f}"),
        ("withheld", "not even sent", lambda count: f"{count:,.0f}"),
    ]
    row: Row = {}
    for key, title, text in columns:
        if found := values(samples, key):
            row[title] = text(median(found))
            if key in ("cpu_us", "bytes_per_connection"):
                row["spread"] = spread(found)
            if key == "cpu_us" and floor:
                row["of the floor"] = f"{median(found) / floor:.2f}"
    return row


def peer_row(peer: str, samples: list[dict], floor: float | None) -> Row:
    good = [sample for sample in samples if is_good(sample)]
    if not good:
        first = "bytes per connection" if "idle" in samples[0].get("load", "") else "CPU per message"
        return {"": peer, first: "not measured"}
    failed = f" ({len(samples) - len(good)} of {len(samples)} samples failed)" if len(good) < len(samples) else ""
    return {"": peer + failed} | work_row(good, floor)


def scenario_tables(run: dict) -> str:
    text = ""
    for name, samples in by_scenario(run).items():
        peers = by_peer(run, samples)
        floor = values(peers.get("floor", []), "cpu_us")
        rows = [peer_row(peer, found, median(floor) if floor else None) for peer, found in peers.items()]
        text += f"\n**{name}**\n\n{table(rows)}"
    return text


def question_text(run: dict) -> str:
    text = ""
    for figure in figures(run["question"]):
        text += f"\n{figure.title}:\n\n{summary(run, figure)}"
        text += f"\n![{figure.title}](plots/{picture_name(run, figure)})\n"
    return f"{text}\n<details><summary>All figures</summary>\n{scenario_tables(run)}\n</details>\n"


# --- Questions whose samples are not of peers


def part_samples(run: dict) -> list[dict]:
    """One for each contender: what was measured, and the median in seconds for one message."""
    if "samples" in run:  # as earlier runs kept them
        return run["samples"]
    return [
        measured["extra_info"] | {"median": measured["stats"]["median"] / measured["extra_info"]["messages"]}
        for measured in run["benchmarks"]
    ]


def parts_text(run: dict) -> str:
    text = ""
    for (question,), samples in grouped(part_samples(run), "question").items():
        rows = []
        for (size,), found in sorted(grouped(samples, "size").items()):
            times = {sample["contender"]: sample["median"] for sample in found}
            best = min(times.values())
            cells = {who: f"**{time_text(time)}**" if time == best else time_text(time) for who, time in times.items()}
            rows.append({question: bytes_text(size)} | cells)
        text += "\n" + table(rows)
    return text


def adversary_text(run: dict) -> str:
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


# --- Several nodes


WORDS = {"workers": "workers", "nats": "NATS", "redis": "Redis", "own mesh": "its own mesh"}


def nodes_text(run: dict) -> str:
    """What a message from elsewhere costs beside one from here, and beside what others take for it."""
    text = f"\nCPU time of the node that has the {run['clients']:,} clients, messages of {run['size']} bytes; "
    text += ", ".join(f"{name} {version}" for name, version in run["others"].items()) + ".\n"
    for burst in sorted({sample["burst"] for sample in run["samples"] if sample["what"] == "group"}):
        title = f"to all, {burst} at a time, per client"
        text += "\n" + table(compared(run, title, "group", burst=burst) + of_others(run, title, burst))
    text += "\n" + table(compared(run, "to one client, 32 at a time", "name"))
    text += "\n" + table([{"for its part": name, "": time_text(median(found))} for name, found in for_its_part(run)])
    text += "\n" + table([latency_row(run, engine) for engine in engines_of(run)])
    return text + "\n" + table(crowd_rows(run)) + "\n" + table(groups_rows(run))


def engines_of(run: dict) -> list[str]:
    return list(dict.fromkeys(sample["engine"] for sample in run["samples"] if sample["what"] == "latency"))


def node_samples(run: dict, engine: str, what: str, **facts: object) -> dict[str, dict]:
    """Of fastws, by their place: pushed here, or by another node."""
    wanted = {"what": what, "engine": engine, **facts}
    return {
        sample.get("place", ""): sample
        for sample in run["samples"]
        if "peer" not in sample and all(sample.get(name) == value for name, value in wanted.items())
    }


def compared(run: dict, title: str, what: str, **facts: object) -> list[Row]:
    rows = []
    for engine in engines_of(run):
        here, there = (median(node_samples(run, engine, what, **facts)[place]["cpu"]) for place in ("local", "remote"))
        times = {"pushed here": time_text(here), "pushed elsewhere": time_text(there)}
        rows.append(
            {title: WORDS[engine], **times, "ratio": f"{there / here:.2f}", "more": f"{(there - here) * 1e6:.2f} us"}
        )
    return rows


def of_others(run: dict, title: str, burst: int) -> list[Row]:
    """What other libraries take for a message from elsewhere."""
    return [
        {title: node_name(sample), "pushed elsewhere": time_text(median(sample["cpu"]))}
        for sample in run["samples"]
        if sample["what"] == "group" and sample["burst"] == burst and "peer" in sample
    ]


def node_name(sample: dict) -> str:
    return f"{sample['peer']}, {WORDS[sample['engine']]}" if "peer" in sample else f"fastws, {WORDS[sample['engine']]}"


def for_its_part(run: dict) -> list[tuple[str, list[float]]]:
    """What is pushed and nobody here gets, and what drivers take to receive."""
    titles = {"far": "push to a group of others only: {}", "driver": "receive, up to a callback: {}'s driver"}
    return [
        (titles[what].format(WORDS[sample["engine"]] if what == "driver" else node_name(sample)), sample["cpu"])
        for what in titles
        for sample in run["samples"]
        if sample["what"] == what
    ] + [part for sample in run["samples"] if sample["what"] == "engine" for part in of_the_engine(sample)]


def of_the_engine(sample: dict) -> list[tuple[str, list[float]]]:
    """CPU of the engine itself."""
    name = WORDS[sample["engine"]]
    heard = {"one node hears": sample["cpu"], "four nodes hear": sample["cpu_of_four"]}
    return [(f"{name} itself: a message that {who}", found) for who, found in heard.items()]


def latency_row(run: dict, engine: str) -> Row:
    found = node_samples(run, engine, "latency")
    row = {
        f"{name}, pushed {where}": time_text(found[place][name])
        for place, where in (("local", "here"), ("remote", "elsewhere"))
        for name in ("p50", "p99")
    }
    protocol = node_samples(run, engine, "protocol").get("")
    return {
        "until a client reads it": WORDS[engine],
        **row,
        "p50 of the protocol alone": time_text(protocol["p50"]) if protocol else "",
    }


def crowd_rows(run: dict) -> list[Row]:
    found = {sample["workers"]: median(sample["rate"]) for sample in run["samples"] if sample["what"] == "crowd"}
    return [
        {"workers": f"{count}", "messages/s to 8,000 clients": f"{rate:,.0f}", "of one": f"{rate / found[1]:.2f}"}
        for count, rate in found.items()
    ]


def groups_rows(run: dict) -> list[Row]:
    return [
        {
            "100,000 groups on a node": WORDS[sample["engine"]],
            "memory of a group for it": memory_text(sample["bytes"]),
            "all subscribed again within": time_text(max(sample["seconds"])),
            "the loop stood still for": time_text(max(sample["held"])),
        }
        for sample in run["samples"]
        if sample["what"] == "groups"
    ]


TABLES = {"parts": parts_text, "adversary": adversary_text, "nodes": nodes_text}


# --- All questions


def not_measured_text(runs: list[dict]) -> str:
    """Who has no figures where, and why: this comes first."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for run in runs:
        for sample in run.get("samples", []) if run["question"] not in TABLES else []:
            why = sample.get("not_measured", sample.get("error"))
            if why:
                where = f"{TITLES[run['question']].lower()} ({scenario_text(sample)})"
                found.setdefault((sample["peer"], why), {})[where] = None
    lines = [f"- **{peer}**: {why}. Missing: {'; '.join(where)}.\n" for (peer, why), where in sorted(found.items())]
    lines += [f"- {complaint}\n" for run in runs for complaint in run.get("not_measured", [])]
    return "\n## Who is not measured, and why\n\n" + "".join(lines) if lines else ""


def section(run: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    machine = run["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}"
    how = f" {run['rounds']} samples of {run['seconds']:g} s each." if "rounds" in run else ""
    head = f"\n## {TITLES[run['question']]}\n\n{run['date'][:10]}, commit {run['commit']}; {where}; {versions}.{how}\n"
    return head + TABLES.get(run["question"], question_text)(run)


def load(files: Iterable[Path]) -> list[dict]:
    """The newest run of each question, in the order of the page."""
    runs = sorted((json.loads(path.read_text()) for path in files), key=lambda run: run["date"])
    newest = {run["question"]: run for run in runs}
    return [newest[question] for question in TITLES if question in newest]


def text(runs: list[dict]) -> str:
    return not_measured_text(runs) + "".join(section(run) for run in runs)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="FOLDER")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md", metavar="FILE")
    options = parser.parse_args(arguments)
    runs = load(options.results.glob("*.json"))
    prose = options.readme.read_text().partition(MARK)[0]
    options.readme.write_text(prose + MARK + text(runs))
    plots = options.readme.parent / "plots"
    plots.mkdir(exist_ok=True)
    for run in runs:
        for name, picture in pictures(run).items():
            (plots / name).write_text(picture)


if __name__ == "__main__":
    main()
