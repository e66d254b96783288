"""`bollard sync`: what is told, and the exit code."""

from __future__ import annotations

import pytest

from bollard.core.config import load_config
from bollard.core.service.recovery import open_services
from bollard.core.service.volumes_records import NewVolume
from bollard.core.site import Site
from bollard.core.spi import Call
from bollard.core.vm_snapshots import Event, VmSnapshotSpec
from bollard.transfer_objects.ids import VmId, VmSnapshotId, VolumeId

MIB = 2**20
NEW = NewVolume(id=VolumeId("vol-1"), pool="files", size=64 * MIB)


@pytest.fixture
def begun(home) -> None:
    """A process has written down that it creates a volume, and ended."""
    with Site(load_config()) as site, open_services(site) as services:
        services.volumes.records.creating(NEW)


def test_sync_ends_what_was_begun(bollard, begun):
    """A dry run tells it; the pool has not got the volume, so the record ends in Error; then all rests."""
    planned = bollard("sync", "--dry-run", "--json")
    assert planned.code == 0
    assert planned.json["found"] == [{"kind": "volume", "id": "vol-1", "what": "create"}]
    assert "create" in bollard("sync", "--dry-run").out
    done = bollard("sync", "--json")
    assert (done.code, done.json["ended"], done.json["errors"]) == (
        0,
        [{"kind": "volume", "id": "vol-1", "before": "create", "after": "at rest", "problem": ""}],
        [],
    )
    assert bollard("sync").out == "Everything is at rest.\n"
    with Site(load_config()) as site, open_services(site) as services:
        record = services.volumes.records.get(NEW.id)
        assert (record.state, record.error) == ("Error", "interrupted before the pool had it")
        assert services.volumes.create(NEW, Call.within(60)).state == "Ready"


def test_a_pool_that_is_gone_keeps_its_own_and_says_so(bollard, begun, home):
    """Exit code 6; the next sync, with the pool back, ends it."""
    (home / "pool").rename(home / "away")
    failed = bollard("sync", "--json")
    assert failed.code == 6
    [row] = failed.json["ended"]
    assert (row["id"], row["after"]) == ("vol-1", "create")
    assert row["problem"]
    assert "repeat the command" in bollard("sync").out
    (home / "away").rename(home / "pool")
    assert bollard("sync").code == 0


def test_vm_snapshots_of_a_vm_that_nobody_knows_are_told(bollard, home):
    """The catalog knows no host of it: it stays as it is, and the command does not succeed."""
    with Site(load_config()) as site, open_services(site) as services:
        records = services.vm_snapshots.records
        spec = VmSnapshotSpec(id=VmSnapshotId("s-1"), vm=VmId("vm-1"), name="before")
        records.allocate(spec, "file", [], offering={}, work={})
        records.step(spec.id, Event.CREATE_REQUESTED)
    failed = bollard("sync", "--json")

    assert failed.code == 6
    [row] = failed.json["ended"]
    assert (row["kind"], row["id"]) == ("vm_snapshots", "vm-1")
    assert "no host" in row["problem"]
    assert bollard("sync", "--vm", "vm-2").code == 0
