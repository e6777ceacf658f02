"""What groups, names and services mean on several nodes: what they mean on one."""

from __future__ import annotations

import asyncio
import time

import pytest

import fastws
from fastws.backplane import members, relay
from fastws.backplane.workers import Mesh
from fastws.errors import ConfigurationError

from ..kit.client import until
from ..kit.cluster import Node, Talker, link
from ..kit.services import Echo

# --- Who gets what.


async def test_a_push_to_a_group_reaches_its_members_on_all_nodes_once(cluster):
    _, (one, two, three) = await cluster.serve(3)
    await one.ask("join g")
    await two.ask("join g")
    assert await one.ask("group g hello") == "True"
    assert await three.ask("group g again") == "True"
    assert {await two.hears(), await two.hears()} == {"hello", "again"}
    assert await one.hears() == "again"  # it was excluded from its own


@pytest.mark.parametrize("empty_cluster", ["mesh", "exchange"], indirect=True)  # others take a moment
async def test_a_member_hears_what_is_said_after_it_was_told_that_it_is_in(cluster):
    _, (one, two) = await cluster.serve(2)
    for number in range(50):
        await one.ask(f"join g{number}")
        await two.ask(f"group g{number} {number}")
        assert await one.hears() == str(number)


async def test_who_left_a_group_hears_nothing(cluster):
    _, (one, two) = await cluster.serve(2)
    await one.ask("join g")
    await one.ask("leave g")
    await two.ask("group g unheard")
    await two.ask("all heard")
    assert await one.hears() == "heard"


async def test_a_broadcast_reaches_the_clients_of_the_service_on_all_nodes(cluster):
    nodes = await cluster.begin(2)
    one, other, two = await cluster.clients_of(nodes[0], nodes[0], nodes[1])
    assert await one.ask("all hello") == "True"
    assert await other.hears() == await two.hears() == "hello"
    await two.ask("all back")
    assert await one.hears() == await other.hears() == "back"


async def test_texts_and_bytes_arrive_as_they_were(cluster):
    _, (one, two) = await cluster.serve(2)
    await one.ask("join g")
    for text in ("", "äöü €", "𝄞" * 100, "x" * 70_000, "ü" * 300_000):
        await two.ask(f"group g {text}")
        assert await one.hears() == text
        await two.ask(f"binary g {text}")
        assert await one.receive() == (2, text.encode())


async def test_any_name_may_be_that_of_a_group(cluster):
    _, (one, two) = await cluster.serve(2)
    for name in ("a.b", "*", ">", "=41", "A", "\x00", "ä", "\r\n", "=", "x" * 5000, "y" * 200 + "."):
        await one.ask(f"join {name}")
        heard = asyncio.ensure_future(hears_at_last(one, f"to-{name}"))
        while not heard.done():
            await two.ask(f"group {name} to-{name}")
            await asyncio.sleep(0.001)
        await heard
        await one.ask(f"leave {name}")


async def hears_at_last(client: Talker, text: str) -> None:
    while await client.hears() != text:
        pass


async def test_what_one_node_says_to_a_target_comes_in_order(cluster):
    nodes, (one, two) = await cluster.serve(2)
    await one.ask("join g")
    await one.ask("store me")

    def push() -> None:
        for number in range(500):
            fastws.ws.push_text_to_group("g", f"g{number}")
            fastws.ws.push_text_to_connection("me", f"n{number}")

    nodes[1].call(push)
    heard = [await one.hears() for _ in range(1000)]
    assert [text for text in heard if text[0] == "g"] == [f"g{number}" for number in range(500)]
    assert [text for text in heard if text[0] == "n"] == [f"n{number}" for number in range(500)]
    await two.ask("leave g")


# --- Names.


async def test_a_push_to_a_name_finds_it_on_any_node(cluster):
    _, (one, two, three) = await cluster.serve(3)
    await two.ask("store bob")
    await one.ask("name bob from-one")
    await three.ask("name bob from-three")
    assert {await two.hears(), await two.hears()} == {"from-one", "from-three"}


