"""One mix-in per capability: inheriting it *is* declaring it.

Each docstring is the contract; `[id]` names the rule that conformance checks refer to. Rules that
hold for every method of every driver:

    [any.idempotent]    Repeating a call with the same arguments MUST give the same result.
    [any.missing-ok]    Deleting, revoking or forgetting what is not there MUST succeed.
    [any.gone]          What was deleted or revoked MUST be gone when the call returns.
    [any.taxonomy]      Only `StorageError` subclasses MUST escape, each with a true outcome.
    [any.deadline]      A call MUST return within its deadline plus two seconds.
    [any.secrets]       No secret MUST appear in a message, repr, log or process list.
    [any.text]          Ids, names and keys MUST be text to every layer: no path, no word of a shell, no
                        part of a URL or document. What cannot be kept as it is MUST be refused.
    [any.elsewhere]     Another process that has nothing but the ids MUST find and use every object.
    [any.history]       What a call returns or refuses MUST follow from the calls that succeeded before.
    [any.concurrent]    Calls at the same time, of one or of two instances, MUST end as if made one after
                        the other. One that another keeps from it MUST be `Busy`, and succeed afterwards.
    [any.private]       Private data MUST be text of at most `MAX_PRIVATE_BYTES`, each time the same.
    [any.flat]          The requests that a call costs MUST NOT grow with the number of objects.
    [any.tls]           A certificate that the authority in the options did not sign MUST be refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

from ...transfer_objects.ids import HostId, SnapshotId, TemplateId, VolumeId
from .call import Call
from .capabilities import Capability
from .hypervisor_mixins import HYPERVISOR_MIXINS
from .location import Location
from .model import (
    Capacity,
    Extent,
    Grant,
    Host,
    Page,
    Qos,
    Snapshot,
    TemplateSpec,
    VmRef,
    VmSnapshotTaken,
    Volume,
    VolumeSpec,
)


class Snapshots(ABC):
    """Point-in-time, read-only images of a volume, kept on the primary storage."""

    provides: ClassVar = Capability.SNAPSHOTS

    @abstractmethod
    def create_snapshot(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Take a snapshot.

        [snap.point-in-time] It MUST hold the bytes acknowledged before the call, and none written
        after it returned. [snap.immutable] Nothing written later to the volume MUST change it.
        [snap.same-id] The same id on the same volume MUST return the same snapshot, not a later
        cut; on another volume `Conflict`. [snap.no-volume] A missing volume MUST give `NotFound`.
        """

    @abstractmethod
    def delete_snapshot(self, snapshot: SnapshotId, call: Call) -> None:
        """Delete it. [snap.delete-keeps-others] Other snapshots and the volume MUST stay intact."""

    @abstractmethod
    def get_snapshot(self, snapshot: SnapshotId, call: Call) -> Snapshot:
        """Return it, or raise `NotFound`."""

    @abstractmethod
    def list_snapshots(
        self, volume: VolumeId, call: Call, *, after: str | None = None, limit: int = 1000
    ) -> Page[Snapshot]:
        """List a volume's snapshots. [snap.list-complete] Pages MUST miss none that exists throughout."""


class DirectSnapshotRead(ABC):
    """A snapshot can be read as it stands, without a temporary clone."""

    provides: ClassVar = Capability.DIRECT_SNAPSHOT_READ

    @abstractmethod
    def locate_snapshot(self, snapshot: SnapshotId, call: Call) -> Location:
        """Return a read-only location. [snap.read-only] Writing through it MUST be impossible."""


class Reverts(ABC):
    """A volume can be put back to one of its snapshots."""

    provides: ClassVar = Capability.REVERT

    @abstractmethod
    def revert_volume(self, volume: VolumeId, snapshot: SnapshotId, call: Call) -> Volume:
        """Put the volume back.

        [rev.exact] Every byte and the size MUST equal the snapshot's. [rev.all-or-nothing] After a
        crash the volume MUST be wholly old or wholly reverted. [rev.foreign] A snapshot of another
        volume MUST give `InvalidArgument`. [rev.attached] Unless `Traits.revert_while_attached`,
        a granted volume MUST give `InUse`. [rev.keeps-newer] As `Traits.revert_keeps_newer` says.
        """


