"""Snapshots, reverts and clones of the qcow2 driver: exact, immutable, each file complete in itself."""

from __future__ import annotations

import os
import subprocess

import pytest

from bollard.core.spi import Conflict, HasDependents, InvalidArgument, NotFound, VolumeSpec
from bollard.transfer_objects.ids import SnapshotId, VolumeId
from primary_rig import COPY, DB, MIB, S1, S2, WEB, call
from qcow2_rig import equal, files, fill, path_of, qemu_io


def test_a_snapshot_is_immutable_and_reverts_exactly(driver):
    """Later writes and a resize do not change a snapshot; revert brings back bytes and size."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x11")
    taken = driver.create_snapshot(WEB, S1, call())
    fill(driver, WEB, "0x22")
    driver.resize_volume(WEB, 2 * MIB, call())
    assert driver.create_snapshot(WEB, S1, call()) == taken
    newer = driver.create_snapshot(WEB, S2, call())
    place = driver.locate_snapshot(S1, call())
    assert place.read_only
    assert (taken.size, newer.size) == (MIB, 2 * MIB)
    qemu_io(place.path, place.format, "read -P 0x11 0 64k")

    assert driver.revert_volume(WEB, S1, call()).size == MIB
    assert equal(path_of(driver, WEB), place.path, place.format)
    assert [s.id for s in driver.list_snapshots(WEB, call()).items] == [S1, S2]
    assert driver.revert_volume(WEB, S2, call()).size == 2 * MIB
    qemu_io(path_of(driver, WEB), place.format, "read -P 0x22 0 64k")


def test_snapshot_ids_belong_to_one_volume(driver):
    """A snapshot id of another volume is a conflict, and reverting to it is refused."""
    for volume in (WEB, DB):
        driver.create_volume(VolumeSpec(id=volume, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(Conflict):
        driver.create_snapshot(DB, S1, call())
    with pytest.raises(InvalidArgument):
        driver.revert_volume(DB, S1, call())
    with pytest.raises(NotFound):
        driver.revert_volume(DB, S2, call())
    with pytest.raises(NotFound):
        driver.create_snapshot(COPY, S2, call())
    assert driver.list_snapshots(DB, call()).items == []


def test_similar_names_do_not_mix_up_snapshots(driver):
    """Volumes and snapshots whose ids are prefixes of each other stay apart, page by page."""
    for volume in (VolumeId("a"), VolumeId("a-b"), VolumeId("ab")):
        driver.create_volume(VolumeSpec(id=volume, size=512), call())
        for number in range(3):
            driver.create_snapshot(volume, SnapshotId(f"{volume}-s{number}"), call())
    for volume in (VolumeId("a"), VolumeId("a-b"), VolumeId("ab")):
        first = driver.list_snapshots(volume, call(), limit=2)
        rest = driver.list_snapshots(volume, call(), limit=2, after=first.after)
        ids = [snapshot.id for snapshot in (*first.items, *rest.items)]
        assert ids == [f"{volume}-s{number}" for number in range(3)]
        assert rest.after is None
    with pytest.raises(NotFound):
        driver.get_snapshot(SnapshotId("s1"), call())


def test_a_volume_with_snapshots_stays(driver, tmp_path):
    """Delete and release need the snapshots gone; deleting one keeps the others and the volume."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    driver.create_snapshot(WEB, S2, call())
    for act in (driver.delete_volume, driver.release_volume):
        with pytest.raises(HasDependents):
            act(WEB, call())
    driver.delete_snapshot(S1, call())
    driver.delete_snapshot(S1, call())
    assert driver.get_snapshot(S2, call()).volume == WEB
    driver.delete_snapshot(S2, call())
    driver.delete_volume(WEB, call())
    assert files(tmp_path) == []


def test_clones_are_equal_independent_and_may_be_larger(driver):
    """A copy of a volume or snapshot equals it, reads zeros behind it, and goes its own way."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x33")
    driver.create_snapshot(WEB, S1, call())
    clone = driver.clone_volume(WEB, VolumeSpec(id=COPY, size=2 * MIB), call())
    restored = driver.create_volume_from_snapshot(S1, VolumeSpec(id=DB, size=MIB), call())
    assert (clone.size, restored.size) == (2 * MIB, MIB)
    place = driver.locate_volume(COPY, call())
    assert equal(place.path, path_of(driver, WEB), place.format)
    assert equal(path_of(driver, DB), path_of(driver, WEB), place.format)
    fill(driver, COPY, "0x44")
    qemu_io(path_of(driver, WEB), place.format, "read -P 0x33 0 64k")
    driver.delete_snapshot(S1, call())
    driver.delete_volume(WEB, call())
    qemu_io(path_of(driver, DB), place.format, "read -P 0x33 0 64k")
    assert driver.clone_volume(WEB, VolumeSpec(id=COPY, size=2 * MIB), call()).id == COPY


def test_a_clone_is_never_an_empty_volume_of_the_right_name(driver):
    """An id that was made empty, or from something else, is a conflict and not a clone."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_volume(VolumeSpec(id=COPY, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    with pytest.raises(Conflict):
        driver.clone_volume(WEB, VolumeSpec(id=COPY, size=MIB), call())
    with pytest.raises(Conflict):
        driver.create_volume_from_snapshot(S1, VolumeSpec(id=COPY, size=MIB), call())
    with pytest.raises(InvalidArgument):
        driver.clone_volume(WEB, VolumeSpec(id=WEB, size=MIB), call())


def test_copies_smaller_than_their_source_are_refused(driver, tmp_path):
    """A target smaller than the source is an invalid argument and leaves nothing."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    before = files(tmp_path)
    with pytest.raises(InvalidArgument):
        driver.clone_volume(WEB, VolumeSpec(id=COPY, size=MIB - 512), call())
    with pytest.raises(InvalidArgument):
        driver.create_volume_from_snapshot(S1, VolumeSpec(id=COPY, size=512), call())
    with pytest.raises(NotFound):
        driver.create_volume_from_snapshot(S2, VolumeSpec(id=COPY, size=MIB), call())
    assert files(tmp_path) == before


def test_no_image_has_a_backing_file(driver, tmp_path):
    """Every image in the pool stands alone, and `qemu-img check` finds nothing wrong."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    fill(driver, WEB, "0x11")
    driver.create_snapshot(WEB, S1, call())
    driver.clone_volume(WEB, VolumeSpec(id=COPY, size=2 * MIB), call())
    driver.revert_volume(WEB, S1, call())
    for image in tmp_path.rglob("*.qcow2"):
        told = subprocess.run(
            ["qemu-img", "info", "-f", "qcow2", image], capture_output=True, text=True, check=True
        )
        assert "backing file" not in told.stdout
        subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", image], check=True)


def test_revert_keeps_owner_and_mode(driver):
    """What libvirt gave to the QEMU user on a volume's file survives a revert."""
    driver.create_volume(VolumeSpec(id=WEB, size=MIB), call())
    driver.create_snapshot(WEB, S1, call())
    path = path_of(driver, WEB)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 64055, 64055)
    before = path.stat()
    driver.revert_volume(WEB, S1, call())
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
