"""Certificates of an authority that exists as long as the tests run."""

from __future__ import annotations

import atexit
import datetime as dt
import functools
import ssl
import tempfile
from pathlib import Path

import trustme


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def authority_file() -> str:
    """The certificate of the authority in a file that lives as long as the process."""
    with tempfile.NamedTemporaryFile(prefix="fastws-", suffix=".pem", delete=False) as file:
        file.write(authority().cert_pem.bytes())
    atexit.register(Path(file.name).unlink)
    return file.name


@functools.cache
def _certificate() -> trustme.LeafCert:
    return authority().issue_cert("localhost", "127.0.0.1", "::1")


def server_context() -> ssl.SSLContext:
    """For a server at localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certificate().configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """For a client that trusts our authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


def show_certificate(context: ssl.SSLContext, name: str, *, issuer: trustme.CA | None = None, expired: bool = False):
    """Have a client show a certificate in this name."""
    end = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1) if expired else None
    (issuer or authority()).issue_cert(common_name=name, not_after=end).configure_cert(context)


class Files:
    """A server's certificate in files of a folder, which can be renewed."""

    def __init__(self, folder: Path) -> None:
        self.certfile = folder / "certificate.pem"
        self.keyfile = folder / "key.pem"
        self.client_ca = folder / "authority.pem"
        authority().cert_pem.write_to_path(self.client_ca)
        self.renew()

    def renew(self, key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> int:
        """Write another certificate; returns its serial number."""
        certificate = authority().issue_cert("localhost", "127.0.0.1", key_type=key_type)
        self.keyfile.unlink(missing_ok=True)
        self.certfile.unlink(missing_ok=True)
        certificate.private_key_pem.write_to_path(self.keyfile)
        for i, pem in enumerate(certificate.cert_chain_pems):
            pem.write_to_path(self.certfile, append=i > 0)
        return serial_of(certificate.cert_chain_pems[0].bytes())

    def in_one(self) -> Path:
        """The certificate and its key in one file."""
        both = self.certfile.with_name("both.pem")
        both.write_bytes(self.keyfile.read_bytes() + self.certfile.read_bytes())
        return both


def serial_of(pem: bytes) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem).serial_number
