"""Certificates: the TLS context of a server, and how it changes while the server runs.

A context that we made ourselves is never changed: a renewal makes another one, and connections are accepted with
whichever is the present one. So a certificate that cannot be loaded leaves everything as it was, and a new key may be
of another kind than the old one. The context of a user is theirs, and so a new certificate is loaded into it.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..options import ServerOptions

__all__ = ["Files", "Tls"]

_Path = str | os.PathLike[str]


class Files(NamedTuple):
    """The files of a certificate.

    Attributes:
        certfile: PEM, the certificate and those that vouch for it up to the root.
        keyfile: PEM, its private key; None when that is in `certfile` too.
        password: of the private key, None when it is not encrypted.
    """

    certfile: _Path
    keyfile: _Path | None = None
    password: str | None = None


class Tls:
    """The TLS of a server.

    Args:
        files: the certificate, None when the context has one.
        client_ca: PEM, the authorities of which a client must have a certificate; None asks for none.
        context: a context of the user's, instead of `files`.

    Attributes:
        context: what the next connection is accepted with.

    Raises:
        ConfigurationError: a file cannot be read or is not what it should be.
    """

    def __init__(self, files: Files | None, client_ca: _Path | None, context: ssl.SSLContext | None = None) -> None:
        self._files = files
        self._client_ca = client_ca
        self._is_ours = context is None
        if context is None:
            assert files is not None
            context = _make_context(files, client_ca)
        self.context = context

    @classmethod
    def from_options(cls, options: ServerOptions) -> Tls | None:
        """Return what the options of a server say about TLS; None without."""
        if options.certfile is not None:
            files = Files(options.certfile, options.keyfile, options.keyfile_password)
            return cls(files, options.client_ca)
        return None if options.ssl is None else cls(None, None, options.ssl)

    @property
    def can_reload(self) -> bool:
        """Whether there are files to read again."""
        return self._files is not None

    def reload(self, files: Files | None) -> None:
        """Take another certificate for the connections to come.

        Args:
            files: the new one; None reads the files again that the server was given.

        Raises:
            ConfigurationError: it cannot be loaded, and the old one stays; or it is not known what to load.
        """
        files = files or self._files
        if files is None:
            raise ConfigurationError("reload_certificate: give certfile, since the server was given an SSLContext")
        if self._is_ours:
            self.context = _make_context(files, self._client_ca)
        else:
            # What fails half way would leave a context that is neither the old nor the new one
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)
            _load(self.context, files)


def _make_context(files: Files, client_ca: _Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client of TLS 1.2 could make us compute handshakes without end on one connection
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load(context, files)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:
            _refuse(f"client_ca {os.fspath(client_ca)}", error)
    return context


def _load(context: ssl.SSLContext, files: Files) -> None:
    try:
        # Without a password OpenSSL would ask for it at the terminal, and wait
        context.load_cert_chain(files.certfile, files.keyfile, files.password or _no_password)
    except OSError as error:
        key = "" if files.keyfile is None else f" with keyfile {os.fspath(files.keyfile)}"
        _refuse(f"certfile {os.fspath(files.certfile)}{key}", error)


def _no_password() -> str:
    raise ConfigurationError("the private key is encrypted; give its password")


def _refuse(what: str, error: OSError) -> NoReturn:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").replace("_", " ").lower() or "it holds no PEM of that kind"
    else:
        reason = os.strerror(error.errno or 0)
    raise ConfigurationError(f"{what} cannot be loaded: {reason}") from error
