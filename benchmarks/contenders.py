"""Who is compared end to end: how each server, and each client, is started, and what it cannot do."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = Path(__file__).parent / "peers"
CLIENT_PROGRAMS = Path(__file__).parent / "clients"


@dataclass(frozen=True)
class Peer:
    """A library, in one of its ways.

    Attributes:
        name: as tables show it.
        program: what `peers/` calls it.
        variant: one of the program's own, if it has several.
        packages: those whose versions decide what is measured.
        cannot: of "deflate" and "tls", what it has not, and why it is not measured there.
    """

    name: str
    program: str
    variant: str = ""
    packages: tuple[str, ...] = ()
    cannot: dict[str, str] = field(default_factory=dict)

    def command(self, binaries: Path, mode: str, deflate: bool, certificate: Path | None) -> list[str]:
        """Return how it is started; it prints its port."""
        if self.program == "floor":
            return [str(binaries / "floor"), mode]
        command = [sys.executable, str(PROGRAMS / f"{self.program}_server.py"), mode]
        if self.variant:
            command += ["--variant", self.variant]
        if deflate:
            command += ["--deflate"]
        if certificate:
            command += ["--certificate", str(certificate)]
        return command

    def client_command(self, port: int, *arguments: str) -> list[str]:
        """Return how its client is started, which prints what it found."""
        program = str(CLIENT_PROGRAMS / f"{self.program}_client.py")
        return [sys.executable, program, "--port", str(port), "--variant", self.variant, *arguments]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("floor", "floor", cannot={"deflate": "the floor has no compression", "tls": "the floor has no TLS"}),
        Peer("fastws", "fastws", packages=("uvloop", "httptools")),
        Peer("fastws async", "fastws", "async"),
        Peer("picows", "picows", packages=("picows", "aiofastnet"), cannot={"deflate": "picows has no compression"}),
        Peer("websockets", "websockets", packages=("websockets",)),
        Peer("aiohttp", "aiohttp", packages=("aiohttp",)),
        Peer("socketify", "socketify", packages=("socketify",)),
        Peer("uvicorn websockets", "uvicorn", "websockets", packages=("uvicorn",)),
        Peer("uvicorn sansio", "uvicorn", "websockets-sansio"),
        Peer("uvicorn wsproto", "uvicorn", "wsproto", packages=("wsproto",)),
        Peer("tornado", "tornado", packages=("tornado",)),
    )
}
CLIENTS = {
    peer.name: peer
    for peer in (
        Peer("floor", "floor"),
        Peer("fastws called", "fastws", "called"),
        Peer("fastws awaited", "fastws"),
        Peer("picows", "picows"),
        Peer("websockets", "websockets"),
        Peer("aiohttp", "aiohttp"),
    )
}
PACKAGES = [package for peer in PEERS.values() for package in peer.packages]
