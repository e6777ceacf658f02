"""Clients that behave: they must not notice that the server is attacked, but for its being slower.

`python -m tests.adversary.guests PORT COUNT TLS` visits until its standard input ends; TLS is 0 or 1. With each line
that it reads, and at the end, it prints as JSON what happened since the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from time import perf_counter
from typing import Any

from ..kit.client import CLOSE, PING, PONG, TEXT, TLS, Client, close_payload, frame, open_connection, until, within
from .hall import PATH

AT_ONCE = 3  # messages that a guest asks the echo of
PAUSE = 0.05  # seconds between two things that a guest does

REQUEST = b"GET %s/motd HTTP/1.1\r\nHost: localhost\r\n\r\n" % PATH.encode()


class Journal:
    """What happened to all guests.

    Attributes:
        failures: one line for each guest that did not get what it should; must stay empty.
        seconds: how long each thing took, by its name.
        said: when each broadcast was said.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.seconds: dict[str, list[float]] = {}
        self.said: list[float] = []
        self._waiting: dict[object, tuple[str, float]] = {}

    def took(self, what: str, started: float) -> None:
        self.seconds.setdefault(what, []).append(perf_counter() - started)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Take the time of this; a report counts it with its age while it lasts."""
        key = object()
        self._waiting[key] = what, perf_counter()
        try:
            yield
            self.took(what, self._waiting[key][1])
        finally:
            del self._waiting[key]

    async def watch(self, doing: Awaitable[None]) -> None:
        """Note how it fails."""
        try:
            await doing
        except Exception as error:
            self.failures.append(repr(error))

    def report(self) -> dict[str, Any]:
        """What happened since the last report, times in milliseconds."""
        for what, started in self._waiting.values():
            self.took(what, started)
        seconds, self.seconds = self.seconds, {}
        return {"failures": self.failures} | {what: _summary(sorted(took)) for what, took in seconds.items()}


def _summary(seconds: list[float]) -> dict[str, float]:
    """Count, median, 99th percentile and maximum."""
    ranks = {"p50": len(seconds) // 2, "p99": len(seconds) * 99 // 100, "max": -1}
    return {"count": len(seconds)} | {name: round(1000 * seconds[rank], 3) for name, rank in ranks.items()}


class Guest:
    """A WebSocket that is used as it should be, and whose owner looks closely at what comes."""

    def __init__(self, client: Client, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._answers: asyncio.Queue[str | None] = asyncio.Queue()
        self._asked = itertools.count()
        self._listening = asyncio.ensure_future(self._listen())
        self.heard: int | None = None  # the last broadcast

    @classmethod
    @contextlib.asynccontextmanager
    async def visits(cls, port: int, journal: Journal) -> AsyncIterator[Guest]:
        """Connect, and leave with a closing handshake."""
        with journal.waiting("opening"):
            client = await Client.connect(port, PATH)
        guest = cls(client, journal)
        try:
            yield guest
            client.send_close()
            await within(guest._listening)
        finally:
            guest._listening.cancel()
            client.transport.abort()

    async def _listen(self) -> None:
        """Take what comes until the close frame."""
        try:
            while (event := await self._client.receive())[0] != CLOSE:
                self._hear(*event)
            assert event[1] == close_payload(1000), event
        finally:
            self._answers.put_nowait(None)

    def _hear(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._client.write(frame(PONG, payload))
            return
        assert opcode == TEXT, (opcode, payload)
        text = payload.decode()
        if text.startswith("all "):
            self._hear_broadcast(int(text[4:]))
        else:
            self._answers.put_nowait(text)

    def _hear_broadcast(self, number: int) -> None:
        assert self.heard in (None, number - 1), f"broadcast {number} after {self.heard}"
        self.heard = number
        self._journal.took("broadcast", self._journal.said[number])

    async def ask(self, count: int = 1) -> None:
        """Send so many messages and get them back, in order."""
        texts = [f"question {next(self._asked)}" for _ in range(count)]
        with self._journal.waiting("echo"):
            self._client.send(*texts)
            for text in texts:
                answer = await within(self._answers.get())
                if answer is None:
                    await self._listening  # says why
                assert answer == text, f"{answer!r} instead of {text!r}"

    def say(self) -> None:
        """Tell everybody the next number."""
        self._journal.said.append(perf_counter())
        self._client.send(f"all {len(self._journal.said) - 1}")


class Party:
    """Guests who do what they do again and again, until it is over.

    Args:
        port: of the server.
        journal: where what happens to them is noted.
    """

    def __init__(self, port: int, journal: Journal) -> None:
        self._port = port
        self._journal = journal
        self._quiet = asyncio.Event()
        self._over = asyncio.Event()

    async def _goes_on(self, end: asyncio.Event) -> bool:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(end.wait(), PAUSE)
        return not end.is_set()

    def _guest(self) -> contextlib.AbstractAsyncContextManager[Guest]:
        return Guest.visits(self._port, self._journal)

    async def speak(self) -> None:
        """Speak to everybody, and have the last word."""
        try:
            async with self._guest() as guest:
                while await self._goes_on(self._quiet):
                    guest.say()
                guest.say()
                await guest.ask()
        finally:
            self._over.set()

    async def stay(self) -> None:
        """Have messages echoed, and hear all that is said to the last."""
        async with self._guest() as guest:
            while await self._goes_on(self._over):
                await guest.ask(AT_ONCE)
            await guest.ask()
            assert guest.heard == len(self._journal.said) - 1, f"broadcast {guest.heard} was the last"

    async def come_and_go(self) -> None:
        """Open a WebSocket and close it."""
        while await self._goes_on(self._over):
            async with self._guest() as guest:
                await guest.ask()

    async def read(self) -> None:
        """Ask for a resource, over one connection."""
        client = Client(*await open_connection(self._port))
        try:
            while await self._goes_on(self._over):
                with self._journal.waiting("http"):
                    client.write(REQUEST)
                    head = await within(client.reader.readuntil(b"\r\n\r\n"))
                    assert head.startswith(b"HTTP/1.1 200 "), head
                    assert await within(client.reader.readexactly(7)) == b"be kind"
        finally:
            client.transport.abort()

    def end(self) -> None:
        self._quiet.set()


@contextlib.asynccontextmanager
async def guests(port: int, count: int) -> AsyncIterator[Journal]:
    """Let so many stay, one speak, and some come and go and read; at the end all have left."""
    journal = Journal()
    party = Party(port, journal)
    staying = [party.speak(), *(party.stay() for _ in range(count))]
    passing = [act() for act in (party.come_and_go, party.read) for _ in range(max(count // 4, 1))]
    visits = [asyncio.ensure_future(journal.watch(doing)) for doing in staying]
    try:
        await until(lambda: journal.failures or len(journal.seconds.get("opening", ())) == len(staying))
        visits += [asyncio.ensure_future(journal.watch(doing)) for doing in passing]
        yield journal
    finally:
        party.end()
        await asyncio.gather(*visits)


async def main(port: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    async with guests(port, count) as journal:
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(journal.report()), flush=True)
    print(json.dumps(journal.report()), flush=True)


if __name__ == "__main__":
    import uvloop

    port, count, tls = map(int, sys.argv[1:])
    if tls:
        # The server's authority exists in the server's process only
        TLS[port] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        TLS[port].check_hostname = False
        TLS[port].verify_mode = ssl.CERT_NONE
    uvloop.run(main(port, count))
