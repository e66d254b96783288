"""`core/service/sweep_hosts.py`: what the catalog has released, and nothing that it does not know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.core.service.leftovers import End, Run
from bollard.core.service.sweep_hosts import HostPlace
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import Introduction, ObjectKind, VolumeSpec
from bollard.transfer_objects.ids import VolumeId
from gone_snapshots import record_snapshot
from volume_site import H1, VM, Process, Site, call

pytest_plugins = ["catalog_fixture"]

MIB = 2**20
V1 = VolumeId("v-1")
NEW = NewVolume(id=V1, pool="gold", size=8 * MIB)


@pytest.fixture
def site(tmp_path, catalog_url) -> Iterator[Site]:
    """An array, a cluster with a host and a VM, and a catalog."""
    with Site(tmp_path, catalog_url) as opened:
        yield opened


def swept(process: Process, *, dry_run: bool = False) -> list[tuple[str, str, End]]:
    """Sweep the cluster."""
    place = HostPlace(hypervisor=process.site.hypervisor("cluster"), catalog=process.catalog)
    found = place.sweep(Run(call=call(), dry_run=dry_run, older_than=0))
    return [(one.leftover.kind, one.leftover.name, one.end) for one in found]


def introduce(site: Site, process: Process, volume: VolumeId) -> None:
    """Make the host know a volume, behind the back of all records."""
    found = site.looking.volumes.get(volume)
    what = Introduction(
        kind=ObjectKind.VOLUME,
        object_id=volume,
        host=H1.id,
        location=site.looking.volumes.grant(volume, H1),
        identity=found.identity,
        size=found.size,
    )
    process.driver.introduce(what, call())


def test_what_the_catalog_has_released_is_forgotten(site):
    """A host that knows it still forgets it; a dry run tells; what is held or asked for stays."""
    process = site.process()
    process.volumes.create(NEW, call())
    process.attachments.give(V1, H1, call(), hypervisor="cluster")
    assert swept(process) == []
    process.attachments.take(V1, H1, call())
    assert swept(process) == []
    introduce(site, process, V1)

    assert swept(process, dry_run=True) == [("introduction", V1, End.FOUND)]
    assert site.truth()["known"] == [V1]
    assert swept(process) == [("introduction", V1, End.REMOVED)]
    assert (site.truth()["known"], site.truth()["volumes"]) == ([], {V1: 8 * MIB})
    assert swept(process) == []


def test_what_the_catalog_does_not_know_is_somebody_elses(site):
    """Another orchestrator has introduced it."""
    process = site.process()
    site.looking.volumes.create(VolumeSpec(id=VolumeId("theirs"), size=8 * MIB))
    introduce(site, process, VolumeId("theirs"))
    assert swept(process) == []
    assert site.truth()["known"] == ["theirs"]


def test_a_volume_that_is_worked_on_or_used_is_left_alone(site):
    """While an act on it is under way nothing is taken from the host; while a VM has it, it stays."""
    process = site.process()
    process.volumes.create(NEW, call())
    process.attachments.give(V1, H1, call(), hypervisor="cluster")
    process.attachments.take(V1, H1, call())
    introduce(site, process, V1)
    with process.catalog.transaction() as session:
        work = process.works.begin(session, "volume", V1, "give", {"pool": "gold", "had": []}, host="h1")
    assert swept(process) == []
    with process.catalog.transaction() as session:
        process.works.end(session, work)
    site.http.put(f"/vms/{VM}/disks/{V1}", json={"object": {"kind": "volume", "id": V1}}).raise_for_status()
    assert swept(process) == [("introduction", V1, End.KEPT)]
    assert site.truth()["known"] == [V1]


def test_a_checkpoint_of_a_snapshot_that_is_gone_is_deleted(site, monkeypatch):
    """That of a living one, and one that no snapshot of this volume is called like, stay."""
    process = site.process()
    process.volumes.create(NEW, call())
    device = process.attachments.attach(V1, VM, H1, "cluster", call()).device
    record_snapshot(process.catalog, V1, "s-gone", gone=True)
    record_snapshot(process.catalog, V1, "s-here", gone=False)
    there = ["s-gone", "s-here", "theirs"]
    monkeypatch.setattr(process.driver, "checkpoints", lambda *_: [Mark(name, device) for name in there])
    monkeypatch.setattr(process.driver, "delete_checkpoint", lambda *told: there.remove(told[2]))

    assert swept(process, dry_run=True) == [("checkpoint", f"{device}/s-gone", End.FOUND)]
    assert swept(process) == [("checkpoint", f"{device}/s-gone", End.REMOVED)]
    assert there == ["s-here", "theirs"]
    assert swept(process) == []


class Mark:
    """A checkpoint as far as the sweep looks at it; tests/kvm has real ones."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