class ClonesVolume(ABC):
    """A new volume can start as a copy of another."""

    provides: ClassVar = Capability.CLONE_VOLUME

    @abstractmethod
    def clone_volume(self, source: VolumeId, spec: VolumeSpec, call: Call) -> Volume:
        """Clone.

        [clone.equal] The clone MUST equal the source at the time of the call; a larger target MUST
        read zeros behind. [clone.independent] Writes to either MUST NOT show in the other.
        [clone.never-empty] A retry after a failure MUST return a filled clone, never an empty
        volume of the right name (dell/csm#1425). [clone.smaller] A smaller target MUST give
        `InvalidArgument`.
        """


class VolumeFromSnapshot(ABC):
    """A new volume can start as a copy of a snapshot; what Archive reads from on managed storage."""

    provides: ClassVar = Capability.VOLUME_FROM_SNAPSHOT

    @abstractmethod
    def create_volume_from_snapshot(self, snapshot: SnapshotId, spec: VolumeSpec, call: Call) -> Volume:
        """Create it. [clone.equal], [clone.independent], [clone.never-empty], [clone.smaller] apply."""


class Resizes(ABC):
    """A volume can grow."""

    provides: ClassVar = Capability.RESIZE

    @abstractmethod
    def resize_volume(self, volume: VolumeId, size: int, call: Call) -> Volume:
        """Grow to `size` bytes.

        [resize.grow] Old bytes MUST stay, new ones read zero, and the size be seen by a host that
        attaches afterwards. [resize.same] The present size MUST succeed. [resize.shrink] A smaller
        size MUST give `InvalidArgument` and change nothing.
        """


class ChangedBlocks(ABC):
    """What differs between two snapshots of one volume (CSI GetMetadataDelta's meaning)."""

    provides: ClassVar = Capability.CHANGED_BLOCKS

    @abstractmethod
    def changed(
        self, base: SnapshotId | None, target: SnapshotId, call: Call, *, start: int = 0
    ) -> Iterator[Extent]:
        """Stream the ranges of `target` that may differ from `base`.

        [cbt.covers] Every differing byte MUST lie in an extent; more is allowed. A kind of ZERO or
        HOLE MUST mean that the range reads zero in `target`. [cbt.sorted] Extents MUST be sorted,
        disjoint, non-empty and end within `target`'s size. [cbt.base-none] base None MUST stream
        what is allocated. [cbt.resume] `start` MUST leave out only what ends at or before it.
        [cbt.lost] If the backend no longer knows, it MUST raise `NotFound`, never stream nothing.
        [cbt.foreign] A base of another volume MUST give `InvalidArgument`.
        """


class AccessControl(ABC):
    """Access is granted per host; part of every managed driver."""

    provides: ClassVar = Capability.ACCESS_CONTROL

    @abstractmethod
    def grant(self, volume: VolumeId, host: Host, call: Call, *, read_only: bool = False) -> Location:
        """Let `host` use the volume and say where it finds it.

        [acl.only-that-host] No other host MUST be able to log in, read or guess. [acl.grant-twice]
        A repeat MUST return a location that works; one with the other `read_only` is `Conflict`.
        [acl.single-writer] Unless `Traits.multi_attach`, a second writer MUST give `InUse`.
        """

    @abstractmethod
    def revoke(self, volume: VolumeId, host: HostId, call: Call) -> None:
        """Take it away. [acl.revoke-proven] After it returns no write of `host` MUST land, neither
        new nor in flight: the ACL goes, the sessions are ended, and the list of sessions is read
        back. [acl.revoke-unknown] An unknown host or volume MUST succeed (cloudstack#6739).
        [acl.others-stay] Other hosts, and other volumes of the host, MUST keep what they have.
        """

    @abstractmethod
    def list_grants(self, volume: VolumeId, call: Call) -> Sequence[Grant]:
        """Return who may use the volume. [acl.listed] It MUST match the array, not our memory."""


class Chap(ABC):
    """Hosts prove themselves with CHAP or an equivalent (`Host.chap_user`, `Host.chap_secret`)."""

    provides: ClassVar = Capability.CHAP

    @abstractmethod
    def rotate_chap(self, host: Host, call: Call) -> None:
        """Use `host`'s new secret from now on. [chap.old-refused] The old one MUST stop working
        for new logins, [chap.wrong-refused] and a wrong one MUST never log in.
        """


class HasQos(ABC):
    """Limits on a volume's rate."""

    provides: ClassVar = Capability.QOS

    @abstractmethod
    def set_qos(self, volume: VolumeId, qos: Qos | None, call: Call) -> Volume:
        """Set, change or (None) remove the limits. [qos.read-back] `get_volume` MUST show them;
        [qos.bad] min above max or a negative number MUST give `InvalidArgument`. [qos.kept] Resize and
        revert MUST NOT change them. [qos.enforced] A host MUST NOT get more than the maxima.
        """


