"""Disk-only snapshots as files: an overlay above each disk at one instant, and merged away again.

    running   libvirt's atomic external snapshot, the guest frozen by the driver if asked
    stopped   new files first, then one new definition: the VM changes over in one step

How they are merged is told in merging.py; what a kill of libvirtd leaves of adding them, in astray.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from xml.etree import ElementTree

import libvirt

from ....core.dataplane.qemu_img import run_qemu_img
from ....core.spi import (
    Call,
    Conflict,
    FileLocation,
    InUse,
    InvalidArgument,
    Outcome,
    Overlays,
    StorageError,
    Unavailable,
    VmDisk,
)
from ....transfer_objects.ids import VmId, VmSnapshotId
from .astray import image_of, noted, settle_overlays
from .chains import allocated, chain_of, check_space, position
from .disks import disk_named
from .domain_xml import point_disk, sub, text_of
from .machine import Machine
from .marks import Mark, running_again
from .merging import merge_aside, merge_live, merge_stopped, move_dependent
from .metadata import KvmSnapshotMetadata
from .pivots import settle_pivot
from .run_note import put_note, read_note
from .written import corrected

_SNAPSHOT = (
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
)
_ROOM = 64 * 1024 * 1024  # bytes that an overlay must find, so that the guest does not stop at once


class KvmOverlays(KvmSnapshotMetadata, Overlays):
    """Overlays on the VMs' disks."""

    def vm_disks(self, vm: VmId, call: Call) -> Sequence[VmDisk]:
        """See `ShowsDisks.vm_disks`; overlays that libvirtd was killed with are settled before."""
        machine = self._settled(vm, call)
        return list(self._shown(machine, corrected(machine, machine.definition(call), call), call))

    def start_vm(self, vm: VmId, call: Call) -> None:
        """See `PowersVms.start_vm`; what a dead QEMU wrote to such an overlay is brought home first."""
        self._settled(vm, call)
        super().start_vm(vm, call)

    def _ready(self, vm: VmId, snapshot: VmSnapshotId, call: Call) -> Machine:
        self._settled(vm, call)
        return super()._ready(vm, snapshot, call)

    def _settled(self, vm: VmId, call: Call) -> Machine:
        machine = self._machine(vm, call)
        settle_overlays(self.options.state, machine, call)
        settle_pivot(self.options.state, machine, call)
        return machine

    def add_overlays(
        self, vm: VmId, overlays: Mapping[str, FileLocation], call: Call, *, quiesce: bool = False
    ) -> None:
        """See `Overlays.add_overlays`.

        Raises:
            NotFound: a device is not there.
            Conflict: a file is there already, and is no overlay of this disk; or some are in place, not all.
            OutOfCapacity: there is no room for what the guest writes next.
        """
        machine = self._settled(vm, call)
        wanted = {device: _checked(one) for device, one in overlays.items()}
        disks = {device: disk_named(machine, device, call) for device in wanted}
        placed = [device for device, one in wanted.items() if image_of(disks[device]) == one.path]
        if placed:
            if len(placed) < len(wanted):
                raise Conflict(f"VM {vm}: of these overlays only those of {', '.join(placed)} are in place")
            return
        _refuse_existing(wanted)
        machine.refuse_if_busy(call)
        for one in wanted.values():
            check_space(one.path.parent, _ROOM, "an overlay")
        with noted(self.options.state, machine, wanted), self._frozen(machine, call, quiesce=quiesce):
            if machine.active(call):
                _add_live(machine, wanted, call)
            else:
                bases = {device: chain_of(machine, disk, call)[0] for device, disk in disks.items()}
                _change_over(machine, wanted, bases, call)

    @contextmanager
    def _frozen(self, machine: Machine, call: Call, *, quiesce: bool) -> Iterator[None]:
        if not (quiesce and machine.active(call)):
            yield
            return
        try:
            self.freeze(machine.vm, call)
        except StorageError as error:
            if error.outcome is Outcome.NOT_APPLIED:
                raise Unavailable(error.message, outcome=Outcome.NOT_APPLIED) from error
            raise
        try:
            yield
        finally:
            self.thaw(machine.vm, Call.within(self.options.agent_timeout))

    def switch_images(
        self,
        vm: VmId,
        overlays: Mapping[str, FileLocation],
        bases: Mapping[str, FileLocation],
        call: Call,
    ) -> None:
        """See `Overlays.switch_images`.

        Raises:
            NotFound: a device or a base is not there.
            Conflict: a file is there already.
        """
        machine = self._settled(vm, call)
        if machine.active(call):
            raise InUse(f"VM {vm} runs: stop it before its images are switched")
        if set(overlays) != set(bases):
            raise InvalidArgument("overlays and bases name different devices")
        wanted = {device: _checked(one) for device, one in overlays.items()}
        disks = {device: disk_named(machine, device, call) for device in wanted}
        if all(image_of(disks[device]) == one.path for device, one in wanted.items()):
            return
        _refuse_existing(wanted)
        with noted(self.options.state, machine, wanted):
            _change_over(machine, wanted, bases, call)

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
        """See `Overlays.merge_image`.

        Raises:
            InvalidArgument: base is not below top; or the guest writes to top, on which others depend.
            OutOfCapacity: base could not take it all (not applied).
            Unavailable: the merge broke off; the guest writes where it wrote, and a repeat goes on.
        """
        machine = self._settled(vm, call)
        disk = disk_named(machine, device, call)
        chain = chain_of(machine, disk, call)
        upper, lower = position(chain, top), position(chain, base)
        if upper is not None:
            if lower is None or lower <= upper:
                raise InvalidArgument(f"{base.path} is not below {top.path} on {device} of VM {vm}")
            if upper == 0 and dependents:
                raise InvalidArgument(f"the guest writes to {top.path}, on which other images depend")
            check_space(chain[lower].path.parent, allocated(chain[upper:lower]), "the merge")
            with running_again(self.options.state, machine, call, pause=False):
                if machine.active(call):
                    mark = Mark(self.options.state, machine, "pivoting")
                    merge_live(machine, disk, chain, upper, lower, call, mark=mark)
                else:
                    merge_stopped(machine, disk, chain, upper, lower, call)
            machine.go_on(call)
        elif lower is None and top.path.exists():
            merge_aside(top, base, call)
        for one in dependents:
            move_dependent(one, top, base, call)

    def note_run(self, vm: VmId, note: str, call: Call) -> bool:
        """See `Overlays.note_run`."""
        return put_note(self._machine(vm, call), note, call)

    def run_note(self, vm: VmId, call: Call) -> str:
        """See `Overlays.run_note`."""
        return read_note(self._machine(vm, call), call)


