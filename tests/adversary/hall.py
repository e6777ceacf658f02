"""The server that is attacked: a service that does what services do, and a process that serves it.

`python -m tests.adversary.hall OPTIONS` listens at a free port of 127.0.0.1 and prints it; the options are those of
`serve`, as JSON, and `tls`. For each line that it reads it prints who is connected, until there are no more lines.
"""

from __future__ import annotations

import asyncio
import json
import sys

import fastws
from fastws import _speedups, http, ws

from ..kit import certificates

PATH = "/hall"
CROWD = "crowd"

SHOUT = "!" * (1 << 14)
BOOK = "b" * (1 << 18)


@http.base_path(PATH)
@ws.upgrade_path("/", max_backlog=1 << 18, ping_interval=1.0, ping_timeout=4.0)
class Hall:
    """Echoes; what begins with "all" goes to everybody, and who joins the crowd hears what is shouted there."""

    @ws.on_text_message
    def said(self, text: str) -> str | None:
        if text.startswith("all "):
            ws.broadcast_text(text)
        elif text == "join":
            ws.add_connection_to_group(CROWD)
        elif text == "shout":
            ws.push_text_to_group(CROWD, SHOUT)
        else:
            return text
        return None

    @ws.on_binary_message
    def sent(self, data: bytes) -> bytes:
        return data

    @http.get("/motd")
    def motd(self) -> str:
        return "be kind"

    @http.get("/book")
    def book(self) -> str:
        return BOOK

    @http.post("/notes")
    def note(self, request: http.Request) -> str:
        return f"{len(request.body)} bytes"


# Seconds: short ones, so that whoever only holds on is gone soon. Nobody may use up more than GONE_WITHIN of them, nor
# of the five in which HTTP waits for the end of one that it refused; the ticks of the timers are in it.
TIMEOUTS = {"handshake_timeout": 4.0, "keep_alive_timeout": 4.0, "close_timeout": 1.0}
GONE_WITHIN = 12.0


def present(server: fastws.Server) -> dict[str, int]:
    """Who is connected, and what is incomplete or unsent."""
    counts = _speedups.live_objects()
    here = {"websockets": len(server.connections(Hall)), "http": len(server.http_connections)}
    here["handshakes"] = server._site.limits.handshakes
    return here | {name: counts[name] for name in ("chunks", "backlogs", "partials")}


async def main(*, tls: bool, **options: float) -> None:
    loop = asyncio.get_running_loop()
    async with fastws.serve(Hall, port=0, ssl=certificates.server_context() if tls else None, **options) as server:
        print(server.addresses[0][1], flush=True)
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(present(server)), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(**json.loads(sys.argv[1])))
