"""What every peer's program begins with: `python PEER.py MODE [options]` listens at a free port and prints it.

MODE is echo (send every message back) or broadcast (send every message to all connections). No message is too large,
and nobody logs that load goes away without a word; all else is as the library has it by default.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

import uvloop

HOST = "127.0.0.1"
BACKLOG = 4096
MAX_SIZE = 1 << 30

_parser = argparse.ArgumentParser(description=__doc__)
_parser.add_argument("mode", choices=["echo", "broadcast"])
_parser.add_argument("--variant", default="", help="which of the library's own ways")
_parser.add_argument("--deflate", action="store_true", help="permessage-deflate, as the library has it by default")
_parser.add_argument("--certificate", metavar="FILE", help="speak TLS; the file holds the key, too")
OPTIONS = _parser.parse_args()

logging.disable()


def tls_context() -> ssl.SSLContext | None:
    if not OPTIONS.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(OPTIONS.certificate)
    return context


def run(listen: Callable[[], Awaitable[int]]) -> None:
    """Serve on uvloop until killed; `listen` returns the port."""

    async def main() -> None:
        print(await listen(), flush=True)
        await asyncio.Event().wait()

    uvloop.run(main())
