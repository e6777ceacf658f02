"""Names and groups: who is stored under what, who is in which group, and what becomes of them."""

from __future__ import annotations

import pytest

from fastws import GroupRemovedError, NotServingError, ws

from ...kit.client import turns, until
from ...kit.services import Commanded, Echo, Watch, at
from ...kit.wires import PacketWire, wired


async def members(serve, connect, count: int):
    """A server, clients and their connections, in the same order."""
    watch = Watch()
    server = await serve(watch)
    clients = []
    for number in range(count):
        clients.append(await connect(server))
        await until(lambda number=number: len(watch.connections) > number)
    return server, clients, watch.connections


# ---------------------------------------------------------------------------------------------------------------------
# Named connections


async def test_a_stored_connection_is_found_by_its_name_until_it_is_removed(serve, connect):
    _server, (client,), (connection,) = await members(serve, connect, 1)
    connection.store("alice")
    assert ws.push_text_to_connection("alice", "text") == ws.Delivery(1, 1, 0)
    assert ws.push_binary_to_connection("alice", b"binary")
    assert [await client.receive(), await client.receive()] == [(0x1, b"text"), (0x2, b"binary")]
    assert ws.remove_stored_connection("alice") is True
    assert ws.remove_stored_connection("alice") is False
    assert not ws.push_text_to_connection("alice", "?")
    assert connection.is_open


async def test_a_name_that_is_taken_over_stays_with_its_later_holder(serve, connect):
    server, (first, second), (earlier, later) = await members(serve, connect, 2)
    earlier.store("alice")
    later.store("alice")
    assert server.stored["alice"] is later
    assert earlier.is_open
    await first.close()
    await until(lambda: not earlier.is_open)
    assert server.stored["alice"] is later
    ws.push_text_to_connection("alice", "to the later one")
    assert await second.text() == "to the later one"
    await second.close()
    await until(lambda: not later.is_open)
    assert "alice" not in server.stored


async def test_a_connection_may_have_many_names_and_store_one_twice(serve, connect):
    server, (client,), (connection,) = await members(serve, connect, 1)
    for name in ("a", "b", "a"):
        connection.store(name)
    assert sorted(server.stored) == ["a", "b"]
    ws.remove_stored_connection("a")
    assert list(server.stored.items()) == [("b", connection)]
    await client.close()
    assert len(server.stored) == 0


async def test_a_stored_connection_may_be_closed_by_its_name(serve, connect):
    _server, (client,), (connection,) = await members(serve, connect, 1)
    connection.store("alice")
    assert ws.close_stored_connection("alice", 4000, "out") is True
    assert ws.close_stored_connection("alice") is False
    assert ws.close_stored_connection("nobody") is False
    assert await client.close_frame() == (4000, "out")


async def test_a_name_is_forgotten_when_its_connection_is_closed_by_it_whether_or_not_the_client_answers(
    serve, connect
):
    server, (client,), (connection,) = await members(serve, connect, 1)
    connection.store("alice")
    connection.store("also alice")
    with pytest.raises(ValueError, match="may not be sent"):
        ws.close_stored_connection("alice", 1005)
    with pytest.raises(TypeError, match="expected str"):
        ws.close_stored_connection("alice", 1000, b"reason")
    assert "alice" in server.stored
    assert ws.close_stored_connection("alice") is True
    assert list(server.stored) == ["also alice"]
    assert not ws.push_text_to_connection("alice", "?")
    assert await client.close_frame() == (1000, "")


# ---------------------------------------------------------------------------------------------------------------------
# Groups


async def test_joining_twice_changes_nothing(serve, connect):
    server, (client,), (connection,) = await members(serve, connect, 1)
    connection.join("g")
    connection.join("g")
    assert len(server.groups["g"]) == 1
    assert ws.push_text_to_group("g", "once") == ws.Delivery(1, 1, 0)
    connection.push_text("next")
    assert await client.texts(2) == ["once", "next"]
    assert [connection.leave("g"), connection.leave("g")] == [True, False]


async def test_a_group_vanishes_with_its_last_member(serve, connect):
    server, (_first, second), (one, two) = await members(serve, connect, 2)
    one.join("g")
    two.join("g")
    one.leave("g")
    assert list(server.groups) == ["g"]
    await second.close()
    await until(lambda: not two.is_open)
    assert list(server.groups) == []
    assert ws.push_text_to_group("g", "nobody") == ws.Delivery(0, 0, 0)
    one.join("g")
    assert list(server.groups) == ["g"]


