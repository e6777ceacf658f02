"""Redis and Valkey: what is theirs besides the contract. Real servers, also with Sentinels and as a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket

import pytest

from fastws._speedups import RespError
from fastws.backplane import session
from fastws.backplane.redis import Redis, engine, scout
from fastws.backplane.redis.slots import slot_of
from fastws.errors import ConfigurationError

from ..kit import certificates
from ..kit.client import turns, until, within
from ..kit.engines import Node, RedisServer, ValkeyServer
from ..kit.redis import MASTER, Cluster, ClusterServer, Sentinels, ask
from ..kit.resp import encode

pytestmark = pytest.mark.plain("an engine is spoken to, and no server of ours runs")

USER = ("--user", "someone", "on", ">s3cret", "resetchannels", "&room.*", "-@all", "+publish", "+subscribe")
CLOSED = ("--user", "default", "off")


@pytest.fixture
async def start(server_of, no_task_left):
    """Start a server: `server = await start("--requirepass", "s3cret")`."""

    async def start(*options: str, kind: type[RedisServer] = RedisServer, **more) -> RedisServer:
        server = server_of(kind, *options, **more)
        await server.start()
        return server

    return start


async def passes(listener: Node, speaker: Node, subject: bytes) -> None:
    """What one publishes comes to the other."""
    speaker.publish(subject, b"passes")
    await until(lambda: (subject, b"passes") in listener.messages)


# --- URLs


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://h/name?db=x", "db is a number"),
        ("redis+cluster://h/name", "of a database"),
        ("redis://h?password=x", "there is no parameter 'password'"),
        ("redis://h:x", "a port is a number"),
        ("rediss://h?ca=/nowhere.pem", "cannot be loaded"),
    ],
)
def test_what_is_wrong_with_a_url_is_told(url, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Redis(url)


@pytest.mark.parametrize(
    ("url", "port", "master"),
    [
        ("redis://h", 6379, None),
        ("redis://h/3", 6379, None),
        ("redis://h:1,i:2/3?db=4", 1, None),
        ("redis+sentinel://h/main", 26379, "main"),
        ("redis+sentinel://h/main/3", 26379, "main"),
        ("redis+sentinel://h?master=main", 26379, "main"),
        ("rediss+cluster://u:p@h", 6379, None),
    ],
)
def test_a_url_is_read(url, port, master):
    found = scout.Scout(url)
    assert (found.address.servers[0].port, found.master) == (port, master)
    assert (found.tls is not None) == url.startswith("rediss")


def test_sentinels_have_credentials_of_their_own():
    found = scout.Scout("redis+sentinel://u:p@h/main?sentinel_user=su&sentinel_password=sp")
    assert [(server.user, server.password) for server in found.sentinels] == [("su", "sp")]
    assert (found.address.servers[0].user, found.address.servers[0].password) == ("u", "p")


@pytest.mark.parametrize(
    ("channel", "slot"), [(b"foo", 12182), (b"{foo}bar", 12182), (b"a{foo}", 12182), (b"123456789", 12739)]
)
def test_a_channel_has_the_slot_that_the_specification_says(channel, slot):
    assert slot_of(channel) == slot


def test_braces_around_nothing_are_a_part_of_the_name():
    assert len({slot_of(channel) for channel in (b"{}foo", b"{}bar", b"foo", b"{foo")}) == 4


# --- One server


@pytest.mark.parametrize("kind", [RedisServer, ValkeyServer])
async def test_a_driver_hears_us_and_we_hear_it(start, kind):
    redis = pytest.importorskip("redis.asyncio")
    server = await start(kind=kind)
    payload = bytes(range(256))
    async with Node(server.url(), b"ours") as node, redis.Redis(port=server.port, protocol=3) as driver:
        pubsub = driver.pubsub()
        await pubsub.subscribe("theirs")
        assert (await within(pubsub.get_message(timeout=10)))["type"] == "subscribe"
        node.publish(b"theirs", payload)
        assert (await within(pubsub.get_message(timeout=10)))["data"] == payload
        assert await driver.publish("ours", payload) == 1
        assert await node.gets(1) == [payload]
        await pubsub.aclose()


async def test_a_user_may_publish_and_subscribe_and_nothing_else(start):
    server = await start(*CLOSED, *USER, credentials="someone:s3cret")
    async with Node(server.url(), b"room.a") as listener, Node(server.url(), number=2) as speaker:
        assert listener.events == speaker.events == ["up"]
        await passes(listener, speaker, b"room.a")


async def test_what_is_not_permitted_is_told_once_and_counted(start, failures):
    server = await start(*CLOSED, *USER, credentials="someone:s3cret")
    async with Node(server.url(), b"room.a") as listener, Node(server.url(), number=2) as speaker:
        speaker.publish(b"hall.a", b"1", b"2", b"3")
        await passes(listener, speaker, b"room.a")
        await until(lambda: speaker.engine.refusals == 3)
        assert listener.events == speaker.events == ["up"]
    assert [message for message in failures.messages() if "NOPERM" in message] == failures.messages()
    assert len(failures.messages()) == 1


async def test_a_password_may_stand_alone(start):
    server = await start("--requirepass", "s3c/ret", credentials=":s3c%2Fret")
    async with Node(server.url(), b"a") as node:
        await passes(node, node, b"a")


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        ("someone:wrong", "the server refuses the user or the password"),
        (":wrong", "the server refuses the user or the password"),
        ("", "the server wants a user or a password"),
    ],
)
async def test_a_wrong_password_is_told_and_not_shown(start, credentials, reason, caplog):
    server = await start(*CLOSED, *USER)
    async with Node(server.url(credentials=credentials)) as node:
        assert node.events == [f"down: {reason}"]
        assert not node.publish(b"a", b"1")
    assert ":wrong" not in caplog.text


async def test_a_server_that_knows_no_hello_is_spoken_to_in_resp2(start, hasty):
    server = await start("--rename-command", "HELLO", "", "--requirepass", "s3cret", credentials=":s3cret")
    async with Node(server.url(), b"a") as listener, Node(server.url(), number=2) as speaker:
        assert listener.events == speaker.events == ["up"]
        listener.subscribe(b"b")
        await listener.hears(speaker)
        await asyncio.sleep(0.8)  # four signs of life
        await passes(listener, speaker, b"b")
        assert listener.events == speaker.events == ["up"]
    async with Node(server.url(credentials=":wrong")) as node:
        assert node.events == ["down: the server refuses the user or the password"]


async def test_a_node_that_reads_too_slowly_is_cut_off_and_learns_it(start):
    server = await start("--client-output-buffer-limit", "pubsub 262144 0 0")
    async with Node(server.url(), b"a") as node:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            # The loop stands still meanwhile
            for _ in range(400):
                sock.sendall(b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$65536\r\n" + bytes(65536) + b"\r\n")
                assert sock.recv(1 << 16)
        await until(lambda: node.events[-2:] == ["down: the server closed the connection", "up"])
        await passes(node, node, b"a")


async def test_a_master_that_becomes_a_replica_is_none_any_more(start, hasty):
    servers = [await start() for _ in range(2)]
    places = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    async with Node(f"redis://{places}", b"a") as node:
        await passes(node, node, b"a")
        ask(servers[0], "REPLICAOF", "127.0.0.1", servers[1].port)
        await until(lambda: not node.is_up)
        await until(lambda: node.is_up)
        assert node.events[:2] == ["up", "down: the server is no master"]
        assert ask(servers[1], "PUBSUB", "CHANNELS") == [b"a"]
        node.messages.clear()
        await passes(node, node, b"a")


async def test_a_message_that_is_too_long_for_us_is_passed_over(start):
    server = await start()
    async with Node(server.url(), b"a") as node:
        ask(server, "PUBLISH", "a", b"x" * ((1 << 20) + 1))
        ask(server, "PUBLISH", "a", b"x" * (1 << 20))
        assert [len(payload) for payload in await node.gets(1)] == [1 << 20]
        assert node.events == ["up"]


@pytest.mark.parametrize("count", range(4))
async def test_it_is_closed_also_where_it_was_about_to_look_again(start, count):
    server = await start()
    async with Node(f"{server.url()},127.0.0.1:1") as node:
        await asyncio.sleep(session.JITTER * 1.5)  # by now it waits for news
        node.engine._news.set()
        await turns(count)
    assert node.events == ["up"]


HELLO = encode({b"mode": b"standalone", b"role": b"master"})
NODE = encode({b"mode": b"cluster", b"role": b"master"})
SENTINEL = encode({b"mode": b"sentinel"})
OK = encode(b"cluster_state:ok")


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "the server does not speak RESP: a line that is none of RESP"),
        ([b"+OK\r\n"], "127.0.0.1 is no master"),
        ([encode([b"mode", 1, 2, 3, b"role"])], "127.0.0.1 is no master"),
        ([b"-ERR no HELLO\r\n", b"*0\r\n"], "127.0.0.1 is no master"),
        ([b"-ERR no HELLO, with args beginning with 's3cret'\r\n", b"-ERR\r\n"], "the server refuses us: ERR"),
        ([SENTINEL, b"*0\r\n"], "the Sentinels watch several masters or none"),
        ([SENTINEL, encode([[b"ip", b"h", b"port", b"1"]])], "a Sentinel describes no master"),
        ([SENTINEL, encode([[b"ip", b"h", b"port", b"0", b"config-epoch", b"1"]])], "a server is said to be where"),
        ([NODE, b"_\r\n"], "the cluster is down"),
        ([NODE, OK, b"_\r\n"], "the cluster has 0 masters"),
        ([NODE, OK, encode([7])], "the cluster describes no slots"),
        ([NODE, OK, encode([[0, 1 << 14, [b"h", 1]]])], "the cluster describes no slots"),
        ([NODE, OK, encode([[0, 1, []]])], "the cluster describes no server"),
        ([NODE, OK, encode([[0, 1, [b"h\0", 1]]])], "a server is said to be where none can be"),
        ([NODE, OK, encode([[0, 1, [b"h", 1 << 16]]])], "a server is said to be where none can be"),
    ],
)
async def test_what_a_server_says_that_is_none_of_ours_is_told_and_raises_nothing(no_task_left, replies, reason):
    async with strange(replies) as port, Node(f"redis://127.0.0.1:{port}") as node:
        assert node.events[0].replace(f":{port}", "").startswith(f"down: {reason}")
        assert "s3cret" not in node.events[0]


async def test_what_a_server_says_besides_is_passed_over(no_task_left):
    odd = (
        encode((b"sunsubscribe",))
        + encode((b"sunsubscribe", 1, 2))
        + b">0\r\n"
        + encode((b"message", 1, 2))
        + b"+OK\r\n"
    )
    said = HELLO + odd + b"-MOVED\r\n-MOVED x y\r\n"
    async with strange([HELLO], said) as port, Node(f"redis://127.0.0.1:{port}", b"a") as node:
        assert node.events == ["up"]
        await until(lambda: node.engine.refusals >= 4)
        assert node.events == ["up"]


@contextlib.asynccontextmanager
async def strange(replies: list[bytes], after: bytes = b""):
    """Somebody who answers so, whatever is said, and all else in the same manner."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in [*replies, *itertools.repeat(after or replies[-1], 100)]:
            if not await reader.read(1 << 16):
                break
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


