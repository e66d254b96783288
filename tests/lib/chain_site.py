"""What the orchestrators of the tests share: settings, directories for snapshots, a look at the records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from bollard.core.catalog.snapshots import Ref, SnapshotRecord, refs_of_volume
from bollard.core.settings import Scope, Settings, Where
from bollard.core.snapshots import kvm
from bollard.transfer_objects.enums import DataStoreRole, StoragePoolType
from bollard.transfer_objects.ids import VolumeId

VOLUME = VolumeId("vol-1")


class ChainSite(ABC):
    """One volume, in cluster c1 of zone z1, and where its snapshots go.

    Attributes:
        directory: of everything.
        secondary: the store for backups.
        images: of the volume while no VM has it; as long as there are none, the VM has it.
    """

    def __init__(self, directory: Path, *, delta_max: int = 3, backup: bool = False) -> None:
        self.directory = directory
        self.secondary = "sec-1"
        self.images: list[Path] = []
        self.pool_type = StoragePoolType.NETWORK_FILESYSTEM
        self.settings = Settings()
        self.enable(True)
        self.settings.set("snapshot.delta.max", delta_max)
        self.back_up(backup)

    @abstractmethod
    def site(self) -> kvm.Site:
        """The site, as a process that comes now would open it."""

    def directories(self) -> dict[str, kvm.ChainStore]:
        """The pool's own directory of snapshots, and two on secondary storage."""
        stores = (
            kvm.ChainDirectory("pool", self.directory / "pool"),
            kvm.ChainDirectory("sec-1", self.directory / "sec-1", DataStoreRole.IMAGE),
            kvm.ChainDirectory("sec-2", self.directory / "sec-2", DataStoreRole.IMAGE),
        )
        return {one.id: one for one in stores}

    def enable(self, on: bool) -> None:
        """Switch kvm.incremental.snapshot."""
        self.settings.set("kvm.incremental.snapshot", on, Scope.CLUSTER, "c1")

    def back_up(self, on: bool) -> None:
        """Switch snapshot.backup.to.secondary."""
        self.settings.set("snapshot.backup.to.secondary", on, Scope.ZONE, "z1")

    def place(self) -> kvm.VolumePlace:
        """The volume."""
        return kvm.VolumePlace(
            volume=VOLUME,
            pool_type=self.pool_type,
            where=Where(zone="z1", cluster="c1"),
            primary="pool",
            secondary=self.secondary,
        )

    # -- what the records say ------------------------------------------------------------------------

    def ref(self, snapshot: str) -> Ref:
        """The newest ref of a snapshot."""
        with self.site().catalog.transaction() as session:
            return [ref for ref in session.query(Ref) if ref.snapshot == snapshot][-1]

    def refs(self) -> list[Ref]:
        """All that are not gone."""
        with self.site().catalog.transaction() as session:
            return list(refs_of_volume(session, VOLUME))

    def states(self) -> dict[str, str]:
        """Snapshot -> state."""
        with self.site().catalog.transaction() as session:
            return {record.id: record.state.value for record in session.query(SnapshotRecord)}

    def record(self, snapshot: str) -> SnapshotRecord:
        """What a user sees."""
        with self.site().catalog.transaction() as session:
            found = session.get(SnapshotRecord, snapshot)
        assert found
        return found
