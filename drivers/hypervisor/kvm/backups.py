"""Backups: one disk at one instant, served over NBD, with what has changed since a checkpoint.

    running   libvirt's pull mode: the guest's overwrites go to a scratch file first
              guest ── write ──> old data to scratch ──> disk          reader <── NBD ── QEMU
    stopped   a bitmap added by qemu-img, the image served by a qemu-nbd of ours

    begin     checks ── record ── [freeze] ── cut and checkpoint ── [thaw] ── serve
    end       stop serving ── checkpoint ── record

A backup that died before it ended is cleared away by the next beginning, or by its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import libvirt

from ....core.dataplane.qemu_img import image_info, run_qemu_img
from ....core.spi import (
    BackupDisk,
    Backups,
    BegunBackup,
    Busy,
    Call,
    Checkpoint,
    Conflict,
    FileLocation,
    InvalidArgument,
    NbdLocation,
    NotFound,
    Outcome,
    StorageError,
    Unsupported,
)
from ....transfer_objects.ids import ID_RULE, VmId, is_valid_id
from ....transfer_objects.secret import Secret
from . import checkpoints as registry
from . import stopped_backup
from .backup_record import BackupRecord, Begun, begun_on
from .bitmaps import Bitmaps
from .chains import allocated, chain_of, check_space
from .disks import disk_named, size_of
from .domain_xml import Element, disks_of, format_of, location_of, sub, target_of, text_of
from .guest import Stillness
from .machine import Machine
from .overlays import KvmOverlays
from .versions import check_versions
from .waiting import goes_on, wait_until

_MADE = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL


class KvmBackups(KvmOverlays, Backups):
    """Backups of the VMs' disks."""

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
        """See `Backups.begin_backup`.

        Raises:
            Unsupported: also for a disk that is no qcow2 file of version 3, and cannot hold a bitmap.
            OutOfCapacity: the scratch directory could not take what the guest may overwrite.
            Conflict: a checkpoint of this name is there already.
        """
        _check_names(checkpoint, since)
        machine = self._settled(vm, call)
        check_versions(machine.link, call)
        disk = _tracked_disk(machine, device, call)
        record = self._record(machine, device)
        begun = record.read()
        if begun is not None and _is_served(machine, record, begun, call):
            _check_same(machine, device, begun, checkpoint, since, quiesce=quiesce)
            return _shown(record, device, size_of(machine, disk, call), begun)
        machine.refuse_if_busy(call)
        if begun is not None:  # it died before it ended: nobody has kept its checkpoint
            _end(machine, record, device, begun, call, keep=False)
        if checkpoint in Bitmaps(machine, call).of(device, call):
            raise Conflict(f"VM {vm}: {device} has a checkpoint {checkpoint} already")
        _check_since(machine, device, since, call)
        begun = Begun(checkpoint=checkpoint, since=since, running=machine.active(call))
        record.keep(begun)
        try:
            begun = self._begin(machine, disk, record, begun, call, quiesce=quiesce)
        except StorageError as error:
            self._given_up(machine, record, device, error)
            raise
        return _shown(record, device, size_of(machine, disk, call), begun)

    def _begin(
        self,
        machine: Machine,
        disk: Element,
        record: BackupRecord,
        begun: Begun,
        call: Call,
        *,
        quiesce: bool,
    ) -> Begun:
        if not begun.running:
            _begin_stopped(machine, disk, record, begun, call)
            return begun
        backup, cut = _orders(machine, disk, record, begun, call)
        _make_scratch(record, size_of(machine, disk, call), call)
        still = self._standing_still(machine, call) if quiesce else nullcontext(Stillness())
        with still as stillness:
            machine.act(call, lambda domain: domain.backupBegin(backup, cut, _MADE), "beginning a backup")
        if quiesce:
            begun = replace(begun, frozen_seconds=stillness.seconds)
            record.keep(begun)
        return begun

    def _given_up(self, machine: Machine, record: BackupRecord, device: str, error: StorageError) -> None:
        """Take away what a failed beginning left; say so if nothing is left."""
        if goes_on(error):
            return
        with suppress(StorageError):
            call = Call.within(30)
            begun = record.read()
            if begun is not None:
                _end(machine, record, device, begun, call, keep=False)
            error.outcome = Outcome.NOT_APPLIED

    def end_backup(self, vm: VmId, device: str, call: Call, *, keep: bool) -> None:
        """See `Backups.end_backup`; a guest that stopped because the scratch file was full goes on."""
        try:
            machine = self._machine(vm, call)
        except NotFound:
            self._strike_out(vm, device)
            return
        record = self._record(machine, device)
        begun = record.read()
        if begun is not None:
            _end(machine, record, device, begun, call, keep=keep)

    def begun_backups(self, call: Call) -> Sequence[BegunBackup]:
        """See `Backups.begun_backups`; of all hosts, whether they answer or not."""
        call.check()
        options, links = self.options, self._links.values()
        return [one for link in links for one in begun_on(options.state, options.scratch, link)]

    def _strike_out(self, vm: VmId, device: str) -> None:
        """End what is left of the backup of a VM that no host knows any more, and whose disks are others'."""
        for link in self._links.values():
            record = self._record(Machine(link, vm), device)
            begun = record.read()
            if begun is not None:
                stopped_backup.end(record)
                record.strike_out()

    def checkpoints(self, vm: VmId, call: Call) -> Sequence[Checkpoint]:
        """See `Backups.checkpoints`."""
        return registry.whole_checkpoints(self._machine(vm, call), call)

    def restore_checkpoints(self, vm: VmId, checkpoints: Sequence[Checkpoint], call: Call) -> Sequence[str]:
        """See `Backups.restore_checkpoints`."""
        return registry.restore(self._machine(vm, call), checkpoints, call)

    def delete_checkpoint(self, vm: VmId, device: str, name: str, call: Call) -> None:
        """See `Backups.delete_checkpoint`."""
        registry.delete(self._machine(vm, call), device, name, call)

    def _record(self, machine: Machine, device: str) -> BackupRecord:
        return BackupRecord(self.options.state, self.options.scratch, machine, device)


