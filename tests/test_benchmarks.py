"""The benchmarks: every kind of load says something sane about fastws, and a report is made of what was recorded.

Nothing here judges a time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"

# The sources of the core hold what load.c and floor.c include; an installed fastws comes without them
SOURCES = ROOT / "fastws" / "core" / "wire" / "mask.h"
_is_possible = sys.platform.startswith("linux") and shutil.which("cc") and SOURCES.exists()
_why_not = "needs Linux, a C compiler and the sources of the core"


def needs_sources(test):
    """Mark a test that compiles programs and runs them."""
    return pytest.mark.slow(pytest.mark.skipif(not _is_possible, reason=_why_not)(test))


pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="comes without benchmarks")


@pytest.fixture(scope="module")
def benchmarks():
    """The modules of the benchmarks, as their programs import them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import contenders
        import harness
        import questions
        import report
        import run

        yield {module.__name__: module for module in (contenders, harness, questions, report, run)}


@pytest.fixture
def sample(benchmarks):
    """Measure a peer for a moment: `sample("fastws", "echo", connections=3, size=64)`."""

    def sample(peer: str, load: str, *, seconds: float = 0.05, **facts) -> dict:
        scenario = benchmarks["questions"].Scenario(load, **facts)
        harness = benchmarks["harness"]
        try:
            return harness.sample(benchmarks["contenders"].PEERS[peer], scenario, seconds, harness.Cores.here())
        except harness.NotMeasured as error:
            if "nothing came" not in str(error) or seconds > 10:
                raise
            return sample(peer, load, seconds=10 * seconds, **facts)  # the machine has much else to do

    return sample


def assert_worked(found: dict, what: str = "messages") -> None:
    assert found[f"{what}_per_second"] > 0
    assert found["cpu_us"] > 0
    assert found["cpu_share"] > 0
    assert found["load_share"] > 0


@needs_sources
@pytest.mark.parametrize("peer", ["floor", "fastws called", "fastws awaited", "picows", "websockets", "aiohttp"])
def test_every_client_measures_itself(benchmarks, peer):
    harness = benchmarks["harness"]
    client = benchmarks["contenders"].CLIENTS[peer]
    scenario = benchmarks["questions"].Scenario("client", 1, 64, 4)
    found = harness.sample(client, scenario, 0.2, harness.Cores.here())
    assert found["cpu_us"] > 0
    assert found["messages_per_second"] > 0
    idle = benchmarks["questions"].Scenario("client idle", 20)
    if peer != "floor":
        assert "bytes_per_connection" in harness.sample(client, idle, 0.2, harness.Cores.here())


@needs_sources
@pytest.mark.parametrize("peer", ["floor", "fastws"])
@pytest.mark.parametrize("load", ["echo", "broadcast", "chat"])
def test_every_exchange_counts_messages_and_times_them(sample, peer, load):
    found = sample(peer, load, connections=5, size=64, window=4)
    assert_worked(found)
    assert 0 < found["p50_ms"] <= found["p99_ms"]


@needs_sources
def test_large_messages_come_back_as_they_were_sent(sample):
    assert_worked(sample("fastws async", "echo", connections=2, size=1 << 20, window=2))


@needs_sources
@pytest.mark.parametrize("load", ["echo", "broadcast"])
def test_messages_are_exchanged_over_tls(sample, load):
    assert_worked(sample("fastws", load, connections=3, size=40_000, window=2, tls=True))


@needs_sources
@pytest.mark.parametrize("load", ["echo", "broadcast"])
def test_compressed_messages_are_accepted_where_compression_is_asked_for(sample, load):
    assert_worked(sample("fastws", load, connections=3, size=1024, deflate=True))


@needs_sources
def test_a_server_that_does_not_compress_is_not_measured_where_it_has_to(benchmarks, sample, monkeypatch):
    peer = benchmarks["contenders"].Peer("plain", "floor")
    monkeypatch.setitem(benchmarks["contenders"].PEERS, "plain", peer)
    with pytest.raises(benchmarks["harness"].NotMeasured, match="does not compress"):
        sample("plain", "echo", connections=1, size=1024, deflate=True)


@needs_sources
def test_stalled_clients_hold_back_nobody_and_cost_memory(sample):
    found = sample("fastws", "slow", seconds=0.3, connections=10, stalled=2, size=8192, rate=400)
    assert_worked(found)
    assert found["unfinished"] < 100  # of 144 that were due
    assert found["withheld"] == 0
    assert found["memory_growth"] >= 0


@needs_sources
def test_handshakes_are_counted(sample):
    assert_worked(sample("fastws", "handshake", connections=10), "handshakes")


@needs_sources
def test_idle_connections_are_weighed(sample):
    assert sample("fastws", "idle", connections=500)["bytes_per_connection"] > 300


@needs_sources
def test_a_server_that_cannot_start_is_not_measured_for_the_reason_that_it_gives(benchmarks):
    harness = benchmarks["harness"]
    command = [sys.executable, "-c", "import nothing_of_this_name"]
    with pytest.raises(harness.NotMeasured, match=r"did not start: .*nothing_of_this_name"):
        harness.server(command, harness.Cores.here().server).__enter__()


