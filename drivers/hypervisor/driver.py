"""A driver for the simulated hypervisor cluster (docs/simulators.md); the model for real ones.

The cluster's word is not enough where data is at stake:

    introduce  identity and size of what appeared are compared here, too, and it is undone;
               a clone that the host takes for its original is resignatured
    forget     the host's list of devices is read
    freeze     thawed on every path that does not end in "frozen"
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from ...core.spi import (
    Call,
    Capability,
    DataLoss,
    GuestState,
    Host,
    HypervisorDriver,
    Internal,
    Introduced,
    Introduction,
    InUse,
    InvalidArgument,
    NotFound,
    ObjectKind,
    Outcome,
    StorageError,
    VmState,
)
from ...transfer_objects.ids import ID_RULE, HostId, VmId, VmSnapshotId, is_valid_id
from .addresses import address_of
from .answers import DuplicateSignature, Json, items, member
from .backups import SimulatedBackups
from .client import ClusterClient, path_of
from .images import SimulatedImages
from .options import SimulatedHypervisorOptions
from .register import SimulatedRegister

_LONGEST_FREEZE = 300.0  # seconds, the cluster's limit
# The guest counts from when it is told: so much earlier it thaws, that the way there does not matter.
_OF_WHAT_IS_LEFT = 0.9
_RESCUE = 1.5  # seconds for a thaw after a failure; they may come on top of the deadline


class SimulatedHypervisorDriver(
    SimulatedBackups, SimulatedImages, SimulatedRegister, HypervisorDriver[SimulatedHypervisorOptions]
):
    """A cluster of simulated hosts; an object's disk in a VM has the object's id."""

    spi = (1, 1)
    Options: ClassVar = SimulatedHypervisorOptions

    def __init__(self, options: SimulatedHypervisorOptions) -> None:
        super().__init__(options)
        self._client = ClusterClient(options)

    def close(self) -> None:
        """See `Driver.close`."""
        self._client.close()

    def unavailable(self, call: Call) -> Mapping[Capability, str]:
        """See `Driver.unavailable`: only KVM has overlays and backups."""
        family = member(self._client.get("/info", call), "personality", str)
        lacking = () if family == "KVM" else (Capability.OVERLAYS, Capability.BACKUPS)
        return {one: f"{family} has no {one} of its own" for one in lacking}

    def list_hosts(self, call: Call) -> Sequence[Host]:
        """See `HypervisorDriver.list_hosts`."""
        return [
            Host(id=HostId(member(one, "id", str)), iqn=member(one, "initiator", str))
            for one in items(self._client.get("/hosts", call))
            if member(one, "state", str) == "up"
        ]

    # -- objects --------------------------------------------------------------------------------------

    def introduce(self, what: Introduction, call: Call) -> Introduced:
        """See `HypervisorDriver.introduce`.

        Raises:
            DataLoss: something else appeared; applied only if it could not be taken out again.
        """
        if what.size <= 0 or not what.identity:
            raise InvalidArgument("an introduction needs identity and size")
        path = _object_path(what.kind, what.object_id, what.host)
        body = {"address": address_of(what.location), "identity": what.identity, "size": what.size}
        shown = self._introduced(path, body, call)
        found = member(shown, "identity", str), member(shown, "size", int)
        if found != (what.identity, what.size):
            raise DataLoss(
                f"host {what.host} shows {found[0]!r} of {found[1]} bytes as {what.kind} {what.object_id}, "
                f"not {what.identity!r} of {what.size} bytes",
                outcome=self._taken_out(path, call),
            )
        return Introduced(object_id=what.object_id, host=what.host, path=_place(shown))

    def _introduced(self, path: str, body: Json, call: Call) -> Json:
        """Introduce; a clone beside its original (VMware, XenServer) gets a signature of its own.

        It is another LUN for certain: the cluster has compared its identity before.
        """
        try:
            shown: Json = self._client.put(path, call, body)
        except DuplicateSignature:
            shown = self._client.put(path, call, {**body, "resignature": True})
        return shown

    def _taken_out(self, path: str, call: Call) -> Outcome:
        """Remove what should not have appeared; say what is left of the introduction."""
        try:
            self._client.delete(path, call)
        except InUse:
            return Outcome.APPLIED
        except StorageError:
            return Outcome.UNKNOWN
        return Outcome.NOT_APPLIED

    def forget(self, kind: ObjectKind, object_id: str, host: HostId, call: Call) -> None:
        """See `HypervisorDriver.forget`; an unknown host knows nothing, so that is fine.

        Raises:
            Internal: the host still has a device of the object (applied).
        """
        self._client.delete(_object_path(kind, object_id, host), call)
        with contextlib.suppress(NotFound):
            devices = items(self._client.get(f"{path_of('hosts', host)}/devices", call))
            if any((one.get("kind"), one.get("id")) == (kind, object_id) for one in devices):
                message = f"host {host} still has a device of {kind} {object_id} after forgetting it"
                raise Internal(message, outcome=Outcome.APPLIED)

    def introductions(self, host: HostId, call: Call) -> Sequence[Introduced]:
        """See `HypervisorDriver.introductions`."""
        try:
            shown = items(self._client.get(f"{path_of('hosts', host)}/objects", call))
        except NotFound:
            return []
        return [
            Introduced(object_id=member(one, "id", str), host=host, path=_place(one))
            for one in shown
            if member(one, "kind", str) == ObjectKind.VOLUME
        ]

    def _known(self, disk: Introduced, call: Call) -> Json:
        """Return the object as its host knows it now."""
        shown = items(self._client.get(f"{path_of('hosts', disk.host)}/objects", call))
        for one in shown:
            if member(one, "id", str) == disk.object_id and _place(one) == disk.path:
                return one
        raise NotFound(f"host {disk.host} does not know {disk.object_id} at {disk.path}")

    # -- VMs ------------------------------------------------------------------------------------------

    def attach(self, vm: VmId, disk: Introduced, call: Call) -> str:
        """See `HypervisorDriver.attach`.

        Raises:
            InvalidArgument: the VM is on another host than the object.
        """
        known = self._known(disk, call)
        on = member(self._client.get(path_of("vms", vm), call), "host", str)
        if on != disk.host:
            raise InvalidArgument(f"VM {vm} is on host {on}, {disk.object_id} on host {disk.host}")
        body = {"object": {"kind": member(known, "kind", str), "id": disk.object_id}}
        return member(self._client.put(_disk_path(vm, disk), call, body), "device", str)

    def detach(self, vm: VmId, disk: Introduced, call: Call) -> None:
        """See `HypervisorDriver.detach`."""
        self._client.delete(_disk_path(vm, disk), call)

    def vm_state(self, vm: VmId, call: Call) -> VmState:
        """See `HypervisorDriver.vm_state`."""
        state = member(self._client.get(path_of("vms", vm), call), "state", str)
        if state not in set(VmState):
            raise Internal(f"VM {vm} is in the unknown state {state!r}")
        return VmState(state)

    # -- guests ---------------------------------------------------------------------------------------

    def freeze(self, vm: VmId, call: Call) -> None:
        """See `HypervisorDriver.freeze`; the guest thaws by itself before the call's deadline."""
        path = path_of("vms", vm)
        seconds = _OF_WHAT_IS_LEFT * call.remaining(_LONGEST_FREEZE)
        with self._thawed_unless_frozen(path):
            if not member(self._client.post(f"{path}/freeze", call, {"timeout_s": seconds}), "frozen", bool):
                raise Internal(f"the guest of VM {vm} did not freeze", outcome=Outcome.UNKNOWN)

    @contextlib.contextmanager
    def _thawed_unless_frozen(self, path: str) -> Iterator[None]:
        """Thaw after a failure that may have frozen the guest; what is known afterwards is told."""
        try:
            yield
        except StorageError as error:
            if error.outcome is not Outcome.NOT_APPLIED and self._rescued(path):
                error.outcome = Outcome.NOT_APPLIED
            raise
        except BaseException:
            self._rescued(path)
            raise

    def _rescued(self, path: str) -> bool:
        """Try to thaw; tell whether the guest says that it is thawed. Its own time limit is left else."""
        try:
            call = Call.within(_RESCUE)
            self._client.post(f"{path}/thaw", call)
            return not member(self._client.get(f"{path}/freeze", call), "frozen", bool)
        except StorageError:
            return False

    def thaw(self, vm: VmId, call: Call) -> None:
        """See `HypervisorDriver.thaw`."""
        self._client.post(f"{path_of('vms', vm)}/thaw", call)

    def guest_state(self, vm: VmId, call: Call) -> GuestState:
        """See `HypervisorDriver.guest_state`."""
        frozen = member(self._client.get(f"{path_of('vms', vm)}/freeze", call), "frozen", bool)
        return GuestState.FROZEN if frozen else GuestState.THAWED

    # -- VM snapshots ---------------------------------------------------------------------------------

    def create_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call, *, memory: bool) -> None:
        """See `HypervisorDriver.create_vm_snapshot`.

        Raises:
            Internal: applied, but the VM has more than one current snapshot.
        """
        self._client.put(_snapshot_path(vm, snapshot), call, {"memory": memory})
        tree = items(self._client.get(f"{path_of('vms', vm)}/snapshots", call))
        current = [member(one, "id", str) for one in tree if member(one, "current", bool)]
        if len(current) > 1:
            message = f"VM {vm} has {len(current)} current snapshots {current}: its tree is broken"
            raise Internal(message, outcome=Outcome.APPLIED)

    def revert_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call) -> None:
        """See `HypervisorDriver.revert_vm_snapshot`.

        Raises:
            InUse: the VM runs and the snapshot has no memory, or the other way round.
        """
        self._client.post(f"{_snapshot_path(vm, snapshot)}/revert", call)

    def delete_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call) -> None:
        """See `HypervisorDriver.delete_vm_snapshot`."""
        self._client.delete(_snapshot_path(vm, snapshot), call)


def _place(shown: Json) -> str:
    return member(member(shown, "place", dict), "path", str)


def _object_path(kind: ObjectKind, object_id: str, host: HostId) -> str:
    if not is_valid_id(object_id):
        raise InvalidArgument(f"object id {object_id!r} is not valid: {ID_RULE}")
    return path_of("hosts", host, "objects", kind, object_id)


def _disk_path(vm: VmId, disk: Introduced) -> str:
    return path_of("vms", vm, "disks", disk.object_id)


def _snapshot_path(vm: VmId, snapshot: VmSnapshotId) -> str:
    return path_of("vms", vm, "snapshots", snapshot)
