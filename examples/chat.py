"""A chat with rooms (groups), a broadcast, and whispers (stored connections). It serves its own page.

    fastws run examples/chat.py

Then open http://127.0.0.1:9090/chat/ in two windows. Page and service speak JSON: a client says what to `do`, the
service says which `event` happened.

It is one chat also in several processes, and on several machines that name the same engine:

    fastws run examples/chat.py --workers 4
    fastws run examples/chat.py --workers 4 --backplane nats://localhost:4222
    fastws run examples/chat.py --workers 4 --backplane redis://localhost:6379

So the service keeps nothing of its own: who is here the pages tell each other, and whether a name is free all nodes do.
"""

import json
from pathlib import Path

from fastws import http, ws

PAGE = Path(__file__).with_suffix(".html")
MAX_NAME = 24  # characters


def event(kind: str, **fields: object) -> str:
    return json.dumps({"event": kind, **fields})


def is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name == name.strip() and name.isprintable()


@http.base_path("/chat")
@ws.upgrade_path("/websocket", max_message_size=4096)
class Chat:
    @http.get("/")
    def page(self) -> http.Response:
        return http.Response(PAGE.read_bytes(), headers={"Content-Type": "text/html; charset=utf-8"})

    @ws.on_text_message
    async def received(self, connection: ws.Connection, text: str) -> str | None:
        try:
            command = json.loads(text)
        except (ValueError, RecursionError):
            command = None
        me = connection.attributes.get("name")
        if me is None:
            return await self.enter(connection, command)
        return await self.obey(connection, me, command)

    async def enter(self, connection: ws.Connection, command: object) -> str | None:
        match command:
            case {"do": "enter", "name": str(name)} if is_name(name):
                if await ws.locate(name):
                    return event("taken", name=name)
                connection.attributes["name"] = name
                ws.store_connection(name)
                ws.broadcast_text(event("entered", name=name), exclude=connection)
                return event("welcome", name=name)
        ws.close_connection(1008, "enter with a name first")
        return None

    async def obey(self, connection: ws.Connection, me: str, command: object) -> str | None:
        match command:
            case {"do": "join", "room": str(room)} if is_name(room):
                ws.add_connection_to_group(room)
                ws.push_text_to_group(room, event("joined", room=room, name=me))
            case {"do": "leave", "room": str(room)} if room in connection.groups:
                ws.push_text_to_group(room, event("left", room=room, name=me))
                ws.remove_connection_from_group(room)
            case {"do": "say", "room": str(room), "text": str(text)} if room in connection.groups:
                ws.push_text_to_group(room, event("said", room=room, name=me, text=text))
            case {"do": "shout", "text": str(text)}:
                ws.broadcast_text(event("shouted", name=me, text=text))
            case {"do": "greet", "to": str(name)} if is_name(name):
                ws.push_text_to_connection(name, event("here", name=me))
            case {"do": "whisper", "to": str(name), "text": str(text)} if is_name(name):
                if not await ws.locate(name):
                    return event("nobody", name=name)
                ws.push_text_to_connection(name, event("whispered", name=me, to=name, text=text))
                if name != me:
                    return event("whispered", name=me, to=name, text=text)
            case _:
                ws.close_connection(1008, "not understood")
        return None

    @ws.on_close
    def closed(self, connection: ws.Connection) -> None:
        name = connection.attributes.get("name")
        if name is not None:
            ws.broadcast_text(event("gone", name=name))
