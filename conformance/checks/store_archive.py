"""The archive on the store under test: what a full, an increment and a delete ask of it, end to end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ...core.archive import Archive, CreateOptions, Level
from ...core.dataplane import FileSink, FileSource
from ...core.spi import (
    Body,
    Call,
    DeadlineExceeded,
    ImageStoreDriver,
    NotFound,
    StorageError,
    StoredObject,
)
from ...core.store import Store, open_store
from ...transfer_objects.ids import new_id
from .. import pattern
from ..bodies import stopping
from ..lab import MIB, ContractBroken, must
from ..model import Tier
from ..registry import check
from ..store_lab import StoreLab
from ..subtree import Subtree

STORES = ("image-store",)
SIZE = 4 * MIB
_OPTIONS = CreateOptions(window_size=MIB, granule=4096)
_STRIDE = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Disk:
    """A small raw disk in a file, whose blocks say whose they are."""

    path: Path
    name: str

    def write(self, generation: int, places: range) -> None:
        """Write one block at each place."""
        with self.path.open("r+b") as file:
            for at in places:
                file.seek(at)
                file.write(pattern.block(self.name, at, generation))

    def archived(
        self, store: ImageStoreDriver[Any], snapshot: str, call: Call, parent: str | None = None
    ) -> None:
        """Archive what it holds now."""
        with FileSource.open(self.path) as source:
            _archive(store).create(
                source, call, volume=self.name, snapshot=snapshot, parent=parent, options=_OPTIONS
            )

    def must_restore(self, store: ImageStoreDriver[Any], snapshot: str, call: Call, want: bytes) -> None:
        """Restore a snapshot beside it and compare every byte."""
        target = self.path.with_suffix(".restored")
        target.write_bytes(bytes(SIZE))
        with FileSink.open(target) as sink:
            _archive(store).restore(sink, call, volume=self.name, snapshot=snapshot)
            sink.flush()
        _compare(target.read_bytes(), want, self.name)

    def bytes(self) -> bytes:
        """Return all of it."""
        return self.path.read_bytes()


@contextmanager
def _disk(lab: StoreLab) -> Iterator[_Disk]:
    """Make a disk, a quarter of which holds data; it goes with the check."""
    with tempfile.TemporaryDirectory(prefix=lab.prefix) as directory:
        path = Path(directory, "disk.raw")
        with path.open("wb") as file:
            file.truncate(SIZE)
        disk = _Disk(path, new_id(lab.prefix)[:60].rstrip("-"))
        disk.write(1, range(0, SIZE, _STRIDE))
        yield disk


class _Interrupted(Subtree):
    """The store under test, where a call is cancelled in the middle of the second part."""

    def __init__(self, store: Store, call: Call) -> None:
        super().__init__(store, "")
        self._whole = call
        self._parts = count(1)

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Store an object, or half of it."""
        if key.endswith(".zip") and next(self._parts) == 2:
            # Not the outer call alone: a worker hears of that a moment later, when all may be sent.
            def cancel() -> None:
                call.cancel.set()
                self._whole.cancel.set()

            with body.open() as reader:
                body = stopping(reader.read(), cancel)
        return super().put(key, body, call, if_absent=if_absent)


def _archive(store: ImageStoreDriver[Any]) -> Archive:
    # No pause: what a lagging list hides from collect, `known` tells it here.
    return Archive(store, writer="conformance", pause=lambda _: None)


def _compare(found: bytes, want: bytes, name: str) -> None:
    for at in range(0, SIZE, pattern.BLOCK):
        block, wanted = found[at : at + pattern.BLOCK], want[at : at + pattern.BLOCK]
        if block != wanted:
            stamp = pattern.read_stamp(wanted)
            raise ContractBroken(pattern.difference(block, name, at, stamp.generation if stamp else None))


@check("store.archive_full_round_trip", rule="store.get-exact", kinds=STORES)
def check_archive_full_round_trip(lab: StoreLab) -> None:
    """A disk that was archived in full restores block for block, and verifies at every level.

    What the store is for. If it fails while the checks of single objects pass: look at ranges of objects,
    which is how a window of a part is read.
    """
    with _disk(lab) as disk:
        disk.archived(lab.store, "full", lab.call())
        disk.must_restore(lab.store, "full", lab.call(), disk.bytes())
        for level in Level:
            report = _archive(lab.store).verify(lab.call(), volume=disk.name, snapshot="full", level=level)
            must(report.ok, f"what was just archived does not verify at level {level.name}")