async def test_a_later_holder_of_a_name_on_another_node_replaces_the_earlier(cluster):
    nodes, (one, two) = await cluster.serve(2)
    await one.ask("store bob")
    await two.ask("store bob")
    await until(lambda: not nodes[0].call(lambda: "bob" in nodes[0].server.stored))
    await one.ask("name bob for-two")
    assert await two.hears() == "for-two"
    await one.ask("store bob")
    await until(lambda: not nodes[1].call(lambda: "bob" in nodes[1].server.stored))
    await two.ask("name bob for-one")
    assert await one.hears() == "for-one"


async def test_nodes_that_take_a_name_at_once_agree_on_one(cluster):
    nodes, (clients) = await cluster.serve(3)
    names = [f"name-{number}" for number in range(30)]
    for name in names:
        for client in clients:
            client.send(f"store {name}")
    for client in clients:
        for _ in names:
            assert await client.text() == "> None"

    def holders(name: str) -> int:
        return sum(node.call(lambda node=node: name in node.server.stored) for node in nodes)

    for name in names:
        await until(lambda name=name: holders(name) == 1)


async def test_a_name_is_forgotten_wherever_it_is(cluster):
    nodes, (one, two) = await cluster.serve(2)
    await two.ask("store bob")
    await one.ask("forget bob")
    await until(lambda: not nodes[1].call(lambda: "bob" in nodes[1].server.stored))
    await two.ask("store bob")
    assert nodes[1].call(lambda: "bob" in nodes[1].server.stored)


async def test_a_name_goes_with_its_connection(cluster):
    nodes, (one, two) = await cluster.serve(2)
    await two.ask("store bob")
    await two.close()
    await until(lambda: not nodes[1].server.loop.is_closed() and not nodes[1].call(lambda: nodes[1].server.stored))
    assert await one.ask("locate bob") == "Location(node=None, complete=True, here=False)"


# --- Removal and closing.


async def test_a_group_is_removed_on_all_nodes_and_those_that_begin_later(cluster):
    nodes, (one, two) = await cluster.serve(2)
    await one.ask("join g")
    await two.ask("join g")
    assert await two.ask("remove g") == "True"
    await until(lambda: nodes[0].call(lambda: "g" not in nodes[0].server.groups))
    with pytest.raises(fastws.GroupRemovedError):
        nodes[0].call(fastws.ws.push_text_to_group, "g", "nobody")
    late = await begin_one_more(cluster)
    with pytest.raises(fastws.GroupRemovedError):
        late.call(fastws.ws.push_text_to_group, "g", "nobody")


async def test_a_group_that_is_created_anew_is_so_on_all_nodes(cluster):
    nodes, (one, two) = await cluster.serve(2)
    await one.ask("join g")
    await two.ask("remove g")
    await until(lambda: nodes[0].call(lambda: "g" in nodes[0].server._hub.retired))
    await one.ask("create g")
    await until(lambda: not nodes[1].call(lambda: "g" in nodes[1].server._hub.retired))
    late = await begin_one_more(cluster)
    (three,) = await cluster.clients_of(late)
    await three.ask("join g")
    await two.ask("group g back")
    assert await three.hears() == "back"


async def begin_one_more(cluster) -> Node:
    if cluster.kind != "mesh":
        engine = cluster.part()
    else:
        engine = Mesh()
        for node in cluster.nodes:
            node.call(link, node.engine, engine)
    node = Node(engine, cluster=cluster.name)
    cluster.nodes.append(node)
    await node.begun()
    return node


async def test_connections_are_closed_wherever_they_are(cluster):
    _, (one, two, three) = await cluster.serve(3)
    await two.ask("store bob")
    await three.ask("join g")
    await one.ask("close_name bob")
    assert await two.close_frame() == (4001, "by name")
    await one.ask("close_group g")
    assert await three.close_frame() == (4002, "by group")


# --- Questions.


