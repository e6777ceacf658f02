#!/usr/bin/env bash
# simple-websocket 1.1.0 (the client of Flask-SocketIO's and many a script): a message that comes in one piece with the
# server's 101 is not seen until the next byte comes.
#
# RFC 6455 4.1 lets a server send as soon as it has sent its answer, and TCP keeps no borders, so one read may bring both.
# What lies behind the answer is fed to the protocol's reader when the client connects, and its events are looked at only
# after the next recv(). A client that waits for a greeting waits for ever, and gets it with the second message.
#
# Seen: nothing within 2 s while the message is there; with one byte more of the server's (here a second message) both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq simple-websocket==1.1.0 wsproto==1.2.0 h11==0.14.0
"$folder/venv/bin/python" - <<'END'
import base64, hashlib, socket, threading
from importlib.metadata import version

from simple_websocket import Client

more = threading.Event()


def serve(listening: socket.socket) -> None:
    peer, _ = listening.accept()
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    key = next(line.split(b":")[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    peer.sendall(answer + accept + b"\r\n\r\n" + b"\x81\x05first")
    more.wait(30)
    peer.sendall(b"\x81\x06second")
    peer.recv(4096)
    peer.close()


with socket.create_server(("127.0.0.1", 0)) as listening:
    threading.Thread(target=serve, args=(listening,), daemon=True).start()
    client = Client(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
    alone = client.receive(timeout=2)
    more.set()
    both = [client.receive(timeout=5), client.receive(timeout=5)]
    client.close()
print(f"simple-websocket {version('simple-websocket')}: with the 101 came {alone!r}; after the next message {both!r}")
assert alone is None and both == ["first", "second"], "this has changed"
END
