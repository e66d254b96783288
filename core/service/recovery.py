"""The services of one process over one site: what `bollard sync` and an orchestrator's start need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from ..commands.reverting import RevertKind
from ..mover import state_directory
from ..site import Site
from ..vm_snapshots import (
    DriverStrategy,
    FileStrategy,
    HypervisorStrategy,
    Machines,
    Records,
    VmSnapshotManager,
    VmSnapshotSync,
)
from ..vm_snapshots import (
    Hooks as VmHooks,
)
from .hooks import Hooks
from .inventory import CatalogInventory
from .owners import Owner
from .snapshots_context import Context
from .snapshots_records import Records as SnapshotRecords
from .sync import Sync
from .sync_increments import IncrementKind
from .sync_snapshots import SnapshotKind
from .sync_vm_snapshots import VmSnapshotKind, fleet_vm_locks
from .sync_volumes import ActSync
from .templates import TemplateService
from .templates_delete import TemplateRemoval
from .volumes import VolumeService
from .volumes_records import VolumeRecords
from .works import Works


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services of one process."""

    volumes: VolumeService
    templates: TemplateService
    removal: TemplateRemoval
    vm_snapshots: VmSnapshotManager
    inventory: CatalogInventory
    context: Context
    site: Site

    def sync(self) -> Sync:
        """Return what ends all that dead processes left."""
        inventory = self.inventory
        settlers = {"volume": self.volumes.settle, "template": self.removal.settle}
        return Sync(
            kinds=(
                ActSync(works=self.templates.works, settlers=settlers),
                VmSnapshotKind(sync=VmSnapshotSync(self.vm_snapshots), vms_of=inventory.vms_of),
                SnapshotKind(context=self.context, vm_of=inventory.vm_of, vms_of=inventory.vms_of),
                RevertKind(site=self.site),
                IncrementKind(site=self.site, vm_of=inventory.vm_of, vms_of=inventory.vms_of),
            )
        )


@contextmanager
def open_services(
    site: Site,
    *,
    machines: Machines | None = None,
    hooks: Hooks = Hooks(),  # noqa: B008 - frozen
) -> Iterator[Services]:
    """Yield the services over a site, under a lease of this process; the site is its owner's to close.

    Args:
        machines: who knows the VMs; None: the catalog, as far as `VolumeService` has attached their disks.
        hooks: authority, quota and audit of all services.
    """
    with ExitStack() as stack:
        catalog, state, mover = site.catalog(), state_directory(), site.mover()
        owner = Owner(catalog, state / "owners")
        stack.callback(owner.close)
        works = Works(catalog, owner)
        backends = site
        inventory = CatalogInventory(catalog=catalog, site=backends, store=site.config.default_store)
        manager = VmSnapshotManager(
            Records(catalog),
            machines or inventory,
            [HypervisorStrategy(), FileStrategy(), DriverStrategy()],
            fleet_vm_locks(mover),
            hooks=VmHooks(
                busy_volume_snapshots=partial(SnapshotRecords(catalog, time.time).of_vm, busy=True)
            ),
        )
        context = Context(catalog=catalog, site=site, inventory=inventory, hooks=hooks)
        templates = TemplateService(catalog=catalog, works=works, site=backends, mover=mover, hooks=hooks)
        yield Services(
            volumes=VolumeService(
                records=VolumeRecords(catalog=catalog, works=works), site=backends, hooks=hooks, mover=mover
            ),
            templates=templates,
            removal=TemplateRemoval(templates=templates, ctx=context),
            vm_snapshots=manager,
            inventory=inventory,
            context=context,
            site=site,
        )
