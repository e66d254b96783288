"""What crashes left on hosts: introductions and checkpoints that the catalog knows, and nobody needs.

    introduction    the catalog has released it, or its volume is gone; the host knows it still
    checkpoint      it bears the name of a snapshot of this volume which is gone, and no ref tracks by it
    backup          see `sweep_backups`

What the catalog has never heard of is left alone: another orchestrator may have made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ...transfer_objects.ids import HostId, VmId
from ..catalog import Catalog
from ..catalog.holds import HoldState, Introduction
from ..catalog.paging import each, page
from ..catalog.places import HostRecord
from ..catalog.snapshots import Ref, RefState, SnapshotRecord, SnapshotState
from ..catalog.volume_states import VolumeState
from ..catalog.volumes import VolumeRecord
from ..catalog.works import WorkRow
from ..hypervisors import open_hypervisor
from ..site import Site
from ..spi import Backups, Introduced, NotFound, ObjectKind, StorageError, Unsupported
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from .leftovers import End, Leftover, Run, Swept
from .sweep_backups import unended_backups

_GONE = (SnapshotState.DESTROYED, SnapshotState.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlace:
    """The hosts that one hypervisor reaches."""

    hypervisor: Hypervisor
    catalog: Catalog

    @classmethod
    def of(cls, site: Site, name: str) -> HostPlace:
        """Open the hosts that one hypervisor of a site's configuration reaches, for the sweep alone."""
        backend = site.config.hypervisor(name)
        opened = open_hypervisor(backend.name, backend.driver, backend.options)
        try:
            return cls(hypervisor=opened, catalog=site.catalog())
        except StorageError:
            opened.close()
            raise

    @property
    def name(self) -> str:
        """See `Place.name`."""
        return f"hypervisor {self.hypervisor.name}"

    def close(self) -> None:
        """Close the hypervisor; the catalog is its owner's."""
        self.hypervisor.close()

    def sweep(self, run: Run) -> Iterator[Swept]:
        """See `Place.sweep`."""
        driver = self.hypervisor.driver
        for host in self.hypervisor.run("hypervisor.hosts", driver.list_hosts, step(run.call)):
            yield from self._introductions(host.id, run)
        if self.hypervisor.has(Backups):
            for vm in self._vms():
                yield from self._checkpoints(vm, run)
            yield from unended_backups(self.hypervisor, self.catalog, run)

    # -- introductions --------------------------------------------------------------------------------

    def _introductions(self, host: HostId, run: Run) -> Iterator[Swept]:
        driver = self.hypervisor.driver
        try:
            known = self.hypervisor.run(
                "hypervisor.introductions", lambda c: driver.introductions(host, c), step(run.call)
            )
        except Unsupported as error:
            what = Leftover(place=self.name, kind="introduction", name=f"on host {host}", why="")
            yield Swept(leftover=what, end=End.KEPT, reason=error.message)
            return
        for one in known:
            if self._is_released(one):
                yield self._introduction(one, run)

    def _introduction(self, one: Introduced, run: Run) -> Swept:
        driver = self.hypervisor.driver
        leftover = Leftover(
            place=f"{self.name}, host {one.host}",
            kind="introduction",
            name=one.object_id,
            why="the catalog has released it; forgetting it deletes no data",
            owner="an act that ended without it",
        )

        def remove() -> str:
            if not self._is_released(one):
                return "it was asked for again"
            self.hypervisor.run(
                "object.forget",
                lambda c: driver.forget(ObjectKind.VOLUME, one.object_id, one.host, c),
                step(run.call),
            )
            return ""

        return run.end(leftover, remove)

    def _is_released(self, one: Introduced) -> bool:
        """Tell whether the catalog knows the volume, and nobody is to have it on that host."""
        with self.catalog.reading() as session:
            record = session.get(VolumeRecord, one.object_id)
            if record is None or session.get(WorkRow, ("volume", one.object_id)) is not None:
                return False
            if record.state in (VolumeState.EXPUNGED, VolumeState.ERROR):
                return True
            row = session.scalar(
                select(Introduction).where(
                    Introduction.volume == one.object_id, Introduction.host == one.host
                )
            )
            return row is not None and row.state is HoldState.RELEASED

    # -- checkpoints ----------------------------------------------------------------------------------

    def _vms(self) -> Iterator[VmId]:
        """Yield the VMs that the catalog knows on this hypervisor's hosts, each once."""
        seen: set[str] = set()
        with self.catalog.reading() as session:
            ours = select(Introduction.volume).join(HostRecord, HostRecord.id == Introduction.host)
            ours = ours.where(HostRecord.hypervisor == self.hypervisor.name)
            fits = VolumeRecord.vm.is_not(None), VolumeRecord.id.in_(ours)
            records = each(lambda after: page(session, VolumeRecord, *fits, after=after))
            seen.update(str(record.vm) for record in records)
        yield from (VmId(vm) for vm in sorted(seen))

    def _checkpoints(self, vm: VmId, run: Run) -> Iterator[Swept]:
        driver = self.hypervisor.require(Backups)
        try:
            known = self.hypervisor.run("vm.checkpoints", lambda c: driver.checkpoints(vm, c), step(run.call))
        except NotFound:
            return
        for one in known:
            if self._is_nobodys(vm, one.device, one.name):
                yield self._checkpoint(vm, one.device, one.name, run)

    def _checkpoint(self, vm: VmId, device: str, name: str, run: Run) -> Swept:
        driver = self.hypervisor.require(Backups)
        leftover = Leftover(
            place=f"{self.name}, VM {vm}",
            kind="checkpoint",
            name=f"{device}/{name}",
            why="its snapshot is gone, and no other one is based on it",
            owner=f"snapshot {name}",
        )

        def remove() -> str:
            if not self._is_nobodys(vm, device, name):
                return "it is needed again"
            self.hypervisor.run(
                "vm.checkpoint.delete",
                lambda c: driver.delete_checkpoint(vm, device, name, c),
                step(run.call),
            )
            return ""

        return run.end(leftover, remove)

    def _is_nobodys(self, vm: VmId, device: str, name: str) -> bool:
        """Tell whether a checkpoint is that of a snapshot which is gone, of the volume on this device."""
        with self.catalog.reading() as session:
            snapshot = session.get(SnapshotRecord, name)
            if snapshot is None or snapshot.state not in _GONE:
                return False
            volume = session.get(VolumeRecord, snapshot.volume)
            if volume is None or (volume.vm, volume.device) != (vm, device):
                return False
            return not _is_tracked(session, name)


def _is_tracked(session: Session, snapshot: str) -> bool:
    refs = session.scalars(select(Ref).where(Ref.snapshot == snapshot)).all()
    return any(ref.state is not RefState.DESTROYED or ref.backing_up for ref in refs)
