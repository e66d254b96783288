"""`core/service/volumes*.py` at the edges: bad names, rows of other versions, a pool or a VM that is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NoReturn

import pytest

from bollard.core.access import FILL, Mover
from bollard.core.catalog.works import WorkRow
from bollard.core.journal import Journal
from bollard.core.service.hooks import Hooks, NoQuota, Reservation
from bollard.core.service.sync import Sync
from bollard.core.service.sync_volumes import ActSync
from bollard.core.service.templates import TemplateService
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import (
    Busy,
    Conflict,
    Host,
    InUse,
    InvalidArgument,
    NotFound,
    StorageError,
    TemplateSpec,
    Unavailable,
    VolumeSpec,
)
from bollard.transfer_objects.ids import HostId, TemplateId, VmId, VolumeId
from volume_site import H1, VM, Process, Site, call

MIB = 2**20
V1, V2 = VolumeId("v-1"), VolumeId("v-2")
NEW = NewVolume(id=V1, pool="gold", size=8 * MIB, name="web")
MOVER = Host(id=HostId("mover"), iqn="iqn.x")


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    """An array, a cluster with a host and a VM, and a catalog."""
    with Site(tmp_path, f"sqlite:///{tmp_path}/catalog.db") as opened:
        yield opened


@pytest.fixture
def process(site) -> Process:
    """One process."""
    return site.process()


def at_rest(process: Process) -> bool:
    """Tell whether nothing is under way, and nothing was left."""
    with process.catalog.reading() as session:
        return not session.query(WorkRow).count()


def left_by_the_dead(site: Site, act: Callable[[Process], object]) -> None:
    """Let a process die in the midst of something."""

    class Killed(BaseException):
        """Nothing runs any more."""

    doomed = site.process()

    def dies(*_: object) -> object:
        raise Killed

    vars(doomed.pool.driver)["resize_volume"] = dies
    with pytest.raises(Killed):
        act(doomed)
    doomed.owner._file.close()


def sync(process: Process) -> list[str]:
    """What a sync of volumes cannot end."""
    kinds = [ActSync(works=process.works, settlers={"volume": process.volumes.settle})]
    return [one.problem for one in Sync(kinds=kinds).run(call()).problems()]


# -- refused before it is written down ----------------------------------------------------------------

BAD_HOST = replace(H1, id=HostId("no such/host"))
REFUSED: dict[str, Callable[[Process], object]] = {
    "a VM's id": lambda p: p.attachments.attach(V1, VmId("../vm"), H1, "cluster", call()),
    "a host's id, to attach": lambda p: p.attachments.attach(V1, VM, BAD_HOST, "cluster", call()),
    "a host's id, to give": lambda p: p.attachments.give(V1, BAD_HOST, call()),
    "a host's id, to take": lambda p: p.attachments.take(V1, BAD_HOST, call()),
    "a volume's name": lambda p: p.volumes.create(replace(NEW, id=V2, name="a/b"), call()),
    "a size": lambda p: p.volumes.create(replace(NEW, id=V2, size=5), call()),
    "a template's id": lambda p: _seed(p, TemplateSpec(id=TemplateId("../t"), size=MIB)),
}


def _seed(process: Process, template: TemplateSpec) -> object:
    mover = Mover(host=MOVER, journal=Journal(process.owner._directory / "journal"))
    service = TemplateService(catalog=process.catalog, works=process.works, site=process.site, mover=mover)
    return service.seed(template, "gold", lambda *_: None, call())


def test_what_no_backend_could_take_leaves_no_act(process):
    """An act that could be neither done nor undone would hold its volume for ever."""
    process.volumes.create(NEW, call())
    for what, act in REFUSED.items():
        with pytest.raises(InvalidArgument):
            act(process)
        assert at_rest(process), what
    assert process.volumes.records.get(V1).state == "Ready"
    assert process.volumes.records.find(V2) is None


def test_a_hypervisor_that_is_not_configured_leaves_no_act(process, monkeypatch):
    """A misspelled name is an answer at once; nobody has to configure it to get the volume back."""
    process.volumes.create(NEW, call())

    def unknown(name: str) -> object:
        raise NotFound(f"no hypervisor {name}")

    monkeypatch.setattr(process.site, "hypervisor", unknown)
    acts = process.attachments
    asked = {
        "attach": lambda: acts.attach(V1, VM, H1, "clutser", call()),
        "give": lambda: acts.give(V1, H1, call(), hypervisor="clutser"),
    }
    for what, act in asked.items():
        with pytest.raises(NotFound):
            act()
        assert at_rest(process), what


# -- what a sync finds ---------------------------------------------------------------------------------


def test_a_resize_is_ended_though_the_vm_is_gone(site, process, monkeypatch):
    """The volume is on its pool as ever: a VM that nobody can tell does not make it a lost one."""
    process.volumes.create(NEW, call())
    process.attachments.attach(V1, VM, H1, "cluster", call())
    left_by_the_dead(site, lambda p: p.volumes.resize(V1, 16 * MIB, call()))
    site.looking.volumes.resize(V1, 16 * MIB)

    def gone(*_: object) -> object:
        raise NotFound("no such VM")

    monkeypatch.setattr(process.driver, "resize_disk", gone)
    assert sync(process) == []
    record = process.volumes.records.get(V1)
    assert (record.state, record.size, record.error) == ("Ready", 16 * MIB, "")


def test_a_resize_waits_for_a_pool_that_is_not_configured(site, process, monkeypatch):
    """It is told, and the volume is not taken for lost; with its pool back it rests."""
    process.volumes.create(NEW, call())
    left_by_the_dead(site, lambda p: p.volumes.resize(V1, 16 * MIB, call()))
    with monkeypatch.context() as patch:

        def unknown(name: str) -> object:
            raise NotFound(f"no pool {name}")

        patch.setattr(process.site, "pool", unknown)
        assert sync(process) == ["no pool gold"]
    assert process.volumes.records.get(V1).state == "Resizing"
    assert sync(process) == []
    assert process.volumes.records.get(V1).state == "Ready"


def _grow(volume: VolumeId, process: Process) -> object:
    return process.volumes.resize(volume, 16 * MIB, call())


@pytest.mark.parametrize("change", [{"act": "resign"}, {"kind": "image"}])
def test_an_act_of_another_version_is_told_and_keeps_no_other(site, process, change):
    """A sync leaves what it does not know, and ends all the rest."""
    process.volumes.create(NEW, call())
    process.volumes.create(replace(NEW, id=V2), call())
    for volume in (V1, V2):
        left_by_the_dead(site, partial(_grow, volume))
    with process.catalog.transaction() as session:
        row = session.get_one(WorkRow, ("volume", V1))
        for name, value in change.items():
            setattr(row, name, value)
    [problem] = sync(process)
    assert "another version" in problem
    assert process.volumes.records.get(V2).state == "Ready"


def test_a_volume_that_its_pool_has_lost_can_be_got_rid_of(site, process):
    """It leaves its VM and its hosts in Error, and is deleted then: no record stays for ever."""
    process.volumes.create(NEW, call())
    process.attachments.attach(V1, VM, H1, "cluster", call())
    left_by_the_dead(site, partial(_grow, V1))
    site.looking.volumes.revoke(V1, H1.id)
    site.looking.volumes.delete(V1)
    assert sync(process) == []
    assert process.volumes.records.get(V1).state == "Error"
    with pytest.raises(InUse):
        process.volumes.delete(V1, call())
    detached = process.attachments.detach(V1, call())
    assert (detached.state, detached.vm) == ("Error", None)
    process.volumes.delete(V1, call())
    assert site.told(process) == site.truth() == {"volumes": {}, "grants": {}, "known": [], "disks": []}


# -- what is somebody else's ---------------------------------------------------------------------------


def test_a_new_volume_is_not_swept_for_a_killed_copy_to_its_id(site, process):
    """The copy was killed before it made anything; its journal entry does not take what is there now."""
    mover = Mover(host=MOVER, journal=Journal(site.home / "journal"))
    volumes = replace(process.volumes, mover=mover)
    fields = mover.fields(process.pool, V1)
    mover.journal.begin(FILL, **fields).release()
    volumes.create(NEW, call())
    assert mover.sweep_pool(process.pool) == []
    assert site.told(process) == site.truth()
    assert V1 in site.truth()["volumes"]


def test_a_volume_is_not_created_while_a_copy_to_its_id_is_under_way(site, process):
    """Whoever fails of the two would remove the other one's."""
    mover = Mover(host=MOVER, journal=Journal(site.home / "journal"))
    volumes = replace(process.volumes, mover=mover)
    with mover.filling_volume(process.pool, V1):
        with pytest.raises(Busy):
            volumes.create(NEW, call())
        process.pool.volumes.create(VolumeSpec(id=V1, size=8 * MIB))
    assert process.volumes.records.find(V1) is None
    assert site.truth()["volumes"] == {V1: 8 * MIB}


