"""One service, two dialects: the client lists subprotocols, the first that the service speaks is used.

    fastws run examples/subprotocols.py

Clients connect to ws://127.0.0.1:9090/sum/websocket and send numbers. Who asks for none of the two is sent away.
"""

import json

from fastws import http, ws


@http.base_path("/sum")
@ws.upgrade_path("/websocket", subprotocols=["sum.json", "sum.text"])
class Sum:
    @ws.on_open
    def opened(self, connection: ws.Connection) -> None:
        if connection.subprotocol is None:
            connection.close(1002, "speak sum.json or sum.text")

    @ws.on_text_message
    def add(self, connection: ws.Connection, text: str) -> str | None:
        try:
            if connection.subprotocol == "sum.json":
                return json.dumps({"sum": sum(json.loads(text))})
            return str(sum(float(number) for number in text.split()))
        except (ArithmeticError, RecursionError, TypeError, ValueError):
            connection.close(1007, "these are no numbers")
            return None
