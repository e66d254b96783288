"""A cloud with two arrays, two directories of files and two stores, and what a test looks at in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from bollard.core.access import Mover
from bollard.core.archive import Archive
from bollard.core.archive.names import parse
from bollard.core.catalog import Catalog
from bollard.core.pool import Pool
from bollard.core.service.from_snapshot_sync import Ended
from bollard.core.service.hooks import Act, Audited, Hooks, Reservation
from bollard.core.service.snapshots import SnapshotService
from bollard.core.service.snapshots_context import Context, VolumeFacts
from bollard.core.service.snapshots_create import SnapshotRequest
from bollard.core.service.snapshots_records import Found
from bollard.core.service.transient import sync_all, unfinished
from bollard.core.settings import Settings
from bollard.core.spi import Call, DiskFormat, LimitExceeded, NotFound, PermissionDenied, VolumeSpec
from bollard.core.store import Store
from bollard.core.vm_snapshots.machine import Machine
from bollard.transfer_objects.enums import ImageFormat
from bollard.transfer_objects.ids import SnapshotId, VmId, VolumeId

MIB = 2**20
SIZE = 2 * MIB
START = 1_800_000_000.0


def call(seconds: float = 60.0) -> Call:
    """A call with so much time to go."""
    return Call.within(seconds)


class Clock:
    """Seconds since the epoch, as the test has them."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@dataclass(slots=True)
class Books:
    """Authority, quota and audit that remember; they refuse what a test tells them to.

    Attributes:
        counted: what is reserved, by key.
    """

    forbidden: set[Act] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    counted: dict[str, Reservation] = field(default_factory=dict)
    told: list[Audited] = field(default_factory=list)

    def check(self, account: str, act: Act, subject: str) -> None:
        """See `Authority.check`."""
        if act in self.forbidden:
            raise PermissionDenied(f"account {account!r} may not {act} {subject}")

    def reserve(self, reservation: Reservation) -> None:
        """See `Quota.reserve`."""
        if reservation.role.value in self.full:
            raise LimitExceeded(f"no {reservation.role.value} storage is left to {reservation.account!r}")
        self.counted[reservation.key] = reservation

    def release(self, key: str) -> None:
        """See `Quota.release`."""
        self.counted.pop(key, None)

    def record(self, what: Audited) -> None:
        """See `Audit.record`."""
        self.told.append(what)


class TestSite:
    """Pools and stores by name, and this machine."""

    __test__ = False

    def __init__(self, pools: dict[str, Pool], stores: dict[str, Store], mover: Mover) -> None:
        self.pools = pools
        self.stores = stores
        self._mover = mover

    def pool(self, name: str) -> Pool:
        """See `Site.pool`."""
        if name not in self.pools:
            raise NotFound(f"no pool {name}")
        return self.pools[name]

    def store(self, name: str) -> Store:
        """See `Site.store`."""
        return self.stores[name]

    def archive(self, name: str, *, writer: str) -> Archive:
        """See `Site.archive`."""
        return Archive(self.stores[name], writer=writer)

    def mover(self) -> Mover:
        """See `Site.mover`."""
        return self._mover


class Shelf:
    """An inventory that a test fills."""

    def __init__(self) -> None:
        self.facts: dict[str, VolumeFacts] = {}
        self.off: dict[str, str] = {}
        self.machines: dict[str, Machine] = {}

    def volume(self, volume: VolumeId) -> VolumeFacts:
        """See `Inventory.volume`."""
        if volume not in self.facts:
            raise NotFound(f"there is no volume {volume}")
        return self.facts[volume]

    def why_pool_is_off(self, pool: str) -> str:
        """See `Inventory.why_pool_is_off`."""
        return self.off.get(pool, "")

    def machine(self, vm: VmId) -> Machine:
        """See `Inventory.machine`."""
        return self.machines[vm]

    def change(self, volume: VolumeId, **fields: object) -> None:
        """Let something about a volume be otherwise."""
        self.facts[volume] = replace(self.facts[volume], **fields)  # type: ignore[arg-type]  # its own fields


