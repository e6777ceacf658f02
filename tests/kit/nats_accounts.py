"""An operator of NATS with an account and a user: the configuration of a server, and the credentials of the user."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys


def pair(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def jwt(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, kind: str) -> str:
    claims: dict[str, Any] = {"iat": int(time.time()), "iss": issuer.public_key.decode(), "name": kind}
    claims |= {"sub": subject.public_key.decode(), "nats": {"type": kind, "version": 2}}
    if kind == "account":
        unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        claims["nats"]["limits"] = {**unlimited, "wildcards": True}
    elif kind == "user":
        claims["nats"] |= {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    claims["jti"] = base64.b32encode(hashlib.sha256(_json(claims)).digest()).decode().rstrip("=")
    signed = b".".join(map(_encoded, (_json({"typ": "JWT", "alg": "ed25519-nkey"}), _json(claims))))
    return (signed + b"." + _encoded(issuer.sign(signed))).decode()


def make(folder: Path) -> tuple[str, Path]:
    """The configuration of a server, and the credentials of its user."""
    operator, account, user = map(pair, (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER))
    configuration = (
        f"operator: {jwt(operator, operator, 'operator')}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {account.public_key.decode()}: {jwt(operator, account, 'account')} }}\n"
    )
    path = folder / "user.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt(account, user, 'user')}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return configuration, path


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
