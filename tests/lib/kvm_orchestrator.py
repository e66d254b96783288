"""An orchestrator's records, settings, stores and driver, around one VM on real hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from bollard.core.archive import Archive
from bollard.core.catalog import Catalog
from bollard.core.journal import Journal
from bollard.core.snapshots import kvm
from bollard.core.spi import ImageStoreDriver
from bollard.core.store import Store
from bollard.transfer_objects.ids import VmId
from chain_site import ChainSite
from kvm_driving import driver_for


class Place(Protocol):
    """A host, as far as a driver wants to know it."""

    name: str
    uri: str


class Orchestrator(ChainSite):
    """Records, settings, stores and the driver; another process makes its own on the same directory."""

    def __init__(
        self,
        directory: Path,
        vm: str,
        *hosts: Place,
        archive: ImageStoreDriver[Any] | None = None,
    ) -> None:
        super().__init__(directory)
        self.disk = kvm.Disk(VmId(vm), "vda")
        self.driver = driver_for(directory, *hosts)  # type: ignore[arg-type]  # it takes name and URI only
        self.secondary = "archive" if archive else "sec-1"
        self._archive = archive
        self._catalog = Catalog(f"sqlite:///{directory}/catalog.db")

    def site(self) -> kvm.Site:
        """The site, with nothing remembered but what is in the catalog and in the journal."""
        stores = self.directories()
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
            disk_of=lambda _: None if self.images else self.disk,
            image_of=lambda _: self.images,
        )