def _checked(overlay: FileLocation) -> FileLocation:
    if overlay.format != "qcow2" or not overlay.path.is_absolute():
        raise InvalidArgument("an overlay is a qcow2 file with an absolute path")
    return FileLocation(path=overlay.path.parent.resolve() / overlay.path.name, format="qcow2")


def _refuse_existing(overlays: Mapping[str, FileLocation]) -> None:
    """Refuse to write over anything; an empty file is what a killed attempt left."""
    for one in overlays.values():
        if one.path.exists() and one.path.stat().st_size:
            raise Conflict(f"{one.path} exists already")


def _add_live(machine: Machine, overlays: Mapping[str, FileLocation], call: Call) -> None:
    root = ElementTree.Element("domainsnapshot")
    disks = sub(root, "disks")
    for disk in machine.definition(call).iterfind("devices/disk/target"):
        device = str(disk.get("dev"))
        told = sub(disks, "disk", name=device, snapshot="external" if device in overlays else "no")
        if device in overlays:
            sub(told, "driver", type="qcow2")
            sub(told, "source", file=str(overlays[device].path))
    text = text_of(root)
    machine.act(call, lambda domain: domain.snapshotCreateXML(text, _SNAPSHOT), "adding overlays")


def _change_over(
    machine: Machine,
    overlays: Mapping[str, FileLocation],
    bases: Mapping[str, FileLocation],
    call: Call,
) -> None:
    """Make the overlays, then change the definition of a stopped VM over to all of them in one step."""
    definition = machine.definition(call, inactive=True)
    for device, overlay in overlays.items():
        base = bases[device]
        backing = ["-b", str(base.path.resolve()), "-F", base.format]
        overlay.path.unlink(missing_ok=True)
        run_qemu_img(["create", "-q", "-f", "qcow2", *backing, str(overlay.path)], call)
        point_disk(definition, device, overlay)
    machine.define(definition, call)