@check("store.archive_increments", rule="store.get-exact", kinds=STORES)
def check_archive_increments(lab: StoreLab) -> None:
    """A full and two increments restore to their own moment, also after the full was deleted.

    If it fails after the delete: a part that an increment still needs went, or a list showed too little.
    """
    moments, parent = {}, None
    with _disk(lab) as disk:
        for number, name in enumerate(("full", "first", "second"), start=1):
            disk.write(number, range((number - 1) * MIB, (number + 1) * MIB, _STRIDE))
            disk.archived(lab.store, name, lab.call(), parent)
            moments[name], parent = disk.bytes(), name
        for name, want in moments.items():
            disk.must_restore(lab.store, name, lab.call(), want)
        archive = _archive(lab.store)
        archive.delete(lab.call(), volume=disk.name, snapshot="full", known=["first", "second"])
        for name in ("first", "second"):
            disk.must_restore(lab.store, name, lab.call(), moments[name])
        left = {e.snapshot for e in archive.list(lab.call(), volume=disk.name, known=["first", "second"])}
        must(left >= {"first", "second"}, f"of the increments only {sorted(left)} are left")


@check("store.archive_delete_frees", rule="any.gone", kinds=STORES, tier=Tier.STANDARD)
def check_archive_delete_frees(lab: StoreLab) -> None:
    """When the last snapshot of a volume is deleted, no key of it is left on the store.

    Known by name and not by list, so a list that lags does not matter. If it fails: `delete` reports
    success and keeps the object; that is what a customer pays for.
    """
    with _disk(lab) as disk:
        disk.archived(lab.store, "full", lab.call())
        prefix = f"v1/{disk.name}/"
        keys = [o.key for o in lab.store.list(prefix, lab.call()).items]
        archive = _archive(lab.store)
        archive.delete(lab.call(), volume=disk.name, snapshot="full", known=[])
        for key in keys:
            try:
                found = lab.store.head(key, lab.call())
            except NotFound:
                continue
            raise ContractBroken(f"{key} is still there with {found.size} bytes")


@check(
    "store.archive_resumes",
    rule="store.atomic",
    kinds=STORES,
    tier=Tier.STANDARD,
    field_bug="apache/cloudstack#8946: a snapshot was shown as backed up before it could be restored",
)
def check_archive_resumes(lab: StoreLab) -> None:
    """An archive run that is cancelled half-way shows no snapshot; a second run finishes it.

    Finished parts are not sent again. If the second run restores to damage: the part whose put was
    cancelled had its name and full size already, and was taken for finished.
    """
    with _disk(lab) as disk:
        call = lab.call()
        try:
            disk.archived(_Interrupted(lab.store, call), "full", call)
        except DeadlineExceeded:
            try:
                _archive(lab.store).show(lab.call(), volume=disk.name, snapshot="full")
            except NotFound:
                pass
            else:
                raise ContractBroken(
                    "a snapshot whose archiving was cancelled is shown as complete"
                ) from None
        disk.archived(lab.store, "full", lab.call())
        disk.must_restore(lab.store, "full", lab.call(), disk.bytes())


@check("store.archive_damage_is_told", rule="store.get-exact", kinds=STORES, tier=Tier.STANDARD)
def check_archive_damage_is_told(lab: StoreLab) -> None:
    """A part that was replaced by one with a flipped bit, or is gone, never restores in silence.

    If it fails: the store gave old bytes of the part (a cache), or an error was taken for an end.
    """
    with _disk(lab) as disk:
        disk.archived(lab.store, "full", lab.call())
        parts = [
            o.key for o in lab.store.list(f"v1/{disk.name}/", lab.call()).items if o.key.endswith(".zip")
        ]
        good = lab.read(parts[0])
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        for damage in (bytes(flipped), None):
            lab.store.delete(parts[0], lab.call())
            if damage is not None:
                lab.store.put(parts[0], Body.of(damage), lab.call())
            try:
                disk.must_restore(lab.store, "full", lab.call(), disk.bytes())
            except StorageError:
                continue
            raise ContractBroken("a part was damaged or gone, and the restore reported success")
        lab.store.put(parts[0], Body.of(good), lab.call())
        disk.must_restore(lab.store, "full", lab.call(), disk.bytes())


@check("store.archive_moves_to_other_store", rule="store.keys", kinds=STORES, tier=Tier.STANDARD)
def check_archive_moves_to_other_store(lab: StoreLab) -> None:
    """An archive that is copied, key by key, to a plain directory restores there, and the keys are equal.

    A customer who leaves takes the archive along. If it fails: keys or bytes are the driver's own dialect.
    """
    with _disk(lab) as disk, tempfile.TemporaryDirectory() as directory:
        disk.archived(lab.store, "full", lab.call())
        with closing(open_store("elsewhere", "nfs", {"path": directory})) as elsewhere:
            keys = [o.key for o in lab.store.list(f"v1/{disk.name}/", lab.call()).items]
            for key in keys:
                elsewhere.put(key, Body.of(lab.read(key)), lab.call())
            copied = [o.key for o in elsewhere.list(f"v1/{disk.name}/", lab.call()).items]
            must(copied == keys, "the keys of the copy are not those of the archive")
            disk.must_restore(elsewhere, "full", lab.call(), disk.bytes())
