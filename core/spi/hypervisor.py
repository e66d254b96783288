"""Hypervisors: hosts that attach volumes, know objects by introduction, and freeze guests.

Rule 6 of the architecture: introduce verifies, forget never deletes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from ...transfer_objects.ids import HostId, VmId, VmSnapshotId
from .call import Call
from .driver import Driver
from .errors import Unsupported
from .location import Location
from .model import Host

O = TypeVar("O")  # noqa: E741 - as in driver.py


class ObjectKind(StrEnum):
    """What can be introduced to a hypervisor."""

    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    TEMPLATE = "template"


class VmState(StrEnum):
    """Power state of a VM as the hypervisor reports it."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class GuestState(StrEnum):
    """Whether the guest's file systems are frozen."""

    THAWED = "thawed"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """An object that exists on storage and that a host shall know.

    Attributes:
        object_id: the volume, snapshot or template id.
        identity: serial, WWN or canonical path that the host must find on it.
        size: bytes that the host must see.
    """

    kind: ObjectKind
    object_id: str
    host: HostId
    location: Location
    identity: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduced:
    """Where the host now knows the object (device path, VDI uuid, pool object)."""

    object_id: str
    host: HostId
    path: str


class HypervisorDriver(Driver[O]):
    """One hypervisor connection, which may reach several hosts."""

    @abstractmethod
    def list_hosts(self, call: Call) -> Sequence[Host]:
        """Return the hosts that can be reached now."""

    @abstractmethod
    def introduce(self, what: Introduction, call: Call) -> Introduced:
        """Make the host know an existing object.

        [intro.verified] Identity and size of what appeared MUST be checked; a mismatch MUST give
        `DataLoss` and leave no trace. [intro.twice] A repeat MUST return the same answer.
        [intro.other] Another object under an id that the host knows MUST give `Conflict` and change
        nothing. [intro.missing] Where nothing is MUST give `NotFound` and leave no trace.
        """

    @abstractmethod
    def forget(self, kind: ObjectKind, object_id: str, host: HostId, call: Call) -> None:
        """Take it out of the host. [forget.no-trace] No device, session, secret or pool object
        MUST remain; [forget.data] the data MUST stay; [forget.in-use] a used object gives `InUse`.
        """

    def introductions(self, host: HostId, call: Call) -> Sequence[Introduced]:
        """Return the volumes that a host was made to know; an unknown host knows nothing.

        Raises:
            Unsupported: the driver is older than this method.
        """
        del host, call
        raise Unsupported(f"{type(self).__name__} cannot list what hosts know")

    @abstractmethod
    def attach(self, vm: VmId, disk: Introduced, call: Call) -> str:
        """Attach to a VM, hot or cold; returns the device name.

        [attach.same-bytes] What the VM writes MUST land in the very object that was introduced.
        [attach.twice] A repeat MUST return the same device. [attach.unknown] An object that the host
        does not know (any longer) MUST give `NotFound`.
        """

    @abstractmethod
    def detach(self, vm: VmId, disk: Introduced, call: Call) -> None:
        """Detach; [detach.gone] when it returns the VM MUST no longer hold the device open."""

    @abstractmethod
    def vm_state(self, vm: VmId, call: Call) -> VmState:
        """Return the VM's power state, or raise `NotFound`."""

    @abstractmethod
    def freeze(self, vm: VmId, call: Call) -> None:
        """Freeze the guest's file systems. [freeze.bounded] They MUST thaw by themselves or by the
        driver's own watch within the call's deadline if nobody thaws them. [freeze.still] When it
        returns, everything acknowledged before MUST be on the disks, and nothing MUST be written until
        the thaw. [freeze.fails-thawed] A freeze that fails MUST leave the guest thawed.
        """

    @abstractmethod
    def thaw(self, vm: VmId, call: Call) -> None:
        """Thaw. [thaw.goes-on] When it returns the guest MUST write again. [thaw.again] A guest that is
        not frozen, because nobody froze it or because it has thawed by itself, MUST be fine.
        """

    @abstractmethod
    def guest_state(self, vm: VmId, call: Call) -> GuestState:
        """Ask the guest itself whether it is frozen.

        [guest.truth] The answer MUST be the guest's own, never what we told it last.
        """

    @abstractmethod
    def create_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call, *, memory: bool) -> None:
        """Take a snapshot of all disks of the VM, with its memory if asked.

        [vmsnap.one-instant] All disks MUST show one instant, whatever the guest does meanwhile.
        [vmsnap.same-id] The same id MUST return without a later cut. [vmsnap.fails-clean] On failure
        no disk MUST have a part of it.
        """

    @abstractmethod
    def revert_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call) -> None:
        """Put the VM back. [vmsnap.revert-all] Every byte of all disks MUST be the snapshot's, or, after
        a failure, none changed. [vmsnap.missing] What is not there MUST give `NotFound`.
        """

    @abstractmethod
    def delete_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call) -> None:
        """Delete the snapshot; its children move to its parent.

        [vmsnap.delete-keeps] The VM's disks and its other snapshots MUST stay as they are.
        """
