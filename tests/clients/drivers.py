"""Clients of other ecosystems: a program for each, which does what lines tell it.

A driver is started with the name of a client, says `version ...` or `missing`, and answers each line on its standard
input with one on its standard output. Words are separated by a blank; data is "=" and its base64, and "-" is nothing.

    connect URL                 open, or refused STATUS BODY
    text DATA, binary DATA      done
    receive                     text DATA, binary DATA, closed CODE REASON, or lost WHY
    close CODE REASON           done, once the client is
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from pathlib import Path

from ..kit.client import within

HERE = Path(__file__).parent
# Where tools/clients.sh installs what it can
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastws" / "clients"
LINE = 1 << 26  # bytes, at most


def word(data: str | bytes) -> str:
    return "=" + base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def data_of(word: str) -> bytes | None:
    return None if word == "-" else base64.b64decode(word[1:])


class Driver:
    """A running one: `async with Driver("ruby", ...) as driver`.

    Attributes:
        version: of the client; None where it is not installed.
    """

    def __init__(self, *command: str | Path) -> None:
        self._command = command

    async def __aenter__(self):
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
            env={**os.environ, "LD_PRELOAD": "", "PYTHONPATH": "", "GODEBUG": ""},
        )
        try:
            told, *version = await self._answer()
            assert told in ("version", "missing")
            self.version = version[0] if version else None
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *error) -> None:
        await self._end()

    async def restart(self) -> None:
        await self._end()
        await self.__aenter__()

    async def _end(self) -> None:
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 1)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _answer(self) -> list[str]:
        line = await within(self._process.stdout.readline())
        assert line, f"{self._command} has ended"
        return line.decode().rstrip("\n").split(" ")

    async def _ask(self, *words: str) -> list[str]:
        self._process.stdin.write(" ".join(words).encode() + b"\n")
        await within(self._process.stdin.drain())
        return await self._answer()

    async def connect(self, url: str) -> tuple[str | None, bytes | None] | None:
        """None, or the status and body of a refusal as the client tells them."""
        told, *words = await self._ask("connect", url)
        if told == "open":
            return None
        assert told == "refused", (told, words)
        return None if words[0] == "-" else words[0], data_of(words[1])

    async def send(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "binary"
        assert await self._ask(kind, word(message)) == ["done"]

    async def receive(self) -> tuple:
        """("text", str), ("binary", bytes), ("closed", code, reason) or ("lost", why)."""
        kind, *words = await self._ask("receive")
        if kind == "closed":
            return kind, int(words[0]), data_of(words[1]).decode()
        data = data_of(words[0])
        return kind, data if kind == "binary" else data.decode()

    async def close(self, code: int, reason: str) -> None:
        assert await self._ask("close", str(code), word(reason)) == ["done"]