class Cloud:
    """An orchestrator with one process."""

    def __init__(
        self,
        directory: Path,
        site: TestSite,
        catalog: Catalog,
        books: Books | None = None,
        *,
        overlays: DiskFormat = "qcow2",
    ) -> None:
        self.directory = directory
        self.site = site
        self.catalog = catalog
        self.inventory = Shelf()
        self.books = books or Books()
        self.clock = Clock()
        self.settings = Settings()
        self.ctx = Context(
            catalog=catalog,
            site=site,
            inventory=self.inventory,
            hooks=Hooks(authority=self.books, quota=self.books, audit=self.books),
            settings=self.settings,
            clock=self.clock,
            overlay_format=overlays,
        )
        self.service = SnapshotService(self.ctx)

    # -- doing -----------------------------------------------------------------------------------------

    def make(self, volume: str, pool: str, data: bytes = b"", *, size: int = SIZE) -> VolumeId:
        """Create a volume that the orchestrator knows."""
        made = VolumeId(volume)
        self.site.pools[pool].volumes.create(VolumeSpec(id=made, size=size))
        self.know(made, pool)
        if data:
            self.write(made, data)
        return made

    def know(self, volume: VolumeId, pool: str) -> None:
        """Let the orchestrator have a volume that exists."""
        self.inventory.facts[volume] = VolumeFacts(
            volume=volume, pool=pool, store="nightly", image_format=ImageFormat.RAW
        )

    def write(self, volume: VolumeId, data: bytes, offset: int = 0) -> None:
        """Write as a host; the rest of the last 4 KiB becomes zeros."""
        padded = data + bytes(-len(data) % 4096)
        with self.site.mover().writing_volume(self._pool_of(volume), volume) as sink:
            sink.write(offset, padded)
            sink.flush()

    def take(self, snapshot: str, volume: str, location: str | None = None, **more: object) -> Found:
        """Make a snapshot, and wait for it."""
        wait = bool(more.pop("wait", True))
        request = SnapshotRequest(
            id=SnapshotId(snapshot),
            volume=VolumeId(volume),
            location=location,
            **more,  # type: ignore[arg-type]  # the fields of a request
        )
        return self.service.create(request, call(), wait=wait)

    def sync(self) -> list[Ended]:
        """End all that is transient; nothing may be left to do."""
        ended = sync_all(self.ctx, call())
        assert [one for one in ended if one.problem] == []
        assert unfinished(self.ctx) == []
        return ended

    # -- looking ---------------------------------------------------------------------------------------

    def _pool_of(self, volume: VolumeId) -> Pool:
        return self.site.pools[self.inventory.facts[volume].pool]

    def read(self, volume: VolumeId, pool: str = "") -> bytes:
        """Read a volume as a host."""
        where = self.site.pools[pool] if pool else self._pool_of(volume)
        with self.site.mover().reading_volume(where, volume) as source:
            content = bytearray(source.size)
            source.read_into(0, memoryview(content))
        return bytes(content)

    def on_pool(self, volume: str) -> list[str]:
        """Return the snapshots of a volume on its pool."""
        name = VolumeId(volume)
        return [one.id for one in self._pool_of(name).snapshots.list(name)]

    def images(self, store: str = "nightly") -> list[str]:
        """Return what an archive lists, as <volume>/<snapshot>."""
        archive = Archive(self.site.stores[store])
        return sorted(f"{one.volume}/{one.snapshot}" for one in archive.list(call()))

    def begun(self, store: str = "nightly") -> list[str]:
        """Return the keys of a store that belong to an image which nobody has committed."""
        driver = self.site.stores[store]
        whole = set(self.images(store))
        keys = [item.key for item in driver.list("v1/", call()).items]
        found = [(key, parse(key)) for key in keys]
        return [key for key, at in found if at and f"{at.volume}/{at.snapshot}" not in whole]

    def temporary(self) -> list[str]:
        """Return the temporary clones and grants of all pools."""
        found: list[str] = []
        for pool in self.site.pools.values():
            for volume in pool.volumes.list():
                if volume.id.startswith("tmp-"):
                    found.append(volume.id)
                if pool.managed:
                    found += [f"{grant.volume} to {grant.host}" for grant in pool.volumes.grants(volume.id)]
        return found

    def intents(self) -> list[str]:
        """Return what the journal still holds."""
        return sorted(one.name for one in (self.directory / "journal").glob("*.intent"))

    def leftovers(self) -> list[str]:
        """Return whatever nobody asked for."""
        begun = [key for store in self.site.stores for key in self.begun(store)]
        return [*self.temporary(), *self.intents(), *begun]
