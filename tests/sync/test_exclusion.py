"""`core/service/exclusion.py`: what is done to a volume and to its snapshots does not meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from bollard.core.catalog.volume_states import VolumeEvent
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.service.snapshots_create import SnapshotRequest
from bollard.core.service.transient import sync_volume
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import Busy
from bollard.transfer_objects.ids import SnapshotId, VolumeId
from fit_site import Fit, opened
from volume_site import H1, VM, Process, Site, call

pytest_plugins = ["catalog_fixture"]

MIB = 2**20
V1 = VolumeId("v-1")
S1, S2 = SnapshotId("s-1"), SnapshotId("s-2")

# What is done to the volume, and the event with which its record says so.
VOLUME_ACTS: dict[str, tuple[Callable[[Process], object], VolumeEvent]] = {
    "delete": (lambda p: p.volumes.delete(V1, call()), VolumeEvent.EXPUNGE_REQUESTED),
    "resize": (lambda p: p.volumes.resize(V1, 4 * MIB, call()), VolumeEvent.RESIZE_REQUESTED),
    "attach": (
        lambda p: p.attachments.attach(V1, VM, H1, "cluster", call()),
        VolumeEvent.ATTACH_REQUESTED,
    ),
}
# What is done to the snapshots, and the words for it.
SNAPSHOT_ACTS: dict[str, tuple[Callable[[Fit], object], str]] = {
    "create": (
        lambda f: f.snapshots.create(SnapshotRequest(id=S2, volume=V1), call()),
        "snapshot s-2 of volume v-1 is being made",
    ),
    "archive": (lambda f: f.snapshots.archive(S1, call()), "snapshot s-1 of volume v-1 is being archived"),
    "revert": (lambda f: revert(f.ctx, S1, call()), "volume v-1 is being reverted to snapshot s-1"),
}


@pytest.fixture
def fit(tmp_path, catalog_url, monkeypatch) -> Iterator[Fit]:
    """A volume with a snapshot on an array, and the services of one process; it may be deleted with it."""
    monkeypatch.setattr("bollard.core.service.volumes._refuse_dependents", lambda *_: None)
    with Site(tmp_path, catalog_url) as site, opened(site, site.process()) as fit:
        fit.process.volumes.create(NewVolume(id=V1, pool="gold", size=2 * MIB), call())
        fit.snapshots.create(SnapshotRequest(id=S1, volume=V1), call())
        yield fit


def inside(fit: Fit, act: str, monkeypatch, meanwhile: Callable[[], None]) -> None:
    """Let something happen while a backend is at an act on the snapshots."""
    driver, store = fit.process.pool.driver, fit.ctx.site.store("nightly").driver
    thing, name = {
        "create": (driver, "create_snapshot"),
        "archive": (store, "put"),
        "revert": (driver, "revert_volume"),
    }[act]
    true = getattr(thing, name)

    def stopped(*args: object, **kwargs: object) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(thing, name, true)
            meanwhile()
        return true(*args, **kwargs)

    monkeypatch.setattr(thing, name, stopped)


@pytest.mark.parametrize("act", ["create", "revert"])
def test_a_volume_is_left_alone_while_a_snapshot_act_runs(fit, act, monkeypatch):
    """Another process's delete, resize and attach are Busy, name the act, change nothing; then they work."""
    other, refused = fit.site.process(fit.process), []

    def meanwhile() -> None:
        for name, (do, _) in VOLUME_ACTS.items():
            with pytest.raises(Busy, match=SNAPSHOT_ACTS[act][1]):
                do(other)
            refused.append(name)

    inside(fit, act, monkeypatch, meanwhile)
    SNAPSHOT_ACTS[act][0](fit)
    assert set(refused) == set(VOLUME_ACTS)
    assert fit.site.truth()["volumes"] == {V1: 2 * MIB}
    assert fit.site.told(other) == fit.site.truth()
    VOLUME_ACTS["attach"][0](other)
    VOLUME_ACTS["resize"][0](other)
    assert fit.site.told(other) == fit.site.truth()


def test_a_volume_of_an_array_grows_and_is_attached_while_it_is_archived(fit, monkeypatch):
    """A clone is read: what happens to the volume does not reach the archive. It is not deleted meanwhile."""
    other, archive = fit.site.process(fit.process), fit.ctx.site.archive("nightly", writer="test")

    def meanwhile() -> None:
        with pytest.raises(Busy, match=SNAPSHOT_ACTS["archive"][1]):
            VOLUME_ACTS["delete"][0](other)
        VOLUME_ACTS["attach"][0](other)
        VOLUME_ACTS["resize"][0](other)

    inside(fit, "archive", monkeypatch, meanwhile)
    SNAPSHOT_ACTS["archive"][0](fit)
    assert fit.snapshots.show(S1).state == "BackedUp"
    assert archive.show(call(), volume=V1, snapshot=S1).size == 2 * MIB
    assert fit.site.truth()["volumes"] == {V1: 4 * MIB}
    assert fit.site.told(other) == fit.site.truth()


