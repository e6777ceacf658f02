#!/usr/bin/env bash
# CPython 3.11, asyncio: a protocol that closes its transport in resume_writing(), because all that it had to say is sent,
# has its connection lost twice: the loop's exception handler gets an AttributeError of asyncio's own.
#
# The transport tells the protocol that there is room, and looks afterwards whether it is closing. close() finds an empty
# buffer and schedules the end of the connection; back in the transport, which is closing now and has nothing left, the
# connection ends at once. What was scheduled finds no protocol and no socket any more. With uvloop nothing happens.
# Closing in the next turn of the loop, by call_soon(), is the way around.
#
# Seen: with asyncio connection_lost() runs once, and the exception handler is called with
# "'NoneType' object has no attribute 'close'". With uvloop 0.23.0 the handler is not called.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq uvloop==0.23.0
"$folder/venv/bin/python" - <<'END'
import asyncio, sys

import uvloop


class Speaker(asyncio.Protocol):
    """Says much, and closes when it is told that all of that has left."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.count = 0

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=0)
        transport.write(bytes(1 << 23))

    def resume_writing(self) -> None:
        self.transport.close()

    def connection_lost(self, error) -> None:
        self.count += 1
        if not self.lost.done():
            self.lost.set_result(None)


async def main() -> tuple[int, list[str]]:
    loop = asyncio.get_running_loop()
    told: list[str] = []
    loop.set_exception_handler(lambda loop, context: told.append(str(context.get("exception"))))
    speakers: list[Speaker] = []

    def speak() -> Speaker:
        speakers.append(Speaker())
        return speakers[-1]

    server = await loop.create_server(speak, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await asyncio.wait_for(reader.read(-1), 30)
    await asyncio.wait_for(speakers[0].lost, 30)
    await asyncio.sleep(0.1)
    writer.close()
    server.close()
    return speakers[0].count, told


seen = {}
for name, factory in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
    with asyncio.Runner(loop_factory=factory) as runner:
        seen[name] = runner.run(main())
    print(f"CPython {sys.version.split()[0]}, {name}: connection_lost() {seen[name][0]} time(s); told: {seen[name][1]}")
assert seen["asyncio"] == (1, ["'NoneType' object has no attribute 'close'"]), "this has changed"
assert seen["uvloop"] == (1, []), "this has changed"
END
