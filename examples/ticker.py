"""A service with background work of its own: everybody gets the time, once a second.

    fastws run examples/ticker.py

An `async` method with `ws.on_start` is cancelled when the server stops. One moment is one frame, however many listen.
"""

import asyncio
from datetime import datetime, timezone

from fastws import http, ws


@http.base_path("/ticker")
@ws.upgrade_path("/websocket")
class Ticker:
    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds

    @ws.on_start
    async def tick(self) -> None:
        while True:
            ws.broadcast_text(datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
            await asyncio.sleep(self.seconds)