async def test_a_group_that_was_created_stays_empty(serve, connect):
    server, _, (connection,) = await members(serve, connect, 1)
    ws.create_connection_group("kept")
    ws.create_connection_group("kept")
    connection.join("kept")
    connection.leave("kept")
    assert len(server.groups["kept"]) == 0
    connection.join("joined first")
    ws.create_connection_group("joined first")
    connection.leave("joined first")
    assert sorted(server.groups) == ["joined first", "kept"]


async def test_a_removed_group_is_retired_until_it_is_created_again(serve, connect):
    server, (client,), (connection,) = await members(serve, connect, 1)
    connection.join("g")
    connection.join("other")
    assert ws.remove_connection_group("g") is True
    assert ws.remove_connection_group("g") is False
    assert connection.groups == {"other"}
    assert connection.is_open
    refused = [
        lambda: ws.push_text_to_group("g", "?"),
        lambda: ws.push_binary_to_group("g", b"?"),
        lambda: connection.join("g"),
        lambda: ws.close_connection_group("g"),
    ]
    for call in refused:
        with pytest.raises(GroupRemovedError, match="group 'g' was removed") as caught:
            call()
        assert caught.value.group == "g"
    assert connection.leave("g") is False
    ws.create_connection_group("g")
    assert len(server.groups["g"]) == 0
    connection.join("g")
    ws.push_text_to_group("g", "back")
    assert await client.text() == "back"


async def test_removing_a_group_that_never_was_does_not_retire_its_name(serve, connect):
    _server, _, (connection,) = await members(serve, connect, 1)
    assert ws.remove_connection_group("g") is False
    connection.join("g")
    assert connection.groups == {"g"}


async def test_the_last_hundred_thousand_retired_names_are_remembered_and_the_oldest_is_forgotten_first(serve, connect):
    _server, _, (connection,) = await members(serve, connect, 1)
    for number in range(300_000):
        connection.join(f"game {number}")
        ws.remove_connection_group(f"game {number}")
    assert not ws.push_text_to_group("game 199999", "?")
    for number in (200_000, 299_999):
        with pytest.raises(GroupRemovedError):
            ws.push_text_to_group(f"game {number}", "?")


async def test_a_group_may_be_removed_by_a_member_while_it_is_pushed_to(serve, connect):
    def last() -> str:
        ws.push_text_to_group("g", "last words")
        ws.remove_connection_group("g")
        return "removed"

    service = Commanded(join=lambda: ws.add_connection_to_group("g") or "in", last=last)
    server = await serve(service)
    one, two = await connect(server), await connect(server)
    assert [await one.asks("join"), await two.asks("join")] == ["in", "in"]
    one.send("last")
    assert await one.texts(2) == ["last words", "removed"]
    assert await two.text() == "last words"


async def test_closing_a_group_closes_its_members_and_keeps_its_name(serve, connect):
    server, clients, connections = await members(serve, connect, 3)
    for connection in connections[:2]:
        connection.join("g")
    assert ws.close_connection_group("g", 4000, "over") == 2
    assert ws.close_connection_group("g") == 0
    assert ws.close_connection_group("nobody") == 0
    for client in clients[:2]:
        assert await client.close_frame() == (4000, "over")
        client.send_close(4000)
        assert await client.rest() == []
    await until(lambda: "g" not in server.groups)
    assert connections[2].is_open
    connections[2].join("g")


async def test_a_disconnect_leaves_all_groups_and_only_its_own_names(serve, connect):
    server, (client, _), (one, two) = await members(serve, connect, 2)
    for number in range(50):
        one.join(f"both {number}")
        two.join(f"both {number}")
        one.join(f"alone {number}")
        one.store(f"name {number}")
        two.store(f"other {number}")
    client.reset()
    await until(lambda: not one.is_open)
    assert sorted(server.groups) == sorted(f"both {number}" for number in range(50))
    assert all(list(group) == [two] for group in server.groups.values())
    assert set(server.stored.values()) == {two}
    assert len(server.stored) == 50


async def test_a_closing_connection_is_out_of_every_registry_before_on_close(serve, connect):
    @at()
    class Last(Watch):
        @ws.on_open
        def opened(self, connection: ws.Connection) -> None:
            connection.join("g")
            connection.store("name")
            connection.join("kept")

        @ws.on_close
        def closed(self, connection: ws.Connection) -> None:
            ws.add_connection_to_group("late")
            ws.store_connection("late")
            registries = (server.connections(self), server.stored.values(), *server.groups.values())
            self.saw(any(connection in registry for registry in registries), connection.groups)

    last = Last()
    server = await serve(last)
    client = await connect(server)
    await client.close()
    assert await last.next() == (False, frozenset())
    assert (len(server.groups), len(server.stored)) == (0, 0)