async def test_all_nodes_are_counted(cluster):
    nodes, (one, two, _) = await cluster.serve(3)
    await one.ask("join g")
    await two.ask("join g")
    await two.ask("store bob")
    assert await one.ask("count g") == "Count(2, complete=True)"
    assert await one.ask("count") == "Count(3, complete=True)"
    assert await one.ask("count nobody") == "Count(0, complete=True)"
    assert await one.ask("locate bob") == f"Location(node={nodes[1].id!r}, complete=True, here=False)"
    assert await two.ask("locate bob") == f"Location(node={nodes[1].id!r}, complete=True, here=True)"


async def test_an_answer_says_when_a_node_gave_none(cluster):
    nodes, (one, two) = await cluster.serve(2)
    await one.ask("join g")
    nodes[1].server.loop.call_soon_threadsafe(time.sleep, 1.5)
    assert await one.ask("count g") == "Count(1, complete=False)"
    await two.ask("all awake")


async def test_a_service_counts_without_other_nodes_too(serve, connect):
    server = await serve(Echo)
    await connect(server)
    await connect(server)
    await until(lambda: len(server.connections(Echo)) == 2)
    assert await fastws.ws.count(to=Echo) == 2
    assert (await fastws.ws.count(to=Echo)).complete
    assert await fastws.ws.count("nobody") == 0
    assert not await fastws.ws.locate("nobody")


# --- What one node alone does.


async def test_one_node_alone_does_what_is_done_once_and_another_when_it_ends(cluster):
    nodes = await cluster.begin(3)
    await until(lambda: sum(node.service.alone for node in nodes) == 1)
    first = next(node for node in nodes if node.service.alone)
    await first.end()
    rest = [node for node in nodes if node is not first]
    await until(lambda: sum(node.service.alone for node in rest) == 1)
    assert first.service.alone == 0


async def test_what_is_done_once_waits_until_the_engine_is_there(exchanging):
    part = exchanging.exchange.part()
    part.is_cut = True
    node = Node(part)
    exchanging.nodes.append(node)
    await node.begun()
    assert [state for state, *_ in node.service.states] == ["down"]
    assert node.service.alone == 0
    node.call(part.heal)
    await until(lambda: node.service.alone == 1)


async def test_what_is_done_once_is_done_where_there_is_one_node(serve):
    from ..kit.cluster import Chat

    chat = Chat()
    await serve(chat)
    await until(lambda: chat.alone == 1)


# --- The engine fails.


async def test_while_the_engine_is_away_local_work_goes_on_and_pushes_say_so(exchanging):
    nodes = await exchanging.begin(2)
    one, local, two = await exchanging.clients_of(nodes[0], nodes[0], nodes[1])
    await local.ask("join g")
    await two.ask("join g")
    nodes[0].call(nodes[0].engine.cut)
    assert await one.ask("group g here") == "False"
    assert await local.hears() == "here"
    nodes[0].call(nodes[0].engine.heal)
    assert await one.ask("group g everywhere") == "True"
    assert await two.hears() == "everywhere"
    states = [state for state, *_ in nodes[0].service.states]
    assert states == ["up", "down", "up"]
    # The other learns whose messages may be missing
    await until(lambda: ("gap", nodes[0].id, None, 0) in nodes[1].service.states)


async def test_names_are_claimed_again_after_the_engine_was_away(exchanging):
    nodes, (one, two) = await exchanging.serve(2)
    await one.ask("store bob")
    nodes[0].call(nodes[0].engine.cut)
    await two.ask("store bob")
    assert nodes[0].call(lambda: "bob" in nodes[0].server.stored)
    nodes[0].call(nodes[0].engine.heal)
    await until(lambda: not nodes[0].call(lambda: "bob" in nodes[0].server.stored))
    assert nodes[1].call(lambda: "bob" in nodes[1].server.stored)


async def test_removals_are_told_after_the_engine_was_away(exchanging):
    nodes, (one, _) = await exchanging.serve(2)
    nodes[1].call(nodes[1].engine.cut)
    await one.ask("join g")
    await one.ask("remove g")
    nodes[1].call(nodes[1].engine.heal)
    await until(lambda: nodes[1].call(lambda: "g" in nodes[1].server._hub.retired))


