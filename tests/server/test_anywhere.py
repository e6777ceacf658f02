"""From where one may push: whoever names a service reaches it, also where no handler of it runs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from fastws import NoCurrentConnectionError, NotServingError, WrongThreadError, http, testing, ws

from ..kit.client import BINARY, TEXT, until, within
from ..kit.services import Commanded, Echo, Watch, at, nothing_follows

README = Path(__file__).parents[2] / "README.md"


async def joined(serve, connect, service, count: int = 1):
    """A server and so many clients of a service that is served there."""
    server = await serve(service)
    clients = [await connect(server) for _ in range(count)]
    await until(lambda: len(server.connections(service)) == count)
    return server, clients


async def test_a_task_of_nobody_broadcasts_to_a_class_or_an_instance(serve, connect):
    watch = Watch()
    _, clients = await joined(serve, connect, watch, 2)
    for target in (watch, Watch):
        assert ws.broadcast_text("text", to=target) == ws.Delivery(2, 2, 0)
        assert ws.broadcast_binary(b"data", to=target) == ws.Delivery(2, 2, 0)
    for client in clients:
        assert [await client.receive() for _ in range(4)] == [(TEXT, b"text"), (BINARY, b"data")] * 2


async def test_what_is_said_of_a_broadcast_holds_where_its_service_is_named(serve, connect):
    watch = Watch()
    _, (first, second) = await joined(serve, connect, watch, 2)
    assert ws.broadcast_text("x", to=Watch, exclude=watch.connections[0], key="k") == ws.Delivery(1, 1, 0)
    assert ws.broadcast_binary(b"x", to=Watch, exclude=iter(watch.connections)) == ws.Delivery(0, 0, 0)
    ws.broadcast_text("end", to=Watch)
    assert await first.text() == "end"
    assert await second.texts(2) == ["x", "end"]
    with pytest.raises(TypeError, match="expected str, not bytes"):
        ws.broadcast_text(b"x", to=Watch)
    with pytest.raises(ValueError, match="overflow='bogus'"):
        ws.broadcast_text("x", to=Watch, overflow="bogus")


async def test_a_handler_reaches_another_service_by_name_and_its_own_without(serve, connect):
    @at("/other")
    class Other(Watch):
        pass

    def both() -> str:
        ws.broadcast_text("to the others", to=Other)
        ws.broadcast_text("to all of us")
        return "done"

    server = await serve(Commanded(both=both), Other())
    client, other = await connect(server, "/"), await connect(server, "/other")
    client.send("both")
    assert await client.texts(2) == ["to all of us", "done"]
    assert await other.text() == "to the others"


async def test_the_publish_of_the_readme_works_from_anywhere(serve, connect):
    block = next(
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "publish" in block
    )
    names = {"http": http, "ws": ws}
    exec(block, names)
    prices = names["Prices"]()
    server, (client,) = await joined(serve, connect, prices)
    prices.publish("FWS", "41.9")
    assert await client.text() == "41.9"
    await asyncio.create_task(asyncio.to_thread(server.call_from_thread, prices.publish, "FWS", "42.0"))
    assert await client.text() == "42.0"


async def test_a_method_of_the_service_broadcasts_to_it_whoever_calls_it(no_task_left):
    @at()
    class Publishes(Watch):
        def publish(self, text: str) -> ws.Delivery:
            return next(ws.broadcast_text(text) for _ in range(1))

        async def publish_later(self, data: bytes) -> ws.Delivery:
            await asyncio.sleep(0)
            return ws.broadcast_binary(data)

    @at("/caller")
    class Calls(Watch):
        @ws.on_text_message
        def publish(self, text: str) -> None:
            service.publish(text)

    service = Publishes()
    async with testing.serve(service, Calls()) as server:
        client, caller = await server.connect("/"), await server.connect("/caller")
        assert service.publish("text") == ws.Delivery(1, 1, 0)
        assert await asyncio.create_task(service.publish_later(b"data")) == ws.Delivery(1, 1, 0)
        with pytest.raises(WrongThreadError):
            await asyncio.to_thread(service.publish, "?")
        assert await asyncio.to_thread(server.server.call_from_thread, service.publish, "thread")
        await client.expect_text("text")
        await client.expect_binary(b"data")
        await client.expect_text("thread")
        # Where a handler runs it is its service that is meant, as everywhere in what it calls
        await caller.send("to the caller's own")
        await caller.expect_text("to the caller's own")
        await client.expect_nothing()
        with pytest.raises(NoCurrentConnectionError):
            Publishes().publish("of one that is not served")
        await server.close()
        with pytest.raises(NoCurrentConnectionError):
            service.publish("of one that is served no more")


async def test_a_thread_names_the_service_through_the_server(serve, connect):
    server, (client,) = await joined(serve, connect, Watch)

    def from_thread() -> int:
        for call in (lambda: ws.broadcast_text("?", to=Watch), lambda: ws.connections(Watch)):
            with pytest.raises(WrongThreadError):
                call()
        assert server.call_from_thread(ws.broadcast_text, "from a thread", to=Watch)
        return server.call_from_thread(len, server.call_from_thread(ws.connections, Watch))

    assert await within(asyncio.to_thread(from_thread)) == 1
    assert await client.text() == "from a thread"


async def test_the_connections_of_a_service_are_a_live_set(serve, connect):
    server, (client, _) = await joined(serve, connect, Watch, 2)
    connections = ws.connections(Watch)
    assert len(connections) == 2
    assert set(connections) == set(server.connections(Watch))
    first = next(iter(connections))
    assert first in connections
    assert client not in connections
    first.close()
    for connection in connections:  # over a snapshot
        connection.close()
    await client.close_frame()
    client.send_close()
    await until(lambda: len(connections) == 1)
    assert len(ws.connections(Watch)) == 1


async def test_a_class_is_all_servers_that_serve_it_and_an_instance_is_its_own(serve, connect):
    one, two = Watch(), Watch()
    first, (client,) = await joined(serve, connect, one)
    _, (other,) = await joined(serve, connect, two)
    assert ws.broadcast_text("one", to=one) == ws.Delivery(1, 1, 0)
    assert ws.broadcast_text("two", to=two) == ws.Delivery(1, 1, 0)
    assert ws.broadcast_text("all", to=Watch, exclude=iter(())) == ws.Delivery(2, 2, 0)
    assert len(ws.connections(Watch)) == 2
    assert set(ws.connections(Watch)) == {*one.connections, *two.connections}
    connections = ws.connections(one)
    assert await client.texts(2) == ["one", "all"]
    assert await other.texts(2) == ["two", "all"]
    await client.close()
    await nothing_follows_but_closed(first, one)
    assert (len(connections), list(connections)) == (0, [])
    with pytest.raises(NotServingError):
        ws.broadcast_text("?", to=one)
    assert ws.broadcast_text("left", to=Watch) == ws.Delivery(1, 1, 0)
    assert await other.text() == "left"


async def nothing_follows_but_closed(server, service) -> None:
    assert (await service.next())[0] == "closed"
    await nothing_follows(server, service)


async def test_on_start_and_on_stop_may_name_their_service(serve):
    @at()
    class Named(Watch):
        @ws.on_start
        def start(self) -> None:
            self.saw("start", ws.broadcast_text("?", to=self).matched, len(ws.connections(Named)))

        @ws.on_stop
        def stop(self) -> None:
            self.saw("stop", ws.broadcast_text("?", to=Named).matched, len(ws.connections(self)))

    service = Named()
    server = await serve(service)
    await server.close()
    assert [await service.next(), await service.next()] == [("start", 0, 0), ("stop", 0, 0)]


async def test_a_pair_in_memory_is_named_as_a_served_service_is():
    async with testing.connected_pair(Echo, Watch) as (connection, _):
        assert list(ws.connections(Echo)) == [connection]
    with pytest.raises(NotServingError):
        ws.connections(Echo)


async def test_what_is_not_served_is_named_in_the_refusal(serve):
    @http.base_path("/rest")
    class Rest:
        @http.get("/")
        def answer(self) -> str:
            return ""

    with pytest.raises(NotServingError, match="needs a running server"):
        ws.broadcast_text("?", to=Watch)
    rest = Rest()
    await serve(Watch(), rest)
    for target in (Echo, rest, "Watch", Watch(), [Watch], 0):
        for call in (
            lambda to: ws.broadcast_text("?", to=to),
            lambda to: ws.broadcast_binary(b"?", to=to),
            ws.connections,
        ):
            with pytest.raises(NotServingError, match="is not served with a WebSocket on this event loop") as caught:
                call(target)
            assert caught.value.service is target


async def test_without_a_handler_and_a_name_the_way_is_shown(serve):
    await serve(Watch())
    with pytest.raises(NoCurrentConnectionError, match="to=Service, or to=self"):
        ws.broadcast_text("?")
    with pytest.raises(NoCurrentConnectionError, match="keep the connection"):
        ws.push_text("?")