def _check_names(checkpoint: str, since: str | None) -> None:
    for name in (checkpoint, since):
        if name is not None and not is_valid_id(name):
            raise InvalidArgument(f"checkpoint {name!r} is not valid: {ID_RULE}")
    if checkpoint == since:
        raise InvalidArgument("a checkpoint cannot be its own base")


def _tracked_disk(machine: Machine, device: str, call: Call) -> Element:
    """Return a disk that can hold bitmaps."""
    disk = disk_named(machine, device, call)
    location = location_of(disk)
    if format_of(disk) != "qcow2" or not isinstance(location, FileLocation):
        raise Unsupported(f"{device} of VM {machine.vm} is no qcow2 file: it cannot hold a checkpoint")
    data = image_info(location.path.resolve(), "qcow2", call).get("format-specific", {}).get("data", {})
    if data.get("compat") == "0.10":
        raise Unsupported(f"{location.path} is qcow2 version 2 (compat=0.10): it cannot hold a checkpoint")
    return disk


def _check_since(machine: Machine, device: str, since: str | None, call: Call) -> None:
    if since is None:
        return
    known = registry.whole_checkpoints(machine, call)
    if not any((one.name, one.device) == (since, device) for one in known):
        broken = Bitmaps(machine, call).of(device, call).get(since)
        why = "was not closed properly" if broken is not None and not broken.whole else "is not known"
        raise NotFound(f"VM {machine.vm}: checkpoint {since} of {device} {why}; take a full")


def _is_served(machine: Machine, record: BackupRecord, begun: Begun, call: Call) -> bool:
    if not begun.running:
        return stopped_backup.is_served(record)
    if not machine.active(call):
        return False
    try:
        text = machine.ask(call, lambda domain: domain.backupGetXMLDesc(0), "asking for its backup")
    except NotFound:
        return False
    return str(record.socket) in text


