"""VM snapshots: internal ones, in the qcow2 images themselves.

                       the cut                                              libvirt knows of it
    with memory        libvirt's own, VM state in the first disk            at once
    running, without   one QMP transaction over all disks                   told afterwards (REDEFINE)
    stopped            qemu-img on each disk, undone if one fails           told afterwards

libvirt 9.0 refuses the second, and the third as soon as there is a checkpoint. Told of them, it knows them
like its own.

    revert   checks ── bitmaps away ── undo point on all disks ── put back ── undo point away
                                           └── failure: all disks to the undo point, VM as it was
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from xml.etree import ElementTree

import libvirt

from ....core.spi import (
    Call,
    Conflict,
    DataLoss,
    InUse,
    InvalidArgument,
    NotFound,
    Outcome,
    StorageError,
    VmState,
)
from ....transfer_objects.ids import ID_RULE, VmId, VmSnapshotId, is_valid_id
from .bitmaps import Bitmaps
from .domain_xml import Element, disks_of, files_of, parse, sub, target_of, text_of
from .guest import KvmGuests
from .machine import Machine
from .marks import Mark, running_again, unknown_if_it_fails
from .snapshot_tags import SnapshotTags
from .waiting import goes_on

_RESCUE = 60.0  # seconds to put things right after a failure; they may come on top of the deadline
UNDO = "bollard.undo"  # no id of a snapshot: those have no "."
_REDEFINE = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
_CURRENT = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT


class KvmVmSnapshots(KvmGuests):
    """Snapshots of whole VMs."""

    def create_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call, *, memory: bool) -> None:
        """See `HypervisorDriver.create_vm_snapshot`.

        Raises:
            Unsupported: a disk is no qcow2 file.
            InvalidArgument: memory of a VM that is off.
        """
        machine = self._ready(vm, snapshot, call)
        tags = SnapshotTags(machine, call)
        if known(machine, snapshot, call) is not None and _is_whole(tags, snapshot, call):
            return
        tags.check_capable()
        if memory and not tags.running:
            raise InvalidArgument(f"VM {vm} is off: there is no memory to keep")
        machine.refuse_if_busy(call)
        with running_again(self.options.state, machine, call, pause=False):
            _remove(machine, tags, snapshot, call)  # what a killed attempt left
            try:
                _take(machine, tags, snapshot, call, memory=memory)
            except StorageError as error:
                _clean(machine, tags, snapshot, error)
                raise

    def revert_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call) -> None:
        """See `HypervisorDriver.revert_vm_snapshot`. All checkpoints of the VM end here.

        Raises:
            InUse: the VM runs and the snapshot has no memory.
            Conflict: the VM has other disks than it had then.
            DataLoss: a disk has lost it (not applied).
        """
        machine = self._ready(vm, snapshot, call)
        definition = known(machine, snapshot, call)
        tags = SnapshotTags(machine, call)
        _check_revert(machine, tags, snapshot, definition, call)
        with_memory = definition is not None and _has_memory(definition)
        if tags.running and not with_memory:
            raise InUse(f"VM {vm} runs, and snapshot {snapshot} has no memory: stop it first")
        machine.refuse_if_busy(call)
        Bitmaps(machine, call).remove_all(call)
        if definition is not None and with_memory:
            self._revert_memory(machine, tags, snapshot, definition, call)
        else:
            self._revert_disks(machine, tags, snapshot, call)
            _mark_current(machine, definition, call)

    def delete_vm_snapshot(self, vm: VmId, snapshot: VmSnapshotId, call: Call) -> None:
        """See `HypervisorDriver.delete_vm_snapshot`; one that libvirt does not list, too."""
        machine = self._ready(vm, snapshot, call)
        tags = SnapshotTags(machine, call)
        with running_again(self.options.state, machine, call, pause=True):
            _remove(machine, tags, snapshot, call)

    def start_vm(self, vm: VmId, call: Call) -> None:
        """See `PowersVms.start_vm`; a revert that was killed half-way is undone first."""
        machine = self._machine(vm, call)
        self._settle(machine, call)
        super().start_vm(vm, call)

    def _ready(self, vm: VmId, snapshot: VmSnapshotId, call: Call) -> Machine:
        if not is_valid_id(snapshot):
            raise InvalidArgument(f"VM snapshot id {snapshot!r} is not valid: {ID_RULE}")
        machine = self._machine(vm, call)
        self._settle(machine, call)
        return machine

    # -- reverting ------------------------------------------------------------------------------------

    def _revert_disks(self, machine: Machine, tags: SnapshotTags, snapshot: str, call: Call) -> None:
        """Put the disks of a VM that is off back: all, or after a failure none."""
        with self._undone_on_failure(machine, run=False) as mark:
            tags.create(UNDO, call)
            mark.set("applying stay")
            tags.apply(snapshot, call)
            mark.set("done stay")

    def _revert_memory(
        self, machine: Machine, tags: SnapshotTags, snapshot: str, definition: Element, call: Call
    ) -> None:
        """Have libvirt replace QEMU by one that loads the snapshot; the guest waits until all is tidy."""
        ran = machine.state(call) is VmState.RUNNING
        after = _after(definition)
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED
        with self._undone_on_failure(machine, run=ran) as mark:
            if ran:
                machine.act(call, lambda domain: domain.suspend(), "pausing it")
            tags.create(UNDO, call)
            mark.set(f"applying {'run' if ran else 'stay'} {snapshot} {_qemu(machine, call)}")
            machine.act(call, lambda domain: _revert(domain, snapshot, flags), f"reverting to {snapshot}")
            mark.set(f"done {after}")

    @contextmanager
    def _undone_on_failure(self, machine: Machine, *, run: bool) -> Iterator[Mark]:
        """Write down how far the revert is; bring it to its end, or back to its beginning."""
        mark = Mark(self.options.state, machine, "reverting")
        mark.set(f"preparing {'run' if run else 'stay'}")
        try:
            yield mark
        except StorageError as error:
            if goes_on(error):
                raise
            with unknown_if_it_fails():
                done = self._settle(machine, Call.within(_RESCUE))
            if not done:
                error.outcome = Outcome.NOT_APPLIED
                raise
        with unknown_if_it_fails():
            self._settle(machine, Call.within(_RESCUE))

    def _settle(self, machine: Machine, call: Call) -> bool:
        """End what a revert has begun; tell whether the VM is reverted.

        preparing   the undo points go
        applying    the VM is off: all disks to their undo points, which go then
                    a new QEMU: it has loaded all; libvirt hears so, if it died before it noted that
                    still the old one: nothing happened
        done        the undo points go
        """
        mark = Mark(self.options.state, machine, "reverting")
        begun = mark.read()
        if begun is None:
            return False
        phase, then, *loading = begun.split()
        wait_for_job(machine, call)
        tags = SnapshotTags(machine, call)
        loaded = tags.running and bool(loading) and loading[1] != _qemu(machine, call)
        if phase == "applying" and not tags.running:
            tags.apply(UNDO, call)
            mark.set(f"done {then}")
        elif loaded:
            definition = known(machine, loading[0], call)
            _mark_current(machine, definition, call)
            then = _after(definition)
            mark.set(f"done {then}")
        tags.remove(UNDO, call)
        if then == "run":
            _run(machine, call)
        mark.clear()
        return loaded or phase == "done"


def wait_for_job(machine: Machine, call: Call) -> None:
    """Wait until libvirt has ended what a late call left to it; it does so before it answers this."""
    disks = disks_of(machine.definition(call))
    if disks:
        device = target_of(disks[0])
        machine.ask(call, lambda domain: domain.blockInfo(device), "waiting for its job")


def _qemu(machine: Machine, call: Call) -> str:
    """Return libvirt's number of the VM's QEMU: a new one has another."""
    return str(machine.ask(call, lambda domain: domain.ID(), "asking for its number"))


def _after(definition: Element | None) -> str:
    """Tell whether the guest ran when a snapshot was taken: so it does after the revert."""
    return "run" if definition is not None and definition.findtext("state") == "running" else "stay"


def _run(machine: Machine, call: Call) -> None:
    machine.resume(call)
    if machine.state(call) is VmState.STOPPED:
        machine.act(call, lambda domain: domain.create(), "starting it anew")


def _revert(domain: Any, snapshot: str, flags: int) -> None:
    domain.revertToSnapshot(domain.snapshotLookupByName(snapshot), flags)


def known(machine: Machine, snapshot: str, call: Call) -> Element | None:
    """Return libvirt's definition of a snapshot; None if it does not know it."""
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE
    try:
        text = machine.ask(
            call,
            lambda domain: domain.snapshotLookupByName(snapshot).getXMLDesc(flags),
            f"reading snapshot {snapshot}",
        )
    except NotFound:
        return None
    return parse(text)


