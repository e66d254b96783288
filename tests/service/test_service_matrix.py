"""What can be made of a snapshot, from wherever it lies to wherever it is wanted: the whole of table 4.6."""

from __future__ import annotations

import itertools

import pytest

from array_rig import host
from bollard.core.catalog.snapshots import SnapshotState
from bollard.core.service.from_snapshot import VolumeRequest, to_volume
from bollard.core.service.from_snapshot_revert import revert
from bollard.core.service.from_snapshot_template import IMAGE, TemplateRequest, to_template
from bollard.core.service.hooks import Act
from bollard.core.spi import (
    Conflict,
    DataLoss,
    InUse,
    InvalidArgument,
    LimitExceeded,
    PermissionDenied,
    Unavailable,
    VolumeSpec,
)
from bollard.transfer_objects.ids import SnapshotId, TemplateId, VolumeId

from .service_rig import MIB, SIZE, Cloud, call

S1 = SnapshotId("s-1")
NEW, GOLDEN = VolumeId("v-new"), TemplateId("golden")
OLD_DATA, NEW_DATA = b"old!" * 50_000, b"new!" * 50_000

# Where a snapshot lies: managed on primary, archived, on both; not managed on secondary, on its pool alone.
SOURCES = {
    "array": ("gold", "Standard", {}),
    "archived": ("gold", "Archive", {}),
    "both": ("gold", "Archive", {"keep_on_primary": True}),
    "uploaded raw": ("raw", None, {}),
    "uploaded qcow2": ("qcow2", None, {}),
    "files raw": ("raw", None, {"off": True}),
    "files qcow2": ("qcow2", None, {"off": True}),
}
POOLS = ("gold", "silver", "raw", "qcow2")


def snapshot_in(cloud: Cloud, source: str) -> VolumeId:
    """Make a snapshot that lies there, of a volume that is written on afterwards."""
    pool, location, more = SOURCES[source]
    if more.get("off"):
        cloud.settings.set("snapshot.backup.to.secondary", "false")
    volume = cloud.make("v-1", pool, OLD_DATA)
    cloud.take(S1, volume, location, **{key: value for key, value in more.items() if key != "off"})
    cloud.write(volume, NEW_DATA)
    return volume


@pytest.mark.parametrize(("source", "pool"), list(itertools.product(SOURCES, POOLS)))
def test_a_volume_on_any_pool(cloud, source, pool):
    """Every source makes a volume on every pool, grown, with the snapshot's bytes; the snapshot stays."""
    volume = snapshot_in(cloud, source)
    before = cloud.service.show(S1)
    request = VolumeRequest(id=NEW, pool=pool, name="new", size=SIZE + MIB)
    made = to_volume(cloud.ctx, S1, request, call())

    assert made.size == SIZE + MIB
    assert cloud.read(NEW, pool) == OLD_DATA.ljust(SIZE + MIB, b"\0")
    assert cloud.read(volume).startswith(NEW_DATA)
    assert cloud.service.show(S1).state is before.state
    assert cloud.leftovers() == []
    assert to_volume(cloud.ctx, S1, request, call()).id == NEW
    cloud.service.delete(S1, call())
    assert cloud.read(NEW, pool).startswith(OLD_DATA)


@pytest.mark.parametrize("source", SOURCES)
def test_a_template_and_volumes_of_it_anywhere(cloud, source):
    """Every source makes a template on another store; it outlives the snapshot, and fits any pool."""
    snapshot_in(cloud, source)
    request = TemplateRequest(id=GOLDEN, store="weekly")
    to_template(cloud.ctx, S1, request, call())
    assert cloud.images("weekly") == ["golden/image"]
    assert cloud.leftovers() == []
    assert to_template(cloud.ctx, S1, request, call()).snapshot == IMAGE

    cloud.service.delete(S1, call())
    for pool in POOLS:
        target = VolumeId(f"of-{pool}")
        cloud.ctx.engine(pool, "weekly", GOLDEN).restore(VolumeId(GOLDEN), IMAGE, target, call())
        assert cloud.read(target, pool).startswith(OLD_DATA)
    assert cloud.leftovers() == []


@pytest.mark.parametrize("source", SOURCES)
def test_a_volume_is_put_back(cloud, source):
    """Every source puts its volume back, by the pool or by writing it over; the snapshot stays."""
    volume = snapshot_in(cloud, source)
    revert(cloud.ctx, S1, call())
    assert cloud.read(volume) == OLD_DATA.ljust(SIZE, b"\0")
    assert cloud.sync() == []
    assert cloud.leftovers() == []
    revert(cloud.ctx, S1, call())
    assert cloud.read(volume).startswith(OLD_DATA)


@pytest.mark.parametrize("pool", POOLS)
def test_a_volume_that_has_moved_is_put_back_where_it_is(cloud, pool):
    """CloudStack calls it "Storage pool mismatch"; the bytes are the same wherever the volume is now."""
    volume = snapshot_in(cloud, "array")
    if pool != "gold":
        cloud.site.pools[pool].volumes.create(VolumeSpec(id=volume, size=SIZE))
        cloud.know(volume, pool)
        cloud.write(volume, NEW_DATA)
    revert(cloud.ctx, S1, call())
    assert cloud.read(volume) == OLD_DATA.ljust(SIZE, b"\0")
    assert cloud.leftovers() == []


