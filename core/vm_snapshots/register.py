"""The hypervisor's register of snapshots, emptied before a VM leaves its host and filled when it arrives.

libvirt neither undefines nor migrates a domain that has snapshots registered: their metadata leave first,
the data stay, and the catalog remembers what has to come back: parents first, the current one marked.
"""

from __future__ import annotations

from ...transfer_objects.ids import VmSnapshotId
from ..spi import Call, KeepsSnapshotMetadata, VmSnapshotMetadata
from ..steps import step
from .machine import Machine
from .members import MemberKind
from .records import Records, VmSnapshot


def drop_register(machine: Machine, call: Call) -> None:
    """Empty it before a stop that undefines the VM, and before a migration. Repeatable."""
    driver = machine.hypervisor.require(KeepsSnapshotMetadata)
    machine.hypervisor.run(
        "vm_snapshot.metadata.drop", lambda c: driver.drop_vm_snapshot_metadata(machine.vm, c), step(call)
    )


def restore_register(records: Records, machine: Machine, call: Call) -> None:
    """Fill it after a start or a migration, from what the catalog remembers. Repeatable."""
    driver = machine.hypervisor.require(KeepsSnapshotMetadata)
    known = {one.id: one for one in records.of_vm(machine.vm) if one.taken and _is_registered(one)}
    metadata = [
        VmSnapshotMetadata(
            snapshot=one.id, parent=_parent(one, known), current=one.current, text=one.metadata_text
        )
        for one in known.values()
    ]
    machine.hypervisor.run(
        "vm_snapshot.metadata.restore",
        lambda c: driver.restore_vm_snapshot_metadata(machine.vm, metadata, c),
        step(call),
    )


def _is_registered(snapshot: VmSnapshot) -> bool:
    return any(member.kind is MemberKind.HYPERVISOR for member in snapshot.members)


def _parent(snapshot: VmSnapshot, known: dict[VmSnapshotId, VmSnapshot]) -> VmSnapshotId | None:
    return snapshot.parent if snapshot.parent in known else None
