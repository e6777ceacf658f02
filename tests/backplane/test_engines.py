"""From a URL to its engine, also one of another package."""

from __future__ import annotations

import pytest

import fastws
from fastws.backplane.engines import engine_of
from fastws.backplane.nats import Nats
from fastws.backplane.redis import Redis
from fastws.errors import ConfigurationError

from ..kit.cluster import Chat

PACKAGE = """
from fastws.backplane.base import Backplane

class Pigeons(Backplane):
    def __init__(self, url):
        self.url = url

    async def open(self, receiver):
        self.receiver = receiver
        receiver.up()

    async def close(self):
        pass

    def subscribe(self, subject):
        pass

    unsubscribe = subscribe

    def publish(self, subject, payload):
        return True

    def flush(self):
        pass

class Broken:
    def __init__(self, url):
        raise RuntimeError("broken")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that registers a scheme, as pip would install it."""
    (tmp_path / "pigeons.py").write_text(PACKAGE)
    facts = tmp_path / "pigeons-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeons\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[fastws.backplanes]\npigeon = pigeons:Pigeons\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("nats://localhost", Nats),
        ("tls://localhost", Nats),
        ("redis://localhost", Redis),
        ("REDISS://localhost", Redis),
        ("redis+sentinel://localhost/main", Redis),
        ("rediss+cluster://localhost", Redis),
    ],
)
def test_a_scheme_is_an_engine(url, kind):
    assert type(engine_of(url)) is kind


async def test_another_package_brings_an_engine_of_its_own(package, serve):
    chat = Chat()
    server = await serve(chat, backplane="pigeon://roof")
    assert server._relay.engine.url == "pigeon://roof"
    assert [state for state, *_ in chat.states] == ["up"]


def test_a_scheme_that_nobody_has_is_told_with_those_that_there_are(package):
    with pytest.raises(ConfigurationError, match="no engine for smoke://; there are nats, pigeon, redis"):
        engine_of("smoke://hill")


async def test_an_engine_that_is_away_when_a_server_begins_does_not_stop_it(serve, failures):
    chat = Chat()
    server = await serve(chat, backplane="nats://127.0.0.1:1")
    assert [state for state, *_ in chat.states] == ["down"]
    assert chat.alone == 0  # others may do it, for all that it knows
    assert server.addresses
    assert server.call_from_thread(fastws.ws.push_text_to_group, "g", "x").published is False