async def test_names_and_groups_are_common_to_all_services(serve, connect):
    @at("/other")
    class Other(Commanded):
        pass

    join = {
        "join": lambda: ws.add_connection_to_group("g") or "in",
        "store": lambda: ws.store_connection("one") or "ok",
    }
    push = {
        "group": lambda: ws.push_text_to_group("g", "across") and None,
        "one": lambda: ws.push_text_to_connection("one", "to one") and None,
    }
    server = await serve(Commanded(**join), Other(**join, **push))
    here, there = await connect(server), await connect(server, "/other")
    assert [await here.asks("join"), await there.asks("join"), await here.asks("store")] == ["in", "in", "ok"]
    there.send("group", "one")
    assert await here.texts(2) == ["across", "to one"]
    assert await there.text() == "across"


# ---------------------------------------------------------------------------------------------------------------------
# Names


async def test_empty_names_and_names_that_are_no_str_are_refused():
    async with wired(Watch(), PacketWire, 1) as ((connection,), _):
        takes_name = [
            (connection.store, "connection"),
            (ws.remove_stored_connection, "connection"),
            (lambda name: ws.push_text_to_connection(name, "?"), "connection"),
            (ws.close_stored_connection, "connection"),
            (connection.join, "group"),
            (connection.leave, "group"),
            (lambda name: ws.push_text_to_group(name, "?"), "group"),
            (ws.create_connection_group, "group"),
            (ws.remove_connection_group, "group"),
            (ws.close_connection_group, "group"),
        ]
        for function, what in takes_name:
            with pytest.raises(ValueError, match=f"a {what} name may not be empty"):
                function("")
            for name in (None, 7, b"bytes", ["list"]):
                with pytest.raises(TypeError, match=f"a {what} name is a str, not {type(name).__name__}"):
                    function(name)


def test_without_a_server_a_push_says_so():
    for push in (lambda: ws.push_text_to_group("g", "?"), lambda: ws.push_text_to_connection("c", "?")):
        with pytest.raises(NotServingError, match="needs a running server"):
            push()


# ---------------------------------------------------------------------------------------------------------------------
# Mappings


async def test_mappings_tell_what_is_there(serve, connect):
    server, _clients, (one, two) = await members(serve, connect, 2)
    one.join("g")
    one.store("n")
    assert (len(server.groups), "g" in server.groups, "h" in server.groups) == (1, True, False)
    assert (len(server.stored), "n" in server.stored, server.stored["n"]) == (1, True, one)
    group = server.groups["g"]
    assert (group.name, len(group), one in group, two in group, "one" in group, list(group)) == (
        "g",
        1,
        True,
        False,
        False,
        [one],
    )
    connections = server.connections(Watch)
    assert (len(connections), one in connections, object() in connections) == (2, True, False)
    assert set(connections) == {one, two}
    for wrong in (server.groups, server.stored):
        with pytest.raises(KeyError):
            wrong["nothing"]
        with pytest.raises(TypeError):
            wrong["g"] = None


async def test_a_group_its_members_and_iterating_over_them_agree_who_is_in(serve, connect):
    server, _clients, (one, two, three) = await members(serve, connect, 3)
    three.join("g")  # at another place than among those of the service
    two.join("g")
    two.join("h")
    group, all_of_them = server.groups["g"], server.connections(Watch)
    for asked in (one, two, three):
        assert [asked in group, asked in group.members, asked in list(group)] == [asked is not one] * 3
        assert asked in all_of_them
        assert (asked in server.groups["h"].members) == (asked is two)
    two.leave("g")
    assert [each in group.members for each in (one, two, three)] == [False, False, True]
    held = group.members
    ws.remove_connection_group("g")
    del group
    assert [each in held for each in (one, two, three)] == [False] * 3


async def test_mappings_may_change_while_they_are_iterated(serve, connect):
    server, clients, connections = await members(serve, connect, 4)
    for number, connection in enumerate(connections):
        connection.join("g")
        connection.join(f"own {number}")
        connection.store(f"name {number}")
    seen = []
    for name in server.groups:
        seen.append(name)
        ws.remove_connection_group(name)
        connections[0].join(f"new {name}")
    assert len(server.groups) == 5
    for name in server.stored:
        seen.append(name)
        ws.remove_stored_connection(name)
    for connection in server.connections(Watch):
        seen.append(connection)
        while clients:
            clients.pop().reset()
        await turns()
    assert len(seen) == 5 + 4 + 4
    await until(lambda: len(server.connections(Watch)) == 0)


async def test_a_removed_group_is_gone_for_those_who_still_hold_it(serve, connect):
    server, _, (connection,) = await members(serve, connect, 1)
    connection.join("g")
    group = server.groups["g"]
    ws.remove_connection_group("g")
    assert (len(group), connection in group, repr(group)) == (0, False, "<Group 'g' of 0>")


