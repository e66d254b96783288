"""Volume snapshots made of VM snapshots: one at most per VM snapshot and volume, whatever fails between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bollard.core.spi import Conflict, InvalidArgument, OutOfCapacity
from bollard.core.vm_snapshots import to_volume
from bollard.core.vm_snapshots.to_volume import extract, release
from bollard.transfer_objects.ids import SnapshotId, VmSnapshotId
from vm_cloud import SimulatedCloud, call

pytestmark = pytest.mark.real

S1, S2 = VmSnapshotId("s1"), VmSnapshotId("s2")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SimulatedCloud]:
    """A VM with two snapshots as files."""
    with SimulatedCloud(tmp_path, ("file",)) as cloud:
        cloud.start()
        cloud.write("f", "as in s1")
        cloud.take("s1")
        cloud.take("s2")
        yield cloud


def made(
    cloud: SimulatedCloud, target: Path, volume_snapshot: str | None, snapshot: VmSnapshotId = S1
) -> Path:
    """Make a volume snapshot, or a template, of the VM's disk."""
    name = None if volume_snapshot is None else SnapshotId(volume_snapshot)
    volume = cloud.volumes[0].volume
    extract(cloud.manager, snapshot, volume, target, call(), volume_snapshot=name)
    return target


def test_one_volume_snapshot_of_each_vm_snapshot_and_volume(cloud, tmp_path):
    """The second is refused and named; of another VM snapshot, or as a template, it is made."""
    first = made(cloud, tmp_path / "v1", "v1")
    with pytest.raises(Conflict, match="volume snapshot v1 was made"):
        made(cloud, tmp_path / "v2", "v2")

    assert not (tmp_path / "v2").exists()
    made(cloud, tmp_path / "other", "v2", S2)
    for number in range(2):
        made(cloud, tmp_path / f"template-{number}", None)
    first.unlink()
    made(cloud, tmp_path / "v1", "v1")  # the same one again: its file got lost


def test_a_deleted_volume_snapshot_makes_room(cloud, tmp_path):
    """After its deletion another one can be made; to delete a stranger's changes nothing."""
    made(cloud, tmp_path / "v1", "v1")
    volume = cloud.volumes[0].volume
    release(cloud.manager, S1, volume, SnapshotId("stranger"))
    with pytest.raises(Conflict):
        made(cloud, tmp_path / "v2", "v2")
    for _ in range(2):
        release(cloud.manager, S1, volume, SnapshotId("v1"))

    made(cloud, tmp_path / "v2", "v2")
    release(cloud.manager, VmSnapshotId("gone"), volume, SnapshotId("v2"))


def test_a_failure_gives_the_place_back(cloud, tmp_path, monkeypatch):
    """Nothing is made, and another id takes the place; a place that was taken before stays taken."""

    def fails(*_arguments, **_options):
        raise OutOfCapacity("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(to_volume, "run_qemu_img", fails)
        with pytest.raises(OutOfCapacity):
            made(cloud, tmp_path / "v1", "v1")
    assert list(tmp_path.glob("v1*")) == []
    made(cloud, tmp_path / "v2", "v2")
    with monkeypatch.context() as patch:
        patch.setattr(to_volume, "run_qemu_img", fails)
        with pytest.raises(OutOfCapacity):
            made(cloud, tmp_path / "v2-again", "v2")
    with pytest.raises(Conflict):
        made(cloud, tmp_path / "v3", "v3")


def test_the_place_is_taken_before_the_act(cloud, tmp_path, monkeypatch):
    """Whoever is killed while it is made has the place: the same id goes on, another one is refused."""

    def dies(*_arguments, **_options):
        monkeypatch.setattr(cloud.records, "set_volume_snapshot", lambda *_: None)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(to_volume, "run_qemu_img", dies)
        with pytest.raises(KeyboardInterrupt):
            made(cloud, tmp_path / "v1", "v1")
    monkeypatch.undo()
    with pytest.raises(Conflict):
        made(cloud, tmp_path / "v2", "v2")
    made(cloud, tmp_path / "v1", "v1")


def test_an_id_that_is_none_is_refused(cloud, tmp_path):
    """An id that could not be kept is refused before anything is written."""
    with pytest.raises(InvalidArgument):
        made(cloud, tmp_path / "v", "../v")
    assert list(tmp_path.glob("v")) == []
