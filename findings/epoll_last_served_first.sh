#!/usr/bin/env bash
# A level-triggered epoll names the socket first that was served last, whichever has waited longer.
#
# Versions: Linux 6.18, uvloop 0.22.1, CPython 3.11.7.
# Behaviour: what epoll_wait has returned stays on the list of what may be ready, since it is level-triggered, and only the
#   next call looks whether it still is. A socket that becomes ready meanwhile stands behind it. So if both have data by
#   then, the one that was just served comes first, although the other's came earlier; and each time anew. asyncio and
#   uvloop handle sockets in the order in which epoll names them. Edge-triggered, the order is that of arrival.
# Why it matters: a server that has a message from A and is told of it by B may handle B first. "It was sent before, so it
#   is read before" does not hold between two sockets of one loop, however long the loop was away.
# Seen:
#   epoll, level-triggered: B A
#   epoll, edge-triggered: A B
#   asyncio: B A
#   uvloop 0.22.1: B A
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check uvloop==0.22.1

"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import asyncio
import select
import socket

import uvloop


def by_epoll(flags):
    """Serve B; then A gets data, then B; in which order are they named?"""
    (a, to_a), (b, to_b) = socket.socketpair(), socket.socketpair()
    names = {a.fileno(): "A", b.fileno(): "B"}
    poll = select.epoll()
    for sock in (a, b):
        poll.register(sock, select.EPOLLIN | flags)
    to_b.send(b"1")
    assert [names[found] for found, _ in poll.poll()] == ["B"]
    b.recv(1)
    to_a.send(b"2")
    to_b.send(b"3")
    return [names[found] for found, _ in poll.poll()]


class Notes(asyncio.Protocol):
    def __init__(self, name, seen, then):
        self.name, self.seen, self.then = name, seen, then

    def data_received(self, data):
        self.seen.append(self.name)
        then, self.then = self.then, None
        if then:
            then()


async def by_loop():
    """The same with a loop: while it serves B, A gets data and then B."""
    loop = asyncio.get_running_loop()
    (a, to_a), (b, to_b) = socket.socketpair(), socket.socketpair()
    seen = []

    def meanwhile():
        seen.clear()
        to_a.send(b"2")
        to_b.send(b"3")

    for sock, name, then in ((a, "A", None), (b, "B", meanwhile)):
        sock.setblocking(False)
        await loop.create_unix_connection(lambda name=name, then=then: Notes(name, seen, then), sock=sock)
    await asyncio.sleep(0.05)
    to_b.send(b"1")
    while len(seen) < 2:
        await asyncio.sleep(0.01)
    return seen


print("epoll, level-triggered:", *by_epoll(0))
print("epoll, edge-triggered:", *by_epoll(select.EPOLLET))
print("asyncio:", *asyncio.run(by_loop()))
print(f"uvloop {uvloop.__version__}:", *uvloop.run(by_loop()))
PYTHON

diff - "$folder/seen" <<'SEEN'
epoll, level-triggered: B A
epoll, edge-triggered: A B
asyncio: B A
uvloop 0.22.1: B A
SEEN