# --- TLS


@pytest.fixture
async def secured(start, tmp_path):
    """A server that speaks TLS only."""
    files = certificates.Files(tmp_path)
    server = await start()
    if isinstance(ask(server, "CONFIG", "SET", "tls-auth-clients", "no"), RespError):
        pytest.skip("this redis-server knows no TLS")
    server.kill()
    server.scheme = "rediss"
    server.options += ["--port", "0", "--tls-port", str(server.port), "--tls-auth-clients", "no"]
    server.options += ["--tls-cert-file", str(files.certfile), "--tls-key-file", str(files.keyfile)]
    await server.start()
    return server


async def test_tls_is_spoken_with_whom_we_trust(secured):
    query = f"?ca={certificates.authority_file()}"
    async with Node(secured.url(query=query), b"a") as node:
        assert node.events == ["up"]
        await passes(node, node, b"a")
    async with Node(secured.url()) as node:
        assert node.events[0].startswith("down: the server's certificate is refused: ")


async def test_a_url_that_says_tls_never_speaks_without(start, hasty):
    server = await start()
    async with Node(server.url().replace("redis:", "rediss:"), b"a") as node:
        assert not node.is_up
        assert node.events[0].startswith("down: ")
    assert b"cmdstat_hello" not in ask(server, "INFO", "commandstats")


