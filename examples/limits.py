"""Limits: what a client may send, from where, how long it may be silent and how far it may fall behind.

    fastws run examples/limits.py

What breaks a limit ends with a close code of its own: 1009 for a message that is too large, 1013 for a client that does
not read, 1011 for one that does not answer a ping; a browser on another site gets a 403 before anything opens.
"""

from fastws import http, ws


@http.base_path("/limits")
@ws.upgrade_path(
    "/websocket",
    max_message_size=1024,  # bytes
    max_backlog=64 * 1024,  # bytes that may wait for a client that does not read
    idle_timeout=30.0,  # seconds
    ping_interval=10.0,
    ping_timeout=5.0,
    allowed_origins=["http://127.0.0.1:9090", "https://example.com"],
)
class Limits:
    @ws.on_text_message
    def received(self, connection: ws.Connection, text: str) -> str:
        connection.attributes["warned"] = False
        return f"{len(text)} characters"

    @ws.on_idle_timeout
    def idle(self, connection: ws.Connection) -> None:
        if connection.attributes.get("warned"):
            connection.close(1000, "you are asleep")
        else:
            connection.attributes["warned"] = True
            connection.push_text("are you still there?")
