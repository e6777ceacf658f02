"""How a node proves to a NATS server who it is without telling it a secret: it signs the nonce of its INFO."""

from __future__ import annotations

import base64
import importlib
import re
from typing import Any, Final

from ..errors import ConfigurationError
from .address import Address

__all__ = ["Key", "why"]

MAX_FILE: Final = 1 << 16  # bytes of credentials
_JWT: Final = re.compile(r"-+BEGIN NATS USER JWT-+\s+(\S+)\s+-+END NATS USER JWT-+")
_SEED: Final = re.compile(r"^\s*(S[A-Z2-7]{20,})\s*$", re.MULTILINE)


class Key:
    """A seed to sign with, out of a file that is read whenever it is used: it may be renewed meanwhile.

    Args:
        path: of the file.
        with_jwt: whether it has credentials, a JWT and a seed, and not a seed alone.

    Raises:
        ConfigurationError: there is no library to sign with.
        ValueError: the file has not what it should.
        OSError: it cannot be read.
    """

    def __init__(self, path: str, *, with_jwt: bool) -> None:
        self._path = path
        self._with_jwt = with_jwt
        try:
            self._nkeys = importlib.import_module("nkeys")
        except ImportError:
            raise ConfigurationError("backplane: creds and nkey need a library: install fastws[nats]") from None
        self.sign({})

    @classmethod
    def of(cls, address: Address) -> Key | None:
        """Return what a URL names, if it does.

        Raises:
            ConfigurationError: it names two, or it cannot be used.
        """
        given = [name for name in ("creds", "nkey") if name in address.parameters]
        if len(given) > 1:
            address.refuse("creds and nkey are given, and one is enough")
        try:
            return cls(address.parameters[given[0]], with_jwt=given == ["creds"]) if given else None
        except (OSError, ValueError) as error:
            address.refuse(f"the file of {given[0]} is of no use: {why(error)}")

    def sign(self, info: dict[str, Any]) -> dict[str, str]:
        """Return how to answer a server's INFO.

        Raises:
            ValueError: the file has not what it should.
            OSError: it cannot be read.
        """
        with open(self._path, encoding="ascii", errors="replace") as file:
            text = file.read(MAX_FILE)
        try:
            pair = self._nkeys.from_seed(_find(_SEED, text, "seed").encode())
        except self._nkeys.NkeysError:
            raise ValueError("it has a seed that is none") from None
        nonce = str(info.get("nonce", "")).encode()
        said = {"sig": base64.urlsafe_b64encode(pair.sign(nonce)).rstrip(b"=").decode()}
        if self._with_jwt:
            return {"jwt": _find(_JWT, text, "JWT"), **said}
        return {"nkey": pair.public_key.decode(), **said}


def _find(pattern: re.Pattern[str], text: str, what: str) -> str:
    found = pattern.search(text)
    if found is None:
        raise ValueError(f"it has no {what}")
    return found[1]


def why(error: OSError | ValueError) -> str:
    """Return what is wrong with a file, and nothing of what it has."""
    return (error.strerror or "it cannot be read").lower() if isinstance(error, OSError) else str(error)
