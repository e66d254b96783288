"""What a hypervisor can do beyond the mandatory part: one mix-in each, inheriting it declares it.

PowersVms          start, stop               revert of a stopped VM to a snapshot with memory starts it first
ShowsDisks         which object is which disk
ResizesDisks       the guest sees the new size
MigratesVms        to another host, alone or with its disks
SnapshotMetadata   what the hypervisor knows about snapshots leaves before a stop or migration, and returns
Overlays           disk-only snapshots of all disks at one instant, as files; merged again
Backups            a point in time of running disks over NBD, with what has changed since a checkpoint
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...transfer_objects.ids import HostId, VmId, VmSnapshotId
from .call import Call
from .capabilities import Capability
from .errors import Unsupported
from .location import FileLocation, Location, NbdLocation


@dataclass(frozen=True, slots=True, kw_only=True)
class VmDisk:
    """A disk of a VM.

    Attributes:
        device: what the hypervisor calls it ("vda"); the guest may call it otherwise.
        object_id: of the volume, as it was attached; "" if it was not attached through Bollard.
        location: the image that is written now: an overlay, if there is one.
        size: bytes that the guest sees.
    """

    device: str
    object_id: str
    location: Location
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSnapshotMetadata:
    """What a hypervisor knows about a snapshot beside its data.

    Attributes:
        parent: None for a root of the tree.
        text: the hypervisor's own form (libvirt: domain snapshot XML), kept as it is.
    """

    snapshot: VmSnapshotId
    parent: VmSnapshotId | None
    current: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupDisk:
    """One disk of a running backup.

    Attributes:
        location: the point in time, as an export that is read-only.
        bitmap: NBD meta context that tells what has changed since the base; "" for a full.
        frozen_seconds: how long the guest stood still for the cut; 0 if it was not frozen.
    """

    location: NbdLocation
    bitmap: str = ""
    frozen_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """From when on the hypervisor tracks what a disk's guest writes.

    Attributes:
        name: of checkpoint and bitmap: [a-z0-9-], at most 64.
        device: the disk.
        text: the hypervisor's own form (libvirt: domain checkpoint XML without the domain); it is kept
            beside the snapshot, since the hypervisor forgets it when the VM is defined anew. "": it began
            while no VM had the volume, so there is a bitmap of this name and no text yet.
    """

    name: str
    device: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunBackup:
    """A backup that was begun and not ended.

    Attributes:
        vm: which may be gone.
        began: seconds since the epoch.
        size: bytes that it takes on the host; None: unknown.
    """

    vm: VmId
    device: str
    checkpoint: str
    began: float
    size: int | None = None


class PowersVms(ABC):
    """[cap.vm-power] Starts and stops VMs."""

    provides: ClassVar = Capability.VM_POWER

    @abstractmethod
    def start_vm(self, vm: VmId, call: Call) -> None:
        """Start it; [power.start-twice] a VM that runs already MUST be fine."""

    @abstractmethod
    def stop_vm(self, vm: VmId, call: Call, *, force: bool = False) -> None:
        """Ask the guest to shut down, or cut its power; [power.stop-twice] stopped already is fine.

        [power.stop-asked] Without `force` the guest's own caches MUST reach the disks; a guest that does
        not stop within the call's deadline gives `DeadlineExceeded` and runs on.
        """


class ShowsDisks(ABC):
    """[cap.vm-disks] Tells the disks of a VM."""

    provides: ClassVar = Capability.VM_DISKS

    @abstractmethod
    def vm_disks(self, vm: VmId, call: Call) -> Sequence[VmDisk]:
        """Return its disks in the order of their devices; of a stopped VM those that it will start with."""

    def vms_with(self, object_id: str, call: Call) -> Sequence[VmId]:
        """Return the VMs that have a disk of an object, running or stopped.

        Raises:
            Unavailable: none is found, and a host does not answer: a VM there may have it.
            Unsupported: the driver is older than this method.
        """
        del object_id, call
        raise Unsupported(f"{type(self).__name__} cannot tell which VMs have an object")


class ResizesDisks(ABC):
    """[cap.disk-resize] Grows a disk of a VM that may be running."""

    provides: ClassVar = Capability.DISK_RESIZE

    @abstractmethod
    def resize_disk(self, vm: VmId, device: str, size: int, call: Call) -> None:
        """Grow to `size` bytes. [resize.guest-sees] A running guest MUST see it when this returns.

        [resize.no-shrink] A smaller size MUST give `InvalidArgument` and change nothing: libvirt's
        blockResize shrinks without a word.
        """


class MigratesVms(ABC):
    """[cap.vm-migration] Moves a running VM to another host."""

    provides: ClassVar = Capability.VM_MIGRATION

    @abstractmethod
    def migrate_vm(
        self, vm: VmId, host: HostId, call: Call, *, disks: Mapping[str, FileLocation] | None = None
    ) -> None:
        """Move it live; [migrate.runs-on] on failure it MUST run on where it was.

        [migrate.repeat] A VM that is there already MUST be fine.

        Args:
            disks: new images by device for disks that move along; they exist, empty and of the right size.
        """


class KeepsSnapshotMetadata(ABC):
    """[cap.vm-snapshot-metadata] The hypervisor keeps a register of snapshots that can leave and return."""

    provides: ClassVar = Capability.VM_SNAPSHOT_METADATA

    @abstractmethod
    def vm_snapshot_metadata(self, vm: VmId, call: Call) -> Sequence[VmSnapshotMetadata]:
        """Return what is registered, parents first."""

    @abstractmethod
    def drop_vm_snapshot_metadata(self, vm: VmId, call: Call) -> None:
        """Empty the register; [metadata.data] the snapshots' data MUST stay. Repeatable."""

    @abstractmethod
    def restore_vm_snapshot_metadata(
        self, vm: VmId, metadata: Sequence[VmSnapshotMetadata], call: Call
    ) -> None:
        """Register again, parents first, and mark the current one; what is registered already is fine."""


