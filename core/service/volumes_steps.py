"""The steps that volume operations consist of, and that a sync repeats. Each may be done again.

give    grant (managed) ── introduce ── note its path
take    forget ── revoke (managed)          the other way round, so that no host has a path to nothing
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.orm import Session

from ...transfer_objects.ids import HostId, VmId, VolumeId
from ..catalog.holds import Grant, Introduction
from ..catalog.volume_states import VolumeEvent
from ..catalog.volumes import VolumeRecord
from ..pool import Pool
from ..spi import (
    Call,
    FileLocation,
    Host,
    Introduced,
    Location,
    NotFound,
    ObjectKind,
    ResizesDisks,
    ShowsDisks,
    Volume,
)
from ..spi import Introduction as Order
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from .hooks import Hooks, volume_key, volume_reservation
from .volumes_records import VolumeRecords, released, releasing
from .works import Work


class Backends(Protocol):
    """What opens pools and hypervisors by name: a `Site`."""

    def pool(self, name: str = "") -> Pool:
        """Return a pool, open."""

    def hypervisor(self, name: str = "") -> Hypervisor:
        """Return a hypervisor, open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What records and backends do together."""

    records: VolumeRecords
    site: Backends
    hooks: Hooks = Hooks()

    def pool(self, work: Work) -> Pool:
        """Return the pool of an act."""
        return self.site.pool(work.details["pool"])

    def hypervisor(self, work: Work) -> Hypervisor:
        """Return the hypervisor of an act."""
        return self.site.hypervisor(work.details["hypervisor"])

    def expunge(self, work: Work, call: Call) -> None:
        """Remove the volume from the pool, and end its life."""
        self.pool(work).volumes.delete(VolumeId(work.object), step(call))
        self.release(work)
        self.records.end(work, VolumeEvent.SUCCEEDED)

    def release(self, work: Work) -> None:
        """Count the volume no longer; before the state: a crash in between releases it once more."""
        self.hooks.quota.release(volume_key(work.object))

    def adopt_size(self, work: Work, call: Call) -> VolumeRecord:
        """Let the record, and the VM, have the size that the pool has."""
        volume = VolumeId(work.object)
        now = self.pool(work).volumes.get(volume, step(call))
        if now.size < work.details["size"]:
            reason = "the pool had not begun it"
            account = str(work.details.get("account", ""))
            self.hooks.quota.reserve(volume_reservation(work.object, account, now.size))
            return self.records.end(work, VolumeEvent.FAILED, lambda _, r: learn(r, now), reason=reason)
        self._tell_guest(work, now.size, call)
        return self.records.end(work, VolumeEvent.SUCCEEDED, lambda _, r: learn(r, now))

    def _tell_guest(self, work: Work, size: int, call: Call) -> None:
        if not work.vm:
            return
        hypervisor = self.hypervisor(work)
        if not hypervisor.has(ResizesDisks):
            return
        driver, vm, device = hypervisor.require(ResizesDisks), VmId(work.vm), work.details["device"]
        try:
            hypervisor.run("vm.resize_disk", lambda c: driver.resize_disk(vm, device, size, c), step(call))
        except NotFound:  # the VM is gone, or has lost the disk: nobody is left to be told
            return

    def grant(self, work: Work, host: Host, call: Call, *, read_only: bool) -> Order:
        """Give a host access; return what an introduction needs to be told."""
        pool, volume = self.pool(work), VolumeId(work.object)
        found = pool.volumes.get(volume, step(call))
        identity, location = found.identity, self._location(pool, volume, host, call, read_only=read_only)
        if isinstance(location, FileLocation):
            identity = str(location.path.resolve())
        return Order(
            kind=ObjectKind.VOLUME,
            object_id=volume,
            host=host.id,
            location=location,
            identity=identity,
            size=found.size,
        )

    @staticmethod
    def _location(pool: Pool, volume: VolumeId, host: Host, call: Call, *, read_only: bool) -> Location:
        if pool.managed:
            return pool.volumes.grant(volume, host, step(call), read_only=read_only)
        return pool.volumes.locate(volume, step(call))

    def introduce(self, work: Work, order: Order, call: Call) -> tuple[Work, Introduced]:
        """Make the host know it; where it appeared is durable before anything is done with it."""
        hypervisor = self.hypervisor(work)
        introduced = hypervisor.run(
            "object.introduce", lambda c: hypervisor.driver.introduce(order, c), step(call)
        )
        return self.records.note(work, path=introduced.path), introduced

    def introduced(self, work: Work) -> Introduced:
        """Return where the host knows it; the path is empty if it was not introduced."""
        path = str(work.details.get("path", ""))
        return Introduced(object_id=work.object, host=HostId(work.host), path=path)

    def take_back(self, work: Work, call: Call, *, but: Collection[str] = ()) -> Work:
        """Let the host forget it and lose access; raises `InUse` where a VM has it.

        Args:
            but: what the host keeps, as it had it before: "grants", "introductions".
        """
        volume, host = VolumeId(work.object), HostId(work.host)
        kinds: list[type[Any]] = [kind for kind in (Introduction, Grant) if kind.__tablename__ not in but]

        def ask(session: Session) -> None:
            for kind in kinds:
                releasing(session, kind, volume, host)

        def tell(session: Session) -> None:
            for kind in kinds:
                released(session, kind, volume, host)

        work = self.records.note(work, ask, taking=True)
        if Introduction in kinds and work.details.get("hypervisor"):
            self._forget(work, call)
        if Grant in kinds and self.pool(work).managed:
            self.pool(work).volumes.revoke(volume, host, step(call))
        return self.records.note(work, tell)

    def _forget(self, work: Work, call: Call) -> None:
        hypervisor, volume, host = self.hypervisor(work), work.object, HostId(work.host)
        hypervisor.run(
            "object.forget",
            lambda c: hypervisor.driver.forget(ObjectKind.VOLUME, volume, host, c),
            step(call),
        )

    def device_of(self, work: Work, call: Call) -> str:
        """Ask whether the VM has the volume; "" if not, or if there is no such VM.

        Raises:
            Unsupported: the hypervisor does not show disks.
        """
        hypervisor, vm = self.hypervisor(work), VmId(work.vm)
        driver = hypervisor.require(ShowsDisks)
        try:
            disks = hypervisor.run("vm.disks", lambda c: driver.vm_disks(vm, c), step(call))
        except NotFound:
            return ""
        return next((disk.device for disk in disks if disk.object_id == work.object), "")

    def detach(self, work: Work, call: Call) -> None:
        """Take the disk out of the VM; a VM or a disk that is not there is fine."""
        hypervisor, disk = self.hypervisor(work), self.introduced(work)
        try:
            hypervisor.run(
                "vm.detach", lambda c: hypervisor.driver.detach(VmId(work.vm), disk, c), step(call)
            )
        except NotFound:
            return


def learn(record: VolumeRecord, found: Volume) -> None:
    """Let a record have what the pool says."""
    record.size, record.error = found.size, ""
