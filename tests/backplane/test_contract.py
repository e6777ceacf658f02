"""What `backplane.base` promises, with real servers of every engine."""

from __future__ import annotations

import asyncio
import time

import pytest

from fastws.backplane import session

from ..kit.client import until
from ..kit.engines import EngineServer, Node
from ..kit.proxy import Proxy

pytestmark = pytest.mark.plain("an engine is spoken to, and no server of ours runs")

DOWN = 6  # seconds until what does not answer is found out


def nodes(engine: EngineServer, *subjects: bytes) -> tuple[Node, Node]:
    """One that listens, and one that speaks."""
    return Node(engine.url(), *subjects), Node(engine.url(), number=2)


# --- While nothing goes wrong


async def test_a_node_that_is_subscribed_gets_what_another_publishes(engine):
    listener, speaker = nodes(engine, b"room.a")
    async with listener, speaker:
        assert listener.events == speaker.events == ["up"]
        assert speaker.publish(b"room.a", b"hello")
        assert speaker.publish(b"room.b", b"nobody")
        assert speaker.publish(b"room.a", b"", b"bye")
        assert await listener.gets(3) == [b"hello", b"", b"bye"]
        assert {subject for subject, _ in listener.messages} == {b"room.a"}


async def test_any_bytes_come_as_they_are(engine):
    listener, speaker = nodes(engine, b"a")
    payloads = [bytes(range(256)), b"\r\n", b"PING\r\n", b"\r\nMSG a a 2\r\n", b"$-1\r\n", b"\0"]
    async with listener, speaker:
        speaker.publish(b"a", *payloads)
        assert await listener.gets(len(payloads)) == payloads


async def test_a_subject_may_have_what_the_relay_makes_of_names(engine):
    subject = b"fastws-1.g.Room_1=2E=00=FF-" + b"x" * 180
    listener, speaker = nodes(engine, subject)
    async with listener, speaker:
        speaker.publish(subject, b"1")
        await listener.gets(1)
        assert listener.messages == [(subject, b"1")]


async def test_messages_come_in_the_order_in_which_they_were_published(engine):
    listener, speaker = nodes(engine, b"a", b"b", b"c")
    async with listener, speaker:
        for number in range(3000):
            assert speaker.engine.publish(b"abc"[number % 3 : number % 3 + 1], b"%d" % number)
            if number % 7 == 0:
                speaker.engine.flush()
        speaker.engine.flush()
        assert await listener.gets(3000) == [b"%d" % number for number in range(3000)]


async def test_what_is_subscribed_later_comes_and_what_is_unsubscribed_does_not(engine):
    listener, speaker = nodes(engine, b"a")
    async with listener, speaker:
        listener.subscribe(b"b")
        await listener.hears(speaker)
        speaker.publish(b"b", b"1")
        await listener.gets(1)
        listener.unsubscribe(b"a")
        await listener.hears(speaker)
        speaker.publish(b"a", b"2")
        speaker.publish(b"b", b"3")
        assert await listener.gets(1) == [b"3"]


async def test_a_subject_of_which_a_node_thinks_better_is_subscribed_in_the_end(engine):
    listener, speaker = nodes(engine)
    async with listener, speaker:
        for _ in range(3):
            listener.subscribe(b"a")
            listener.unsubscribe(b"a")
        listener.subscribe(b"a")
        await listener.hears(speaker)
        speaker.publish(b"a", b"1")
        assert await listener.gets(1) == [b"1"]


async def test_a_message_may_have_max_payload_and_not_more(engine):
    listener, speaker = nodes(engine, b"a")
    async with listener, speaker:
        most = speaker.engine.max_payload
        assert speaker.publish(b"a", b"x" * most)
        assert not speaker.publish(b"a", b"y" * (most + 1))
        assert speaker.publish(b"a", b"z")
        assert list(map(len, await listener.gets(2))) == [most, 1]
        assert speaker.events == ["up"]


async def test_all_that_was_published_leaves_before_it_is_closed(engine):
    listener, speaker = nodes(engine, b"a")
    async with listener:
        async with speaker:
            for _ in range(64):
                assert speaker.engine.publish(b"a", b"x" * 65536)
        assert not speaker.publish(b"a", b"late")
        assert len(await listener.gets(64)) == 64


async def test_nothing_is_told_once_it_is_closed(engine):
    node, _ = nodes(engine)
    async with node:
        pass
    engine.kill()
    await asyncio.sleep(0.05)
    assert node.events == ["up"]


# --- Many subjects


MANY = 100_000
STALL = 0.25  # seconds: what nobody would call smooth, and a busy machine does not reach by itself