def test_in_use_it_cannot_be_deleted(cloud):
    """While a volume is being made of a snapshot, deleting it is refused; afterwards it is not."""
    snapshot_in(cloud, "archived")
    seen = []
    create = cloud.site.pools["silver"].driver.create_volume

    def meanwhile(*args):
        with pytest.raises(InUse, match=NEW):
            cloud.service.delete(S1, call())
        seen.append(True)
        return create(*args)

    cloud.site.pools["silver"].driver.create_volume = meanwhile
    to_volume(cloud.ctx, S1, VolumeRequest(id=NEW, pool="silver"), call())
    assert seen
    cloud.service.delete(S1, call())


REFUSALS = {
    "authority": (PermissionDenied, lambda cloud: cloud.books.forbidden.update(Act)),
    "quota": (LimitExceeded, lambda cloud: cloud.books.full.update({"Primary", "Image"})),
    "pool off": (Unavailable, lambda cloud: cloud.inventory.off.update(silver="disabled")),
    "another's volume": (
        Conflict,
        lambda cloud: cloud.site.pools["silver"].volumes.create(VolumeSpec(id=NEW, size=SIZE)),
    ),
    "deleted": (InvalidArgument, lambda cloud: cloud.service.delete(S1, call())),
}


@pytest.mark.parametrize("rule", REFUSALS)
def test_a_refused_volume_leaves_no_trace(cloud, rule):
    """Refused before anything is made: nothing is counted, recorded or on the pool that was not there."""
    error, refuse = REFUSALS[rule]
    snapshot_in(cloud, "array")
    refuse(cloud)
    counted = dict(cloud.books.counted)
    before = [one.id for one in cloud.site.pools["silver"].volumes.list()]
    with pytest.raises(error):
        to_volume(cloud.ctx, S1, VolumeRequest(id=NEW, pool="silver"), call())
    assert [one.id for one in cloud.site.pools["silver"].volumes.list()] == before
    assert cloud.books.counted == counted
    assert cloud.sync() == []
    assert cloud.leftovers() == []


def test_a_volume_smaller_than_the_snapshot_is_refused(cloud):
    """It would lose the end of the disk."""
    snapshot_in(cloud, "array")
    with pytest.raises(InvalidArgument, match="at least the snapshot's"):
        to_volume(cloud.ctx, S1, VolumeRequest(id=NEW, pool="gold", size=SIZE - 4096), call())


@pytest.mark.parametrize(
    ("source", "pool"), [("array", "raw"), ("archived", "silver"), ("files raw", "gold")]
)
def test_a_volume_that_fails_half_way_is_gone(cloud, source, pool):
    """The first write fails: neither the volume nor a clone, grant, intent or record of it stays."""
    snapshot_in(cloud, source)
    driver, method = cloud.site.pools[pool].driver, "grant" if pool in ("gold", "silver") else "locate_volume"

    def failing(*_: object, **__: object) -> None:
        raise InvalidArgument("no access")

    working = getattr(driver, method)
    setattr(driver, method, failing)
    with pytest.raises(InvalidArgument, match="no access"):
        to_volume(cloud.ctx, S1, VolumeRequest(id=NEW, pool=pool), call())
    setattr(driver, method, working)
    assert NEW not in [one.id for one in cloud.site.pools[pool].volumes.list()]
    assert f"volume/{NEW}" not in cloud.books.counted
    assert cloud.sync() == []
    assert cloud.leftovers() == []


def damage(cloud: Cloud) -> None:
    """Flip a bit in each archived part."""
    for part in (cloud.directory / "nightly").rglob("*.zip"):
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.chmod(0o600)
        part.write_bytes(data)


def test_a_damaged_copy_touches_no_volume(cloud):
    """A copy is read back before it is written over a volume: one that is damaged changes no byte."""
    volume = snapshot_in(cloud, "archived")
    damage(cloud)
    with pytest.raises(DataLoss):
        revert(cloud.ctx, S1, call())
    assert cloud.read(volume).startswith(NEW_DATA)
    with pytest.raises(DataLoss):
        to_volume(cloud.ctx, S1, VolumeRequest(id=NEW, pool="gold"), call())
    with pytest.raises(DataLoss):
        to_template(cloud.ctx, S1, TemplateRequest(id=GOLDEN, store="weekly"), call())
    assert cloud.images("weekly") == []
    assert cloud.sync() == []
    assert cloud.leftovers() == []


@pytest.mark.parametrize("source", ["array", "archived"])
def test_a_volume_that_a_host_uses_is_not_put_back(cloud, source):
    """It would do harm under a guest: the host's bytes stay, and the repeat after it let go succeeds."""
    volume = snapshot_in(cloud, source)
    other = host("kvm-1")
    pool = cloud.site.pools["gold"]
    pool.volumes.grant(volume, other)
    with pytest.raises(InUse):
        revert(cloud.ctx, S1, call())
    pool.volumes.revoke(volume, other.id)
    assert cloud.read(volume).startswith(NEW_DATA)
    revert(cloud.ctx, S1, call())
    assert cloud.read(volume).startswith(OLD_DATA)


def test_a_volume_that_has_grown_is_not_put_back_from_a_copy(cloud):
    """Its end would be of another time; a new volume can be made."""
    volume = snapshot_in(cloud, "archived")
    cloud.site.pools["gold"].volumes.resize(volume, SIZE + MIB)
    with pytest.raises(Conflict, match="make a new volume"):
        revert(cloud.ctx, S1, call())
    assert cloud.read(volume).startswith(NEW_DATA)
    assert cloud.service.show(S1).state is SnapshotState.BACKED_UP
