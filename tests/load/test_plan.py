"""Arguments, and what is said of those that cannot be."""

from __future__ import annotations

import sys

import pytest

from fastws.errors import ConfigurationError
from fastws.load import addresses
from fastws.load.addresses import local_addresses, raise_file_limit
from fastws.load.plan import Plan
from fastws.load.plot import require_plots
from fastws.load.recording import require_histograms
from fastws.process.command_line import parse


def plan(*arguments: str, url: str = "ws://localhost/") -> Plan:
    return Plan.of(parse(["bench", url, *arguments]))


def refusal(*arguments: str, url: str = "ws://localhost/") -> str:
    with pytest.raises(ConfigurationError) as refused:
        plan(*arguments, url=url)
    return str(refused.value)


def test_each_question_has_defaults_of_its_own():
    assert (plan("fanout").connections, plan("fanout").rate) == (1000, 10.0)
    assert (plan("echo").connections, plan("echo").rate) == (100, 1000.0)
    assert (plan("slow").stalled, plan("slow").stalled_count) == (0.1, 100)
    assert (plan("storm").connections, plan("storm").rate) == (100, 100.0)


def test_the_arguments_are_taken_as_they_are_given():
    given = plan(
        *("fanout", "--connections", "5", "--rate", "2.5", "--header", "Cookie: id=7", "--header", "X: y:z"),
        *("--subscribe", "join {n}", "--payload", "say {seq}", "--rooms", "2", "--local-address", "127.0.0.2"),
    )
    assert (given.connections, given.rate, given.rooms) == (5, 2.5, 2)
    assert given.headers == [("Cookie", "id=7"), ("X", "y:z")]
    assert [each.render(n=3, room=1) for each in given.subscriptions] == ["join 3"]
    assert given.local_address == ("127.0.0.2",)
    assert given.ramp_seconds == 0.005


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["fanout", "--rate", "nan"], "--rate nan: give a number above 0"),
        (["fanout", "--duration", "-1"], "--duration -1.0: give a number above 0"),
        (["fanout", "--connections", "0"], "--connections 0: give a number above 0"),
        (["fanout", "--ramp", "-1"], "--ramp -1.0: give 0 or more"),
        (["fanout", "--max-lost", "-1"], "--max-lost -1: give 0 or more"),
        (["echo", "--under-way", "0"], "--under-way 0: give a number above 0"),
        (
            ["fanout", "--connections", "2", "--processes", "3"],
            "--processes 3: there are only 2 --connections for them",
        ),
        (["fanout", "--rate", "0.1", "--duration", "5"], "--duration 5: at --rate 0.1 nothing is due in this time"),
        (
            ["slow", "--connections", "3"],
            "--stalled 0.1: give the share of the 3 connections that do not read, one of them",
        ),
        (["slow", "--stalled", "1"], "--stalled 1: give the share of the 1000 connections"),
        (["fanout", "--local-address", "here"], "--local-address here: give an IP address of this machine"),
        (["fanout", "--header", "nothing"], "--header 'nothing': give a name and a value, as in 'Cookie: id=7'"),
        (["fanout", "--plot", "a.gif"], "--plot a.gif: give a file whose name ends with .svg or .png"),
        (["fanout", "--subscribe", "{seq}"], "--subscribe '{seq}': {seq} means nothing here; there are {n}, {room}"),
        (["fanout", "--expect", "{due}"], "--expect '{due}': there has to be {seq} in it"),
        (["fanout", "--passive"], "--passive: say with --expect what the server sends"),
        (["fanout", "--passive", "--expect", "{seq}", "--max-p99", "1"], "give --expect with {due}"),
        (["fanout", "--passive", "--expect", "{seq}", "--publisher", "ws://x/"], "two who publish"),
        (
            ["fanout", "--publisher", "http://x/"],
            "--publisher 'http://x/': give a URL such as ws://localhost:9090/chat",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(arguments, why):
    assert why in refusal(*arguments)


def test_a_url_of_something_else_is_refused():
    assert refusal("storm", url="localhost:9090") == "URL 'localhost:9090': give a URL such as ws://localhost:9090/chat"


@pytest.mark.parametrize(
    ("module", "require", "complaint"),
    [
        ("hdrh.histogram", require_histograms, "--json needs hdrhistogram"),
        ("matplotlib.figure", require_plots, "--plot needs matplotlib"),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch, module, require, complaint):
    require()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        require()
    assert str(refused.value).endswith("pip install 'fastws[load]'")


# --- What the system gives.


@pytest.fixture
def ports(monkeypatch):
    monkeypatch.setattr(addresses, "port_count", lambda: 1000)


def test_one_address_is_left_to_the_system(ports):
    assert local_addresses(plan("storm"), 900) == []


def test_further_addresses_of_loopback_are_taken_by_themselves(ports):
    assert local_addresses(plan("storm", url="ws://127.0.0.1:1/"), 901) == ["127.0.0.1", "127.0.0.2"]


def test_elsewhere_the_user_has_to_name_them(ports):
    with pytest.raises(ConfigurationError) as refused:
        local_addresses(plan("storm", url="ws://192.0.2.1/"), 2000)
    assert str(refused.value) == (
        "2000 connections to one server need 3 addresses to dial from, with about 900 ports each; give --local-address "
        "3 times, with addresses of this machine"
    )


def test_addresses_that_the_user_names_are_used(ports):
    given = plan("storm", "--local-address", "192.0.2.7", "--local-address", "192.0.2.8", url="ws://192.0.2.1/")
    assert local_addresses(given, 1800) == ["192.0.2.7", "192.0.2.8"]
    assert local_addresses(given, 1) == ["192.0.2.7", "192.0.2.8"]
    with pytest.raises(ConfigurationError, match="need 3 addresses"):
        local_addresses(given, 1801)


def test_the_limit_of_open_files_is_raised_or_refused():
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[1]), limits[1]))
        raise_file_limit(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limits[1]
        with pytest.raises(
            ConfigurationError, match=r"1000000000 connections need 1000000064 open files, and the system"
        ):
            raise_file_limit(10**9)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
