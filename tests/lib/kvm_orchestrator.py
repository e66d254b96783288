"""An orchestrator's records, settings, stores and driver, around one VM on real hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from bollard.core.archive import Archive
from bollard.core.catalog import Catalog
from bollard.core.journal import Journal
from bollard.core.settings import Scope, Settings, Where
from bollard.core.snapshots import kvm
from bollard.core.spi import ImageStoreDriver
from bollard.core.store import Store
from bollard.transfer_objects.enums import DataStoreRole, StoragePoolType
from bollard.transfer_objects.ids import VmId, VolumeId
from kvm_driving import driver_for

VOLUME = VolumeId("vol-1")


class Place(Protocol):
    """A host, as far as a driver wants to know it."""

    name: str
    uri: str


class Orchestrator:
    """Records, settings, stores and the driver; another process makes its own on the same directory."""

    def __init__(
        self,
        directory: Path,
        vm: str,
        *hosts: Place,
        archive: ImageStoreDriver[Any] | None = None,
    ) -> None:
        self.directory = directory
        self.disk = kvm.Disk(VmId(vm), "vda")
        self.driver = driver_for(directory, *hosts)  # type: ignore[arg-type]  # it takes name and URI only
        self.secondary = "archive" if archive else "sec-1"
        self._archive = archive
        self._catalog = Catalog(f"sqlite:///{directory}/catalog.db")
        self.settings = Settings()
        self.increments(True)
        self.settings.set("snapshot.delta.max", 3)
        self.back_up(False)

    def site(self) -> kvm.Site:
        """The site, with nothing remembered but what is in the catalog and in the journal."""
        directories = (
            kvm.ChainDirectory("pool", self.directory / "pool"),
            kvm.ChainDirectory("sec-1", self.directory / "sec-1", DataStoreRole.IMAGE),
            kvm.ChainDirectory("sec-2", self.directory / "sec-2", DataStoreRole.IMAGE),
        )
        stores: dict[str, kvm.ChainStore] = {one.id: one for one in directories}
        if self._archive:
            store = Store("archive", self._archive)
            # A deletion waits until a listing that lags has caught up; the simulator's does not lag.
            archive = Archive(store, pause=lambda _: None)
            stores["archive"] = kvm.ChainArchive("archive", archive, store, self.directory)
        return kvm.Site(
            catalog=self._catalog,
            journal=Journal(self.directory / "journal"),
            settings=self.settings,
            stores=stores,
            backups=self.driver,
            vm_state=self.driver.vm_state,
            disk_of=lambda _: self.disk,
        )

    def increments(self, on: bool) -> None:
        """Switch kvm.incremental.snapshot."""
        self.settings.set("kvm.incremental.snapshot", on, Scope.CLUSTER, "c1")

    def back_up(self, on: bool) -> None:
        """Switch snapshot.backup.to.secondary."""
        self.settings.set("snapshot.backup.to.secondary", on, Scope.ZONE, "z1")

    def place(self) -> kvm.VolumePlace:
        """The volume."""
        return kvm.VolumePlace(
            volume=VOLUME,
            pool_type=StoragePoolType.NETWORK_FILESYSTEM,
            where=Where(zone="z1", cluster="c1"),
            primary="pool",
            secondary=self.secondary,
        )
