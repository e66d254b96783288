"""What libvirt knows about snapshots, taken out of it and given back: it does not travel with a VM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import libvirt

from ....core.spi import Call, KeepsSnapshotMetadata, NotFound, VmSnapshotMetadata
from ....transfer_objects.ids import VmId, VmSnapshotId
from .machine import Machine
from .marks import end_pause
from .vm_snapshots import KvmVmSnapshots, known, wait_for_job

_PARENTS_FIRST = libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL
_METADATA_ONLY = libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
_REDEFINE = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
_CURRENT = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
_SECURE = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE


class KvmSnapshotMetadata(KvmVmSnapshots, KeepsSnapshotMetadata):
    """libvirt's register of snapshots."""

    def vm_snapshot_metadata(self, vm: VmId, call: Call) -> Sequence[VmSnapshotMetadata]:
        """See `KeepsSnapshotMetadata.vm_snapshot_metadata`; what a kill cut short is ended first."""
        machine = self._machine(vm, call)
        if machine.active(call):
            wait_for_job(machine, call)  # libvirt cannot list them while it takes one, for a dead caller say
        self._settle(machine, call)
        end_pause(self.options.state, machine, call)
        return metadata_of(machine, call)

    def drop_vm_snapshot_metadata(self, vm: VmId, call: Call) -> None:
        """See `KeepsSnapshotMetadata.drop_vm_snapshot_metadata`."""
        drop_metadata(self._machine(vm, call), call)

    def restore_vm_snapshot_metadata(
        self, vm: VmId, metadata: Sequence[VmSnapshotMetadata], call: Call
    ) -> None:
        """See `KeepsSnapshotMetadata.restore_vm_snapshot_metadata`."""
        restore_metadata(self._machine(vm, call), metadata, call)


def metadata_of(machine: Machine, call: Call) -> Sequence[VmSnapshotMetadata]:
    """Return what libvirt knows, parents first."""
    return machine.ask(call, lambda domain: list(_each(domain)), "listing its snapshots")


def drop_metadata(machine: Machine, call: Call) -> None:
    """Make libvirt forget, children first: so nothing is re-parented on the way."""

    def drop(domain: Any) -> None:
        for snapshot in reversed(domain.listAllSnapshots(_PARENTS_FIRST)):
            snapshot.delete(_METADATA_ONLY)

    with suppress(NotFound):
        machine.act(call, drop, "forgetting its snapshots")


def restore_metadata(machine: Machine, metadata: Sequence[VmSnapshotMetadata], call: Call) -> None:
    """Tell libvirt again, parents first."""
    for one in metadata:
        if one.current or known(machine, one.snapshot, call) is None:
            _redefine(machine, one, call)


def _redefine(machine: Machine, one: VmSnapshotMetadata, call: Call) -> None:
    flags = _REDEFINE | (_CURRENT if one.current else 0)
    machine.act(
        call, lambda domain: domain.snapshotCreateXML(one.text, flags), f"registering snapshot {one.snapshot}"
    )


def _each(domain: Any) -> Iterator[VmSnapshotMetadata]:
    for snapshot in domain.listAllSnapshots(_PARENTS_FIRST):
        yield VmSnapshotMetadata(
            snapshot=VmSnapshotId(snapshot.getName()),
            parent=_parent(snapshot),
            current=bool(snapshot.isCurrent()),
            text=snapshot.getXMLDesc(_SECURE),
        )


def _parent(snapshot: Any) -> VmSnapshotId | None:
    try:
        return VmSnapshotId(snapshot.getParent().getName())
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
            raise
        return None
