"""`core/service/templates_delete.py`: a template goes from all pools and stores, and so does its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import delete

from bollard.core.catalog.object_states import ObjectEvent
from bollard.core.catalog.volumes import ObjectRef, TemplateRecord
from bollard.core.dataplane import BlockSink
from bollard.core.service.from_snapshot_template import TemplateRequest, to_template
from bollard.core.service.snapshots_create import SnapshotRequest
from bollard.core.service.sync import Sync
from bollard.core.service.sync_volumes import ActSync
from bollard.core.service.templates import TemplateService
from bollard.core.service.templates_delete import TemplateRemoval
from bollard.core.service.templates_records import fresh_ref, ref_on, refs_of
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import Busy, Call, Conflict, HasDependents, NotFound, Outcome, TemplateSpec
from bollard.transfer_objects.enums import DataStoreRole
from bollard.transfer_objects.ids import SnapshotId, TemplateId, VolumeId
from fit_site import Fit, opened
from volume_site import Process, Site, call

pytest_plugins = ["catalog_fixture"]

MIB = 2**20
V1, V2, S1, T1 = VolumeId("v-1"), VolumeId("v-2"), SnapshotId("s-1"), TemplateId("t-1")


@pytest.fixture
def fit(tmp_path, catalog_url) -> Iterator[Fit]:
    """A volume with a snapshot on an array, a store, and the services of one process."""
    with Site(tmp_path, catalog_url) as site, opened(site, site.process()) as fit:
        fit.process.volumes.create(NewVolume(id=V1, pool="gold", size=2 * MIB), call())
        fit.snapshots.create(SnapshotRequest(id=S1, volume=V1), call())
        yield fit


def removal(fit: Fit) -> TemplateRemoval:
    """What deletes templates."""
    process = fit.process
    templates = TemplateService(
        catalog=process.catalog, works=process.works, site=process.site, mover=fit.ctx.site.mover()
    )
    return TemplateRemoval(templates=templates, ctx=fit.ctx)


def make(fit: Fit, template: TemplateId = T1) -> None:
    """Archive a template, and bring it to the pool as well."""
    to_template(fit.ctx, S1, TemplateRequest(id=template, store="nightly"), call())
    spec = TemplateSpec(id=template, size=2 * MIB)
    removal(fit).templates.seed(spec, "gold", _fill, call())


def _fill(sink: BlockSink, _: Call) -> None:
    sink.write(0, b"boot" * 1024)


def states(fit: Fit, template: TemplateId = T1) -> list[str]:
    """What the records say: the template, the pool's, the store's."""
    with fit.process.catalog.reading() as session:
        record = session.get(TemplateRecord, template)
        seed = ref_on(session, template, "gold", DataStoreRole.PRIMARY)
        image = ref_on(session, template, "nightly", DataStoreRole.IMAGE)
    return [str(one.state) if one else "none" for one in (record, seed, image)]


def archived(fit: Fit, template: TemplateId = T1) -> bool:
    """Tell whether the store has its image."""
    try:
        fit.ctx.site.archive("nightly", writer="test").show(call(), volume=template, snapshot="image")
    except NotFound:
        return False
    return True


def sync(fit: Fit) -> list[str]:
    """What a sync cannot end."""
    kinds = [ActSync(works=fit.process.works, settlers={"template": removal(fit).settle})]
    return [one.problem for one in Sync(kinds=kinds).run(call()).problems()]


def test_a_template_goes_from_everywhere_and_may_come_again(fit):
    """Its record outlives the snapshot that it was made of; each step may be repeated."""
    for _ in range(2):
        make(fit)
        assert (states(fit), archived(fit)) == (["Ready", "Ready", "Ready"], True)
        for _ in range(2):
            removal(fit).delete(T1, call())
        assert states(fit) == ["Destroyed", "Destroyed", "Destroyed"]
        assert not archived(fit)
    removal(fit).delete(TemplateId("t-9"), call())
    assert [key.key for key in fit.ctx.site.store("nightly").list("v1/t-1/", call()).items] == []


@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)
def test_the_image_stays_as_long_as_a_pools_volumes_need_the_template(fit, monkeypatch):
    """It is told, and on its way out; a sync goes on when the volume is gone."""
    make(fit)
    clone = NewVolume(id=V2, pool="gold", size=2 * MIB, template=T1)
    fit.process.volumes.create(clone, call())
    driver = fit.process.pool.driver
    evict = driver.evict_template  # type: ignore[attr-defined]  # an array can

    def as_arrays_with_linked_clones(*args: object) -> None:
        if V2 in fit.site.truth()["volumes"]:
            raise HasDependents("a volume needs it")
        evict(*args)

    monkeypatch.setattr(driver, "evict_template", as_arrays_with_linked_clones)
    with pytest.raises(HasDependents):
        removal(fit).delete(T1, call())
    assert archived(fit)
    assert len(sync(fit)) == 1
    with pytest.raises(Busy, match="is being deleted"):
        to_template(fit.ctx, S1, TemplateRequest(id=T1, store="nightly"), call())
    fit.process.volumes.delete(V2, call())
    assert sync(fit) == []
    assert states(fit) == ["Destroyed", "Destroyed", "Destroyed"]
    assert not archived(fit)


@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)
def test_a_template_of_before_there_were_records_is_deleted_as_well(fit):
    """All that is known of it is what its snapshot was used for."""
    to_template(fit.ctx, S1, TemplateRequest(id=T1, store="nightly"), call())
    with fit.process.catalog.transaction() as session:
        session.execute(delete(ObjectRef))
        session.execute(delete(TemplateRecord))
    removal(fit).delete(T1, call())
    assert states(fit) == ["Destroyed", "none", "Destroyed"]
    assert not archived(fit)


@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)
def test_a_template_is_not_made_under_the_id_of_another_one(fit):
    """Volumes made of the two would differ."""
    removal(fit).templates.seed(TemplateSpec(id=T1, size=4 * MIB), "gold", _fill, call())
    with pytest.raises(Conflict, match="has 4194304 bytes"):
        to_template(fit.ctx, S1, TemplateRequest(id=T1, store="nightly"), call())
    assert not archived(fit)


@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)
def test_a_template_is_not_made_of_another_snapshot_under_the_same_id(fit):
    """It would be told as made, with the first one's bytes; or a failure would remove the image."""
    other = SnapshotId("s-2")
    fit.snapshots.create(SnapshotRequest(id=other, volume=V1), call())
    make(fit)
    for _ in range(2):
        with pytest.raises(Conflict, match="is made of snapshot s-1") as caught:
            to_template(fit.ctx, other, TemplateRequest(id=T1, store="nightly"), call())
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert archived(fit)
    make(fit)
    assert states(fit) == ["Ready", "Ready", "Ready"]