class Ticker:
    """Notes how long the loop let it wait at most."""

    async def __aenter__(self):
        self.longest = 0.0
        self._task = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()

    async def _tick(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - before - 0.001)


@pytest.mark.slow
async def test_a_hundred_thousand_subjects_are_subscribed_without_holding_up_the_loop(engine, record_property):
    subjects = [b"fastws.g.room%06d" % number for number in range(MANY)]
    listener, speaker = nodes(engine, *subjects)
    async with Ticker() as ticker, listener, speaker:
        for turn in range(2):
            speaker.publish(subjects[0], b"first")
            speaker.publish(subjects[-1], b"last")
            await listener.gets(2 + 2 * turn)
            if turn == 0:
                engine.kill()
                await until(lambda: not listener.is_up and not speaker.is_up)
                await engine.start()
                await until(lambda: listener.is_up and speaker.is_up)
        record_property("longest stall", ticker.longest)
        assert ticker.longest < STALL


async def test_subjects_that_change_while_they_are_subscribed_are_right_in_the_end(engine, monkeypatch):
    monkeypatch.setattr(session, "SLICE", 10)
    subjects = [b"s.%d" % number for number in range(1000)]
    listener, speaker = nodes(engine, *subjects)
    opening = asyncio.ensure_future(listener.engine.open(listener))
    await until(lambda: listener.asked)
    while not listener.is_up:
        number = len(listener.wanted)
        if subjects[number % 1000] in listener.wanted:
            listener.unsubscribe(subjects[number % 1000])
        listener.subscribe(b"new.%d" % number)
        await asyncio.sleep(0)
    await opening
    async with speaker:
        await listener.hears(speaker)
        all_of_them = {*subjects, *(subject for subject in listener.wanted if subject.startswith(b"new."))}
        for subject in all_of_them:
            speaker.publish(subject, subject)
        speaker.publish(b"probe", b"end")
        await until(lambda: (b"probe", b"end") in listener.messages)
        assert {subject for subject, _ in listener.messages} == set(listener.wanted)
    await listener.engine.close()


# --- When something does


async def test_it_opens_though_nobody_is_there_and_is_up_once_somebody_is(engine, caplog):
    engine.kill()
    node, speaker = nodes(engine, b"a")
    async with node, speaker:
        assert not node.publish(b"a", b"away")
        node.subscribe(b"b")
        await engine.start()
        await until(lambda: node.is_up and speaker.is_up)
        assert [event for event in node.events if event != "up"] == ["down: connection refused"]
        speaker.publish(b"b", b"1")
        assert await node.gets(1) == [b"1"]


async def test_a_server_that_restarts_is_down_and_up_and_has_all_subjects_again(engine):
    listener, speaker = nodes(engine, b"a", b"gone")
    async with listener, speaker:
        engine.kill()
        await until(lambda: not listener.is_up and not speaker.is_up)
        assert not speaker.publish(b"a", b"lost")
        listener.subscribe(b"b")
        listener.unsubscribe(b"gone")
        await engine.start()
        await until(lambda: listener.is_up and speaker.is_up)
        for subject in (b"gone", b"a", b"b"):
            assert speaker.publish(subject, subject)
        assert await listener.gets(2) == [b"a", b"b"]
        assert len(listener.messages) == 2


async def test_a_connection_that_is_cut_is_made_again_and_nothing_is_published_twice(engine):
    async with Proxy(engine.port) as proxy:
        listener, speaker = Node(engine.url(), b"a"), Node(engine.url(proxy.port), number=2)
        async with listener, speaker:
            taken = []
            for number in range(400):
                if speaker.publish(b"a", b"%d" % number):
                    taken.append(number)
                if number % 100 == 50:
                    proxy.cut()
                    await until(lambda: not speaker.is_up)
                    assert not speaker.publish(b"a", b"away")
                    await until(lambda: speaker.is_up)
                await asyncio.sleep(0)
            await listener.hears(speaker)
            received = listener.payloads
        assert speaker.events.count("up") == 5
        assert received == sorted(set(received), key=int)


async def test_a_slow_network_changes_neither_order_nor_number(engine):
    async with Proxy(engine.port) as proxy:
        proxy.delay = 0.05
        listener, speaker = Node(engine.url(proxy.port), b"a"), Node(engine.url(proxy.port), number=2)
        async with listener, speaker:
            for number in range(1000):
                speaker.publish(b"a", b"%d" % number)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            assert await listener.gets(1000) == [b"%d" % number for number in range(1000)]
            assert speaker.events == ["up"]