def _check_same(
    machine: Machine, device: str, begun: Begun, checkpoint: str, since: str | None, *, quiesce: bool
) -> None:
    """Refuse to take a backup that is being served for another one."""
    if (begun.checkpoint, begun.since) != (checkpoint, since):
        raise Busy(f"VM {machine.vm}: {device} is being backed up for checkpoint {begun.checkpoint}")
    if quiesce and begun.running and not begun.frozen_seconds:
        raise Busy(f"VM {machine.vm}: the backup of {device} was begun while its guest was not frozen")


def _shown(record: BackupRecord, device: str, size: int, begun: Begun) -> BackupDisk:
    where = NbdLocation(address=record.socket, export=Secret(device), size=size, read_only=True)
    name = f"backup-{device}" if begun.running else begun.since
    return BackupDisk(
        location=where,
        bitmap=f"qemu:dirty-bitmap:{name}" if begun.since else "",
        frozen_seconds=begun.frozen_seconds,
    )


def _orders(
    machine: Machine, disk: Element, record: BackupRecord, begun: Begun, call: Call
) -> tuple[str, str]:
    """Return what libvirt is to be told of a running VM's backup and checkpoint, all checks done."""
    device = target_of(disk)
    needed = min(allocated(chain_of(machine, disk, call)), size_of(machine, disk, call))
    check_space(record.scratch.parent, needed, "a backup of a running guest")
    root = ElementTree.Element("domainbackup", mode="pull")
    if begun.since is not None:
        sub(root, "incremental", begun.since)
    sub(root, "server", transport="unix", socket=str(record.socket))
    disks = sub(root, "disks")
    for one in disks_of(machine.definition(call)):
        if target_of(one) != device:
            sub(disks, "disk", name=target_of(one), backup="no")
            continue
        told = {"exportname": device} | ({"exportbitmap": f"backup-{device}"} if begun.since else {})
        sub(
            sub(disks, "disk", name=device, backup="yes", type="file", **told),
            "scratch",
            file=str(record.scratch),
        )
    return text_of(root), text_of(registry.new_checkpoint(machine, device, begun.checkpoint, call))


def _make_scratch(record: BackupRecord, size: int, call: Call) -> None:
    """Make the scratch file before the cut: QEMU would, and a frozen guest would wait for it."""
    record.scratch.unlink(missing_ok=True)
    run_qemu_img(["create", "-q", "-f", "qcow2", str(record.scratch), str(size)], call)


def _begin_stopped(machine: Machine, disk: Element, record: BackupRecord, begun: Begun, call: Call) -> None:
    image = _image(disk)
    device = target_of(disk)
    run_qemu_img(["bitmap", "--add", "-f", "qcow2", str(image), begun.checkpoint], call)
    registry.register(machine, device, begun.checkpoint, call)
    stopped_backup.serve(record, image, device, begun.since, call)


def _image(disk: Element) -> Path:
    location = location_of(disk)
    if not isinstance(location, FileLocation):
        raise Unsupported(f"disk {target_of(disk)} is no file")
    return location.path.resolve()


def _end(
    machine: Machine, record: BackupRecord, device: str, begun: Begun, call: Call, *, keep: bool
) -> None:
    if begun.running:
        if _is_served(machine, record, begun, call):
            _abort(machine, record, begun, call)
    else:
        stopped_backup.end(record)
    if not keep:
        registry.delete(machine, device, begun.checkpoint, call)
    record.strike_out()


def _abort(machine: Machine, record: BackupRecord, begun: Begun, call: Call) -> None:
    machine.act(call, lambda domain: domain.abortJob(), "ending its backup")
    gone = f"VM {machine.vm}: its backup does not end"
    wait_until(lambda: not _is_served(machine, record, begun, call), call, gone)
    state, reason = machine.ask(call, lambda domain: domain.state(), "asking its state")
    if (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
        machine.resume(call)
