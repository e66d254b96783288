"""TLS in both directions: each side shows a certificate that the one authority has signed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from ..spi import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: our certificate (with its chain), its key, and the authority of our peers."""

    certificate: Path
    key: Path
    authority: Path


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return how we connect: TLS 1.2 or later; the peer's name is checked.

    Raises:
        InvalidArgument: a file cannot be used.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return how we listen: TLS 1.2 or later; who shows no certificate of the authority is refused.

    Raises:
        InvalidArgument: a file cannot be used.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)


def _loaded(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
        context.load_verify_locations(files.authority)
    except (OSError, ssl.SSLError, ValueError) as error:
        names = f"{files.certificate}, {files.key}, {files.authority}"
        raise InvalidArgument(f"TLS cannot be set up with {names}: {error}") from error
    return context


def _no_password() -> str:
    """Answer OpenSSL, which would ask at the terminal for the password of an encrypted key."""
    raise ValueError("the key is encrypted; give one that is not, readable for its owner alone")
