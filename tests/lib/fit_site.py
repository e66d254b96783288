"""The services of one process over one site, of volumes and of snapshots, as an orchestrator has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bollard.core.access import Mover
from bollard.core.archive import Archive
from bollard.core.journal import Journal
from bollard.core.mover import mover_host
from bollard.core.pool import Pool
from bollard.core.service.hooks import Hooks
from bollard.core.service.inventory import CatalogInventory
from bollard.core.service.snapshots import SnapshotService
from bollard.core.service.snapshots_context import Context
from bollard.core.spi import parse_options
from bollard.core.store import Store
from bollard.drivers.secondary.nfs import NfsDriver
from volume_site import Process, Site, call


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What a process can reach: the array, one store, and itself."""

    process: Process
    nightly: Store
    host: Mover

    def pool(self, name: str) -> Pool:
        """See `Site.pool`."""
        return self.process.site.pool(name)

    def store(self, name: str) -> Store:
        """See `Site.store`."""
        assert name == "nightly"
        return self.nightly

    def archive(self, name: str, *, writer: str) -> Archive:
        """See `Site.archive`."""
        return Archive(self.store(name), writer=writer)

    def mover(self) -> Mover:
        """See `Site.mover`."""
        return self.host


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The services of one process."""

    site: Site
    process: Process
    ctx: Context
    snapshots: SnapshotService


@contextmanager
def opened(site: Site, process: Process, hooks: Hooks = Hooks()) -> Iterator[Fit]:  # noqa: B008 - frozen
    """Yield the services of a process; what it shares with others lies in the site's directory."""
    (site.home / "nightly").mkdir(exist_ok=True)
    options = parse_options(NfsDriver.Options, {"path": site.home / "nightly"})
    store = Store("nightly", NfsDriver(options), sleep=lambda _: None)
    store.open(call())
    try:
        mover = Mover(host=mover_host(site.home), journal=Journal(site.home / "journal"))
        ctx = Context(
            catalog=process.catalog,
            site=Reach(process=process, nightly=store, host=mover),
            inventory=CatalogInventory(catalog=process.catalog, site=process.site, store="nightly"),
            hooks=hooks,
        )
        yield Fit(site=site, process=process, ctx=ctx, snapshots=SnapshotService(ctx))
    finally:
        store.close()