@contextmanager
def dying(fit: Fit, step: int) -> Iterator[tuple[Fit, list[bool]]]:
    """Another process, which dies at a step; then tell whether it did."""
    process: Process = fit.site.process(fit.process)
    died: list[bool] = []
    with opened(fit.site, process) as doomed, process.dies_at(step) as mortal:
        yield doomed, died
    died.append(mortal.dead)


@pytest.mark.slow
@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)  # the transactions are those of all acts
def test_death_at_any_step_is_ended_by_a_sync(fit):
    """Either all of it is there, or nothing is; and the same command again leaves nothing."""
    step, ends = 0, set()
    while True:
        step += 1
        template = TemplateId(f"t-{step}")
        make(fit, template)
        with dying(fit, step) as (doomed, died):
            removal(doomed).delete(template, call())
        assert sync(fit) == [], f"step {step}"
        ends.add(tuple(states(fit, template)))
        assert archived(fit, template) == (states(fit, template)[0] == "Ready"), f"step {step}"
        removal(fit).delete(template, call())
        assert not archived(fit, template), f"step {step}"
        if died == [False]:
            break
    assert step > 8
    assert ends == {("Ready",) * 3, ("Destroyed",) * 3}


def test_a_store_and_a_pool_of_one_name_are_not_taken_for_each_other(fit):
    """A pool has a seed while a store of its name has an image, and the reverse; each goes alone."""
    with fit.process.catalog.transaction() as session:
        for place, role in (("gold", DataStoreRole.IMAGE), ("nightly", DataStoreRole.PRIMARY)):
            fresh_ref(session, T1, place, role, 2 * MIB).take(ObjectEvent.SUCCEEDED)
    make(fit)
    assert (states(fit), archived(fit)) == (["Ready", "Ready", "Ready"], True)
    removal(fit).templates.evict(T1, "gold", call())
    assert states(fit) == ["Ready", "Destroyed", "Ready"]
    with fit.process.catalog.reading() as session:
        left = {(ref.store, ref.role) for ref in refs_of(session, T1)}
    assert left == {
        ("gold", DataStoreRole.IMAGE),
        ("nightly", DataStoreRole.PRIMARY),
        ("nightly", DataStoreRole.IMAGE),
    }