async def test_what_is_missing_is_told_with_its_target_and_number(exchanging):
    nodes, (one, two) = await exchanging.serve(2)
    await two.ask("join g")
    await one.ask("group g first")
    assert await two.hears() == "first"
    exchanging.exchange.drops = lambda subject: b".g." in subject
    await one.ask("group g lost")
    await one.ask("group g lost")
    nodes[0].call(nodes[0].relay.flush)
    exchanging.exchange.drops = lambda _: False
    await one.ask("group g last")
    assert await two.hears() == "last"
    await until(lambda: ("gap", nodes[0].id, ("group", "g"), 2) in nodes[1].service.states)


async def test_what_comes_twice_is_pushed_once(exchanging):
    exchanging.exchange.copies = 2
    nodes, (one, two) = await exchanging.serve(2)
    await two.ask("join g")
    for number in range(10):
        await one.ask(f"group g {number}")
    assert [await two.hears() for _ in range(10)] == [str(number) for number in range(10)]
    await one.ask("all end")
    assert await two.hears() == "end"
    assert nodes[1].relay.late > 0
    assert [state for state, *_ in nodes[1].service.states] == ["up"]


async def test_what_there_was_no_room_for_is_told(exchanging):
    nodes, (one, two) = await exchanging.serve(2)
    await two.ask("join g")
    await one.ask("group g first")
    assert await two.hears() == "first"
    nodes[0].engine.full = True
    assert await one.ask("group g lost") == "False"
    nodes[0].engine.full = False
    assert await one.ask("group g last") == "True"
    assert await two.hears() == "last"
    await until(lambda: any(state == "gap" and node == nodes[0].id for state, node, *_ in nodes[1].service.states))


async def test_a_node_that_stood_still_learns_that_it_is_late(exchanging, monkeypatch):
    monkeypatch.setattr(relay, "SILENCE", 1.5)
    monkeypatch.setattr(members, "SILENCE", 2.5)
    nodes = await exchanging.begin(2)
    await until(lambda: any(node.service.alone for node in nodes))
    first = next(node for node in nodes if node.service.alone)
    second = next(node for node in nodes if node is not first)
    await exchanging.clients_of(*nodes)
    first.server.loop.call_soon_threadsafe(time.sleep, 4)
    await until(lambda: second.service.alone == 1)
    await until(lambda: ("gap", None, None, 0) in first.service.states)
    await until(lambda: first.service.alone == 0)
    assert ("gap", first.id, None, 0) in second.service.states


async def test_a_message_larger_than_the_engine_takes_comes_in_parts(exchanging):
    nodes, (one, two) = await exchanging.serve(2)
    await two.ask("join g")
    nodes[0].call(lambda: setattr(nodes[0].engine, "max_payload", 1000))
    nodes[0].call(nodes[0].engine.cut)
    nodes[0].call(nodes[0].engine.heal)
    text = "x" * 960 + "ü" * 5000 + "y"
    assert await one.ask(f"group g {text}") == "True"
    assert await one.ask("group g short") == "True"
    assert [await two.hears(), await two.hears()] == [text, "short"]
    assert max(len(payload) for _, payload in nodes[0].engine.published[-20:]) == 1000


async def test_a_message_of_which_a_part_is_missing_is_not_pushed(exchanging):
    nodes, (one, two) = await exchanging.serve(2)
    await two.ask("join g")
    nodes[0].call(lambda: setattr(nodes[0].engine, "max_payload", 1000))
    nodes[0].call(nodes[0].engine.cut)
    nodes[0].call(nodes[0].engine.heal)
    for missing in range(4):
        parts = iter(range(10))
        exchanging.exchange.drops = lambda subject, parts=parts, n=missing: b".g." in subject and next(parts) == n
        await one.ask(f"group g {'x' * 3500}")
        nodes[0].call(nodes[0].relay.flush)
        exchanging.exchange.drops = lambda _: False
        await one.ask(f"group g whole-{missing}")
        assert await two.hears() == f"whole-{missing}"


