"""Snapshots of files that a running guest writes: to an overlay while the pool copies the volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.from_snapshot_template import TemplateRequest, to_template
from bollard.transfer_objects.ids import SnapshotId, TemplateId, VolumeId
from vm_cloud import call

from .running_rig import Both, clean, during, files_of, running
from .test_service_guests import DISK, S1


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    """The VM of a test."""
    with running(tmp_path) as found:
        yield found


def test_the_instant_is_kept_and_nothing_later_is_lost(both: Both):
    """What the guest writes during the copy is not in the snapshot, and is on its disk when it has ended."""
    vms, cloud = both
    during(cloud.site.pools["file"].driver, "create_snapshot", lambda: vms.write("meanwhile", "x"))
    found = cloud.take(S1, DISK, keep_on_primary=True)

    assert found.state is SnapshotState.BACKED_UP
    assert (cloud.on_pool(DISK), cloud.images()) == ([S1], ["vol-0/s-1"])
    assert set(vms.read()) == {"before", "meanwhile"}
    clean(vms, cloud)
    assert files_of(vms, cloud) == {"before"}


def test_the_copy_to_secondary_comes_later(both: Both):
    """With wait=False it rests on the pool, and the backup is due; then the pool's goes, and nothing else."""
    vms, cloud = both
    found = cloud.take(S1, DISK, wait=False)
    assert (found.state, found.order.wanted) == (SnapshotState.CREATED_ON_PRIMARY, True)
    clean(vms, cloud)
    vms.write("after", "x")
    assert cloud.service.backup(S1, call()).state is SnapshotState.BACKED_UP
    assert (cloud.on_pool(DISK), cloud.images()) == ([], ["vol-0/s-1"])
    assert files_of(vms, cloud) == {"before"}
    cloud.service.delete(S1, call())
    assert (cloud.images(), cloud.books.counted) == ([], {})


def test_the_second_one_is_an_increment_of_the_first(both: Both):
    """It is based on the newest one that is archived, and whole without it."""
    vms, cloud = both
    first = cloud.take(S1, DISK)
    vms.write("after", "x")
    second = cloud.take("s-2", DISK)
    assert second.refs[-1].parent == first.refs[-1].id
    cloud.service.delete(S1, call())
    to_volume(cloud.ctx, SnapshotId("s-2"), VolumeRequest(id=VolumeId("copy"), pool="file"), call())
    assert b"after" in cloud.read(VolumeId("copy"), "file")


def test_a_snapshot_of_a_running_guest_becomes_a_volume_and_a_template(both: Both):
    """The rest of the service finds nothing special about it."""
    vms, cloud = both
    cloud.take(S1, DISK)
    vms.write("after", "x")
    to_volume(cloud.ctx, S1, VolumeRequest(id=VolumeId("copy"), pool="file"), call())
    to_template(cloud.ctx, S1, TemplateRequest(id=TemplateId("t-1"), store="nightly"), call())
    content = cloud.read(VolumeId("copy"), "file")
    assert b"before" in content
    assert b"after" not in content
    assert cloud.images() == ["t-1/image", "vol-0/s-1"]


def test_the_guest_is_frozen_for_the_overlay_and_no_longer(both: Both):
    """With quiesce the record says how long it stood still; the copy is made while it runs."""
    vms, cloud = both
    frozen: list[bool] = []
    during(cloud.site.pools["file"].driver, "create_snapshot", lambda: frozen.append(vms.frozen()))
    assert cloud.take(S1, DISK, quiesce=True).record.frozen_seconds > 0
    assert frozen == [False]
    clean(vms, cloud)
    vms.stop()
    vars(cloud.site.pools["file"].driver).pop("create_snapshot")
    assert cloud.take("s-2", DISK, quiesce=True).record.frozen_seconds == 0
