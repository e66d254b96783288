"""Standard and Archive: where a snapshot goes, what stays, and what may be removed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bollard.core.dataplane import open_source
from bollard.core.pool import Pool
from bollard.core.snapshots import TakenSnapshot
from bollard.core.spi import (
    Call,
    Capability,
    Conflict,
    DataLoss,
    FileLocation,
    InvalidArgument,
    NotFound,
    QuiescedSnapshots,
    Snapshot,
    Unsupported,
    VolumeSpec,
)
from bollard.drivers.primary.array import ArrayDriver
from bollard.drivers.primary.qcow2 import Qcow2Driver
from bollard.transfer_objects.enums import SnapshotLocation
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .snapshot_rig import Damaging, call

WEB, DB = VolumeId("web-1"), VolumeId("db-1")
MONDAY, TUESDAY, WEDNESDAY = SnapshotId("monday"), SnapshotId("tuesday"), SnapshotId("wednesday")
ARCHIVE = SnapshotLocation.ARCHIVE
MIB = 2**20
REAL = pytest.mark.real(root=True)


@pytest.mark.parametrize("word", ["Standard", "standard", "PRIMARY", "primary"])
def test_standard_on_managed_storage_stays_there(managed, word):
    """Standard, under either name, keeps the snapshot on the array and copies nothing."""
    managed.make(WEB, b"one")
    taken = managed.service.take(WEB, MONDAY, call(), location=SnapshotLocation.parse(word))

    assert (taken.location, taken.on_primary, taken.archived) == (SnapshotLocation.STANDARD, True, None)
    assert managed.on_pool(WEB) == [MONDAY]
    assert managed.in_archive(WEB) == []


@pytest.mark.parametrize("word", ["Archive", "ARCHIVE", "SECONDARY", "secondary"])
def test_archive_on_managed_storage_moves_it(managed, word):
    """Archive, under either name, has the bytes on secondary, and nothing of it is left on the array."""
    managed.make(WEB, b"one" * 1000)
    taken = managed.service.take(WEB, MONDAY, call(), location=SnapshotLocation.parse(word))

    assert (taken.location, taken.on_primary) == (ARCHIVE, False)
    assert taken.created == taken.archived.created
    assert managed.archived(WEB, MONDAY) == managed.read(WEB)
    assert managed.on_pool(WEB) == []
    assert managed.volumes() == [WEB]
    assert list(managed.pool.volumes.grants(WEB)) == []
    assert managed.intents() == []


@pytest.mark.parametrize("word", ["Standard", "PRIMARY"])
@pytest.mark.parametrize("kind", ["files", "qcow2s"])
def test_standard_on_host_storage_goes_to_secondary(request, kind, word):
    """A pool of files keeps none: Standard is secondary storage there."""
    files = request.getfixturevalue(kind)
    files.make(WEB, b"one")
    taken = files.service.take(WEB, MONDAY, call(), location=SnapshotLocation.parse(word))

    assert (taken.location, taken.on_primary) == (SnapshotLocation.STANDARD, False)
    assert files.archived(WEB, MONDAY) == files.read(WEB)
    assert files.on_pool(WEB) == []


@pytest.mark.parametrize("word", ["Archive", "SECONDARY"])
def test_archive_on_host_storage_is_refused(files, word):
    """Archive is an error on a pool that is not managed, and nothing was cut."""
    files.make(WEB, b"one")

    with pytest.raises(InvalidArgument, match="not managed"):
        files.service.take(WEB, MONDAY, call(), location=SnapshotLocation.parse(word))
    assert files.on_pool(WEB) == []
    assert files.in_archive(WEB) == []


@pytest.mark.parametrize("kind", ["lun", "files", "qcow2s", pytest.param("iscsi", marks=REAL)])
def test_take_both_keeps_the_primary_copy(request, kind):
    """A snapshot that is to be the next increment's base is in both places, on either kind of pool."""
    rig = request.getfixturevalue(kind)
    rig.make(WEB, b"one")
    taken = rig.service.take_both(WEB, MONDAY, call())

    assert taken.on_primary
    assert rig.on_pool(WEB) == [MONDAY]
    assert rig.in_archive(WEB) == [MONDAY]


def test_damaged_copy_keeps_the_primary_one(rig, array_driver):
    """A part that rotted on the store is found before the array's snapshot goes; retries find it again."""
    lun = rig(array_driver(), Damaging)
    lun.make(WEB, b"one" * 1000)
    for _ in range(2):
        with pytest.raises(DataLoss, match="the primary one stays"):
            lun.service.take(WEB, MONDAY, call(), location=ARCHIVE)
        assert lun.on_pool(WEB) == [MONDAY]

    lun.store.driver.damage = False
    lun.archive.delete(call(), volume=WEB, snapshot=MONDAY)
    lun.write(WEB, b"two" * 1000)
    lun.service.take(WEB, MONDAY, call(), location=ARCHIVE)

    assert lun.archived(WEB, MONDAY).startswith(b"one" * 1000)  # still the first cut
    assert lun.on_pool(WEB) == []