def _is_whole(tags: SnapshotTags, snapshot: str, call: Call) -> bool:
    return tags.devices_with(snapshot, call) == set(tags.disks)


def _has_memory(definition: Element) -> bool:
    memory = definition.find("memory")
    return memory is not None and memory.get("snapshot") == "internal"


def _check_revert(
    machine: Machine, tags: SnapshotTags, snapshot: str, definition: Element | None, call: Call
) -> None:
    having = tags.devices_with(snapshot, call)
    if definition is None and not (having and having == set(tags.disks)):
        raise NotFound(f"VM {machine.vm} has no snapshot {snapshot}")
    if definition is not None and _files(definition, "domain") != _files(machine.definition(call)):
        raise Conflict(f"VM {machine.vm} has other disks than when snapshot {snapshot} was taken")
    if having != set(tags.disks):
        lost = ", ".join(sorted(set(tags.disks) - having))
        raise DataLoss(f"snapshot {snapshot} of VM {machine.vm} is gone from {lost}")


def _files(definition: Element, inside: str = ".") -> dict[str, str]:
    """Return the image of each disk."""
    domain = definition.find(inside)
    disks = disks_of(domain) if domain is not None else []
    return {target_of(disk): str(next(files_of(disk), "")) for disk in disks}


# -- taking and removing -------------------------------------------------------------------------------