@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)  # the exclusion itself has both
def test_a_volume_in_a_file_is_left_alone_while_it_is_archived(fit, monkeypatch):
    """What is read may be in the volume's very file: whoever comes second is Busy."""
    details = {"pool": "files", "managed": False}
    records = fit.site.process(fit.process).volumes.records

    def meanwhile() -> None:
        for name, (_, event) in VOLUME_ACTS.items():
            with pytest.raises(Busy, match=SNAPSHOT_ACTS["archive"][1]):
                records.begin(V1, name, event, details)

    inside(fit, "archive", monkeypatch, meanwhile)
    SNAPSHOT_ACTS["archive"][0](fit)
    assert records.begin(V1, "attach", VOLUME_ACTS["attach"][1], details).act == "attach"


@pytest.mark.parametrize("name", VOLUME_ACTS)
def test_snapshots_are_left_alone_while_a_volume_act_runs(fit, name):
    """Another process's create, archive and revert are Busy and name the act, whether its process lives."""
    owner = fit.site.process(fit.process)
    details = {"pool": "gold", "size": 2 * MIB, "hypervisor": "cluster"}
    owner.volumes.records.begin(V1, name, VOLUME_ACTS[name][1], details, vm=VM, host=H1.id)
    for dead in (False, True):
        if dead:
            owner.close()
        for do, _ in SNAPSHOT_ACTS.values():
            with pytest.raises(Busy, match=f"volume v-1: {name} is under way"):
                do(fit)
    assert fit.snapshots.records.find(S2) is None
    assert [one.id for one in fit.process.pool.snapshots.list(V1)] == [S1]


@pytest.mark.slow
@pytest.mark.parametrize("act", SNAPSHOT_ACTS)
def test_a_dead_snapshot_act_keeps_the_volume_until_a_sync(fit, act, monkeypatch):
    """Killed on the backend: its exclusion stands; after the sync of this volume alone it is gone."""

    def die() -> None:
        raise KeyboardInterrupt

    inside(fit, act, monkeypatch, die)
    with pytest.raises(KeyboardInterrupt):
        SNAPSHOT_ACTS[act][0](fit)
    monkeypatch.undo()
    monkeypatch.setattr("bollard.core.service.volumes._refuse_dependents", lambda *_: None)
    with pytest.raises(Busy, match=SNAPSHOT_ACTS[act][1]):
        VOLUME_ACTS["delete" if act == "archive" else "attach"][0](fit.process)
    assert [one.problem for one in sync_volume(fit.ctx, V1, call())] == [""]
    VOLUME_ACTS["attach"][0](fit.process)
    assert fit.site.told(fit.process) == fit.site.truth()


@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)  # the exclusion itself has both
def test_a_half_reverted_volume_may_be_deleted(fit, monkeypatch):
    """Its process died, and nobody may ever be able to end the revert; one that lives is not disturbed."""
    volumes = replace(fit.process.volumes, mover=fit.ctx.site.mover())

    def living() -> None:
        with pytest.raises(Busy):
            volumes.delete(V1, call())
        raise KeyboardInterrupt

    inside(fit, "revert", monkeypatch, living)
    with pytest.raises(KeyboardInterrupt):
        revert(fit.ctx, S1, call())
    monkeypatch.undo()
    monkeypatch.setattr("bollard.core.service.volumes._refuse_dependents", lambda *_: None)
    monkeypatch.setattr(fit.process.pool.driver, "delete_volume", lambda *_: None)
    volumes.delete(V1, call())
    assert fit.process.volumes.records.find(V1).state == "Expunged"
    assert sync_volume(fit.ctx, V1, call()) == []


def test_a_volume_may_leave_its_vm_while_it_is_archived(fit, monkeypatch):
    """An archive takes hours: what it does not need is not kept waiting."""
    VOLUME_ACTS["attach"][0](fit.process)
    inside(fit, "archive", monkeypatch, lambda: fit.process.attachments.detach(V1, call()))
    fit.snapshots.archive(S1, call())
    assert fit.process.volumes.records.get(V1).vm is None
