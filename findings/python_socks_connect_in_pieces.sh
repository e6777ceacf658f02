#!/usr/bin/env bash
# python-socks 3.2.1 takes what one read brings for the whole answer to HTTP CONNECT, as the versions before do. Where a proxy
# sends its status line and its header fields in two segments, the second one becomes the beginning of what the server says: the
# answer to an opening handshake is then none. So fastws asks for CONNECT itself, and leaves SOCKS to python-socks.
#
# Exits with 1 when that has changed.
set -euo pipefail
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment"
"$environment/bin/pip" -q install "python-socks[asyncio]==3.2.1"
"$environment/bin/python" - <<'PYTHON'
import asyncio
import sys

from python_socks.async_.asyncio import Proxy

ANSWER = (b"HTTP/1.1 200 Connection established\r\n", b"Via: 1.1 proxy\r\n\r\n")


async def main():
    read_first = asyncio.Event()

    async def proxy(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER[0])
        await read_first.wait()
        writer.write(ANSWER[1] + b"hello from the server")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sock = await Proxy.from_url(f"http://127.0.0.1:{port}").connect("example.com", 80)
    read_first.set()
    said = await asyncio.get_running_loop().sock_recv(sock, 100)
    sock.close()
    server.close()
    print("the server says", said)
    return said.startswith(b"Via:")


sys.exit(0 if asyncio.run(main()) else 1)
PYTHON