# --- Sentinels


@pytest.fixture
async def sentinels(tmp_path, no_task_left):
    if RedisServer.missing():
        pytest.skip(str(RedisServer.missing()))
    async with Sentinels(tmp_path) as sentinels:
        yield sentinels


async def test_the_master_that_sentinels_name_is_used_also_where_the_url_says_nothing_of_them(sentinels):
    plain = sentinels.url.replace("+sentinel", "")
    for url in (sentinels.url, sentinels.url.removesuffix(MASTER), plain, plain.removesuffix(MASTER)):
        async with Node(url, b"a") as node:
            assert node.events == ["up"]
            await passes(node, node, b"a")
            assert b"a" in ask(sentinels.master, "PUBSUB", "CHANNELS")
    async with Node(sentinels.url + "x") as node:
        assert node.events[0].endswith("No such master with that name")


async def test_a_failover_is_followed(sentinels):
    async with Node(sentinels.url, b"a") as listener, Node(sentinels.url, number=2) as speaker:
        await passes(listener, speaker, b"a")
        sentinels.master.kill()
        await until(lambda: not listener.is_up and not speaker.is_up)
        assert not speaker.publish(b"a", b"lost")
        await until(lambda: listener.is_up and speaker.is_up)
        listener.messages.clear()
        await passes(listener, speaker, b"a")
        assert b"a" in ask(sentinels.replica, "PUBSUB", "CHANNELS")
        # It comes back, a master still for some seconds, and nobody goes there
        await sentinels.master.start()
        speaker.publish(b"a", b"after")
        await until(lambda: (b"a", b"after") in listener.messages)
        assert b"a" not in ask(sentinels.master, "PUBSUB", "CHANNELS")
        assert (listener.events[0], listener.events.count("up")) == ("up", 2)