async def test_connections_of_a_service_are_found_by_class_and_instance(serve, connect):
    @at("/echo")
    class Second(Echo):
        pass

    watch = Watch()
    server = await serve(watch, Second)
    await connect(server, "/echo")
    await until(lambda: len(server.connections(Second)) == 1)
    assert server.connections(watch) is server.connections(Watch)
    assert len(server.connections(watch)) == 0
    with pytest.raises(TypeError, match="is not served here with a WebSocket"):
        server.connections(Commanded)


# ---------------------------------------------------------------------------------------------------------------------
# Texts that are more than a str


class Text(str):
    """As an enumeration's member: what str() and format() make of it is another text."""

    __slots__ = ()

    def __str__(self) -> str:
        return "not this"

    def __eq__(self, other: object) -> bool:
        raise AssertionError("nobody asks it")

    __hash__ = None


class Data(bytes):
    """Bytes that say of themselves that they are others."""

    __slots__ = ()

    def __bytes__(self) -> bytes:
        return b"not this"


class Number(int):
    """An int that is not to be asked."""

    def __int__(self) -> int:
        raise AssertionError("nobody asks it")

    __eq__ = __hash__ = __index__ = None


async def test_a_str_of_a_subclass_is_taken_as_its_text_wherever_a_str_is(serve, connect):
    server, (client, other), (connection, _) = await members(serve, connect, 2)
    connection.store(Text("me"))
    connection.join(Text("g"))
    ws.create_connection_group(Text("made"))
    assert [type(name) for name in (*server.stored, *server.groups, *connection.groups)] == [str] * 4
    assert (list(server.stored), sorted(server.groups), connection.groups) == (["me"], ["g", "made"], {"g"})
    pushed = [
        lambda text: connection.push_text(text, key=Text("k")),
        lambda text: connection.broadcast_text(text, overflow=None),
        lambda text: ws.push_text_to_connection(Text("me"), text),
        lambda text: ws.push_text_to_group(Text("g"), text),
        lambda text: connection.push_binary(text, key=Data(b"k")),
        lambda text: connection.broadcast_binary(text, key=Number(7)),
        lambda text: ws.push_binary_to_connection(Text("me"), text),
        lambda text: ws.push_binary_to_group(Text("g"), text),
    ]
    for push in pushed[:4]:
        assert push(Text("text"))
    for push in pushed[4:]:
        assert push(Data(b"data"))
    assert [await client.receive() for _ in pushed] == [(0x1, b"text")] * 4 + [(0x2, b"data")] * 4
    assert [await other.receive() for _ in range(2)] == [(0x1, b"text"), (0x2, b"data")]
    assert connection.leave(Text("g"))
    assert ws.remove_connection_group(Text("made"))
    assert ws.remove_stored_connection(Text("me"))
    connection.close(4000, Text("reason"))
    assert await client.close_frame() == (4000, "reason")


async def test_a_handler_may_return_a_str_or_bytes_of_a_subclass(serve, connect):
    client = await connect(await serve(Commanded(text=lambda: Text("reply"), data=lambda: Data(b"reply"))))
    client.send("text", "data")
    assert [await client.receive(), await client.receive()] == [(0x1, b"reply"), (0x2, b"reply")]


async def test_what_is_wrong_with_a_push_is_told_also_where_nobody_would_get_it():
    async with wired(Watch(), PacketWire, 1):
        ws.create_connection_group("empty")
        texts = [
            lambda text, **more: ws.push_text_to_connection("nobody", text, **more),
            lambda text, **more: ws.push_text_to_group("nobody", text, **more),
            lambda text, **more: ws.push_text_to_group("empty", text, **more),
        ]
        binaries = [
            lambda data, **more: ws.push_binary_to_connection("nobody", data, **more),
            lambda data, **more: ws.push_binary_to_group("nobody", data, **more),
            lambda data, **more: ws.push_binary_to_group("empty", data, **more),
        ]
        for functions, good, bad in ((texts, "x", b"x"), (binaries, b"x", "x")):
            for push in functions:
                with pytest.raises(TypeError, match="expected"):
                    push(bad)
                with pytest.raises(ValueError, match="overflow='bogus'"):
                    push(good, overflow="bogus")
                with pytest.raises(TypeError, match="a key is"):
                    push(good, key=1.5)
                assert not push(good)
        for push in texts:
            with pytest.raises(UnicodeEncodeError):
                push("\ud800")
        for push in (ws.push_text_to_group, ws.push_binary_to_group):
            with pytest.raises(TypeError, match="exclude takes connections"):
                push("empty", "x" if push is ws.push_text_to_group else b"x", exclude=["me"])
