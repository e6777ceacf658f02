"""A client against a server over transports in memory: whatever either does, the other gets it, once and in order."""

from __future__ import annotations

import asyncio
import contextlib

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import fastws
from fastws._speedups import ClientConnection, Connection, Endpoint, hub_of_thread
from fastws.client.endpoints import endpoint_for
from fastws.handshake.client import ask, check
from fastws.handshake.deflate import negotiate
from fastws.handshake.mappings import Query, headers_of
from fastws.options import ClientOptions, ServerOptions
from fastws.service.compile import compile
from fastws.testing.memory import memory_transports

from ..kit.services import Notes, at

MESSAGES = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40),
    st.integers(0, 5000).map(lambda length: "ab" * length),
    st.integers(0, 70_000).map(bytes),
)
CODES = st.sampled_from([1000, 1001, 1011, 3000, 4999])
MODES = st.sampled_from([None, "shared", "dedicated"])


def agreed(options: ClientOptions, upgrade: object):
    """What both sides have of permessage-deflate, by way of their handshakes."""
    asked = ask("/", "a", (), options)
    offered = [line for line in asked.request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Extensions: ")]
    if not offered or (chosen := negotiate(offered[0].partition(b": ")[2], upgrade)) is None:
        return None, None
    fields = [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-accept", asked.accept)]
    return chosen, check(asked, "1.1", [*fields, (b"sec-websocket-extensions", chosen.response)]).extension


class ClientAndServer(RuleBasedStateMachine):
    """Sends, receives, stalls and closes at random; the client awaits."""

    @initialize(of_client=MODES, of_server=MODES, max_queue=st.integers(1, 5))
    def begin(self, of_client, of_server, max_queue):
        self.loop = asyncio.new_event_loop()
        self.service = Notes()
        self.sent: list[str | bytes] = []
        self.said: list[str | bytes] = []
        self.received: list[str | bytes] = []
        self.receiving: asyncio.Task | None = None
        self.error: fastws.ConnectionClosed | None = None
        self.closed_by_us = self.closed_by_them = False
        self.held = False
        self.run(self.open(of_client, of_server, max_queue))

    async def open(self, of_client, of_server, max_queue):
        options = ClientOptions(compression=of_client, max_queue=max_queue, close_timeout=5.0, compression_threshold=8)
        annotate = at(compression=of_server, max_backlog=1 << 26, compression_threshold=8)
        service = compile(annotate(type("Service", (Notes,), {}))())
        self.service = service.instance
        self.hub = hub_of_thread(self.loop, headers_of, Query)
        self.hub.attach()
        self.endpoint = Endpoint(self.hub, service, ServerOptions(close_timeout=5.0))
        near, far = self.transports = memory_transports(self.loop)
        theirs, ours = agreed(options, service.upgrade)
        self.server = Connection(self.endpoint)
        self.server.start(near, b"", b"", extension=theirs)
        connection = Connection(endpoint_for(self.hub, options, None), client=True)
        self.client = ClientConnection(connection)
        connection.start(far, b"", b"", extension=ours)
        self.client.start_reading()

    def run(self, awaitable):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, 20))

    async def settle(self):
        for _ in range(30):
            await asyncio.sleep(0)

    @rule(message=MESSAGES)
    def the_client_sends(self, message):
        sending = self.client.push_text(message) if isinstance(message, str) else self.client.push_binary(message)
        if sending.queued:
            self.sent.append(message)

    @rule(message=MESSAGES)
    @precondition(lambda self: not self.held and not self.closed_by_us and not self.closed_by_them)
    def the_client_awaits_that_it_is_sent(self, message):
        with contextlib.suppress(fastws.ConnectionClosed):
            self.run(self.client.send(message))
            self.sent.append(message)

    @rule(message=MESSAGES, count=st.integers(1, 8))
    def the_server_sends(self, message, count):
        for _ in range(count):
            push = self.server.push_text if isinstance(message, str) else self.server.push_binary
            if push(message).queued and not self.closed_by_us:
                self.said.append(message)

    @rule(turns=st.integers(0, 10))
    def time_passes(self, turns):
        async def pass_time():
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(pass_time())

    @rule()
    @precondition(lambda self: self.receiving is None and self.error is None)
    def the_client_begins_to_receive(self):
        self.receiving = self.loop.create_task(self.client.receive())

    @rule(cancels=st.booleans())
    @precondition(lambda self: self.receiving is not None)
    def the_client_looks_whether_it_has(self, cancels):
        if cancels:
            self.receiving.cancel()
            self.run(asyncio.wait([self.receiving]))
        if self.receiving.done():
            self.note(self.receiving)
            self.receiving = None

    def note(self, receiving):
        if receiving.cancelled():
            return
        error = receiving.exception()
        if error is None:
            self.received.append(receiving.result())
        else:
            assert isinstance(error, fastws.ConnectionClosed)
            self.error = error

    @rule(end=st.integers(0, 1))
    def one_end_stalls(self, end):
        self.transports[end].hold()
        self.held = True

    @rule()
    def nobody_stalls(self):
        for transport in self.transports:
            transport.let_go()
        self.held = False

    @rule(code=CODES)
    def the_client_closes(self, code):
        if self.client.is_open:
            self.closed_by_us = True
            closing = self.loop.create_task(self.client.close(code))
            self.run(asyncio.sleep(0))
            closing.cancel()
            self.run(asyncio.wait([closing]))

    @rule(code=CODES)
    def the_server_closes(self, code):
        self.closed_by_them = self.server.close(code) or self.closed_by_them

    @invariant()
    def what_came_is_the_beginning_of_what_was_sent(self):
        if hasattr(self, "service"):
            assert self.service.heard == self.sent[: len(self.service.heard)]
            assert self.received == self.said[: len(self.received)]

    def teardown(self):
        if not hasattr(self, "client"):
            return
        self.nobody_stalls()
        self.run(self.finish())
        self.loop.close()

    async def finish(self):
        await self.settle()
        if self.receiving is not None:
            if not self.receiving.done():
                self.receiving.cancel()
            await asyncio.wait([self.receiving])
            self.note(self.receiving)
        self.server.close(1000)
        if self.error is None:
            with contextlib.suppress(fastws.ConnectionClosed):
                while True:
                    self.received.append(await self.client.receive())
        await self.client.wait_closed()
        await self.server.wait_closed()
        assert self.service.closed == [self.server.close_code]
        assert self.client.was_clean
        assert self.server.was_clean
        if not self.closed_by_us:
            assert self.received == self.said
        if not self.closed_by_them or self.closed_by_us:
            assert self.service.heard == self.sent[: len(self.service.heard)]
        parked = self.hub.detach([self.endpoint])
        if parked is not None:
            await asyncio.wait([parked])


TestClientAndServer = ClientAndServer.TestCase