def test_what_a_peer_cannot_do_is_not_tried(benchmarks):
    harness = benchmarks["harness"]
    scenario = benchmarks["questions"].Scenario("echo", 1, size=64, deflate=True)
    with pytest.raises(harness.NotMeasured, match="picows has no compression"):
        harness.sample(benchmarks["contenders"].PEERS["picows"], scenario, 0.1, harness.Cores(0, 0))


def test_rounds_go_through_all_peers_each_from_another_one_on_and_forget_who_failed(benchmarks, monkeypatch):
    run = benchmarks["run"]
    asked = []

    def sample(peer, scenario, seconds, cores):
        asked.append(peer.name)
        if peer.name == "aiohttp":
            raise run.NotMeasured("it is Sunday")
        return {"cpu_us": 1.0}

    monkeypatch.setattr(run, "sample", sample)
    options = run.parse(["--peers", "fastws,aiohttp,picows", "--rounds", "3"])
    options.cores = None
    found = list(run.answer(benchmarks["questions"].Scenario("echo", 1, size=64), options))
    assert asked == ["fastws", "picows", "aiohttp", "picows", "fastws", "fastws", "picows"]
    assert [sample["not_measured"] for sample in found if "not_measured" in sample] == ["it is Sunday"]


def test_an_unknown_question_or_peer_is_refused(benchmarks, capsys):
    with pytest.raises(SystemExit):
        benchmarks["run"].parse(["--only", "echo,wisdom"])
    assert "wisdom: not one of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        benchmarks["run"].parse(["--peers", "nobody"])


@pytest.mark.parametrize(("arguments", "minutes"), [([], 35), (["--quick"], 6)])
def test_a_run_is_as_long_as_promised(benchmarks, arguments, minutes):
    run = benchmarks["run"]
    options = run.parse(arguments)
    assert sum(run.cost(question, options)[1] for question in options.questions) < 60 * minutes


