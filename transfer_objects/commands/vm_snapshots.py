"""Orders about a snapshot of a whole VM, and about freezing its file systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..objects import DataTO, SnapshotObjectTO, VMSnapshotTO, VolumeObjectTO
from ..rules import Label, Path
from ..stores import PrimaryDataStoreTO
from .base import Answer, Command
from .parts import DiskSnapshot, FreezeOption, MergeTree, NewVolumePath, PowerState, VmState

_Volumes = tuple[VolumeObjectTO, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VMSnapshotCommand(Command):
    """What the commands about VM snapshots share; not a command by itself.

    Attributes:
        volumes: all of the VM's.
        target: the VM snapshot that it is about.
        platform_emulator: name of the guest's machine type.
    """

    volumes: _Volumes = ()
    target: VMSnapshotTO | None = None
    vm_name: Label | None = None
    guest_os_type: Label | None = None
    platform_emulator: Label | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVMSnapshotCommand(VMSnapshotCommand):
    """Take `target` of the VM."""

    vm_uuid: Label | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVMSnapshotAnswer(Answer):
    """Answers CreateVMSnapshotCommand: the volumes with their paths as they are now."""

    volumes: _Volumes = ()
    vm_snapshot: VMSnapshotTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertToVMSnapshotCommand(VMSnapshotCommand):
    """Put the VM back to `target`.

    Attributes:
        reload_vm: the VM's definition must be read anew.
    """

    vm_uuid: Label | None = None
    reload_vm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertToVMSnapshotAnswer(Answer):
    """Answers RevertToVMSnapshotCommand: volumes and power state afterwards."""

    volumes: _Volumes = ()
    vm_state: PowerState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteVMSnapshotCommand(VMSnapshotCommand):
    """Delete `target`; its children move to its parent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteVMSnapshotAnswer(Answer):
    """Answers DeleteVMSnapshotCommand."""

    volumes: _Volumes = ()
    vm_state: PowerState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreVMSnapshotCommand(VMSnapshotCommand):
    """Declare VM snapshots anew after a start or a migration (KVM).

    Attributes:
        snapshots: all of them.
        snapshot_and_parents: the parent by the snapshot's number.
    """

    snapshots: tuple[VMSnapshotTO, ...] = ()
    snapshot_and_parents: Mapping[str, VMSnapshotTO] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreVMSnapshotAnswer(Answer):
    """Answers RestoreVMSnapshotCommand."""

    volumes: _Volumes = ()
    vm_state: PowerState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeThawVMCommand(Command):
    """Freeze or thaw the guest's file systems, or ask which they are."""

    vm_name: Label | None = None
    option: FreezeOption | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeThawVMAnswer(Answer):
    """Answers FreezeThawVMCommand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDiskOnlyVmSnapshotCommand(VMSnapshotCommand):
    """Take a VM snapshot of the disks alone, by a new file for each (KVM, 4.21 and later)."""

    vm_state: VmState | None = None
    vm_uuid: Label | None = None
    uefi_enabled: bool = False
    volumes_and_new_paths: tuple[NewVolumePath, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDiskOnlyVmSnapshotAnswer(Answer):
    """Answers CreateDiskOnlyVmSnapshotCommand: what became of each volume, by its uuid."""

    volumes: Mapping[str, DiskSnapshot] | None = None
    nvram_snapshot_path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertDiskOnlyVmSnapshotCommand(Command):
    """Put the disks of a stopped VM back to a disk-only VM snapshot."""

    snapshots: tuple[SnapshotObjectTO, ...] = ()
    vm_name: Label | None = None
    vm_uuid: Label | None = None
    uefi_enabled: bool = False
    nvram_snapshot_path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertDiskOnlyVmSnapshotAnswer(Answer):
    """Answers RevertDiskOnlyVmSnapshotCommand: the volumes with their new paths."""

    volumes: _Volumes = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDiskOnlyVmSnapshotCommand(Command):
    """Delete the files of a disk-only VM snapshot."""

    snapshots: tuple[DataTO, ...] = ()
    nvram_snapshot_path: Path | None = None
    primary_data_store: PrimaryDataStoreTO | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeDiskOnlyVmSnapshotCommand(Command):
    """Merge the files of a disk-only VM snapshot into their parents.

    Attributes:
        vm_running: instead of `vm_state`, on the main branch.
    """

    merge_trees: tuple[MergeTree, ...] = ()
    vm_state: VmState | None = None
    vm_running: bool | None = None
    vm_name: Label | None = None
