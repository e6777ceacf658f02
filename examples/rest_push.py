"""HTTP in, WebSocket out: a REST service pushes to whoever is connected to another service.

    fastws run examples/rest_push.py

Clients connect to ws://127.0.0.1:9090/inbox/ada?topic=weather. Then

    curl -d 'tea is ready' http://127.0.0.1:9090/push/people/ada
    curl -d 'it rains' http://127.0.0.1:9090/push/topics/weather
"""

from fastws import http, ws


@http.base_path("/inbox")
@ws.upgrade_path("/{name}")
class Inbox:
    @ws.on_open
    def opened(self, connection: ws.Connection, name: str) -> None:
        connection.store(name)
        for topic in filter(None, connection.query.get_all("topic")):
            connection.join(topic)


@http.base_path("/push")
class Push:
    @http.post("/people/{name}")
    def to_one(self, name: str, body: bytes) -> dict[str, int]:
        if not ws.push_text_to_connection(name, body.decode(errors="replace")):
            raise http.Refuse(404, f"{name} is not connected\n")
        return {"pushed": 1}

    @http.post("/topics/{topic}")
    def to_many(self, topic: str, body: bytes) -> dict[str, int]:
        return {"pushed": ws.push_text_to_group(topic, body.decode(errors="replace")).queued}

    @http.delete("/people/{name}")
    def end(self, name: str) -> None:
        ws.close_stored_connection(name, 1000, "closed by the house")
