"""The smallest service: what a handler returns is the reply.

    fastws run examples/echo.py

Clients connect to ws://127.0.0.1:9090/echo/websocket.
"""

from fastws import http, ws


@http.base_path("/echo")
@ws.upgrade_path("/websocket")
class Echo:
    @ws.on_text_message
    def text(self, text: str) -> str:
        return text

    @ws.on_binary_message
    def binary(self, data: bytes) -> bytes:
        return data