class VmSnapshots(ABC):
    """All volumes of a VM that live on this storage, snapshotted together."""

    provides: ClassVar = Capability.VM_SNAPSHOTS

    @abstractmethod
    def take_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> VmSnapshotTaken:
        """Cut all volumes, in one shot where the storage can, else one by one.

        The guest was quiesced before if the user asked for it. [vms.one-or-none] On failure none of
        the members MUST remain. [vms.unquiesce] `need_unquiesce` MUST be True if the guest is still
        frozen on this driver's account.
        """

    @abstractmethod
    def revert_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        """Put all volumes back. [vms.revert-again] A repeat after a crash MUST finish the rest."""

    @abstractmethod
    def delete_vm_snapshot(self, volumes: Sequence[VolumeId], vm: VmRef, call: Call) -> None:
        """Delete all members; what is already gone is fine."""


class Guest(Protocol):
    """The guest of a quiesced snapshot, offered by core over a hypervisor driver."""

    def freeze(self) -> None:
        """Flush and freeze the guest's file systems; the guest thaws itself after a bounded time."""

    def thaw(self) -> None:
        """Let the guest go on; succeeds if it is not frozen."""


class QuiescedSnapshots(ABC):
    """Volume snapshots with a quiesced VM (CloudStack's VOLUME_SNAPSHOT_QUIESCEVM)."""

    provides: ClassVar = Capability.QUIESCED_SNAPSHOTS

    @abstractmethod
    def create_quiesced_snapshot(
        self, volume: VolumeId, snapshot: SnapshotId, guest: Guest, call: Call
    ) -> Snapshot:
        """Freeze, cut, thaw. [quiesce.thaws] The guest MUST be thawed on every path; core thaws
        again anyway. [quiesce.cut-only] It MUST NOT stay frozen for a copy.
        """


class Adopts(ABC):
    """Volumes that exist on the storage can be taken over, and given back with their data."""

    provides: ClassVar = Capability.ADOPT

    @abstractmethod
    def adopt_volume(self, native_name: str, spec: VolumeSpec, call: Call) -> Volume:
        """Take over an existing object. [adopt.size] Another size than `spec.size` MUST give
        `Conflict`; [adopt.twice] an object that is ours under another id MUST give `InUse`;
        [adopt.data] the data MUST stay untouched.
        """

    @abstractmethod
    def release_volume(self, volume: VolumeId, call: Call) -> str:
        """Give it back: the volume is no longer ours, its data stays. Returns the native name."""


class TemplateCache(ABC):
    """A template kept on the pool, so that the fiftieth volume costs a clone and not a copy.

    prepare -> (core writes the image through the returned volume) -> seal -> volumes ... -> evict
    """

    provides: ClassVar = Capability.TEMPLATE_CACHE

    @abstractmethod
    def prepare_template(self, template: TemplateSpec, call: Call) -> Volume:
        """Return a writable seed volume for the template; a repeat returns the same one."""

    @abstractmethod
    def seal_template(self, template: TemplateId, call: Call) -> None:
        """Make the seed read-only and usable. [tpl.sealed] A sealed template MUST never change."""

    @abstractmethod
    def create_volume_from_template(self, template: TemplateId, spec: VolumeSpec, call: Call) -> Volume:
        """Create a volume from a sealed seed; [clone.equal] and [clone.never-empty] apply.

        An unsealed or missing template MUST give `NotFound`.
        """

    @abstractmethod
    def evict_template(self, template: TemplateId, call: Call) -> None:
        """Remove the seed; `HasDependents` where volumes still need it."""


class ReportsCapacity(ABC):
    """The pool tells how full it is."""

    provides: ClassVar = Capability.CAPACITY

    @abstractmethod
    def capacity(self, call: Call) -> Capacity:
        """Return the figures in bytes. [cap.sane] 0 <= used <= total. [cap.flat] The cost MUST NOT
        grow with the number of volumes.
        """


MIXINS: tuple[type, ...] = (
    Snapshots,
    DirectSnapshotRead,
    Reverts,
    ClonesVolume,
    VolumeFromSnapshot,
    Resizes,
    ChangedBlocks,
    AccessControl,
    Chap,
    HasQos,
    VmSnapshots,
    QuiescedSnapshots,
    Adopts,
    TemplateCache,
    ReportsCapacity,
    *HYPERVISOR_MIXINS,
)
