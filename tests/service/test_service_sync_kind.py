"""`bollard sync` over volume snapshots: a volume's are ended together, by themselves or with their VM's."""

from __future__ import annotations

import pytest

from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.service.sync import Sync
from bollard.core.service.sync_snapshots import SnapshotKind
from bollard.transfer_objects.ids import SnapshotId

from .service_rig import Cloud, call


class Death(BaseException):
    """Nothing of the process runs any more."""


def kind(cloud: Cloud, vm: str = "") -> Sync:
    """The sync of volume snapshots, of a catalog that has all volumes in this VM."""
    kinds = [SnapshotKind(context=cloud.ctx, vm_of=lambda _: vm, vms_of=lambda host: [vm] if host else [])]
    return Sync(kinds=kinds)


def test_a_snapshot_whose_process_died_ends_at_rest(cloud, monkeypatch):
    """The array has it, so it is there; then nothing is transient any more."""
    volume = cloud.make("v-1", "gold", b"data" * 1000)
    driver = cloud.site.pools["gold"].driver
    cut = driver.create_snapshot

    def die(*args: object) -> None:
        cut(*args)
        raise Death

    with monkeypatch.context() as patch:
        patch.setattr(driver, "create_snapshot", die)
        with pytest.raises(Death):
            cloud.take("s-1", volume)
    assert kind(cloud, "vm-1").run(call(), vm="vm-2").planned == []
    assert [task.group for task in kind(cloud).run(call(), dry_run=True).planned] == ["volume v-1"]
    assert [task.group for task in kind(cloud, "vm-1").run(call(), host="h", dry_run=True).planned] == [
        "vm vm-1"
    ]
    report = kind(cloud).run(call())

    assert [(one.id, one.before, one.problem) for one in report.ended] == [("s-1", "Creating", "")]
    assert cloud.service.show(SnapshotId("s-1")).state is SnapshotState.CREATED_ON_PRIMARY
    assert kind(cloud).run(call()).planned == []