async def assert_found_out(node: Node, seconds: float, reason: str) -> None:
    """It is told in that time, with this reason, and nothing is taken then."""
    before = time.monotonic()
    await until(lambda: not node.is_up)
    assert time.monotonic() - before < seconds
    assert node.events[-1] == f"down: {reason}"
    assert not node.publish(b"a", b"away")


@pytest.mark.parametrize("manner", ["swallow", "stall"])
async def test_a_network_that_swallows_everything_is_found_out(engine, hasty, manner):
    async with Proxy(engine.port) as proxy:
        listener, speaker = Node(engine.url(), b"a"), Node(engine.url(proxy.port), number=2)
        async with listener, speaker:
            getattr(proxy, manner)()
            speaker.publish(b"a", b"lost")
            await assert_found_out(speaker, DOWN / 2, "the server does not answer")
            proxy.mend()
            await until(lambda: speaker.is_up)
            assert speaker.publish(b"a", b"found")
            await until(lambda: b"found" in listener.payloads)


async def test_a_server_that_hangs_is_found_out_and_used_again_when_it_goes_on(engine, hasty):
    listener, speaker = nodes(engine, b"a")
    async with listener, speaker:
        engine.freeze()
        await assert_found_out(speaker, DOWN / 2, "the server does not answer")
        engine.thaw()
        await until(lambda: listener.is_up and speaker.is_up)
        assert speaker.publish(b"a", b"1")
        await until(lambda: b"1" in listener.payloads)


@pytest.mark.slow
@pytest.mark.parametrize("manner", ["swallow", "freeze"])
async def test_what_does_not_answer_is_found_out_within_six_seconds(engine, manner):
    async with Proxy(engine.port) as proxy, Node(engine.url(proxy.port)) as node:
        await asyncio.sleep(1.9)  # a PING has just been answered or is about to be sent
        getattr(proxy if manner == "swallow" else engine, manner)()
        await assert_found_out(node, DOWN, "the server does not answer")
        if manner == "freeze":
            engine.thaw()


async def test_what_waits_for_a_server_that_reads_nothing_is_bounded(engine):
    async with Proxy(engine.port) as proxy, Node(engine.url(proxy.port)) as node:
        proxy.stall()
        payload = b"x" * 65536
        taken = 0
        while node.publish(b"a", payload) and taken < 1000:
            taken += 1
            await asyncio.sleep(0)
        most = session.MAX_UNSENT // len(payload)
        assert most - 1 <= taken < 2 * most  # besides what the kernel and the proxy have
        assert not node.publish(b"a", payload)
        assert node.is_up
        proxy.mend()
        await until(lambda: node.engine.publish(b"a", payload))  # without a flush, of which there is no need then


async def test_a_loop_that_is_held_up_does_not_blame_the_server(engine, hasty):
    async with Node(engine.url()) as node:
        for _ in range(2):
            await asyncio.sleep(session.PING_INTERVAL * 1.1)
            for turns in range(4):
                time.sleep(session.PING_INTERVAL)
                for _ in range(turns):
                    await asyncio.sleep(0)
        await asyncio.sleep(session.PING_INTERVAL * 2)
        assert node.events == ["up"]


async def test_open_returns_although_a_server_says_nothing(engine, hasty, monkeypatch):
    monkeypatch.setattr(session, "OPEN_TIMEOUT", 0.1)
    async with Proxy(engine.port) as proxy:
        proxy.swallow()
        async with Node(engine.url(proxy.port)) as node:
            assert not node.is_up
            proxy.mend()
            await until(lambda: node.is_up)
            assert node.events[0] == "down: no answer in time"


async def test_close_returns_although_a_server_hangs(engine, monkeypatch):
    monkeypatch.setattr(session, "CLOSE_TIMEOUT", 0.1)
    async with Node(engine.url()) as node:
        engine.freeze()
        node.publish(b"a", b"lost")
    engine.thaw()


async def test_an_address_that_is_nobody_s_is_told_without_the_password(engine, caplog):
    url = engine.url(1, credentials="someone:s3cret")
    async with Node(url) as node:
        assert node.events == ["down: connection refused"]
    assert "s3cret" not in caplog.text
    assert "someone" not in caplog.text


async def test_what_had_not_left_when_it_went_down_does_not_come_later(engine):
    async with Proxy(engine.port) as proxy:
        listener, speaker = Node(engine.url(), b"a"), Node(engine.url(proxy.port), number=2)
        async with listener, speaker:
            assert speaker.engine.publish(b"a", b"stale")
            proxy.cut()
            await until(lambda: not speaker.is_up)
            await until(lambda: speaker.is_up)
            speaker.publish(b"a", b"fresh")
            assert await listener.gets(1) == [b"fresh"]