async def test_a_failover_that_was_ordered_is_followed_at_once(sentinels):
    async with Node(sentinels.url, b"a") as listener, Node(sentinels.url, number=2) as speaker:
        await passes(listener, speaker, b"a")
        assert ask(sentinels.sentinels[0], "SENTINEL", "FAILOVER", MASTER) == b"OK"
        await until(lambda: all(node.is_up and node.events.count("up") > 1 for node in (listener, speaker)))
        assert b"a" in ask(sentinels.replica, "PUBSUB", "CHANNELS")
        listener.messages.clear()
        await passes(listener, speaker, b"a")


async def test_sentinels_that_are_gone_hinder_nobody_who_is_up(sentinels, monkeypatch):
    monkeypatch.setattr(engine, "LOOK_AGAIN", 0.1)
    async with Node(sentinels.url, b"a") as node:
        for sentinel in sentinels.sentinels:
            sentinel.kill()
        await asyncio.sleep(0.5)  # some looks that find nobody
        await passes(node, node, b"a")
        assert node.events == ["up"]


# --- A cluster


@pytest.fixture(scope="module")
def lasting_cluster(tmp_path_factory):
    """A cluster takes two seconds until it is one, so all tests have the same."""
    if RedisServer.missing():
        pytest.skip(str(RedisServer.missing()))
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    asyncio.run(cluster.__aenter__())
    yield cluster
    asyncio.run(cluster.__aexit__())


@pytest.fixture
async def cluster(lasting_cluster, no_task_left):
    yield lasting_cluster
    await until(lambda: all(map(lasting_cluster.knows_all, lasting_cluster.servers)))


SUBJECTS = [b"room.%d" % number for number in range(60)]


