"""What the catalog knows of volumes, VMs and hosts: an inventory for an orchestrator that has no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from ...transfer_objects.enums import HypervisorType, ImageFormat
from ...transfer_objects.ids import VmId, VolumeId
from ..catalog import Catalog
from ..catalog.holds import HoldState, Introduction
from ..catalog.paging import one
from ..catalog.places import HostRecord
from ..catalog.volume_states import VolumeState
from ..catalog.volumes import VolumeRecord
from ..spi import NotFound
from ..vm_snapshots.machine import Machine, VmVolume
from .snapshots_context import VolumeFacts
from .volumes_steps import Backends


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogInventory:
    """Volumes, VMs and hosts as `VolumeService` has recorded them.

    Attributes:
        store: name of the store that snapshots of all volumes go to.
        family: of all hypervisors.
    """

    catalog: Catalog
    site: Backends
    store: str = ""
    family: HypervisorType = HypervisorType.KVM

    def volume(self, volume: VolumeId) -> VolumeFacts:
        """See `Inventory.volume`."""
        with self.catalog.reading() as session:
            record = one(session, VolumeRecord, volume)
        return VolumeFacts(
            volume=volume,
            pool=record.pool,
            store=self.store,
            image_format=ImageFormat.QCOW2 if record.format == "qcow2" else ImageFormat.RAW,
            name=record.name,
            vm=None if record.vm is None else VmId(record.vm),
            why_not_ready="" if record.state is VolumeState.READY else f"it is {record.state}",
        )

    def why_pool_is_off(self, pool: str) -> str:
        """See `Inventory.why_pool_is_off`; nobody switches pools off here."""
        del pool
        return ""

    def machine(self, vm: VmId) -> Machine:
        """Return a VM with its volumes, in the order of their devices.

        Raises:
            NotFound: the catalog knows no volume of it, or no host that has them.
        """
        chosen = select(VolumeRecord).where(VolumeRecord.vm == vm).order_by(VolumeRecord.device)
        with self.catalog.reading() as session:
            records = session.scalars(chosen).all()
            known = select(Introduction.host).where(
                Introduction.volume.in_([record.id for record in records]),
                Introduction.state == HoldState.HELD,
            )
            host = session.scalar(known.limit(1))
            if host is None:
                raise NotFound(f"the catalog knows no host that has VM {vm}")
            hypervisor = self.site.hypervisor(one(session, HostRecord, host).hypervisor)
        volumes = tuple(
            VmVolume(volume=VolumeId(record.id), device=record.device, pool=self.site.pool(record.pool))
            for record in records
        )
        return Machine(vm=vm, hypervisor=hypervisor, family=self.family, volumes=volumes)

    def vm_of(self, volume: VolumeId) -> str:
        """Return the VM that has a volume; "" if none has."""
        with self.catalog.reading() as session:
            record = session.get(VolumeRecord, volume)
        return "" if record is None or record.vm is None else record.vm

    def vms_of(self, host: str) -> Sequence[str]:
        """Return the VMs with a volume on a host."""
        chosen = (
            select(VolumeRecord.vm)
            .join(Introduction, Introduction.volume == VolumeRecord.id)
            .where(Introduction.host == host, VolumeRecord.vm.is_not(None))
        )
        with self.catalog.reading() as session:
            return [vm for vm in session.scalars(chosen.distinct()) if vm is not None]