@needs_sources
def test_a_run_says_what_it_will_do_and_keeps_every_sample(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--only", "handshake", "--peers", "floor,fastws"]
    command += ["--seconds", "0.05", "--rounds", "2", "--results", str(tmp_path)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "4 samples: about" in shown
    assert "4/4" in shown
    assert "## Opening handshakes" in shown
    (file,) = tmp_path.glob("*.json")
    kept = json.loads(file.read_text())
    assert [sample["peer"] for sample in kept["samples"]] == ["floor", "fastws", "fastws", "floor"]
    assert {"date", "commit", "machine", "versions", "seconds", "rounds"} <= set(kept)
    assert set(kept["machine"]) == {"cpu", "cores", "system"}
    assert str(ROOT) not in file.read_text()


def pytest_benchmarks(*arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", str(BENCHMARKS), "--benchmark-only", *QUICKLY, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


QUICKLY = ["--benchmark-max-time=0.001", "--benchmark-min-rounds=1", "--sizes=64", "-k", "test_mask"]


@needs_sources
def test_the_parts_can_be_compared_with_those_of_a_version_before(benchmarks, tmp_path):
    pytest.importorskip("pytest_benchmark")
    pytest.importorskip("wsproto")
    core = str(benchmarks["harness"].Cores.here().load)
    command = [sys.executable, str(BENCHMARKS / "parts.py"), "--core", core, "--results", str(tmp_path), *QUICKLY]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    kept = json.loads(Path(shown.splitlines()[-1]).read_text())
    assert {measured["extra_info"]["contender"] for measured in kept["benchmarks"]} >= {"fastws", "websockets"}
    assert kept["not_measured"] == []
    assert "node" not in kept["machine_info"]
    (file,) = tmp_path.glob("parts-*.json")
    file.write_text(json.dumps(kept | {"machine_info": {"cpu": "Z80"}}))
    assert "(NOW)" in pytest_benchmarks(f"--benchmark-compare={file}")


# --- The report

FACTS = {"commit": "0123456789ab", "machine": {"cpu": "Z80", "cores": 2, "system": "CP/M"}, "versions": {"fastws": "1"}}


def echo_sample(peer: str, number: int, cpu: float) -> dict:
    scenario = {"load": "echo", "connections": 100, "size": 64, "window": 32}
    figures = {"messages_per_second": 1e6 / cpu, "cpu_us": cpu, "cpu_share": 1.0, "p50_ms": 2 * cpu, "p99_ms": 3 * cpu}
    return {"peer": peer, "round": number} | scenario | figures


def results(folder: Path) -> None:
    """Two runs of one question, and one of the parts."""
    samples = [echo_sample("floor", 0, 0.5), echo_sample("fastws", 0, 1.0), echo_sample("fastws", 1, 1.2)]
    samples += [echo_sample("picows", 0, 5.0)]
    missing = {"peer": "aiohttp", "load": "echo", "connections": 100, "size": 64, "window": 32}
    samples.append(missing | {"not_measured": "did not start: it is Sunday"})
    peers = ["floor", "fastws", "picows", "aiohttp"]
    new = {"question": "echo", "date": "2026-02-02T00:00:00", "seconds": 1, "rounds": 2, "peers": peers}
    old = new | {"date": "2026-01-01T00:00:00", "samples": []}
    measured = {"question": "mask", "size": 1024, "contender": "fastws", "messages": 2}
    parts = {"question": "parts", "date": "2026-02-02T00:00:00"}
    parts["benchmarks"] = [{"extra_info": measured, "stats": {"median": 3e-6}}]
    parts["not_measured"] = ["test_frame.py: it is Monday"]
    for name, run in {"a": old, "b": new | {"samples": samples}, "c": parts}.items():
        (folder / f"{name}.json").write_text(json.dumps(FACTS | run))


@pytest.fixture
def page(benchmarks, tmp_path):
    """The folder of a page made of these results."""
    report = benchmarks["report"]
    results(tmp_path)
    (tmp_path / "README.md").write_text(f"# Prose\n\n{report.MARK}what was there before\n")
    report.main(["--results", str(tmp_path), "--readme", str(tmp_path / "README.md")])
    return tmp_path


def test_the_report_shows_medians_of_the_newest_run_behind_the_prose(page):
    text = (page / "README.md").read_text()
    assert text.startswith("# Prose\n")
    assert "what was there before" not in text
    assert "| fastws | **1.1 us** |" in text
    assert "| floor | 500 ns |" in text
    assert "2026-02-02" in text
    assert "2026-01-01" not in text
    assert "| 1 KiB | **1.5 us** |" in text


def test_the_report_names_who_is_not_measured_and_why_before_any_figure(page):
    text = (page / "README.md").read_text()
    assert "- **aiohttp**: did not start: it is Sunday" in text
    assert "- test_frame.py: it is Monday" in text
    assert text.index("it is Sunday") < text.index("500 ns")
    assert "| aiohttp | not measured |" in text


def test_the_pictures_of_the_report_are_svg_with_a_bar_for_each_who_was_measured(page):
    root = ET.parse(page / "plots" / "echo.svg").getroot()
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["floor", "own", "other"]
    assert float(bars[2].get("width")) > float(bars[1].get("width")) > float(bars[0].get("width"))


def test_the_same_results_give_the_same_page(benchmarks, page):
    def contents():
        return {path.name: path.read_bytes() for path in [page / "README.md", *(page / "plots").iterdir()]}

    before = contents()
    benchmarks["report"].main(["--results", str(page), "--readme", str(page / "README.md")])
    assert contents() == before


def test_the_committed_results_can_be_read(benchmarks):
    runs = benchmarks["report"].load((BENCHMARKS / "results").glob("*.json"))
    assert benchmarks["report"].text(runs)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_several_nodes_are_measured_and_reported(benchmarks, tmp_path):
    file = tmp_path / "nodes.json"
    command = [
        sys.executable,
        str(BENCHMARKS / "nodes.py"),
        "--engines",
        "workers",
        "--peers",
        "",
        "--messages",
        "50",
        "--rounds",
        "1",
    ]
    subprocess.run([*command, "--json", str(file)], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    run = json.loads(file.read_text())
    assert {sample["what"] for sample in run["samples"]} == {"group", "name", "far", "latency", "crowd"}
    text = benchmarks["report"].text([run])
    assert "## Several nodes" in text
    (picture,) = benchmarks["report"].pictures(run).values()
    assert ET.fromstring(picture).tag.endswith("svg")


@pytest.fixture
def capacity(benchmarks, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import capacity

    return capacity


@pytest.mark.parametrize("members", [1, 3, 40, 2000])
@pytest.mark.parametrize("nodes", [1, 2, 12])
def test_the_arithmetic_of_capacity_agrees_with_its_simulation(capacity, nodes, members):
    wanted = capacity.Deployment(connections=24_000, group=members, messages=2000 / members**0.5)
    seen = capacity.simulate(wanted, nodes, seconds=4000 / wanted.messages)
    assert seen.busy == pytest.approx(capacity.busy(wanted, nodes), rel=0.1)
    assert seen.copies == pytest.approx(capacity.copies(wanted, nodes), rel=0.05)
    assert seen.p50 >= 0.8 * capacity.burst(wanted, nodes)


def test_as_few_nodes_as_the_limits_allow_are_needed(capacity):
    ticker = capacity.Deployment(connections=1_000_000, group=1_000_000, messages=1, delay=0.1)
    needed = capacity.nodes_needed(ticker)
    assert capacity.burst(ticker, needed) <= 0.1 < capacity.burst(ticker, needed - 1)
    assert capacity.nodes_needed(capacity.Deployment(connections=250_000, group=2, messages=1)) == 3


def test_the_page_on_capacity_has_what_its_program_says(capacity):
    page = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    assert capacity.report(capacity.MILLION) in page
