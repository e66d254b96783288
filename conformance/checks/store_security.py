"""Secondary stores under hostile input: keys that want out, credentials, certificates, secrets."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...core.redact import secrets_of
from ...core.spi import (
    Body,
    Call,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from ..canary import Canary
from ..lab import ContractBroken, NotApplicable, must, not_applicable
from ..registry import check
from ..store_lab import StoreLab
from ..tampering import closed_address, foreign_authority, missing_place, tampered, wrong_secrets

STORES = ("image-store",)
_REFUSED = (InvalidArgument, LimitExceeded)
# Longer than a driver's own connect time-out should be, short enough for a smoke run.
_OPEN_SECONDS = 6.0


def _opening_fails(driver: Any, call: Call) -> StorageError:
    """Open an instance that must not open, and return its error.

    Raises:
        NotApplicable: it opens; then the backend lets everybody in, and nothing can be said of the driver.
    """
    try:
        driver.open(call)
    except StorageError as error:
        return error
    return not_applicable("it opens all the same: this backend lets everybody in")


@check(
    "sec.store_keys_stay_inside",
    rule="any.text",
    kinds=STORES,
    field_bug="CVE-2015-5313 (libvirt): a volume name with '../' left the pool",
)
def check_store_keys_stay_inside(lab: StoreLab) -> None:
    """The driver itself refuses keys that leave its root, and they reach no object by another way.

    Core refuses them too; a driver is also used without it. If it fails: the key is joined to a path.
    """
    key = f"{lab.prefix}/victim"
    lab.store.put(key, Body.of(b"safe"), lab.call())
    driver = lab.store.driver
    ways = ("./", "x/../", "../", "/", "//", "x/./../")
    for hostile in (
        *(f"{way}{key}" for way in ways),
        f"{lab.prefix}/../{key}",
        f"{key}\0",
        f"{key}\n",
        ".",
        "",
    ):
        for act in (
            lambda k: b"".join(driver.get(k, lab.call())),
            lambda k: driver.head(k, lab.call()),
            lambda k: driver.put(k, Body.of(b"evil"), lab.call()),
            lambda k: driver.delete(k, lab.call()),
        ):
            try:
                act(hostile)
            except (*_REFUSED, NotFound):
                continue
            raise ContractBroken(f"the key {hostile!r} was taken by the driver")
    must(lab.read(key) == b"safe", "a hostile key reached the object")


@check("sec.store_keys_are_text", rule="any.text", kinds=STORES)
def check_store_keys_are_text(lab: StoreLab) -> None:
    """Keys that look like a query, an escape, a tag, a command or another key each have their own object.

    If it fails: a key went into a URL, an XML document or a shell without being escaped there.
    """
    with tempfile.TemporaryDirectory() as directory:
        spy = f"{directory}/canary".replace("/", "%2f")
        names = [
            "a",
            "a?b=c",
            "a#b",
            "a&amp;b",
            "a&b",
            "a%00",
            "a%2e%2e%2fb",
            "<a>",
            "]]>",
            "a;b",
            "a\\b",
            "a:b",
        ]
        names += [
            "$(touch canary)",
            f"`touch {spy}`",
            "| touch canary",
            "-rf",
            "{a}",
            "a'b",
            'a"b',
            "a\u202eb",
        ]
        folder, kept = lab.key(), []
        for name in names:
            with suppress(*_REFUSED):
                lab.store.driver.put(f"{folder}/{name}", Body.of(name.encode()), lab.call())
                kept.append(name)
        wrong = [n for n in kept if b"".join(lab.store.driver.get(f"{folder}/{n}", lab.call())) != n.encode()]
        must(not wrong, f"these keys hold the object of another one: {wrong}")
        listed = {o.key.removeprefix(f"{folder}/") for o in lab.store.list(f"{folder}/", lab.call()).items}
        must(listed == set(kept), f"listed are other keys than were put: {sorted(listed ^ set(kept))}")
        must("a" in kept and len(kept) >= len(names) - 3, f"too many keys are refused; kept are {kept}")
        must(not list(Path(directory).iterdir()), "a key was run as a command")
        must(not Path("canary").exists(), "a key was run as a command in the working directory")


@check("sec.store_wrong_credentials", rule="store.open-typed", kinds=STORES)
def check_store_wrong_credentials(lab: StoreLab) -> None:
    """Wrong credentials give `Unauthenticated` or `PermissionDenied` in time, and the error shows no secret.

    `NotFound` would make an operator look for a bucket that is there; a retry would lock the account. If
    it fails: look at how 401 and 403 of the sign-in are told, and at the words of the HTTP library.
    """
    changes = wrong_secrets(lab.store.driver)
    with tampered(lab.store.driver, changes) as other:
        error = _opening_fails(other, Call.within(_OPEN_SECONDS))
    told = f"wrong credentials give {type(error).__name__} ({error.outcome})"
    must(isinstance(error, Unauthenticated | PermissionDenied), told)
    must(error.outcome.value == "not_applied", told)
    must(b"".join(lab.store.get(_probe(lab), lab.call())) == b"x", "the good instance no longer works")


def _probe(lab: StoreLab) -> str:
    key = lab.key()
    lab.store.put(key, Body.of(b"x"), lab.call())
    return key


@check("store.open_unreachable", rule="store.open-typed", kinds=STORES)
def check_open_unreachable(lab: StoreLab) -> None:
    """A backend that does not answer gives `Unavailable` or `DeadlineExceeded` when the store is opened.

    If it fails with `Internal`: the HTTP library's error for a refused connection is not known.
    """
    with tampered(lab.store.driver, closed_address(lab.store.driver)) as other:
        error = _opening_fails(other, Call.within(2))
    must(isinstance(error, Unavailable | DeadlineExceeded), f"it gives {type(error).__name__}: {error}")


@check("store.open_missing_place", rule="store.open-typed", kinds=STORES)
def check_open_missing_place(lab: StoreLab) -> None:
    """A bucket, container or directory that does not exist gives `NotFound`, and is not made.

    Making it would hide a wrong name until the restore. If it fails: opening must look, never create.
    """
    changes = missing_place(lab.store.driver)
    for _ in range(2):  # the second time it would be there
        with tampered(lab.store.driver, changes) as other:
            try:
                other.open(Call.within(_OPEN_SECONDS))
            except NotFound:
                continue
            except StorageError as error:
                raise ContractBroken(f"it gives {type(error).__name__}: {error}") from error
            raise ContractBroken(f"a store was opened whose {next(iter(changes))} does not exist")


@check(
    "sec.store_tls_verified",
    rule="any.tls",
    kinds=STORES,
    field_bug="CVE-2010-4340 (Apache Libcloud): certificates were not verified by default",
)
def check_store_tls_verified(lab: StoreLab) -> None:
    """With an authority that did not sign the server's certificate the store does not open.

    If it fails: the option is not handed to the library, or its error starts a second try without TLS.
    """
    with tempfile.TemporaryDirectory() as directory:
        changes = foreign_authority(lab.store.driver, Path(directory))
        with tampered(lab.store.driver, changes) as other:
            try:
                other.open(Call.within(_OPEN_SECONDS))
            except StorageError as error:
                must(not isinstance(error, NotFound), f"it gives {type(error).__name__}: {error}")
                return
        raise ContractBroken("the store opens with an authority that has not signed its certificate")


@check(
    "sec.store_secrets_not_shown",
    rule="any.secrets",
    kinds=STORES,
    field_bug="glance_store _drivers/s3.py:394: keys are part of the location URI",
)
def check_store_secrets_not_shown(lab: StoreLab) -> None:
    """Neither answers nor errors of the driver show a secret of its options, in any encoding.

    Asked without core, which would take them out. If it fails: the sentence names where, and in which form.
    """
    driver = lab.store.driver
    changes: dict[str, Any] = {}
    with suppress(NotApplicable):
        changes = dict(wrong_secrets(driver))
    canary = Canary([*secrets_of(driver.options), *changes.values()])
    said: list[str] = []
    key = _probe(lab)
    for answer in (driver.head(key, lab.call()), driver.list(key, lab.call()), driver.options, driver):
        said += canary.told(repr(answer), f"the repr of {type(answer).__name__}")
    for hostile in ("", "../x", lab.key()):
        with suppress(StorageError):
            try:
                driver.head(hostile, lab.call())
            except StorageError as error:
                said += canary.told(f"{error} {error!r}", f"{type(error).__name__} of head")
    if changes:
        with tampered(driver, changes) as other:
            try:
                other.open(Call.within(_OPEN_SECONDS))
            except StorageError as error:
                said += canary.told(f"{error} {error!r} {error.detail}", f"{type(error).__name__} of open")
    must(not said, "; ".join(said[:3]))


@check("sec.store_files_not_for_all", rule="any.secrets", kinds=STORES)
def check_store_files_not_for_all(lab: StoreLab) -> None:
    """Objects that are files are not readable or writable for everybody on the host.

    They hold customers' disks. If it fails: the mode is left to the umask of whoever starts the service.
    """
    root = getattr(lab.store.driver.options, "path", None)
    if not isinstance(root, Path):
        not_applicable("no option `path`: its objects are no files of this host")
    key = _probe(lab)
    found = [p for p in root.rglob(key.rpartition("/")[2]) if p.is_file()]
    must(found, f"no file of {root} has the object's name")
    mode = found[0].stat().st_mode & 0o777
    must(not mode & 0o007, f"the file of an object has the mode {mode:o}")