@pytest.mark.parametrize("scheme", ["redis+cluster", "redis"])
async def test_every_subject_of_a_cluster_comes_in_order(cluster, scheme):
    url = cluster.url.replace("redis+cluster", scheme)
    async with Node(url, *SUBJECTS) as listener, Node(url, number=2) as speaker:
        assert listener.events == speaker.events == ["up"]
        for number in range(5):
            for subject in SUBJECTS:
                assert speaker.publish(subject, b"%d" % number)
        await listener.gets(300)
        for subject in SUBJECTS:
            assert [payload for name, payload in listener.messages if name == subject] == [b"0", b"1", b"2", b"3", b"4"]
        assert all(ask(server, "PUBSUB", "SHARDCHANNELS") for server in cluster.servers)
        for subject in SUBJECTS[1:]:
            listener.unsubscribe(subject)
        await until(lambda: sum(len(ask(server, "PUBSUB", "SHARDCHANNELS")) for server in cluster.servers) == 1)


async def test_a_driver_hears_us_in_a_cluster_and_we_hear_it(cluster):
    redis = pytest.importorskip("redis.asyncio")
    port = cluster.servers[0].port
    async with Node(cluster.url, *SUBJECTS) as node, redis.RedisCluster(host="127.0.0.1", port=port) as driver:
        for subject in SUBJECTS:
            assert await driver.execute_command("SPUBLISH", subject, subject) == 1
        assert sorted(await node.gets(len(SUBJECTS))) == sorted(SUBJECTS)


async def test_a_slot_that_moves_takes_its_subjects_along_and_leaves_a_gap(cluster):
    subject = SUBJECTS[0]
    async with Node(cluster.url, *SUBJECTS) as listener, Node(cluster.url, number=2) as speaker:
        numbers = iter(range(1 << 20))
        for _ in range(2):
            cluster.move(slot_of(subject))
            gaps = listener.events.count("gap: slots have moved to another master")
            while listener.events.count("gap: slots have moved to another master") == gaps:
                speaker.publish(subject, b"%d" % next(numbers))
                await asyncio.sleep(0.001)
            before = len(listener.messages)
            while len(listener.messages) == before:
                speaker.publish(subject, b"%d" % next(numbers))
                await asyncio.sleep(0.001)
        last = b"%d" % next(numbers)
        assert speaker.publish(subject, last)
        await until(lambda: last in listener.payloads)
        received = [int(payload) for payload in listener.payloads]
        assert received == sorted(set(received))
        assert not [event for event in listener.events if event.startswith("down")]
        for other in SUBJECTS:
            await passes(listener, speaker, other)


async def test_a_master_that_dies_takes_the_cluster_down_until_it_is_back(cluster):
    async with Node(cluster.url, *SUBJECTS) as listener, Node(cluster.url, number=2) as speaker:
        server = cluster.owner(slot_of(SUBJECTS[0]))
        server.kill()
        await until(lambda: not listener.is_up and not speaker.is_up)
        assert not speaker.publish(SUBJECTS[0], b"lost")
        await server.start()
        await until(lambda: listener.is_up and speaker.is_up)
        for subject in SUBJECTS:
            await passes(listener, speaker, subject)


@pytest.mark.slow
async def test_a_replica_that_takes_over_a_master_is_found(tmp_path, start):
    async with Cluster(tmp_path) as cluster:
        await assert_takeover_is_followed(cluster, await start(kind=ClusterServer))


async def assert_takeover_is_followed(cluster: Cluster, replica: ClusterServer) -> None:
    master = cluster.owner(slot_of(SUBJECTS[0]))
    replica.meet(master)
    name = ask(master, "CLUSTER", "MYID")
    await until(lambda: ask(replica, "CLUSTER", "REPLICATE", name) == b"OK")
    await until(lambda: b"master_link_status:up" in ask(replica, "INFO", "replication"))
    await until(lambda: all(b"cluster_known_nodes:4" in ask(server, "CLUSTER", "INFO") for server in cluster.servers))
    async with Node(cluster.url, *SUBJECTS) as listener, Node(cluster.url, number=2) as speaker:
        await passes(listener, speaker, SUBJECTS[0])
        master.kill()
        await until(lambda: not listener.is_up and not speaker.is_up)
        await until(lambda: listener.is_up and speaker.is_up)
        listener.messages.clear()
        for subject in SUBJECTS:
            await passes(listener, speaker, subject)
        assert ask(replica, "PUBSUB", "SHARDCHANNELS")
