"""Secrets, credentials and certificates of a primary driver, and what opening it says."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.redact import secrets_of
from ...core.spi import (
    Call,
    DeadlineExceeded,
    NotFound,
    PermissionDenied,
    Snapshots,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from ...transfer_objects.ids import new_id
from ...transfer_objects.secret import Secret
from ..canary import Canary
from ..lab import ContractBroken, Lab, must
from ..registry import check
from ..tampering import closed_address, foreign_authority, missing_place, tampered, wrong_secrets

# Longer than a driver's own connect time-out should be, short enough for a smoke run.
_OPEN_SECONDS = 6.0


def _secrets(lab: Lab) -> list[Any]:
    own = lab.mover.host.chap_secret
    return [*secrets_of(lab.pool.driver.options), *([own] if own else [])]


@check("sec.private_data_has_no_secret", rule="any.secrets")
def check_private_data_has_no_secret(lab: Lab) -> None:
    """No answer of the driver shows a secret: private data, names, identities, nor the repr of a location.

    Answers lie in databases and logs. If it fails: pass a reference, and fetch the secret where it is used.
    """
    volume, host = lab.volume(), lab.host()
    known = [*_secrets(lab), *([host.chap_secret] if host.chap_secret else [])]
    shown: dict[str, object] = {
        "the volume": volume,
        "the pool": lab.pool.info,
        "the options": lab.pool.driver.options,
    }
    if lab.pool.managed:
        shown["the location"] = lab.pool.volumes.grant(volume.id, host)
        shown["the grants"] = lab.pool.volumes.grants(volume.id)
        lab.pool.volumes.revoke(volume.id, host.id)
    else:
        shown["the location"] = lab.pool.volumes.locate(volume.id)
    if isinstance(lab.pool.driver, Snapshots):
        shown["the snapshot"] = lab.snapshot(volume.id)
    shown["the volume with its grant's traces"] = lab.pool.volumes.get(volume.id)
    canary = Canary(known)
    said = [line for where, value in shown.items() for line in canary.told(f"{value!r} {value}", where)]
    must(not said, "; ".join(said))


@check(
    "sec.secret_in_error",
    rule="any.secrets",
    field_bug="glance_store _drivers/s3.py:394: keys are part of the location URI, which errors show",
)
def check_secret_in_error(lab: Lab) -> None:
    """No error of the driver shows a secret, also where the backend repeats it in its answer.

    Asked without core, which would take it out: wrong credentials, a CHAP secret for a volume that is not
    there, an unknown pool. If it fails: the backend's words are passed on as they are.
    """
    driver: Any = lab.pool.driver
    host = dataclasses.replace(lab.host(), chap_user="x" * 300)
    # Not within any storage's limits: what is refused for its own sake is what a message repeats. One part
    # of it is looked for, because a message may be cut off.
    part = Secret(new_id())
    bad = dataclasses.replace(lab.host(), chap_secret=Secret(f"{part.reveal()} " * 10))
    canary = Canary([*_secrets(lab), *(s for s in (host.chap_secret, part) if s)])
    said: list[str] = []
    calls: list[Callable[[], object]] = [lambda: driver.get_volume(lab.new_id(), lab.call())]
    if lab.pool.managed:
        volume = lab.volume().id
        calls += [
            lambda: driver.grant(lab.new_id(), host, lab.call()),
            lambda: driver.grant(volume, host, lab.call()),
            lambda: driver.grant(volume, bad, lab.call()),
            lambda: driver.grant(volume, dataclasses.replace(host, iqn="no iqn"), lab.call()),
        ]
    for act in calls:
        try:
            act()
        except StorageError as error:
            said += canary.in_error(error)
    must(not said, "; ".join(said[:3]))


@check("sec.wrong_credentials_typed", rule="pool.open-typed")
def check_wrong_credentials_typed(lab: Lab) -> None:
    """Wrong credentials give `Unauthenticated` or `PermissionDenied`, and the error shows none of them.

    If it fails with another error: look at how 401 and 403 are told. With a secret: the backend repeats
    what it refuses, and the driver passes that on.
    """
    changes = wrong_secrets(lab.pool.driver)
    canary = Canary([*_secrets(lab), *changes.values()])
    with tampered(lab.pool.driver, changes) as other:
        try:
            other.open(Call.within(_OPEN_SECONDS))
        except (Unauthenticated, PermissionDenied) as error:
            must(error.outcome.value == "not_applied", f"a refused login claims the outcome {error.outcome}")
            must(not (said := canary.in_error(error)), "; ".join(said[:3]))
            return
        except StorageError as error:
            raise ContractBroken(f"wrong credentials give {type(error).__name__}: {error.outcome}") from error
    raise ContractBroken("the pool opens with wrong credentials")


@check("pool.open_unreachable", rule="pool.open-typed")
def check_open_unreachable(lab: Lab) -> None:
    """A backend that does not answer gives `Unavailable` or `DeadlineExceeded` when the pool is opened.

    If it fails with `Internal`: the HTTP library's error for a refused connection is not known.
    """
    with tampered(lab.pool.driver, closed_address(lab.pool.driver)) as other:
        try:
            other.open(Call.within(2))
        except (Unavailable, DeadlineExceeded):
            return
        except StorageError as error:
            raise ContractBroken(f"it gives {type(error).__name__}: {error}") from error
    raise ContractBroken("the pool opens at a port where nobody listens")


@check("pool.open_missing", rule="pool.open-typed")
def check_open_missing(lab: Lab) -> None:
    """A pool or directory that does not exist gives `NotFound` each time: opening makes nothing.

    If it fails: a misspelt name is made, and fills the wrong disk.
    """
    changes = missing_place(lab.pool.driver)
    for _ in range(2):
        with tampered(lab.pool.driver, changes) as other:
            try:
                other.open(Call.within(_OPEN_SECONDS))
            except NotFound:
                continue
            except StorageError as error:
                raise ContractBroken(f"it gives {type(error).__name__}: {error}") from error
        raise ContractBroken("a pool that does not exist was opened")


@check(
    "sec.tls_verified",
    rule="any.tls",
    field_bug="CVE-2010-4340 (Apache Libcloud): certificates were not verified by default",
)
def check_tls_verified(lab: Lab) -> None:
    """With an authority that did not sign the array's certificate the pool does not open, nor without TLS.

    If it fails: the option is not handed to the HTTP library, or its error starts a second try without.
    """
    with tempfile.TemporaryDirectory() as directory:
        changes = foreign_authority(lab.pool.driver, Path(directory))
        with tampered(lab.pool.driver, changes) as other:
            try:
                other.open(Call.within(_OPEN_SECONDS))
            except StorageError as error:
                must(not isinstance(error, NotFound), f"it gives {type(error).__name__}: {error}")
                return
    raise ContractBroken("the pool opens with an authority that has not signed its certificate")