class Overlays(ABC):
    """[cap.overlays] Disk-only snapshots as files: the old image becomes the snapshot, writes go on above it.

    before     base <── guest            after     base <── overlay <── guest
    """

    provides: ClassVar = Capability.OVERLAYS

    @abstractmethod
    def add_overlays(
        self, vm: VmId, overlays: Mapping[str, FileLocation], call: Call, *, quiesce: bool = False
    ) -> None:
        """Put a new overlay on each of these devices, all at one instant, or on none.

        [overlay.instant] The images below MUST show one instant, whatever the guest writes meanwhile, and
        MUST NOT change any more. [overlay.repeat] An overlay that is in place already MUST be fine.
        [overlay.fails-clean] On failure the VM MUST write where it wrote before, and no new file be left.
        [overlay.quiesce] With `quiesce` the guest MUST be thawed again on every path; an agent of a running
        VM that does not answer gives `Unavailable`, not applied.
        """

    @abstractmethod
    def switch_images(
        self,
        vm: VmId,
        overlays: Mapping[str, FileLocation],
        bases: Mapping[str, FileLocation],
        call: Call,
    ) -> None:
        """Put a stopped VM's devices on new overlays over `bases`: a revert to what those images hold.

        before     base <── image <── guest        after     base <── overlay <── guest
                                                               ^───── image

        Both maps name the same devices. What the guest wrote to before is left for the caller to remove.
        [switch.all] All devices MUST be switched, or none and no new file be left. [switch.repeat] Devices
        that are on their overlays already MUST be fine. [switch.running] A running VM MUST give `InUse`.
        """

    @abstractmethod
    def merge_image(
        self,
        vm: VmId,
        device: str,
        top: FileLocation,
        base: FileLocation,
        call: Call,
        *,
        dependents: Sequence[FileLocation] = (),
    ) -> None:
        """Bring all from `top` down to `base` into `base`, which then takes `top`'s place in the chain.

        [merge.bytes] `base` and each image above `top` MUST hold the bytes that they showed through `top`.
        `dependents` are images that have `top` as their backing file and are not in the VM's present
        chain (a revert left them): [merge.dependents] they MUST have `base` afterwards. The files in between
        and `top` are left for the caller to remove. [merge.goes-on] A running guest MUST write on meanwhile.
        [merge.side] If neither `top` nor `base` is in the VM's present chain, they are a branch that a
        revert left, and MUST be merged all the same. [merge.repeat] A `top` that is gone, or `base` in
        the present chain without `top`, MUST be fine: it was merged.
        `call.progress` gets bytes done and of all.
        """

    def note_run(self, vm: VmId, note: str, call: Call) -> bool:
        """Keep a note on the VM's present run, in the place of the one before; it ends with that run.

        By it core knows afterwards that a VM has changed its images within one run, by a merge, and was
        not started anew on other ones. So a VM that was started anew must not have it, be it from the same
        definition or on another host; a migration may keep it, a restart of the hypervisor's services must.
        A driver need not have this method: core then believes no merge whose end it has not seen.

        Args:
            note: letters, digits and "-"; "" takes it away.

        Returns:
            False where it is not kept: the VM is off, or there is no place for it.
        """
        del vm, note, call
        return False

    def run_note(self, vm: VmId, call: Call) -> str:
        """Return the note of the VM's present run, "" if there is none."""
        del vm, call
        return ""