def test_release_keeps_another_volume_s_snapshot(files):
    """A snapshot id that another volume has on the pool is none of our business."""
    files.make(WEB, b"one")
    files.make(DB, b"two")
    files.service.take(WEB, MONDAY, call())
    files.pool.snapshots.create(DB, MONDAY)
    files.service.take(WEB, MONDAY, call())  # somebody repeats the command
    files.service.release(WEB, MONDAY, call())

    assert files.on_pool(DB) == [MONDAY]


def test_release_keeps_another_cut_of_the_same_id(managed):
    """A later cut under the archived one's id is not a copy of it, so it is not removed."""
    managed.make(WEB, b"one")
    managed.service.take(WEB, MONDAY, call(), location=ARCHIVE)
    managed.write(WEB, b"two")
    managed.pool.snapshots.create(WEB, MONDAY)

    with pytest.raises(Conflict, match="another cut"):
        managed.service.take(WEB, MONDAY, call(), location=ARCHIVE)
    assert managed.on_pool(WEB) == [MONDAY]


def test_release_of_what_is_not_archived_is_refused(lun):
    """Without an archived copy there is nothing that would allow to remove the primary one."""
    lun.make(WEB, b"one")
    lun.pool.snapshots.create(WEB, MONDAY)

    with pytest.raises(NotFound):
        lun.service.release(WEB, MONDAY, call())
    assert lun.on_pool(WEB) == [MONDAY]


def test_pool_that_cannot_be_read_from_is_refused_before_the_cut(rig, array_driver):
    """Without clone and direct read, Archive cuts nothing; Standard, which needs neither, works."""

    class Unreadable(ArrayDriver):
        def unavailable(self, call):  # noqa: ARG002 - the SPI's signature
            return {Capability.VOLUME_FROM_SNAPSHOT: "no licence"}

    lun = rig(array_driver(Unreadable))
    lun.make(WEB, b"one")
    for take in (lun.service.take_both, lambda *a: lun.service.take(*a, location=ARCHIVE)):
        with pytest.raises(Unsupported):
            take(WEB, MONDAY, call())

    assert lun.on_pool(WEB) == []
    assert lun.service.take(WEB, MONDAY, call()).on_primary


def test_pool_without_snapshots_is_refused(rig, files_driver):
    """A pool that cannot cut says so, whatever the location."""
    driver = files_driver()
    driver.unavailable = lambda _: {Capability.SNAPSHOTS: "no licence"}
    files = rig(driver)
    files.make(WEB, b"one")

    with pytest.raises(Unsupported):
        files.service.take(WEB, MONDAY, call())


class _Guest:
    """A guest that tells what was done to it."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def freeze(self) -> None:
        self.log.append("freeze")

    def thaw(self) -> None:
        self.log.append("thaw")


class _Quiescing(Qcow2Driver, QuiescedSnapshots):
    """Freezes and cuts, and forgets to thaw."""

    broken = False

    def create_quiesced_snapshot(self, volume, snapshot, guest, call) -> Snapshot:
        guest.freeze()
        if self.broken:
            raise DataLoss("the disk broke")
        return self.create_snapshot(volume, snapshot, call)


@pytest.mark.parametrize("broken", [False, True])
def test_guest_is_frozen_for_the_cut_alone(rig, files_driver, broken, monkeypatch):
    """The guest is thawed before the copy begins, and when the cut fails."""
    driver = _Quiescing(files_driver().options)
    driver.broken = broken
    files, guest = rig(driver), _Guest()
    files.make(WEB, b"one")
    open_snapshot = files.pool.snapshots.locate

    def locate(*args):
        guest.log.append("copy")
        return open_snapshot(*args)

    monkeypatch.setattr(files.pool.snapshots, "locate", locate)
    if broken:
        with pytest.raises(DataLoss):
            files.service.take(WEB, MONDAY, call(), guest=guest)
    else:
        files.service.take(WEB, MONDAY, call(), guest=guest)

    assert guest.log == ["freeze", "thaw"] + ([] if broken else ["copy"])


def test_guest_on_a_pool_that_cannot_quiesce_is_refused(lun):
    """Nothing is frozen and nothing is cut."""
    lun.make(WEB, b"one")
    guest = _Guest()

    with pytest.raises(Unsupported):
        lun.service.take(WEB, MONDAY, call(), location=ARCHIVE, guest=guest)
    assert guest.log == []
    assert lun.on_pool(WEB) == []


def test_increment_reads_changed_blocks_alone(managed, bytes_read):
    """With the base on the array, 64 KiB of 4 MiB changed cost less than 1 MiB of reading."""
    managed.make(WEB, b"x" * (4 * MIB))
    managed.service.take_both(WEB, MONDAY, call())
    managed.write(WEB, b"y" * 65536, 2 * MIB)
    bytes_read.clear()
    taken = managed.service.take_both(WEB, TUESDAY, call(), parent=MONDAY)

    assert 65536 <= sum(bytes_read) < MIB
    assert _sent(taken) < MIB
    assert managed.archived(WEB, TUESDAY) == managed.read(WEB)


def _sent(taken: TakenSnapshot) -> int:
    """Return the bytes of those parts that the snapshot's own run has stored."""
    assert taken.archived
    own = [part for _, part in taken.archived.parts() if part.layer.startswith(f"{TUESDAY}/")]
    return sum(part.size for part in own)


