"""The main job on real input: 8 GiB with real files in it, archived, lost, restored elsewhere, compared."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bollard
from bollard.core.access import Mover
from bollard.core.dataplane import compare, copy, open_source
from bollard.core.spi import FileLocation
from bollard.transfer_objects import SnapshotLocation

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]

VIRTUAL = 8 * 2**30
MONDAY, TUESDAY = "monday", "tuesday"


def _fill(mover: Mover, pool: bollard.Pool, volume: Any, image: Path) -> None:
    pool.volumes.create(bollard.VolumeSpec(id=volume, size=VIRTUAL))
    raw = open_source(FileLocation(path=image, format="raw"))
    with raw as source, mover.writing_volume(pool, volume) as sink:
        copy(source, sink)
        sink.flush()


def _lose(pool: bollard.Pool, volume: Any) -> None:
    for snapshot in list(pool.snapshots.list(volume)):
        pool.snapshots.delete(snapshot.id)
    pool.volumes.delete(volume)
    assert volume not in {v.id for v in pool.volumes.list()}


def _assert_equal(mover: Mover, pool: bollard.Pool, volume: Any, big_image: Any) -> None:
    """Compare block by block through the data plane, as a host sees it."""
    raw = open_source(FileLocation(path=big_image.path, format="raw"))
    with raw as source, mover.reading_volume(pool, volume) as restored:
        assert restored.size == VIRTUAL
        assert compare(source, restored) is None


def test_qcow2_volume_comes_back_on_the_array(
    big_image: Any,
    files_pool: bollard.Pool,
    array_pool: bollard.Pool,
    store: bollard.Store,
    mover: Mover,
) -> None:
    """A qcow2 volume is archived to each store, lost, and restored to a LUN that equals it."""
    volume: Any = f"web-{store.name}"
    _fill(mover, files_pool, volume, big_image.path)
    archive = bollard.Archive(store)
    here = bollard.VolumeSnapshots(pool=files_pool, archive=archive, mover=mover)
    there = bollard.VolumeSnapshots(pool=array_pool, archive=archive, mover=mover)
    taken = here.take(volume, MONDAY, bollard.Call.within(600))
    assert (taken.location, taken.on_primary) == (SnapshotLocation.STANDARD, False)
    _lose(files_pool, volume)
    there.restore(volume, MONDAY, volume, bollard.Call.within(600))
    _assert_equal(mover, array_pool, volume, big_image)
    _lose(array_pool, volume)


def test_lun_comes_back_as_qcow2(
    big_image: Any,
    files_pool: bollard.Pool,
    array_pool: bollard.Pool,
    store: bollard.Store,
    mover: Mover,
    images: ModuleType,
    tmp_path: Path,
) -> None:
    """A LUN's Standard snapshot stays on the array; its Archive one returns as qcow2 with all files."""
    volume: Any = f"db-{store.name}"
    _fill(mover, array_pool, volume, big_image.path)
    archive = bollard.Archive(store)
    here = bollard.VolumeSnapshots(pool=array_pool, archive=archive, mover=mover)
    there = bollard.VolumeSnapshots(pool=files_pool, archive=archive, mover=mover)
    standard = here.take(volume, MONDAY, bollard.Call.within(600))
    assert standard.on_primary
    assert standard.archived is None
    archived = here.take(volume, TUESDAY, bollard.Call.within(600), location=SnapshotLocation.ARCHIVE)
    assert not archived.on_primary
    assert [s.id for s in array_pool.snapshots.list(volume)] == [MONDAY]
    assert [v.id for v in array_pool.volumes.list()] == [volume]  # the temporary clone is gone
    _lose(array_pool, volume)
    there.restore(volume, TUESDAY, volume, bollard.Call.within(600))
    location: Any = files_pool.volumes.locate(volume)
    assert images.same(big_image.path, "raw", location.path, "qcow2")
    raw = images.to_raw(location.path, tmp_path / "restored.raw")
    assert images.ext4_digests(raw, tmp_path / "files") == big_image.files
    _lose(files_pool, volume)
