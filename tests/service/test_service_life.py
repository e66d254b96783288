"""Create, archive and delete over a simulated array and files: where the bytes are, and what is recorded."""

from __future__ import annotations

import pytest

from bollard.core.catalog.snapshots import RefState, SnapshotState
from bollard.core.service.hooks import Act
from bollard.core.spi import (
    Busy,
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from bollard.transfer_objects.enums import DataStoreRole, SnapshotLocation
from bollard.transfer_objects.ids import SnapshotId, VolumeId

from .service_rig import Cloud, call

S1, S2 = SnapshotId("s-1"), SnapshotId("s-2")
DATA = b"first" * 20_000


def rests(cloud: Cloud, snapshot: str) -> tuple[str, list[str]]:
    """Where a snapshot rests, by its records."""
    found = cloud.service.show(SnapshotId(snapshot))
    return found.state, [ref.role.value for ref in found.refs if ref.state is RefState.READY]


@pytest.mark.parametrize("word", [None, "standard", "PRIMARY"])
def test_managed_standard_stays_on_the_array(cloud, word):
    """The array has it, no store hears of it, and the guest's bytes are counted on primary storage."""
    volume = cloud.make("v-1", "gold", DATA)
    found = cloud.take(S1, volume, word)

    assert rests(cloud, S1) == (SnapshotState.CREATED_ON_PRIMARY, ["Primary"])
    assert (found.order.location, found.record.size) == (SnapshotLocation.STANDARD, 2 * 2**20)
    assert cloud.on_pool(volume) == [S1]
    assert cloud.images() == []
    assert [one.role for one in cloud.books.counted.values()] == [DataStoreRole.PRIMARY]
    assert cloud.leftovers() == []


@pytest.mark.parametrize("pool", ["gold", "raw", "qcow2"])
def test_what_goes_to_secondary_leaves_its_pool(cloud, pool):
    """Archive where it is managed, Standard where it is not: the store has it, and the pool no longer."""
    volume = cloud.make("v-1", pool, DATA)
    cloud.take(S1, volume, "Archive" if pool == "gold" else "Standard")

    assert rests(cloud, S1) == (SnapshotState.BACKED_UP, ["Image"])
    assert cloud.on_pool(volume) == []
    assert cloud.images() == ["v-1/s-1"]
    assert [one.role for one in cloud.books.counted.values()] == [DataStoreRole.IMAGE]
    assert [told.act for told in cloud.books.told] == [Act.CREATE, Act.ARCHIVE]
    assert cloud.leftovers() == []


def test_backups_off_keeps_it_on_the_pool_until_it_is_archived(cloud):
    """With backups off a snapshot of files stays there; `archive` brings it to the store afterwards."""
    cloud.settings.set("snapshot.backup.to.secondary", "false")
    volume = cloud.make("v-1", "raw", DATA)
    cloud.take(S1, volume)
    assert rests(cloud, S1) == (SnapshotState.CREATED_ON_PRIMARY, ["Primary"])

    cloud.service.archive(S1, call())
    assert rests(cloud, S1) == (SnapshotState.BACKED_UP, ["Image"])
    assert cloud.service.archive(S1, call()).state is SnapshotState.BACKED_UP


def test_kept_on_primary_it_lies_on_both_and_is_the_parent_of_the_next(cloud):
    """`keep_on_primary` leaves it on the array; the next one is archived as an increment to it."""
    volume = cloud.make("v-1", "gold", DATA)
    cloud.take(S1, volume, "Archive", keep_on_primary=True)
    assert rests(cloud, S1) == (SnapshotState.BACKED_UP, ["Primary", "Image"])

    cloud.write(volume, b"second" * 1000)
    cloud.take(S2, volume, "Archive")
    manifest = cloud.site.archive("nightly", writer="x").show(call(), volume=volume, snapshot=S2)
    assert manifest.parent == S1
    ref = cloud.service.show(S2).ref(DataStoreRole.IMAGE)
    assert 0 < ref.physical_size < 100_000


def test_the_name_of_one_that_was_given_none(cloud):
    """VM, volume and time, as CloudStack's users know it; a name that is given stays."""
    volume = cloud.make("v-1", "gold")
    cloud.inventory.change(volume, name="ROOT-7")
    assert cloud.take(S1, volume).order.name == "ROOT-7_20270115080000"
    assert cloud.take(S2, volume, name="mine").order.name == "mine"


def test_a_repeat_is_the_same_snapshot(cloud):
    """The same request makes no later cut; another one under the id is a conflict and changes nothing."""
    volume, other = cloud.make("v-1", "gold", DATA), cloud.make("v-2", "gold")
    first = cloud.take(S1, volume, "PRIMARY")
    assert cloud.take(S1, volume, "standard").order.cut == first.order.cut
    for wrong in ({"volume": other}, {"volume": volume, "quiesce": True}):
        with pytest.raises(Conflict, match="exists with another"):
            cloud.take(S1, **{"location": "PRIMARY", **wrong})
    assert cloud.on_pool(volume) == [S1]


def test_somebody_elses_snapshot_is_left_alone(cloud):
    """An id that the pool has already is refused, and neither taken over nor deleted."""
    volume = cloud.make("v-1", "gold", DATA)
    cloud.site.pools["gold"].snapshots.create(volume, S1)
    with pytest.raises(Conflict, match="already"):
        cloud.take(S1, volume)
    assert cloud.on_pool(volume) == [S1]
    assert cloud.service.records.find(S1) is None
    assert cloud.books.counted == {}


REFUSALS = {
    "authority": (PermissionDenied, lambda cloud: cloud.books.forbidden.add(Act.CREATE)),
    "primary quota": (LimitExceeded, lambda cloud: cloud.books.full.add("Primary")),
    "secondary quota": (LimitExceeded, lambda cloud: cloud.books.full.add("Image")),
    "not ready": (
        InvalidArgument,
        lambda cloud: cloud.inventory.change(VolumeId("v-1"), why_not_ready="it is Migrating"),
    ),
    "pool off": (Unavailable, lambda cloud: cloud.inventory.off.update(gold="in maintenance")),
    "no volume": (NotFound, lambda cloud: cloud.inventory.facts.clear()),
    "gone from the array": (
        NotFound,
        lambda cloud: cloud.site.pools["gold"].volumes.delete(VolumeId("v-1")),
    ),
}


@pytest.mark.parametrize("rule", REFUSALS)
def test_a_refusal_leaves_no_trace(cloud, rule):
    """Whatever is refused is refused before the cut: no row, nothing reserved, nothing on the array."""
    error, refuse = REFUSALS[rule]
    cloud.make("v-1", "gold", DATA)
    refuse(cloud)
    with pytest.raises(error):
        cloud.take(S1, "v-1", "Archive")
    assert cloud.service.records.find(S1) is None
    assert cloud.books.counted == {}
    assert cloud.leftovers() == []
    if rule not in ("gone from the array", "no volume"):
        assert cloud.on_pool("v-1") == []


@pytest.mark.parametrize("rule", [("Archive", "raw"), ("Standrad", "gold")])
def test_a_bad_location_leaves_no_trace(cloud, rule):
    """The decision comes before everything else."""
    location, pool = rule
    volume = cloud.make("v-1", pool)
    with pytest.raises(InvalidArgument):
        cloud.take(S1, volume, location)
    assert cloud.service.records.find(S1) is None


def test_one_that_is_being_made_keeps_others_waiting(cloud):
    """While a snapshot of the volume is Creating, another one is Busy and leaves no row."""
    volume = cloud.make("v-1", "gold")
    pool = cloud.site.pools["gold"]
    seen: list[bool] = []
    create = pool.driver.create_snapshot

    def meanwhile(*args):
        if not seen:
            seen.append(True)
            with pytest.raises(Busy):
                cloud.take(S2, volume)
            with pytest.raises(Busy):
                cloud.service.delete(S1, call())
        return create(*args)

    pool.driver.create_snapshot = meanwhile
    cloud.take(S1, volume)
    assert seen
    assert cloud.service.records.find(S2) is None
    assert cloud.on_pool(volume) == [S1]


@pytest.mark.parametrize("location", ["Standard", "Archive"])
def test_a_deleted_snapshot_is_gone_from_everywhere(cloud, location):
    """Pool, store and quota have nothing of it; deleting it again, or one that never was, is fine."""
    volume = cloud.make("v-1", "gold", DATA)
    cloud.take(S1, volume, location, keep_on_primary=True)
    cloud.service.delete(S1, call())
    cloud.service.delete(S1, call())
    cloud.service.delete(S2, call())

    assert cloud.on_pool(volume) == []
    assert cloud.images() == []
    assert [item.key for item in cloud.site.stores["nightly"].list("v1/", call()).items] == []
    assert cloud.books.counted == {}
    assert cloud.service.show(S1).state is SnapshotState.DESTROYED
    assert cloud.leftovers() == []
    with pytest.raises(Conflict, match="not used twice"):
        cloud.take(S1, volume, location)


def test_a_parent_can_go_before_its_increment(cloud):
    """What was archived as an increment stays whole when its parent is deleted."""
    volume = cloud.make("v-1", "gold", DATA)
    cloud.take(S1, volume, "Archive")
    cloud.write(volume, b"second" * 1000)
    cloud.take(S2, volume, "Archive")
    cloud.service.delete(S1, call())
    archive = cloud.site.archive("nightly", writer="x")
    assert archive.verify(call(), volume=volume, snapshot=S2).problems == ()


def test_what_cannot_be_deleted_yet_stays_destroying_and_goes_on(cloud):
    """A store that fails keeps its part recorded; the repeat removes it, and only then it is gone."""
    volume = cloud.make("v-1", "gold", DATA)
    cloud.take(S1, volume, "Archive", keep_on_primary=True)
    store = cloud.site.stores["nightly"]
    delete = store.driver.delete

    def failing(*_: object) -> None:
        raise InvalidArgument("the store says no")

    store.driver.delete = failing
    with pytest.raises(InvalidArgument):
        cloud.service.delete(S1, call())
    found = cloud.service.show(S1)
    assert found.state is SnapshotState.DESTROYING
    assert cloud.on_pool(volume) == []
    store.driver.delete = delete
    cloud.service.delete(S1, call())
    assert cloud.images() == []
    assert cloud.service.show(S1).state is SnapshotState.DESTROYED


def test_a_cut_that_fails_ends_in_error_and_may_be_tried_again(cloud):
    """The user reads why; nothing is on the array or counted; the same request then succeeds."""
    volume = cloud.make("v-1", "gold", DATA)
    driver = cloud.site.pools["gold"].driver
    create = driver.create_snapshot

    def failing(*args: object) -> None:
        create(*args)
        raise InvalidArgument("the array says no")

    driver.create_snapshot = failing
    with pytest.raises(InvalidArgument):
        cloud.take(S1, volume)
    found = cloud.service.show(S1)
    assert (found.state, found.record.error) == (SnapshotState.ERROR, "the array says no")
    assert (cloud.on_pool(volume), cloud.books.counted) == ([], {})
    driver.create_snapshot = create
    assert cloud.take(S1, volume).state is SnapshotState.CREATED_ON_PRIMARY
    assert cloud.service.show(S1).record.error == ""


def test_what_the_audit_raises_undoes_nothing(cloud):
    """An audit that fails is logged; the snapshot is made all the same."""

    def failing(_: object) -> None:
        raise ZeroDivisionError

    volume = cloud.make("v-1", "gold")
    object.__setattr__(cloud.ctx.hooks, "audit", type("Failing", (), {"record": staticmethod(failing)}))
    assert cloud.take(S1, volume).state is SnapshotState.CREATED_ON_PRIMARY


def test_a_second_try_goes_where_the_volume_is_now(cloud):
    """A first try failed, and the volume moved: pool and store are those of now, and nothing is left."""
    volume = cloud.make("v-1", "raw", DATA)
    driver = cloud.site.pools["raw"].driver

    def refuse(*_):
        raise InvalidArgument("no")

    vars(driver)["create_snapshot"] = refuse
    with pytest.raises(InvalidArgument):
        cloud.take(S1, volume)
    cloud.make("v-1", "qcow2", DATA)
    cloud.inventory.change(volume, store="weekly")
    found = cloud.take(S1, volume)

    assert (found.order.pool, found.order.store) == ("qcow2", "weekly")
    assert (cloud.on_pool(volume), cloud.images("weekly")) == ([], ["v-1/s-1"])
    cloud.service.delete(S1, call())
    assert (cloud.images("weekly"), cloud.books.counted, cloud.leftovers()) == ([], {}, [])