def test_a_volume_that_came_since_we_looked_is_not_removed(site, process, monkeypatch):
    """The pool refuses ours, since it has another one of this id: that one stays."""
    create = process.pool.driver.create_volume

    def another_one_first(*args: object) -> object:
        site.looking.volumes.create(VolumeSpec(id=V1, size=16 * MIB))
        return create(*args)

    monkeypatch.setattr(process.pool.driver, "create_volume", another_one_first)
    with pytest.raises(Conflict):
        process.volumes.create(NEW, call())
    assert site.truth()["volumes"] == {V1: 16 * MIB}
    assert process.volumes.records.get(V1).state == "Error"


def test_a_failed_attach_leaves_a_host_what_it_had_before(site, process, monkeypatch):
    """It was given the volume to use it by itself, and uses it."""
    process.volumes.create(NEW, call())
    process.attachments.give(V1, H1, call(), hypervisor="cluster")

    def refuses(*_: object) -> object:
        raise InvalidArgument("the VM takes no more disks")

    monkeypatch.setattr(process.driver, "attach", refuses)
    with pytest.raises(InvalidArgument):
        process.attachments.attach(V1, VM, H1, "cluster", call())
    assert site.told(process) == site.truth()
    assert site.truth()["grants"] == {V1: [H1.id]}


