"""Each check of concurrent calls passes on a good driver, and fails on one that loses its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bollard.conformance.checks import concurrency, store_concurrency
from bollard.conformance.lab import ContractBroken, Lab
from bollard.conformance.modelbased.together import doors, together
from bollard.conformance.store_lab import StoreLab
from bollard.core.spi import (
    Body,
    Busy,
    Call,
    Conflict,
    NotFound,
    Page,
    Snapshot,
    StoredObject,
    Traits,
    Volume,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.secondary.nfs import NfsDriver
from bollard.simulators.array import ArraySimulator
from bollard.transfer_objects.ids import SnapshotId, VolumeId

pytestmark = pytest.mark.timeout(240)


class OurClock(ArrayDriver):
    """Tells when a snapshot was asked for, not when it was cut."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Look at the clock, and cut."""
        asked = datetime.now(UTC)
        return replace(super().create_snapshot(volume, snapshot, call), created=asked)


class AnswerLost(ArrayDriver):
    """Says that a create was not applied, when it was."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Create, and lose the answer."""
        try:
            return self.get_volume(spec.id, call)
        except NotFound as error:
            super().create_volume(spec, call)
            raise Busy("the array's answer was lost") from error


class ListsTooFew(ArrayDriver):
    """Leaves the last volume of each page out."""

    def list_volumes(self, call: Call, *, after: str | None = None, limit: int = 1000) -> Page[Volume]:
        """List all but one."""
        page = super().list_volumes(call, after=after, limit=limit)
        return Page(items=list(page.items)[:-1], after=page.after)


class TwoWriters(ArrayDriver):
    """Looks at no other grant."""

    def _refuse_clash(self, *_: Any, **__: Any) -> None:
        return

    def _refuse_lost_race(self, *_: Any) -> None:
        return


class SaysConflict(ArrayDriver):
    """Passes on "invalid state" where another call is running."""

    _at_work = threading.Lock()

    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        """Resize, or complain."""
        if not self._at_work.acquire(blocking=False):
            raise Conflict("invalid state")
        try:
            return super().resize_volume(volume, size, call)
        finally:
            self._at_work.release()


class Remembers(ArrayDriver):
    """Answers from memory."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._known: dict[str, Volume] = {}

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Look only once."""
        if volume not in self._known:
            self._known[volume] = super().get_volume(volume, call)
        return self._known[volume]


class LosesCreate(ArrayDriver):
    """Looks for what it made, and says that it is not there when a delete was faster."""

    def create_volume(self, spec: VolumeSpec, call: Call) -> Volume:
        """Create, delete at the worst moment, look."""
        super().create_volume(spec, call)
        self.delete_volume(spec.id, call)
        raise NotFound(f"volume {spec.id} does not exist")


class KeepsRefusedClone(ArrayDriver):
    """Makes the clone, and then says that it did not."""

    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        """Clone, and refuse."""
        super().clone_volume(source, spec, call)
        raise NotFound("the source is gone")


class OldSize(ArrayDriver):
    """Reports the size that a snapshot's volume has, twice over."""

    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Report the size of before, whatever was cut."""
        cut = super().create_snapshot(volume, snapshot, call)
        size = {4: 8, 8: 4}[cut.size >> 20] << 20
        return Snapshot(id=cut.id, volume=cut.volume, size=size, created=cut.created)


class OneByOne(ArrayDriver):
    """Takes one call at a time, and finds out if it is given two."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._at_work = threading.Lock()

    def traits(self) -> Traits:
        """Say so."""
        return Traits(concurrent_calls=False)

    def get_volume(self, volume: VolumeId, call: Call) -> Volume:
        """Look, alone."""
        assert self._at_work.acquire(blocking=False), "two calls at once"
        try:
            return super().get_volume(volume, call)
        finally:
            self._at_work.release()