async def test_a_message_larger_than_any_number_of_parts_may_be_is_not_published(exchanging):
    nodes, (one, two) = await exchanging.serve(2)
    await two.ask("join g")
    nodes[0].call(lambda: setattr(nodes[0].engine, "max_payload", 1000))
    nodes[0].call(nodes[0].engine.cut)
    nodes[0].call(nodes[0].engine.heal)
    assert nodes[0].call(fastws.ws.push_text_to_group, "g", "x" * (1 << 26)).published is False
    assert await one.ask("group g short") == "True"
    assert await two.hears() == "short"


# --- Only what is needed travels.


async def test_nothing_is_published_for_a_group_that_is_nowhere_else(cluster):
    nodes = await cluster.begin(2)
    (one,) = await cluster.clients_of(nodes[0])
    before = nodes[0].relay.published
    assert await one.ask("group nobody hello") == "True"
    if nodes[0].engine.sees_nodes:
        nodes[0].call(nodes[0].relay.flush)
        assert nodes[0].relay.published == before
    else:
        await until(lambda: nodes[0].relay.published > before)


async def test_a_subject_is_wanted_while_anybody_is_in_and_a_little_longer(exchanging):
    nodes = await exchanging.begin(1)
    one, two = await exchanging.clients_of(nodes[0], nodes[0])
    part = nodes[0].engine
    subject = f"fastws.{exchanging.name}.g.g".encode()
    await one.ask("join g")
    await two.ask("join g")
    assert subject in part.subjects
    await one.ask("leave g")
    nodes[0].call(lambda: nodes[0].relay.linger(over=True))
    assert subject in part.subjects
    await two.ask("leave g")
    assert subject in part.subjects
    nodes[0].call(lambda: nodes[0].relay.linger(over=True))
    assert subject not in part.subjects


async def test_several_pushes_to_one_target_in_a_turn_are_one_message(exchanging):
    nodes, (one, two) = await exchanging.serve(2)
    await two.ask("join g")
    before = len(nodes[0].engine.published)
    nodes[0].call(lambda: [fastws.ws.push_text_to_group("g", str(number)) for number in range(100)])
    assert [await two.hears() for _ in range(100)] == [str(number) for number in range(100)]
    assert len([subject for subject, _ in nodes[0].engine.published[before:] if b".g." in subject]) == 1
    await one.ask("all end")


async def test_deployments_do_not_hear_each_other(exchanging):
    (one_node,) = await exchanging.begin(1)
    other = Node(exchanging.part(), cluster="other")
    exchanging.nodes.append(other)
    await other.begun()
    one, two = await exchanging.clients_of(one_node, other)
    await two.ask("join g")
    await one.ask("group g unheard")
    await one.ask("all unheard")
    assert await one.ask("count") == "Count(1, complete=True)"
    await two.ask("count")
    assert not two.kept


# --- Life.


async def test_servers_on_one_loop_share_a_backplane(exchanging, serve, connect):
    part = exchanging.exchange.part()
    await serve(Echo, backplane=part)
    first = await serve(Echo, backplane=part)
    assert first._hub.node.users == 2
    with pytest.raises(ConfigurationError, match="another server on this event loop"):
        await serve(Echo, backplane=exchanging.exchange.part())
    await first.close()
    assert part.loop is not None


async def test_a_cluster_has_a_name_that_engines_take(serve):
    for name in ("", "a.b", "x" * 65, 7):
        with pytest.raises(ConfigurationError, match="cluster"):
            fastws.serve(Echo, cluster=name)


async def test_a_backplane_is_a_url_or_an_engine():
    with pytest.raises(ConfigurationError, match="no engine for ftp"):
        await asyncio.wait_for(fastws.serve(Echo, port=0, backplane="ftp://host").__aenter__(), 5)
    with pytest.raises(ConfigurationError, match="give the URL of an engine") as caught:
        await asyncio.wait_for(fastws.serve(Echo, port=0, backplane="me:secret@host").__aenter__(), 5)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="give the URL of an engine"):
        fastws.serve(Echo, backplane=7)
