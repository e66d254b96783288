"""A volume that was made of a snapshot or a template is a volume like any other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.snapshots_create import SnapshotRequest
from bollard.core.service.transient import sync_volume
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import Busy, Conflict
from bollard.transfer_objects.ids import SnapshotId, VolumeId
from fit_site import Fit, opened
from volume_site import H1, VM, Site, call

pytest_plugins = ["catalog_fixture"]

MIB = 2**20
V1, V2 = VolumeId("v-1"), VolumeId("v-2")
S1, S2 = SnapshotId("s-1"), SnapshotId("s-2")
ASKED = VolumeRequest(id=V2, pool="gold", name="copy")


@pytest.fixture
def fit(tmp_path, catalog_url) -> Iterator[Fit]:
    """A volume with two snapshots on an array, and the services of one process."""
    with Site(tmp_path, catalog_url) as site, opened(site, site.process()) as fit:
        fit.process.volumes.create(NewVolume(id=V1, pool="gold", size=2 * MIB), call())
        for name in (S1, S2):
            fit.snapshots.create(SnapshotRequest(id=name, volume=V1), call())
        yield fit


def test_a_volume_made_of_a_snapshot_is_known_to_the_volume_service(fit):
    """Its record says of what; it is attached, grown, detached and deleted, and its id is not used again."""
    process = fit.process
    for _ in range(2):
        to_volume(fit.ctx, S1, ASKED, call())
    record = process.volumes.records.get(V2)
    assert (record.state, record.pool, record.name, record.size) == ("Ready", "gold", "copy", 2 * MIB)
    assert record.parent_snapshot == S1
    with pytest.raises(Conflict, match="made of snapshot s-1"):
        to_volume(fit.ctx, S2, ASKED, call())
    assert process.attachments.attach(V2, VM, H1, "cluster", call()).vm == VM
    assert fit.site.told(process) == fit.site.truth()
    process.attachments.detach(V2, call())
    assert process.volumes.resize(V2, 4 * MIB, call()).size == 4 * MIB
    process.volumes.delete(V2, call())
    assert fit.site.told(process) == fit.site.truth()
    with pytest.raises(Conflict, match="Expunged"):
        to_volume(fit.ctx, S1, ASKED, call())
    assert V2 not in fit.site.truth()["volumes"]


def test_a_volume_that_another_service_makes_is_not_made_twice(fit, monkeypatch):
    """While it is made of a snapshot the volume service may not create it; one that it has is refused."""
    driver, refused = fit.process.pool.driver, []
    clone = driver.create_volume_from_snapshot  # type: ignore[attr-defined]  # an array can

    def meanwhile(*args: object) -> object:
        with pytest.raises(Busy, match="v-2 is being made of snapshot s-1"):
            fit.process.volumes.records.creating(NewVolume(id=V2, pool="gold", size=2 * MIB))
        refused.append(True)
        return clone(*args)

    monkeypatch.setattr(driver, "create_volume_from_snapshot", meanwhile)
    to_volume(fit.ctx, S1, ASKED, call())
    assert refused == [True]
    with pytest.raises(Conflict):
        to_volume(fit.ctx, S1, VolumeRequest(id=V1, pool="gold"), call())
    assert fit.site.told(fit.process) == fit.site.truth()


@pytest.mark.slow
@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)  # the exclusion has both
def test_death_at_any_step_is_ended_by_a_sync(fit):
    """No volume without a record and no record without a volume; the same request makes it then."""
    step, known = 0, set()
    while True:
        step += 1
        target = VolumeId(f"v-{step + 1}")
        asked = VolumeRequest(id=target, pool="gold")
        dying = fit.site.process(fit.process)
        with opened(fit.site, dying) as doomed, dying.dies_at(step) as mortal:
            to_volume(doomed.ctx, S1, asked, call())
        assert [one.problem for one in sync_volume(fit.ctx, V1, call()) if one.problem] == []
        told = fit.site.told(fit.process)
        assert told == fit.site.truth(), f"step {step}"
        known.add(target in told["volumes"])
        assert to_volume(fit.ctx, S1, asked, call()).id == target
        assert fit.site.told(fit.process) == fit.site.truth(), f"step {step}"
        if not mortal.dead:
            break
    assert step > 6
    assert known == {False, True}