def test_who_asks_for_a_volume_that_is_being_made_is_told_to_wait(site, process, monkeypatch):
    """It is the same volume: not another one, and not an error that stays."""
    create, refused = process.pool.driver.create_volume, []
    other = site.process()

    def meanwhile(*args: object) -> object:
        with pytest.raises(Busy):
            other.volumes.create(NEW, call())
        refused.append(True)
        return create(*args)

    monkeypatch.setattr(process.pool.driver, "create_volume", meanwhile)
    assert process.volumes.create(NEW, call()).state == "Ready"
    assert refused == [True]


# -- what is in nobody's hands -------------------------------------------------------------------------


def test_an_act_whose_end_could_not_be_written_is_ended_by_the_repeat(site, process, monkeypatch):
    """The catalog was away for a moment: the process lives on, and its volume is not busy for as long."""
    create, transaction = process.pool.driver.create_volume, process.catalog.transaction
    with monkeypatch.context() as patch:

        def away(**_: object) -> NoReturn:
            raise Unavailable("the database restarts")

        def made(*args: object) -> object:
            patch.setattr(process.catalog, "transaction", away)
            return create(*args)

        patch.setattr(process.pool.driver, "create_volume", made)
        with pytest.raises(Unavailable):
            process.volumes.create(NEW, call())
    assert process.catalog.transaction == transaction
    assert process.volumes.create(NEW, call()).state == "Ready"
    assert site.told(process) == site.truth()


def test_an_act_that_a_bug_has_ended_is_found_by_a_sync_of_the_same_process(site, process):
    """A hook of the orchestrator has a bug: the server need not be restarted to get at the volume."""

    class Broken(NoQuota):
        """A quota with a bug."""

        def reserve(self, reservation: Reservation) -> None:
            """Fail."""
            del reservation
            raise RuntimeError("a bug")

    broken = replace(process.volumes, hooks=Hooks(quota=Broken()))
    with pytest.raises(RuntimeError):
        broken.create(NEW, call())
    assert sync(process) == []
    assert process.volumes.records.get(V1).state == "Error"
    assert at_rest(process)


def test_an_act_in_hand_is_left_alone_by_other_threads_of_its_process(site, process, monkeypatch):
    """A sync beside it finds nothing; the same process's other orders are told to wait."""
    process.volumes.create(NEW, call())
    grow, said = process.pool.driver.resize_volume, []  # type: ignore[attr-defined]  # an array can

    def meanwhile(*args: object) -> object:
        with ThreadPoolExecutor(1) as threads:
            said.append(threads.submit(sync, process).result())
            said.append(type(threads.submit(_error_of_delete, process).result()))
        return grow(*args)

    monkeypatch.setattr(process.pool.driver, "resize_volume", meanwhile)
    assert process.volumes.resize(V1, 16 * MIB, call()).size == 16 * MIB
    assert said == [[], Busy]


def _error_of_delete(process: Process) -> BaseException | None:
    try:
        process.volumes.delete(V1, call())
    except StorageError as error:
        return error
    return None
