#!/usr/bin/env bash
# uvloop 0.23.0 on CPython 3.11: create_connection(sock=..., ssl=...) to a peer that has reset the connection closes the
# socket's descriptor and leaves the socket object open, with the number of a descriptor that is not its own any more.
#
# The first write of the handshake fails at once then, and the transport that owns the descriptor is closed before the
# socket is attached to it. Whoever closes the socket afterwards, as one does after a failed connection, or lets the
# interpreter do it, closes whatever has the number by then. A reset that comes a moment later is harmless, and asyncio
# closes the socket object in both cases.
#
# Seen: with uvloop fileno() is as before and fstat() of it says EBADF; a file that is opened next gets the number, and is
# closed when the socket is closed and let go of. With asyncio fileno() is -1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq uvloop==0.23.0
"$folder/venv/bin/python" - <<'END'
import asyncio, contextlib, gc, os, socket, ssl, struct, sys

import uvloop


async def connect() -> socket.socket:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, listening.getsockname())
        accepted, _ = await loop.sock_accept(listening)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
    try:
        context = ssl.create_default_context()
        await asyncio.wait_for(asyncio.open_connection(sock=client, ssl=context, server_hostname="localhost"), 10)
    except ConnectionResetError:
        await asyncio.sleep(0.1)
        return client
    raise AssertionError("connected to nobody")


def is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


async def main() -> bool:
    """Tell whether closing the socket closes a file that has nothing to do with it."""
    client = await connect()
    number = client.fileno()
    print(f"  after the reset fileno() is {number}")
    if number == -1 or is_open(number):
        return False
    other = os.open(os.devnull, os.O_RDONLY)
    if other != number:
        os.dup2(other, number)
    client.close()
    del client
    gc.collect()
    return not is_open(number)


seen = {}
for name, factory in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
    with asyncio.Runner(loop_factory=factory) as runner:
        print(f"CPython {sys.version.split()[0]}, {name}:")
        seen[name] = runner.run(main())
        print(f"  closing the socket closes another's file: {seen[name]}")
assert seen == {"asyncio": False, "uvloop": True}, "this has changed"
END
