"""The driver under test, opened wrongly on purpose: other secrets, another address, another place.

What an option means is read from its type and name, as a human would: the suite knows no vendor's options.
"""

from __future__ import annotations

import dataclasses
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core.spi import StorageError
from ..transfer_objects.ids import new_id
from ..transfer_objects.secret import Secret
from .lab import not_applicable

# Options that say which pool, bucket or directory is ours; the first that a driver has is taken.
_PLACES = ("bucket", "container", "pool", "volume_group", "share", "export", "datastore", "path", "directory")
_AUTHORITIES = ("ca", "ca_file", "ca_bundle", "cacert", "ca_cert", "ca_path")

Changes = Mapping[str, Any]


def options_of(driver: Any) -> dict[str, Any]:
    """Return a driver's options by name, as `lab.second` takes them."""
    return {f.name: getattr(driver.options, f.name) for f in dataclasses.fields(driver.options)}


def smallest_parts(driver: Any) -> dict[str, Any]:
    """Return the options that make a store's uploads as many parts as it can, and the size of one.

    `part` (bytes) is set to 5 MiB where the driver has no such option: it is what S3 takes at least.
    """
    fields = {f.name: f.metadata.get("option", {}) for f in dataclasses.fields(driver.options)}
    name = next((n for n in ("part_size", "segment_size", "chunk_size") if n in fields), None)
    part = int(fields[name].get("minimum") or 5 * 2**20) if name else 5 * 2**20
    changes: dict[str, Any] = {name: part} if name else {}
    if "max_single_upload_size" in fields:
        changes["max_single_upload_size"] = 0
    return {"part": part, "options": options_of(driver) | changes}


def wrong_secrets(driver: Any) -> Changes:
    """Return each secret option that is set, with another value."""
    options = options_of(driver)
    found = {
        name: Secret(f"wrong-{new_id()}") for name, value in options.items() if isinstance(value, Secret)
    }
    return found or not_applicable("none of the options that are set is a secret")


def closed_address(driver: Any) -> Changes:
    """Return the option that holds the backend's URL, with a port at which nobody listens."""
    for name, value in options_of(driver).items():
        if isinstance(value, str) and (url := urllib.parse.urlsplit(value)).hostname and url.scheme:
            return {name: url._replace(netloc=f"127.0.0.1:{_free_port()}").geturl()}
    return not_applicable("no option holds a URL")


def missing_place(driver: Any) -> Changes:
    """Return the option that says which place is ours, with one that does not exist."""
    options = options_of(driver)
    name = next((n for n in _PLACES if options.get(n)), None)
    if name is None:
        not_applicable(f"none of the options {', '.join(_PLACES)} is set")
    value = options[name]
    other = f"missing-{new_id()[:8]}"
    return {name: value.with_name(other) if isinstance(value, Path) else other}


def foreign_authority(driver: Any, directory: Path) -> Changes:
    """Return the option that names the authority to trust, with one that has signed nothing."""
    options = options_of(driver)
    name = next((n for n in _AUTHORITIES if options.get(n)), None)
    if name is None:
        not_applicable(
            "no option names an authority: the backend is not reached over TLS with one of its own"
        )
    path = directory / "stranger.pem"
    path.write_bytes(_stranger())
    return {name: path}


@contextmanager
def tampered(driver: Any, changes: Changes) -> Iterator[Any]:
    """Make one more instance of the driver with some options changed; the body opens it, without core.

    Core would take a secret out of the driver's words, and repeat what is refused.
    """
    other = type(driver)(dataclasses.replace(driver.options, **changes))
    try:
        yield other
    finally:
        with suppress(StorageError):  # it was never open; that it may be closed is a check of its own
            other.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stranger() -> bytes:
    """Make the certificate of an authority that nobody knows."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a stranger of the conformance suite")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