def _take(machine: Machine, tags: SnapshotTags, snapshot: str, call: Call, *, memory: bool) -> None:
    text = text_of(_described(machine, tags, snapshot, call, memory=memory))
    if memory:
        machine.act(call, lambda domain: domain.snapshotCreateXML(text, 0), f"taking snapshot {snapshot}")
        return
    tags.create(snapshot, call)
    _register(machine, text, call)


def _register(machine: Machine, text: str, call: Call) -> None:
    """Tell libvirt of a snapshot, which is the current one then."""
    flags = _REDEFINE | _CURRENT
    machine.act(call, lambda domain: domain.snapshotCreateXML(text, flags), "registering a snapshot")


def _described(machine: Machine, tags: SnapshotTags, snapshot: str, call: Call, *, memory: bool) -> Element:
    """Return the XML of a new snapshot; what libvirt adds itself is only told for one that is registered."""
    root = ElementTree.Element("domainsnapshot")
    sub(root, "name", snapshot)
    sub(root, "memory", snapshot="internal" if memory else "no")
    disks = sub(root, "disks")
    for device in tags.disks:
        sub(disks, "disk", name=device, snapshot="internal")
    if not memory:
        # "shutoff": what has no memory is what a power cut leaves.
        sub(root, "state", "shutoff")
        sub(root, "creationTime", str(int(time.time())))
        parent = machine.ask(call, _current_name, "asking for its current snapshot")
        if parent:
            sub(sub(root, "parent"), "name", parent)
        root.append(machine.definition(call, inactive=True))
    return root


def _current_name(domain: Any) -> str:
    return str(domain.snapshotCurrent().getName()) if domain.hasCurrentSnapshot() else ""


def _mark_current(machine: Machine, definition: Element | None, call: Call) -> None:
    if definition is not None:
        text = text_of(definition)
        flags = _REDEFINE | _CURRENT
        machine.act(
            call, lambda domain: domain.snapshotCreateXML(text, flags), "marking the current snapshot"
        )


def _remove(machine: Machine, tags: SnapshotTags, snapshot: str, call: Call) -> None:
    """Remove it from all disks, then from libvirt's list, which gives its children its parent."""
    tags.remove(snapshot, call)
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
    with suppress(NotFound):
        machine.act(
            call,
            lambda domain: domain.snapshotLookupByName(snapshot).delete(flags),
            f"forgetting snapshot {snapshot}",
        )


def _clean(machine: Machine, tags: SnapshotTags, snapshot: str, error: StorageError) -> None:
    """Remove what a failed snapshot left; say so if nothing is left."""
    if goes_on(error):
        return
    with suppress(StorageError):
        call = Call.within(_RESCUE)
        now = tags if machine.active(call) == tags.running else SnapshotTags(machine, call)
        _remove(machine, now, snapshot, call)
        error.outcome = Outcome.NOT_APPLIED
