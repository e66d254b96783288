"""Differences to the byte, clones that outlive their source, foreign images, and a pool that is full."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bollard.core.dataplane import BlockSink, open_sink, open_source
from bollard.core.spi import (
    Conflict,
    Extent,
    ExtentKind,
    HasDependents,
    InUse,
    NotFound,
    OutOfCapacity,
    PermissionDenied,
    TemplateSpec,
    Unsupported,
    VolumeSpec,
)
from bollard.drivers.primary.rbd import RbdDriver
from bollard.transfer_objects.ids import SnapshotId, VolumeId
from ceph_lab import CephLab, ceph_lab
from kvm_lab.polling import until
from primary_rig import COPY, DB, DEBIAN, MIB, S1, S2, WEB, call
from rbd_rig import host, opened, read, spec, what_is_kept

pytestmark = pytest.mark.real

_BLOCK = 4096


@pytest.fixture
def web(lab: CephLab, driver: RbdDriver) -> Iterator[RbdDriver]:
    """A pool with the volume web; afterwards nothing of ours is left."""
    driver.create_volume(spec(), call())
    yield driver
    for snapshot in (S1, S2):
        driver.delete_snapshot(snapshot, call())
    for volume in (WEB, COPY):
        driver.delete_volume(volume, call())
    assert what_is_kept(lab) == set()


def _sink(driver: RbdDriver, volume: VolumeId = WEB) -> BlockSink:
    return open_sink(driver.grant(volume, host(), call()), timeout=20)


def test_a_difference_is_exact_and_knows_discards(web: RbdDriver) -> None:
    """Between two snapshots lies what was written and discarded, to the byte, while the writer goes on."""
    with _sink(web) as sink:
        sink.write(0, b"1" * 8 * _BLOCK)
        sink.write(4 * MIB, b"1" * 8 * MIB)
        sink.flush()
        web.create_snapshot(WEB, S1, call())
        sink.write(_BLOCK, b"2" * 512)
        sink.zero(5 * MIB, _BLOCK)
        sink.zero(8 * MIB, 4 * MIB)
        sink.write(6 * MIB - 512, b"2" * 1024)
        sink.flush()
        web.create_snapshot(WEB, S2, call())
        sink.write(15 * MIB, b"3")
    web.revoke(WEB, host().id, call())
    whole = [Extent(4 * MIB, 4 * MIB), Extent(8 * MIB, 4 * MIB)]
    assert list(web.changed(None, S1, call())) == [Extent(0, 8 * _BLOCK), *whole]
    hole = Extent(8 * MIB, 4 * MIB, ExtentKind.HOLE)
    late = [Extent(5 * MIB, _BLOCK), Extent(6 * MIB - 512, 1024), hole]
    assert list(web.changed(S1, S2, call())) == [Extent(_BLOCK, 512), *late]
    assert list(web.changed(S1, S2, call(), start=5 * MIB)) == late
    assert list(web.changed(S1, S1, call())) == []


def test_a_snapshot_is_read_as_it_stands(web: RbdDriver) -> None:
    """A snapshot's location gives its bytes and size after the volume has changed, and no way to write."""
    with _sink(web) as sink:
        sink.write(0, b"1" * _BLOCK)
        sink.flush()
        web.create_snapshot(WEB, S1, call())
        sink.write(0, b"2" * _BLOCK)
        sink.flush()
    web.revoke(WEB, host().id, call())
    web.resize_volume(WEB, 32 * MIB, call())
    location, data = web.locate_snapshot(S1, call()), bytearray(_BLOCK)
    with open_source(location, timeout=20) as source:
        assert source.size == 16 * MIB
        source.read_into(0, memoryview(data))
    assert data == b"1" * _BLOCK
    with pytest.raises(PermissionDenied):
        open_sink(location, timeout=20)


def test_clones_outlive_source_and_snapshot(lab: CephLab, web: RbdDriver) -> None:
    """Source and snapshot go while what was made from them lives; with the last clone all is gone."""
    with _sink(web) as sink:
        sink.write(0, b"1" * _BLOCK)
        sink.flush()
    web.revoke(WEB, host().id, call())
    web.create_snapshot(WEB, S1, call())
    web.create_volume_from_snapshot(S1, spec(COPY), call())
    web.clone_volume(COPY, spec(DB, 32 * MIB), call())
    with pytest.raises(HasDependents):
        web.delete_volume(WEB, call())
    web.delete_snapshot(S1, call())
    web.delete_volume(WEB, call())
    web.delete_volume(COPY, call())
    assert [found.id for found in web.list_volumes(call()).items] == [DB]
    assert read(web, DB) == b"1" * _BLOCK
    assert not lab.rbd("trash", "ls")  # the first grant has copied what was needed
    web.delete_volume(DB, call())