class Backups(ABC):
    """[cap.backups] Points in time of disks, with what has changed since a checkpoint."""

    provides: ClassVar = Capability.BACKUPS

    @abstractmethod
    def begin_backup(
        self,
        vm: VmId,
        device: str,
        call: Call,
        *,
        checkpoint: str,
        since: str | None = None,
        quiesce: bool = False,
    ) -> BackupDisk:
        """Cut now, and serve that instant until `end_backup`; `checkpoint` begins at the same instant.

        [backup.instant] What is served MUST be one instant, whatever the guest writes meanwhile.
        [backup.export] It MUST be read-only, and of the disk's size.
        [backup.changed] Every byte that differs from the instant of `since` MUST be in the bitmap.
        [backup.repeat] Called again with the same checkpoint while it runs it MUST return the same backup.
        [backup.quiesce] With `quiesce` a running guest MUST be frozen for the cut, be thawed on every path
        and before this returns, and stand still for nothing but the cut; a VM that does not run has nothing
        to freeze. An agent that does not answer gives `Unavailable`, not applied, and nothing is left.

        Raises:
            NotFound: [backup.lost] `since` is not there, or its bitmap is lost or inconsistent: nothing MUST
                be applied, and no checkpoint or job be left.
            Busy: [backup.one-job] another job runs on the VM, and MUST go on.
            Unsupported: the versions of libvirt and QEMU are too old; the message names them.
        """

    @abstractmethod
    def end_backup(self, vm: VmId, device: str, call: Call, *, keep: bool) -> None:
        """Stop serving. [backup.not-kept] `keep` False MUST take the checkpoint of this backup away as well.

        [backup.end-twice] A repeat, or where nothing was begun, MUST be fine.
        """

    def begun_backups(self, call: Call) -> Sequence[BegunBackup]:
        """Return those that were begun and not ended, of VMs that are gone, too.

        Raises:
            Unsupported: the driver is older than this method, or keeps no list.
        """
        del call
        raise Unsupported(f"{type(self).__name__} cannot list the backups that were begun")

    @abstractmethod
    def checkpoints(self, vm: VmId, call: Call) -> Sequence[Checkpoint]:
        """Return those whose bitmaps are whole: others MUST NOT be returned.

        [checkpoint.order] The oldest MUST come first.
        """

    @abstractmethod
    def restore_checkpoints(self, vm: VmId, checkpoints: Sequence[Checkpoint], call: Call) -> Sequence[str]:
        """Register again after a start, attach or migration; returns the names whose bitmaps are gone.

        [checkpoint.verified] One whose bitmap is missing or inconsistent MUST NOT be registered. One without
        a text, or with that of another device, is registered by its bitmap alone.
        """

    @abstractmethod
    def delete_checkpoint(self, vm: VmId, device: str, name: str, call: Call) -> None:
        """Take it away with its bitmap, whole or broken, registered or not. Repeatable.

        [checkpoint.delete] The bitmaps of the others MUST stay whole.
        """


HYPERVISOR_MIXINS: tuple[type, ...] = (
    PowersVms,
    ShowsDisks,
    ResizesDisks,
    MigratesVms,
    KeepsSnapshotMetadata,
    Overlays,
    Backups,
)
