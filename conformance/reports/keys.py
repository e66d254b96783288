"""The vendor's key pair: Ed25519, in PEM files that every tool reads."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ...core.spi import Conflict, InvalidArgument


def write_key_pair(path: Path) -> Path:
    """Make a private key at `path`, readable by its owner only, and return the public key's file beside it.

    Raises:
        Conflict: there is a file already: a key that is overwritten is lost.
        OSError: the directory cannot be written.
    """
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        if file.exists():
            raise Conflict(f"{file} exists, and a key that is overwritten is lost: choose another name")
    key = Ed25519PrivateKey.generate()
    # The mode is set when the file is made: a chmod later would leave a moment for others to read.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file_:
        file_.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return public


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read the key that `write_key_pair` made.

    Raises:
        InvalidArgument: others may read the file, or it holds no such key.
        OSError: it cannot be read.
    """
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidArgument(f"others may read the private key {path}: chmod 600 {path}")
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidArgument(f"{path} holds no private key that can be used") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidArgument(f"{path} holds no Ed25519 key: make one with `bollard conformance keygen`")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key.

    Raises:
        InvalidArgument: it is none.
        OSError: the file cannot be read.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidArgument(f"{path} holds no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidArgument(f"{path} holds no Ed25519 key")
    return key