class OneUploadPerKey(NfsDriver):
    """Writes to a file that is named after the key, and gives it the key's name when it is whole."""

    _all_write = threading.Barrier(8)

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Write beside the object, and rename when all others have written there, too."""
        super().put(f"{key}.part", body, call, if_absent=if_absent)
        self._all_write.wait(30)
        path = Path(self.options.path) / key
        try:
            path.with_name(f"{path.name}.part").rename(path)
        except FileNotFoundError as error:
            raise NotFound(f"there is no upload of {key}") from error
        return StoredObject(key=key, size=body.size)


class WritesInPlace(NfsDriver):
    """Writes an object under its own name, piece by piece."""

    def put(self, key: str, body: Body, call: Call, *, if_absent: bool = False) -> StoredObject:
        """Write in place."""
        super().put(key, Body.of(b""), call, if_absent=if_absent)
        path = Path(self.options.path) / key
        with path.open("r+b") as file, body.open() as source:
            while piece := source.read(4096):
                file.write(piece)
                file.flush()
        return StoredObject(key=key, size=body.size)


# check -> the driver or the array's defect that it must find, and words that it must say
BROKEN: dict[Callable[[Lab], None], tuple[type[Any] | str, str]] = {
    concurrency.check_same_create_16x_one_volume: (
        "create_duplicate_name_allowed",
        "the driver lost its way|different volumes",
    ),
    concurrency.check_linearizable_histories: (AnswerLost, "no order of these"),
    concurrency.check_create_delete_race: (LosesCreate, "does not exist"),
    concurrency.check_create_storm_64: (ListsTooFew, "of 64 volumes 63 are listed"),
    concurrency.check_delete_vs_clone: (KeepsRefusedClone, "a clone that was refused exists"),
    concurrency.check_attach_detach_race_two_hosts: (TwoWriters, "two hosts may write"),
    concurrency.check_snapshot_storm_one_volume: (OurClock, "4 ids were asked for, and 8 cuts were shown"),
    concurrency.check_resize_vs_snapshot: (OldSize, "a reader finds"),
    concurrency.check_busy_is_typed_and_retryable: (SaysConflict, "invalid state"),
    concurrency.check_two_driver_processes: (Remembers, "of the volume that was made anew"),
}
HEALTHY = [
    concurrency.check_linearizable_histories,
    concurrency.check_same_create_16x_one_volume,
    concurrency.check_create_delete_race,
    concurrency.check_delete_vs_clone,
    concurrency.check_attach_detach_race_two_hosts,
    concurrency.check_snapshot_storm_one_volume,
    concurrency.check_busy_is_typed_and_retryable,
    concurrency.check_two_driver_processes,
    concurrency.check_independent_volumes_run_parallel,
]


@pytest.mark.parametrize("check", BROKEN, ids=lambda check: check.__name__)
def test_a_broken_driver_is_found(
    check: Callable[[Lab], None], pool_lab: Callable[[type[Any]], Lab], array: ArraySimulator
) -> None:
    """The check fails in words that name what happened."""
    broken, words = BROKEN[check]
    if isinstance(broken, str):
        array.defects.set(broken)
    lab = pool_lab(ArrayDriver if isinstance(broken, str) else broken)
    with pytest.raises(ContractBroken, match=words):
        check(lab)


@pytest.mark.parametrize("check", HEALTHY, ids=lambda check: check.__name__)
def test_the_array_driver_passes(check: Callable[[Lab], None], pool_lab: Callable[[type[Any]], Lab]) -> None:
    """The check passes, and leaves no snapshot or grant that keeps its volumes."""
    lab = pool_lab(ArrayDriver)
    check(lab)


def test_figures_are_written_down(pool_lab: Callable[[type[Any]], Lab]) -> None:
    """The parallel figure comes with the times that it was made of."""
    lab = pool_lab(ArrayDriver)
    concurrency.check_independent_volumes_run_parallel(lab)
    assert {m.name for m in lab.notes.measures} >= {"speed-up", "at the same time"}


# check -> the store that it must find, and words that it must say
TORN: dict[Callable[[StoreLab], None], tuple[type[NfsDriver], str]] = {
    store_concurrency.check_store_same_key_writers: (OneUploadPerKey, "7 of 8 concurrent puts failed"),
    store_concurrency.check_read_during_overwrite_is_old_or_new: (WritesInPlace, "neither the old object"),
}


@pytest.mark.parametrize("check", TORN, ids=lambda check: check.__name__)
def test_whole_objects_pass(
    check: Callable[[StoreLab], None], store_lab: Callable[[type[Any]], StoreLab]
) -> None:
    """A store that replaces whole objects passes."""
    check(store_lab(NfsDriver))


@pytest.mark.parametrize("check", TORN, ids=lambda check: check.__name__)
def test_a_torn_object_is_found(
    check: Callable[[StoreLab], None], store_lab: Callable[[type[Any]], StoreLab]
) -> None:
    """A store that writes in place, or all writers to one file, fails in words that say so."""
    broken, words = TORN[check]
    lab = store_lab(broken)
    with pytest.raises(ContractBroken, match=words):
        check(lab)


def test_a_contradiction_leaves_no_snapshot(pool_lab: Callable[[type[Any]], Lab]) -> None:
    """What a failed history has cut is gone, so that the audit of leaks finds volumes that it can delete."""
    lab = pool_lab(AnswerLost)
    with pytest.raises(ContractBroken):
        concurrency.check_linearizable_histories(lab)
    left = [v.id for v in lab.pool.driver.list_volumes(lab.call()).items]
    assert [s for v in left for s in lab.pool.snapshots.list(v)] == []


def test_a_driver_that_takes_one_call_gets_one(pool_lab: Callable[[type[Any]], Lab]) -> None:
    """Where calls must not meet in an instance, each caller has an instance of its own."""
    lab = pool_lab(OneByOne)
    volume = lab.volume(2**20)
    with doors(lab, 16) as drivers:
        assert len(drivers) == 4
        found = together([lambda d=d: d.get_volume(volume.id, lab.call()) for d in drivers])  # type: ignore[misc] # mypy infers no lambda with a default
    assert {v.id for v in found} == {volume.id}


def test_a_call_that_hangs_is_told() -> None:
    """Callers that do not come back are counted, and the suite goes on."""
    never = threading.Event()
    with pytest.raises(ContractBroken, match="1 of 2 concurrent calls did not return"):
        together([never.wait, lambda: True], seconds=0.2)
    never.set()
