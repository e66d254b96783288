"""Backups of simulated VMs through the driver: what is answered, and by which name it is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.core.dataplane import open_source
from bollard.core.dataplane.nbd_bitmap import dirty_extents
from bollard.core.spi import Busy, Checkpoint, Conflict, InvalidArgument, NotFound, Outcome, Unsupported
from vm_cloud import MIB, VM, SimulatedCloud, call

pytestmark = pytest.mark.real  # qemu-img, qemu-io and qemu-nbd


@pytest.fixture
def cloud(tmp_path) -> Iterator[SimulatedCloud]:
    """A KVM cloud with a running VM of two files."""
    with SimulatedCloud(tmp_path) as opened:
        opened.start()
        yield opened


def test_a_full_and_an_increment(cloud):
    """Size, bitmap and time of the freeze are told; the increment has what the guest has written."""
    driver = cloud.driver
    full = driver.begin_backup(VM, "vdb", call(), checkpoint="c1")
    assert (full.bitmap, full.location.size, full.location.read_only) == ("", MIB, True)
    assert driver.begin_backup(VM, "vdb", call(), checkpoint="c1") == full
    with open_source(full.location) as source:
        assert source.size == MIB
    driver.end_backup(VM, "vdb", call(), keep=True)
    cloud.http.post(f"/vms/{VM}/write", json={"blocks": 2}).raise_for_status()
    second = driver.begin_backup(VM, "vdb", call(), checkpoint="c2", since="c1", quiesce=True)
    assert second.bitmap == "qemu:dirty-bitmap:c1"
    assert 0 < second.frozen_seconds < 60
    with dirty_extents(second.location, second.bitmap) as extents:
        assert sum(one.length for one in extents) == 4096  # the other block went to the other disk
    driver.end_backup(VM, "vdb", call(), keep=False)
    assert [(one.name, one.device) for one in driver.checkpoints(VM, call())] == [("c1", "vdb")]


def test_refusals_are_told_by_name(cloud):
    """None of them is applied."""
    driver = cloud.driver
    driver.begin_backup(VM, "vda", call(), checkpoint="c1")
    with pytest.raises(Busy) as busy:
        driver.begin_backup(VM, "vdb", call(), checkpoint="c2")
    driver.end_backup(VM, "vda", call(), keep=True)
    with pytest.raises(Conflict):
        driver.begin_backup(VM, "vda", call(), checkpoint="c1")
    with pytest.raises(NotFound) as lost:
        driver.begin_backup(VM, "vdb", call(), checkpoint="c2", since="c1")
    for name, since in (("C 1", None), ("c2", "../c1"), ("c2", "c2")):
        with pytest.raises(InvalidArgument):
            driver.begin_backup(VM, "vda", call(), checkpoint=name, since=since)
    assert {busy.value.outcome, lost.value.outcome} == {Outcome.NOT_APPLIED}
    driver.end_backup(VM, "vdz", call(), keep=False)
    driver.delete_checkpoint(VM, "vdz", "c9", call())


def test_checkpoints_are_restored_if_their_bitmaps_are_there(cloud):
    """The others are named."""
    driver = cloud.driver
    driver.begin_backup(VM, "vda", call(), checkpoint="c1")
    driver.end_backup(VM, "vda", call(), keep=True)
    (known,) = driver.checkpoints(VM, call())
    lost = Checkpoint(name="c0", device="vda", text="{}")
    assert driver.restore_checkpoints(VM, [lost, known], call()) == ["c0"]
    assert driver.checkpoints(VM, call()) == [known]


def test_other_families_have_none(tmp_path):
    """Whoever tries all the same is refused."""
    with (
        SimulatedCloud(tmp_path, personality="VMware") as cloud,
        pytest.raises(Unsupported, match="VMware has no backups"),
    ):
        cloud.driver.begin_backup(VM, "scsi0:0", call(), checkpoint="c1")