def test_increment_without_its_base_compares_hashes(managed, bytes_read):
    """With the base gone from the array everything is read, the archive grows by the change alone."""
    managed.make(WEB, b"x" * (4 * MIB))
    managed.service.take(WEB, MONDAY, call(), location=ARCHIVE)
    managed.write(WEB, b"y" * 65536, 2 * MIB)
    bytes_read.clear()
    taken = managed.service.take_both(WEB, TUESDAY, call(), parent=MONDAY)

    assert sum(bytes_read) >= 4 * MIB
    assert _sent(taken) < MIB
    assert managed.archived(WEB, TUESDAY) == managed.read(WEB)


@pytest.mark.parametrize("whose", ["another volume's", "a later cut"])
def test_base_of_the_same_name_is_not_trusted(managed, whose):
    """Changes since a snapshot that merely has the parent's id would miss blocks; they are not asked for."""
    managed.make(WEB, b"one" * 30000)
    managed.make(DB, b"one" * 30000)
    managed.service.take(WEB, MONDAY, call(), location=ARCHIVE)
    managed.write(WEB, b"two" * 30000)
    managed.pool.snapshots.create(DB if whose == "another volume's" else WEB, MONDAY)
    managed.service.take_both(WEB, TUESDAY, call(), parent=MONDAY)

    assert managed.archived(WEB, TUESDAY) == managed.read(WEB)


def test_newest_is_the_one_cut_last(lun):
    """Neither the order of archiving nor that of names decides, but the time of the cut."""
    lun.make(WEB, b"one")
    assert lun.service.newest(WEB, call()) is None
    lun.pool.snapshots.create(WEB, WEDNESDAY)
    lun.pool.snapshots.create(WEB, MONDAY)
    lun.service.archive_snapshot(WEB, MONDAY, call())
    lun.service.archive_snapshot(WEB, WEDNESDAY, call())

    assert lun.service.newest(WEB, call()) == MONDAY


def test_archiving_a_snapshot_of_another_volume_is_refused(files):
    """The bytes of one volume never get into the archive under another's name."""
    files.make(WEB, b"one")
    files.make(DB, b"two")
    files.pool.snapshots.create(DB, MONDAY)

    with pytest.raises(NotFound, match="of volume web-1"):
        files.service.archive_snapshot(WEB, MONDAY, call())
    with pytest.raises(Conflict):
        files.service.take(WEB, MONDAY, call())
    assert files.in_archive(WEB) == []


def test_manifest_has_the_time_of_the_cut(files):
    """`created` is when the pool cut it, not when it was copied; `origin` is the pool."""
    files.make(WEB, b"one")
    cut = files.pool.snapshots.create(WEB, MONDAY)
    taken = files.service.take_both(WEB, MONDAY, call())

    assert taken.archived.created[:19] == cut.created.isoformat()[:19]
    assert taken.archived.origin == "primary"


def test_pool_of_any_name_can_be_archived(files_driver, files):
    """A pool's name need not be ASCII, the remark in the manifest must."""
    pool = Pool("Größter", files_driver())
    service = replace(files.service, pool=pool)
    pool.volumes.create(VolumeSpec(id=WEB, size=MIB))
    with pool:
        assert service.take(WEB, MONDAY, call()).archived.origin == "Gr??ter"


def test_progress_of_a_copy_ends_at_its_total(files, tmp_path):
    """Who watches sees the work reach 100 %, also where the volume ends in a hole."""
    image = tmp_path / "mostly-hole.raw"
    with image.open("xb") as file:
        file.write(b"data")
        file.truncate(200 * MIB)
    seen: list[tuple[int, int]] = []
    watched = Call.within(60, progress=lambda done, total: seen.append((done, total)))
    with open_source(FileLocation(path=image, format="raw")) as source:
        files.archive.create(source, watched, volume=WEB, snapshot=MONDAY)

    assert seen[-1] == (200 * MIB, 200 * MIB)