def test_an_evicted_template_lives_on_in_its_volumes(lab: CephLab, web: RbdDriver) -> None:
    """A template goes at once, and its volumes read on."""
    web.prepare_template(TemplateSpec(id=DEBIAN, size=16 * MIB), call())
    web.seal_template(DEBIAN, call())
    web.create_volume_from_template(DEBIAN, spec(COPY), call())
    web.evict_template(DEBIAN, call())
    with pytest.raises(NotFound):
        web.create_volume_from_template(DEBIAN, spec(DB), call())
    assert read(web, COPY) == bytes(_BLOCK)
    web.delete_volume(COPY, call())
    assert not lab.rbd("trash", "ls")


def test_foreign_images_are_left_alone(lab: CephLab, web: RbdDriver) -> None:
    """An image of others is not listed; adopted it keeps name and data, and is given back with both."""
    lab.rbd("create", "--size", "16M", "theirs")
    try:
        assert [found.id for found in web.list_volumes(call()).items] == [WEB]
        with pytest.raises(Conflict):
            web.adopt_volume("theirs", spec(COPY, 32 * MIB), call())
        assert web.adopt_volume("theirs", spec(COPY), call()).private["image"] == "theirs"
        with pytest.raises(InUse):
            web.adopt_volume("theirs", spec(DB), call())
        with pytest.raises(InUse):
            web.adopt_volume(web.get_volume(WEB, call()).private["image"], spec(DB), call())
        with _sink(web, COPY) as sink:
            sink.write(0, b"1" * _BLOCK)
            sink.flush()
        web.revoke(COPY, host().id, call())
        assert web.release_volume(COPY, call()) == "theirs"
        assert web.release_volume(COPY, call()) == "theirs"
        web.adopt_volume("theirs", spec(COPY), call())
        assert read(web, COPY) == b"1" * _BLOCK
        assert web.release_volume(COPY, call()) == "theirs"
        lab.rbd("create", "--size", "16M", "--image-feature", "layering", "old")
        with pytest.raises(Unsupported):
            web.adopt_volume("old", spec(COPY), call())
    finally:
        for name in lab.rbd("ls").split():
            if name in ("theirs", "old"):
                lab.rbd("rm", "--no-progress", name)


def test_two_owners_share_a_pool(lab: CephLab, web: RbdDriver) -> None:
    """Another owner's driver sees nothing of ours and may use the same ids."""
    with opened(lab, owner="other") as other:
        assert not other.list_volumes(call()).items
        other.create_volume(spec(WEB, 8 * MIB), call())
        with pytest.raises(InUse):
            other.adopt_volume(web.get_volume(WEB, call()).private["image"], spec(DB), call())
        other.delete_volume(WEB, call())
    assert web.get_volume(WEB, call()).size == 16 * MIB
    lab.rados("rm", "bollard.other")


def _flags(lab: CephLab) -> list[str]:
    flags: str = lab.ceph("osd", "pool", "ls", "detail")[0]["flags_names"]
    return flags.split(",")


@pytest.mark.slow
def test_a_full_pool_is_typed_and_harms_nobody() -> None:
    """What needs space is out of capacity at once; what is there is listed, and can be deleted."""
    with ceph_lab(size=256 * MIB) as lab, opened(lab) as driver:
        driver.create_volume(spec(WEB), call())
        driver.create_snapshot(WEB, S1, call())
        with _sink(driver) as sink:
            sink.write(0, b"1" * MIB)
            sink.flush()
        driver.revoke(WEB, host().id, call())
        lab.fill(244 * MIB)  # full from 95 %; from 97 % on OSDs answer nobody
        until(lambda: "full" in _flags(lab), 60, "a full pool")
        began = time.monotonic()
        for act in (
            lambda: driver.create_volume(spec(COPY), call()),
            lambda: driver.clone_volume(WEB, spec(COPY), call()),
            lambda: driver.create_snapshot(WEB, S2, call()),
            lambda: driver.create_volume_from_snapshot(S1, VolumeSpec(id=COPY, size=16 * MIB), call()),
            lambda: driver.resize_volume(WEB, 32 * MIB, call()),
        ):
            with pytest.raises(OutOfCapacity):
                act()
        assert time.monotonic() - began < 30
        assert [found.id for found in driver.list_volumes(call()).items] == [WEB]
        assert driver.list_snapshots(WEB, call()).items[0].id == SnapshotId("s1")
        driver.delete_snapshot(S1, call())
        driver.delete_volume(WEB, call())
        assert not driver.list_volumes(call()).items
