"""`core/service/volumes*.py`: records say what backends have, whatever fails or dies in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bollard.core.service.leftovers import Run, Swept
from bollard.core.service.sweep_hosts import HostPlace
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import Busy, Conflict, Internal, InUse, OutOfCapacity, StorageError, VolumeSpec
from bollard.transfer_objects.ids import VolumeId
from volume_site import H1, VM, Process, Site, call

pytest_plugins = ["catalog_fixture"]

MIB = 2**20
V1 = VolumeId("v-1")
LOST = Internal("the answer made no sense")
NEW = NewVolume(id=V1, pool="gold", size=8 * MIB, name="web")


@pytest.fixture
def site(tmp_path, catalog_url) -> Iterator[Site]:
    """An array, a cluster with a host and a VM, and a catalog."""
    with Site(tmp_path, catalog_url) as opened:
        yield opened


@pytest.fixture
def process(site) -> Process:
    """One process."""
    return site.process()


def attach(process: Process) -> object:
    """Attach the volume."""
    return process.attachments.attach(V1, VM, H1, "cluster", call())


def test_life_of_a_volume(site, process):
    """Each step may be repeated; records and backends agree after each."""
    for _ in range(2):
        made = process.volumes.create(NEW, call())
        assert (made.state, made.size, made.name) == ("Ready", 8 * MIB, "web")
    for _ in range(2):
        attached = process.attachments.attach(V1, VM, H1, "cluster", call())
        assert (attached.vm, bool(attached.device)) == (VM, True)
        assert site.told(process) == site.truth()
    assert site.truth()["disks"] == [V1]
    with pytest.raises(InUse):
        process.volumes.delete(V1, call())
    for _ in range(2):
        process.attachments.detach(V1, call())
        assert site.told(process) == site.truth()
    assert process.volumes.resize(V1, 16 * MIB, call()).size == 16 * MIB
    process.volumes.create(NEW, call())
    given = process.attachments.give(V1, H1, call(), hypervisor="cluster")
    assert given.introduced is not None
    assert site.told(process) == site.truth()
    with pytest.raises(InUse):
        process.volumes.delete(V1, call())
    for _ in range(2):
        process.attachments.take(V1, H1, call())
    for _ in range(2):
        process.volumes.delete(V1, call())
    assert site.told(process) == site.truth() == {"volumes": {}, "grants": {}, "known": [], "disks": []}


def test_another_specification_is_refused(site, process):
    """The id is taken, also when the volume is gone."""
    process.volumes.create(NEW, call())
    other = NewVolume(id=V1, pool="gold", size=16 * MIB, name="web")
    with pytest.raises(Conflict):
        process.volumes.create(other, call())
    process.volumes.delete(V1, call())
    with pytest.raises(Conflict):
        process.volumes.create(NEW, call())


def test_a_volume_that_the_catalog_does_not_know_is_not_touched(site, process):
    """Somebody made it on the pool: it is neither taken over nor removed when the creation fails."""
    site.looking.volumes.create(VolumeSpec(id=V1, size=8 * MIB))
    with pytest.raises(Conflict, match="does not know"):
        process.volumes.create(NEW, call())
    assert site.truth()["volumes"] == {V1: 8 * MIB}
    assert process.volumes.records.find(V1) is None


def test_a_failed_creation_leaves_a_record_in_error_that_can_be_tried_again(site, process, monkeypatch):
    """Nothing is on the array, also where the failure came after the act; the same again is fine."""
    lost = failing(process.pool.driver.create_volume, OutOfCapacity("full"), done=True)
    with monkeypatch.context() as patch:
        patch.setattr(process.pool.driver, "create_volume", lost)
        with pytest.raises(OutOfCapacity):
            process.volumes.create(NEW, call())
    record = process.volumes.records.get(V1)
    assert (record.state, bool(record.error)) == ("Error", True)
    assert site.truth()["volumes"] == {}
    assert process.volumes.create(NEW, call()).state == "Ready"


def test_a_failed_attach_leaves_nothing_on_the_host(site, process, monkeypatch):
    """Whichever step fails, before or after it was done: no grant, no introduction, no disk."""
    process.volumes.create(NEW, call())
    for thing, name in (
        (process.pool.driver, "grant"),
        (process.driver, "introduce"),
        (process.driver, "attach"),
    ):
        for done in (False, True):
            with monkeypatch.context() as patch:
                patch.setattr(thing, name, failing(getattr(thing, name), LOST, done=done))
                if done and name == "attach":
                    with pytest.raises(StorageError):
                        attach(process)
                    assert site.told(process) == site.truth()
                    process.attachments.detach(V1, call())
                    continue
                with pytest.raises(StorageError):
                    attach(process)
            assert site.told(process) == site.truth()
            assert site.truth()["grants"] == {V1: []}
            assert site.truth()["known"] == []


def failing(act: Callable[..., object], error: StorageError, *, done: bool) -> Callable[..., object]:
    """An act whose answer is lost."""

    def lost(*args: object, **kwargs: object) -> object:
        if done:
            act(*args, **kwargs)
        raise error

    return lost


def test_a_living_process_is_not_disturbed(site, process, monkeypatch):
    """Another one that wants the same volume is told to wait, and nothing changes."""
    process.volumes.create(NEW, call())
    other = site.process()
    inside = []

    def meanwhile(*args: object, **kwargs: object) -> object:
        with pytest.raises(Busy):
            other.volumes.delete(V1, call())
        with pytest.raises(Busy):
            other.attachments.attach(V1, VM, H1, "cluster", call())
        inside.append(True)
        return grow(*args, **kwargs)

    grow = process.pool.driver.resize_volume  # type: ignore[attr-defined]  # an array can
    monkeypatch.setattr(process.pool.driver, "resize_volume", meanwhile)
    assert process.volumes.resize(V1, 16 * MIB, call()).size == 16 * MIB
    assert inside == [True]
    assert site.told(process) == site.truth()


# -- death at every step ------------------------------------------------------------------------------

TASKS: dict[str, tuple[Callable[[Process], object], Callable[[Process], object]]] = {
    "create": (lambda _: None, lambda p: p.volumes.create(NEW, call())),
    "delete": (lambda p: p.volumes.create(NEW, call()), lambda p: p.volumes.delete(V1, call())),
    "resize": (lambda p: p.volumes.create(NEW, call()), lambda p: p.volumes.resize(V1, 16 * MIB, call())),
    "attach": (lambda p: p.volumes.create(NEW, call()), attach),
    "detach": (
        lambda p: (p.volumes.create(NEW, call()), attach(p)),
        lambda p: p.attachments.detach(V1, call()),
    ),
    "give": (
        lambda p: p.volumes.create(NEW, call()),
        lambda p: p.attachments.give(V1, H1, call(), hypervisor="cluster"),
    ),
    "take": (
        lambda p: (p.volumes.create(NEW, call()), p.attachments.give(V1, H1, call(), hypervisor="cluster")),
        lambda p: p.attachments.take(V1, H1, call()),
    ),
}


def clean(site: Site, process: Process) -> None:
    """Bring the site back to nothing, so that the next round can use it."""
    with process.catalog.transaction() as session:
        for table in ("works", "volumes", "grants", "introductions", "transitions"):
            session.connection().exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - ours
    for disk in site.truth()["disks"]:
        site.http.delete(f"/vms/{VM}/disks/{disk}").raise_for_status()
    for known in site.truth()["known"]:
        site.http.delete(f"/hosts/h1/objects/volume/{known}").raise_for_status()
    for volume in site.truth()["volumes"]:
        site.looking.volumes.revoke(VolumeId(volume), H1.id)
        site.looking.volumes.delete(VolumeId(volume))


@pytest.mark.slow
@pytest.mark.parametrize("catalog_url", ["sqlite"], indirect=True)  # the sync has both
@pytest.mark.parametrize("task", TASKS)
def test_death_at_any_step_is_ended_by_the_repeat(site, task):
    """The same operation again, in another process, ends as if nobody had died."""
    deaths = rounds(site, task, repeat)
    assert deaths >= 6


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_death_at_any_step_is_ended_by_a_sync(site, task):
    """Records and backends agree, everything rests, and nothing is left that nobody has."""
    deaths = rounds(site, task, settle_all)
    assert deaths >= 6


def rounds(site: Site, task: str, after: Callable[[Site, Process, str], None]) -> int:
    """Die at each step in turn; return how many there were."""
    prepare, act = TASKS[task]
    survivor, step = site.process(), 0
    while True:
        step += 1
        process = site.process(survivor)
        prepare(process)
        with process.dies_at(step) as mortal:
            act(process)
        after(site, survivor, task)
        assert site.told(survivor) == site.truth(), f"{task}, step {step}"
        assert swept(survivor) == [], f"{task}, step {step}"
        clean(site, survivor)
        if not mortal.dead:
            return step - 1


def swept(process: Process) -> list[Swept]:
    """What a sweep of the hosts finds."""
    place = HostPlace(hypervisor=process.site.hypervisor("cluster"), catalog=process.catalog)
    return list(place.sweep(Run(call=call(), dry_run=True, older_than=0)))


def repeat(site: Site, process: Process, task: str) -> None:
    """The caller asks again."""
    TASKS[task][1](process)
    truth = site.truth()
    expected = {
        "create": ({V1: 8 * MIB}, []),
        "delete": ({}, []),
        "resize": ({V1: 16 * MIB}, []),
        "attach": ({V1: 8 * MIB}, [V1]),
        "detach": ({V1: 8 * MIB}, []),
        "give": ({V1: 8 * MIB}, []),
        "take": ({V1: 8 * MIB}, []),
    }
    assert (truth["volumes"], truth["disks"]) == expected[task]


def settle_all(site: Site, process: Process, task: str) -> None:
    """Nobody asks again."""
    for work in process.works.left():
        claimed = process.works.claim(work.kind, work.object)
        assert claimed is not None
        process.volumes.settle(claimed, call())
    assert process.works.left() == []
