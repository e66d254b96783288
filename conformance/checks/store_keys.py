"""Secondary stores: keys are text, each has its own object, and writers of different keys do not mix."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ...core.spi import (
    InvalidArgument,
    LimitExceeded,
)
from ..lab import must
from ..model import Level
from ..registry import check
from ..store_lab import StoreLab
from ._stored import KIB, STORES, listed, put


@check("store.case_collision", rule="store.keys", kinds=STORES, level=Level.SHOULD)
def check_case_collision(lab: StoreLab) -> None:
    """Keys that differ in case only are two objects.

    Bollard's own keys are lower case; others put their objects beside ours. If it fails on NFS: the
    server's file system folds cases (ZFS casesensitivity=insensitive, an SMB share).
    """
    lower = put(lab, b"lower")
    upper = f"{lower.rpartition('/')[0]}/{lower.rpartition('/')[2].upper()}"
    put(lab, b"upper", upper)
    must(lab.read(lower) == b"lower", "the key in upper case replaced the one in lower case")
    lab.store.delete(upper, lab.call())
    must(lab.read(lower) == b"lower", "deleting the key in upper case took the one in lower case")


@check(
    "store.unicode_forms",
    rule="store.keys",
    kinds=STORES,
    field_bug="rclone/rclone#1472: names were normalised on the way and not found again",
)
def check_unicode_forms(lab: StoreLab) -> None:
    """A composed letter and the same letter with a combining mark are two keys, each kept as it was put.

    If it fails: the driver, the server or its file system normalises; then what is listed is not what was
    put, and cannot be read by that name on another store.
    """
    folder = lab.key()
    keys = {
        form: f"{folder}/{form}"
        for form in ("\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\U0001f600")
    }
    for form, key in keys.items():
        put(lab, form.encode(), key)
    for form, key in keys.items():
        must(lab.read(key) == form.encode(), f"the key {key!a} holds the object of another form")
    must({o.key for o in listed(lab, f"{folder}/")} == set(keys.values()), "the listed keys are other ones")


@check("store.long_keys", rule="store.keys", kinds=STORES)
def check_long_keys(lab: StoreLab) -> None:
    """A key of up to 1,200 bytes is kept exactly or refused; never cut, so that two become one.

    S3 and Swift take 1,024 bytes, file systems 255 for a part. If it fails: a name was cut to what fits.
    """
    kept = 0
    for parts, length in ((1, 100), (1, 200), (1, 255), (1, 300), (3, 200), (5, 230)):
        stem = f"{lab.prefix}/" + "/".join("k" * length for _ in range(parts))
        one, other = f"{stem[:-1]}1", f"{stem[:-1]}2"
        try:
            put(lab, b"one", one)
            put(lab, b"other", other)
        except (InvalidArgument, LimitExceeded) as error:
            must(error.outcome.value == "not_applied", f"a refusal claims the outcome {error.outcome}")
            continue
        kept += 1
        must(lab.read(one) == b"one", f"two keys of {len(one)} bytes share one object")
        must(one in {o.key for o in listed(lab, one)}, f"a key of {len(one)} bytes is listed as another one")
    must(kept >= 2, "keys of 255 bytes are refused: the archive needs them")


@check("store.parallel_puts_keep_apart", rule="store.keys", kinds=STORES)
def check_parallel_puts_keep_apart(lab: StoreLab) -> None:
    """Eight writers at once, of different keys and then of one: nobody's bytes mix with another's.

    An archive sends parts side by side. If it fails: temporary files or segments share a name, or one
    connection is used by two threads.
    """
    bodies_of = {lab.key(): bytes([n]) * (100 * KIB + n) for n in range(8)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: put(lab, item[1], item[0]), bodies_of.items()))
        wrong = [n for n, (k, d) in enumerate(bodies_of.items()) if lab.read(k) != d]
        must(not wrong, f"the objects of writers {wrong} hold other bytes")
        shared = lab.key()
        list(pool.map(lambda data: put(lab, data, shared), bodies_of.values()))
    must(lab.read(shared) in bodies_of.values(), "of eight writers of one key the object is a mixture")
