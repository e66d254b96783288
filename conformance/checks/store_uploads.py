"""Secondary stores: uploads that break, are cancelled, are removed, or meet a condition."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...core.spi import (
    Body,
    Call,
    Conflict,
    DeadlineExceeded,
    StorageError,
)
from .. import bodies
from ..lab import MIB, ContractBroken, must, not_applicable, refused
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab
from ..tampering import smallest_parts
from ._stored import KIB, STORES, absent, listed, put


@check(
    "store.put_aborted_leaves_nothing",
    rule="store.atomic",
    kinds=STORES,
    field_bug="rclone fstests.go:761 tests that a put whose reader fails leaves nothing",
)
def check_put_aborted_leaves_nothing(lab: StoreLab) -> None:
    """A body whose reader dies half-way leaves nothing under a new key, and an old object as it was.

    In one request and in parts. If it fails: bytes are written under the final name, or a chunked upload
    is ended as if it were complete.
    """
    small = smallest_parts(lab.store.driver)
    key, old = lab.key(), lab.data(10 * KIB)
    with lab.second(small["options"]) as in_parts:
        for store, size in ((lab.store, 300 * KIB), (in_parts, small["part"] * 2 + 10)):
            with suppress(StorageError):
                store.put(key, bodies.dying(lab.data(size)), Call.within(30))
                raise ContractBroken("a put whose body died half-way was reported as done")
            absent(lab, key, "the reader of its body died half-way")
            put(lab, old, key)
            with suppress(StorageError):
                store.put(key, bodies.dying(lab.data(size)), Call.within(30))
            must(lab.read(key) == old, "a put that failed changed the object that was there")
            lab.store.delete(key, lab.call())


@check("store.put_cancelled_leaves_nothing", rule="store.atomic", kinds=STORES)
def check_put_cancelled_leaves_nothing(lab: StoreLab) -> None:
    """A put that is cancelled half-way ends with `DeadlineExceeded`, soon, and leaves nothing.

    If it fails with success: the call is not looked at between reads; a user's "stop" then costs hours.
    """
    call, key = Call.within(30), lab.key()
    body = bodies.stopping(lab.data(6 * MIB), call.cancel.set)
    try:
        lab.store.put(key, body, call)
    except DeadlineExceeded:
        pass
    else:
        raise ContractBroken("a put that was cancelled half-way went on to its end")
    absent(lab, key, "its put was cancelled")
    must(put(lab, b"again", key) == key and lab.read(key) == b"again", "the key cannot be put again")


@check("store.leftovers_found_once", rule="store.atomic", kinds=STORES)
def check_leftovers_found_once(lab: StoreLab) -> None:
    """After puts that failed, `abort_uploads` finds what they left, and then nothing more.

    A driver that cleans up by itself leaves nothing to find. If the second count is not zero: what it
    counts, it does not remove, and the bucket grows by each failed backup.
    """
    small = smallest_parts(lab.store.driver)
    with lab.second(small["options"]) as store:
        for _ in range(2):
            with suppress(StorageError):
                store.put(lab.key(), bodies.dying(lab.data(small["part"] * 2)), Call.within(30))
    lab.store.abort_uploads(f"{lab.prefix}/", lab.call(), older_than=0)
    left = lab.store.abort_uploads(f"{lab.prefix}/", lab.call(), older_than=0)
    must(left == 0, f"a second abort_uploads finds {left} leftovers again")
    must(not listed(lab, f"{lab.prefix}/"), "an upload that failed is listed")


@contextmanager
def _moving(lab: StoreLab, key: str, data: bytes) -> Iterator[list[StorageError]]:
    """Put in parts through a second instance, held half-way while the block runs; yields what it raises."""
    gate = bodies.Gate(data)
    failed: list[StorageError] = []

    def write() -> None:
        try:
            store.put(key, gate.body(), Call.within(10))
        except StorageError as error:
            failed.append(error)

    with lab.second(smallest_parts(lab.store.driver)["options"]) as store:
        writer = threading.Thread(target=write)
        writer.start()
        try:
            must(gate.reached.wait(30), "the store did not read half of the body within 30 seconds")
            yield failed
        finally:
            gate.release.set()
            writer.join()


@check("store.abort_spares_live_put", rule="store.abort-live", kinds=STORES)
def check_abort_spares_live_put(lab: StoreLab) -> None:
    """While a put is moving, it is hidden, and abort_uploads for what is older than an hour spares it.

    Collecting garbage runs beside backups. If it fails: age is not looked at, or is told by another clock.
    """
    small = smallest_parts(lab.store.driver)
    data, key = lab.data(small["part"] * 2 + 10), lab.key()
    with _moving(lab, key, data) as failed:
        absent(lab, key, "its put is still moving")
        removed = lab.store.abort_uploads(f"{lab.prefix}/", lab.call(), older_than=3600)
    must(removed == 0, f"abort_uploads removed {removed} uploads that were moving")
    must(not failed, f"the put that was moving failed: {failed[:1]}")
    must(lab.read(key) == data, "the object that was being put is damaged")


@check("store.abort_of_live_put_is_clean", rule="store.atomic", kinds=STORES, tier=Tier.STANDARD)
def check_abort_of_live_put_is_clean(lab: StoreLab) -> None:
    """A put whose upload was removed under its hands ends with an error, or with the whole object.

    As when a host slept for an hour in the middle of a backup. If it fails: half an object was committed,
    which restores as a damaged disk.
    """
    small = smallest_parts(lab.store.driver)
    data, key = lab.data(small["part"] * 2 + 10), lab.key()
    with _moving(lab, key, data) as failed:
        lab.store.abort_uploads(f"{lab.prefix}/", lab.call(), older_than=0)
    if failed:
        absent(lab, key, f"its put failed with {type(failed[0]).__name__}")
    else:
        must(lab.read(key) == data, "the put was reported as done, and the object is damaged")


@check("store.if_absent_keeps_bytes", rule="store.if-absent", kinds=STORES)
def check_if_absent_keeps_bytes(lab: StoreLab) -> None:
    """A conditional put on a key that exists is a `Conflict`, each time, and the bytes stay.

    Also where it is larger, or in parts. If it fails: "look, then write" stands where the store's own
    condition should, or the condition is lost on the way of large bodies.
    """
    if not lab.store.traits().conditional_put:
        not_applicable("StoreTraits.conditional_put is False")
    small = smallest_parts(lab.store.driver)
    key = lab.key()
    lab.store.put(key, Body.of(b"first"), lab.call(), if_absent=True)
    with lab.second(small["options"]) as store:
        for size in (0, 5, 100 * KIB, small["part"] + 1):
            with refused(Conflict):
                store.put(key, Body.of(lab.data(size)), lab.call(), if_absent=True)
            must(lab.read(key) == b"first", f"a conditional put of {size} bytes changed the object")
    lab.store.delete(key, lab.call())
    lab.store.put(key, Body.of(b"second"), lab.call(), if_absent=True)
    must(lab.read(key) == b"second", "after a delete the key cannot be created again")
