"""What the nodes of a schedule serve: it does what clients ask for, and writes down what only a node can know.

A line of JSON for each push, each word on a group, and each thing that `on_backplane` tells; written at once, so that
it is there however the process ends. Times are those of the monotonic clock, which is the same for all processes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

from fastws import GroupRemovedError, http, ws
from fastws._speedups import counted

FOLDER = "CHAOS_HISTORY"  # the variable that names where to write
MAX_BACKLOG = 1 << 26  # bytes; nobody is cut off for being slow here

Asked = dict[str, Any]


@http.base_path("/")
@ws.upgrade_path("/", max_backlog=MAX_BACKLOG, max_message_size=1 << 24)
class Chat:
    """Answers each message with what came of it; a push says who pushed it, as which of all, and to whom."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.file = os.open(Path(os.environ[FOLDER]) / f"{os.getpid()}.jsonl", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    @property
    def node(self) -> str:
        """The id of this node."""
        return str(counted("any", None)[0].node.decode())

    def note(self, what: str, at: float | None = None, **more: object) -> None:
        """Write something down."""
        line = {"what": what, "at": time.monotonic() if at is None else at, "node": self.node, **more}
        os.write(self.file, json.dumps(line).encode() + b"\n")

    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        connection.push_text(json.dumps({"node": self.node, "pid": os.getpid()}))

    @ws.on_text_message
    async def asked(self, connection: ws.Connection, text: str) -> str:
        asked = json.loads(text)
        try:
            result = getattr(self, f"do_{asked['do']}")(connection, asked)
            if asyncio.iscoroutine(result):
                result = await result
        except GroupRemovedError:
            result = "removed"
        return json.dumps({"answer": asked["number"], "result": result})

    # --- What may be asked for.

    def do_join(self, connection: ws.Connection, asked: Asked) -> None:
        connection.join(asked["name"])

    def do_leave(self, connection: ws.Connection, asked: Asked) -> None:
        connection.leave(asked["name"])

    def do_store(self, connection: ws.Connection, asked: Asked) -> None:
        connection.store(asked["name"])

    def do_forget(self, _: ws.Connection, asked: Asked) -> bool:
        return ws.remove_stored_connection(asked["name"])

    def do_remove(self, _: ws.Connection, asked: Asked) -> bool:
        at = time.monotonic()
        removed = ws.remove_connection_group(asked["name"])
        if removed:
            self.note("word", at, name=asked["name"], removed=True)
        return removed

    def do_create(self, _: ws.Connection, asked: Asked) -> None:
        at = time.monotonic()
        ws.create_connection_group(asked["name"])
        self.note("word", at, name=asked["name"], removed=False)

    async def do_count(self, _: ws.Connection, asked: Asked) -> tuple[int, bool]:
        count = await ws.count(asked.get("name"))
        return int(count), count.complete

    def do_push(self, connection: ws.Connection, asked: Asked) -> int:
        """Push to a group, a name or all of the service; what is left out is the connection that asks."""
        number, at = next(self.numbers), time.monotonic()
        kind, name = asked["to"]
        but = connection if asked.get("but") else None
        text = json.dumps(
            {
                "from": [self.node, number],
                "to": [kind, name],
                "but": asked["by"] if but is not None else None,
                "pad": "x" * asked.get("pad", 0),
            }
        )
        if kind == "group":
            delivery = ws.push_text_to_group(name, text, exclude=but)
        elif kind == "connection":
            delivery = ws.push_text_to_connection(name, text)
        else:
            delivery = ws.broadcast_text(text, exclude=but)
        told = {"number": number, "to": [kind, name], "published": delivery.published}
        self.note("push", at, **told, here=delivery.matched, by=asked["by"], but=but is not None)
        return number

    # --- What happens to the node.

    @ws.on_backplane
    def told(self, state: str, node: str | None, target: tuple[str, str] | None, missing: int) -> None:
        self.note("state", state=state, whose=node, target=target, missing=missing)

    @ws.on_start(once=True)
    async def lead(self) -> None:
        self.note("leads")
        try:
            await asyncio.Event().wait()
        finally:
            self.note("leads no more")
