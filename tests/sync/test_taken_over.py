"""A process that stood still for longer than its lease undoes nothing of what others have made meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import NoReturn

import pytest

from bollard.core.access import Mover
from bollard.core.catalog.intents import OwnerRow
from bollard.core.dataplane import BlockSink
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.intents import CatalogJournal
from bollard.core.service.owners import Owner
from bollard.core.service.snapshots_create import SnapshotRequest
from bollard.core.service.templates import TemplateService
from bollard.core.service.transient import sync_volume
from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import Call, Conflict, Host, Internal, TemplateSpec, Unavailable, VolumeSpec
from bollard.transfer_objects.ids import HostId, SnapshotId, TemplateId, VolumeId
from fit_site import Fit, Reach, opened
from volume_site import H1, LEASE, Process, Site, call

pytest_plugins = ["catalog_fixture"]

MIB = 2**20
V1, V2, S1 = VolumeId("v-1"), VolumeId("v-2"), SnapshotId("s-1")
NEW = NewVolume(id=V1, pool="gold", size=8 * MIB)
COPY = VolumeRequest(id=V2, pool="gold")
TEMPLATE = TemplateSpec(id=TemplateId("t-1"), size=8 * MIB)
LOST = Internal("the answer came after minutes, and made no sense")


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    """An array, a cluster and a catalog."""
    with Site(tmp_path, f"sqlite:///{tmp_path}/catalog.db") as opened:
        yield opened


def taken_for_dead(process: Process, owner: Owner) -> None:
    """Let another process find that an owner's lease is over."""
    with process.catalog.transaction() as session:
        process.owner.bury(session, session.get_one(OwnerRow, owner.id))


def mover(site: Site, journal: CatalogJournal) -> Mover:
    """A machine of the fleet."""
    host = Host(
        id=HostId("mover"), iqn="iqn.2026-01.org.example:m", chap_user="m", chap_secret=H1.chap_secret
    )
    return Mover(host=host, journal=journal)


@contextmanager
def fleet_fit(site: Site) -> Iterator[tuple[Fit, CatalogJournal]]:
    """The services of a process of a fleet."""
    process = site.process()
    with (
        closing(CatalogJournal(process.catalog, site.home / "owners", lease=LEASE)) as journal,
        opened(site, process) as fit,
    ):
        assert isinstance(fit.ctx.site, Reach)
        reach = replace(fit.ctx.site, host=mover(site, journal))
        yield replace(fit, ctx=replace(fit.ctx, site=reach)), journal


def test_a_failed_creation_does_not_remove_what_others_have_made_whole(site, monkeypatch):
    """Its act was ended by another process, and the volume is in use: the late error deletes nothing."""
    late, other = site.process(), site.process()
    create = late.pool.driver.create_volume

    def stands_still(*args: object) -> object:
        create(*args)
        taken_for_dead(other, late.owner)
        other.volumes.end_interrupted(V1, call())
        raise LOST

    monkeypatch.setattr(late.pool.driver, "create_volume", stands_still)
    with pytest.raises(Internal):
        late.volumes.create(NEW, call())
    assert other.volumes.records.get(V1).state == "Ready"
    assert site.told(other) == site.truth()
    assert V1 in site.truth()["volumes"]


def test_a_failed_seed_does_not_evict_what_others_have_seeded(site, monkeypatch):
    """The template is there, whole, and volumes are cloned of it, whatever becomes of the late one."""
    late, other = site.process(), site.process()
    with closing(CatalogJournal(late.catalog, site.home / "owners", lease=LEASE)) as journal:
        machine = mover(site, journal)
        service, others = (
            TemplateService(catalog=p.catalog, works=p.works, site=p.site, mover=machine)
            for p in (late, other)
        )

        def stands_still(*_: object) -> None:
            taken_for_dead(other, late.owner)
            others.seed(TEMPLATE, "gold", _fill, call())
            raise LOST

        monkeypatch.setattr(late.pool.driver, "seal_template", stands_still)
        with pytest.raises(Internal):
            service.seed(TEMPLATE, "gold", _fill, call())
    clone = NewVolume(id=V1, pool="gold", size=8 * MIB, template=TEMPLATE.id)
    assert other.volumes.create(clone, call()).state == "Ready"


def _fill(sink: BlockSink, _: Call) -> None:
    sink.write(0, b"boot" * 1024)


@pytest.mark.parametrize("fails", [True, False])
def test_a_late_clone_does_not_remove_the_one_that_others_have_made(site, monkeypatch, fails):
    """A sync had removed the first, and the same request made it anew: it stays, and the late one is told."""
    with fleet_fit(site) as (late, journal), fleet_fit(site) as (other, _):
        late.process.volumes.create(NEW, call())
        late.snapshots.create(SnapshotRequest(id=S1, volume=V1), call())
        driver = late.process.pool.driver
        clone = driver.create_volume_from_snapshot  # type: ignore[attr-defined]  # an array can

        def stands_still(*args: object) -> object:
            made = clone(*args)
            taken_for_dead(other.process, journal.owner)
            assert [one.after for one in sync_volume(other.ctx, V1, call())] == ["gone"]
            to_volume(other.ctx, S1, COPY, call())
            if fails:
                raise LOST
            return made

        monkeypatch.setattr(driver, "create_volume_from_snapshot", stands_still)
        with pytest.raises(Internal if fails else Conflict):
            to_volume(late.ctx, S1, COPY, call())
        assert site.told(other.process) == site.truth()
        assert V2 in site.truth()["volumes"]


def test_a_volume_is_not_told_whole_while_its_journal_says_half(site, monkeypatch):
    """The catalog is away when the copy ends: the caller is told, for the sweep will remove the volume."""
    process = site.process()

    def fill() -> None:
        with (
            closing(CatalogJournal(process.catalog, site.home / "owners", lease=LEASE)) as journal,
            monkeypatch.context() as patch,
            mover(site, journal).filling_volume(process.pool, V1),
        ):
            process.pool.volumes.create(VolumeSpec(id=V1, size=8 * MIB))
            patch.setattr(process.catalog, "transaction", _away)

    with pytest.raises(Unavailable):
        fill()
    with closing(CatalogJournal(process.catalog, site.home / "owners", lease=LEASE)) as journal:
        assert mover(site, journal).sweep_pool(process.pool) == [f"fill {V1}"]
    assert site.truth()["volumes"] == {}


def _away(**_: object) -> NoReturn:
    raise Unavailable("the database restarts")


def test_a_volume_is_not_told_whole_when_others_have_its_journal_entry(site):
    """They may have removed it, or filled it anew: the late one is told, and removes nothing."""
    late, other = site.process(), site.process()
    with (
        closing(CatalogJournal(late.catalog, site.home / "owners", lease=LEASE)) as his,
        closing(CatalogJournal(other.catalog, site.home / "owners", lease=LEASE)) as theirs,
    ):

        def fill_late() -> None:
            with mover(site, his).filling_volume(late.pool, V1):
                late.pool.volumes.create(VolumeSpec(id=V1, size=8 * MIB))
                taken_for_dead(other, his.owner)
                assert mover(site, theirs).sweep_pool(other.pool) == [f"fill {V1}"]
                with mover(site, theirs).filling_volume(other.pool, V1):
                    other.pool.volumes.create(VolumeSpec(id=V1, size=16 * MIB))

        with pytest.raises(Conflict):
            fill_late()
    assert site.truth()["volumes"] == {V1: 16 * MIB}
