"""`bollard sync` over VM snapshots and volume snapshots: each kind's own sync is asked for its own."""

from __future__ import annotations

import pytest

from bollard.core.journal import Journal
from bollard.core.service.sync import Sync
from bollard.core.service.sync_vm_snapshots import FleetVmLocks, VmSnapshotKind
from bollard.core.spi import Busy, VmState
from bollard.core.vm_snapshots.states import ACTIVE
from bollard.transfer_objects.ids import VmId
from vm_cloud import VM, SimulatedCloud, call
from vm_deaths import dying


@pytest.mark.slow
def test_vm_snapshots_end_at_rest_and_no_guest_stays_frozen(tmp_path, monkeypatch):
    """Whenever the orchestrator died: nothing is under way afterwards, and the guest goes on."""
    with SimulatedCloud(tmp_path, ("array", "file")) as cloud:
        frozen = 0
        for at in range(2, 60, 3):
            if cloud.state() is VmState.STOPPED:
                cloud.start()
            with dying(cloud, monkeypatch, at) as mortal:
                cloud.take(f"s{at}", quiesce=True)
            if not mortal.dead:
                break
            frozen += cloud.frozen()
            sync = Sync(kinds=[VmSnapshotKind(sync=cloud.sync, vms_of=lambda _: [VM])])
            assert sync.run(call(), vm="vm-9").planned == []
            report = sync.run(call(), host="h1")
            assert (report.problems(), report.errors) == ([], [])
            assert not cloud.frozen()
            assert not [one for one in cloud.records.of_vm(VM) if one.state in ACTIVE]
            assert sync.run(call()).planned == []
        assert frozen > 0


def test_a_vm_is_one_tasks_at_a_time_in_the_whole_fleet(tmp_path):
    """Two machines share a journal and no directory: the second one is told to wait."""
    journal = Journal(tmp_path / "journal")
    one, two = (FleetVmLocks(tmp_path / name, journal) for name in ("one", "two"))
    with one.task(VmId("vm-1")):
        with pytest.raises(Busy), two.task(VmId("vm-1")):
            pytest.fail("entered")
        with two.task(VmId("vm-2")):
            pass
    with two.task(VmId("vm-1")):
        pass
