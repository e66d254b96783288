"""Backups of disks by the hypervisor: one instant, and a bitmap of what has changed since a checkpoint.

A: cut ──> the guest writes ──> B: cut since A        sound:  A's bytes + B's delta == B's bytes
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ...core.dataplane import open_sink
from ...core.spi import (
    Backups,
    Busy,
    Capability,
    GuestState,
    NotFound,
    PermissionDenied,
    Unsupported,
)
from ..backup_lab import BackupLab, Cut, bytes_of, changed_in
from ..host_lab import HostLab
from ..host_objects import GUEST_AREA
from ..lab import must, refused
from ..model import Level, Tier
from ..registry import check
from ._bytes import first_difference
from ._cuts import each_vm, must_be_sound

HYPERVISOR = ("hypervisor",)
NEEDS = (Backups,)
_ROUNDS = 3


@check(
    "inc.backup_delta_covers_all_changes",
    rule="backup.changed",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="abbbi/virtnbdbackup#225, #237: bitmaps that do not have what was written",
)
def check_backup_delta_covers_all_changes(lab: HostLab) -> None:
    """Each byte that a running guest has changed between two cuts is in the second one's bitmap.

    The guest writes all the time, also at the instant of the cuts. A failure names the first byte that
    an incremental backup would have lost.
    """
    with BackupLab.open(lab, lab.place.vm) as backups:
        backups.guest_writes()
        base = backups.take()
        for number in range(1, _ROUNDS + 1):
            backups.guest_writes()
            target = backups.take(base)
            must_be_sound(base, target, f"in round {number}")
            base = target


@check(
    "inc.backup_delta_since_each_checkpoint",
    rule="backup.changed",
    needs=NEEDS,
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="abbbi/virtnbdbackup#17: from the eleventh checkpoint on the wrong one was taken",
)
def check_backup_delta_since_each_checkpoint(lab: HostLab) -> None:
    """With several checkpoints a delta tells what has changed since the one that is asked for, old or new.

    A driver that serves the newest bitmap loses what was written before its checkpoint began.
    """
    with BackupLab.open(lab, lab.place.vm) as backups:
        cuts: list[Cut] = []
        for _ in range(_ROUNDS):
            backups.guest_writes()
            cuts.append(backups.take(cuts[-1] if cuts else None))
        lab.freeze()  # what would be written now could hide what a bitmap lacks
        for number, base in enumerate(cuts, 1):
            must_be_sound(base, backups.take(base), f"since checkpoint {number} of {len(cuts)}")


@check(
    "inc.backup_shows_one_instant",
    rule="backup.instant",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="kubevirt/enhancements#26: what overwrites during a backup do to its consistency",
)
def check_backup_shows_one_instant(lab: HostLab) -> None:
    """What is served stays the same while the guest writes on, and is what the disk held at one instant.

    The guest numbers its blocks. A newer one beside a place where an older one is missing is a cut that
    took some time: a file system on it has to be repaired, and a database may not come up.
    """
    with BackupLab.open(lab, lab.place.vm) as backups:
        backups.guest_writes()
        shown = backups.begin()
        first = bytes_of(shown)
        backups.guest_writes()
        at = first_difference(first, bytes_of(shown))
        must(at is None, f"what is served changes while the guest writes: at byte {at}")
        _must_be_one_instant(first, backups.disk.id)


def _must_be_one_instant(data: bytes, disk: str) -> None:
    # Here, since it brings Flask, which the runs of other kinds of driver need not wait for.
    from ...simulators.hypervisor.pattern import BLOCK, Block, examine

    start = len(data) - GUEST_AREA
    names = {
        block.disk for at in range(start, len(data), BLOCK) if (block := Block.unpack(data[at : at + BLOCK]))
    }
    must(len(names) == 1, f"{disk} holds blocks of the disks {sorted(names)}, not of one")
    with TemporaryDirectory() as directory:
        path = Path(directory) / "cut"
        path.write_bytes(bytes(start) + data[start:])  # the suite's own blocks would be strange to it
        problems = examine({names.pop(): path}).problems
    must(not problems, f"what is served is not one instant: {'; '.join(problems[:3])}")


@check(
    "inc.backup_empty_when_unchanged",
    rule="backup.changed",
    needs=NEEDS,
    kinds=HYPERVISOR,
    level=Level.SHOULD,
    field_bug="velero-io/velero#10306: an increment of the whole device",
)
def check_backup_empty_when_unchanged(lab: HostLab) -> None:
    """Of a disk that nobody has written to a delta is empty.

    Here the VM is off. A delta of everything is sound, and costs as much as a full each time.
    """
    with BackupLab.open(lab, lab.place.stopped_vm) as backups:
        delta = backups.take(backups.take()).delta or ()
        reported = sum(extent.length for extent in delta)
        must(reported == 0, f"nothing was written, and {reported} bytes are reported as changed")


@check("inc.backup_over_report", rule="backup.changed", needs=NEEDS, kinds=HYPERVISOR, level=Level.MEASURE)
def check_backup_over_report(lab: HostLab) -> None:
    """How many bytes a bitmap reports for each byte that has changed; 1 is perfect.

    A bitmap of 64 KiB blocks reports up to 16 times what a database writes in pages of 4 KiB.
    """
    with BackupLab.open(lab, lab.place.vm) as backups:
        base = backups.take()
        backups.guest_writes()
        target = backups.take(base)
        pairs = zip(base.data, target.data, strict=True)
        differing = sum(one != other for one, other in pairs)
        reported = sum(extent.length for extent in target.delta or ())
        lab.notes.measure(
            "bytes reported per byte changed", reported / differing if differing else math.nan, ""
        )


@check(
    "inc.backup_export_fits",
    rule="backup.export",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="CSI Snapshot Metadata: blocks reported past the end of the volume",
)
def check_backup_export_fits(lab: HostLab) -> None:
    """The export has the disk's size, is said to have it, and the bitmap's extents are sorted within it."""
    for vm in each_vm(lab):
        with BackupLab.open(lab, vm) as backups:
            base = backups.take()
            shown = backups.begin(base.checkpoint)
            told, seen = shown.location.size, len(bytes_of(shown))
            must(seen == backups.disk.size, f"the export has {seen} bytes, the disk {backups.disk.size}")
            must(told in (None, seen), f"the driver says {told} bytes, the export has {seen}")
            end = 0
            for extent in changed_in(shown):
                must(extent.length > 0, f"there is an empty extent at {extent.offset:#x}")
                must(extent.offset >= end, f"the extent at {extent.offset:#x} comes after {end:#x}")
                end = extent.end
            must(end <= seen, f"the last extent ends at {end}, the disk at {seen}")


@check(
    "inc.backup_export_read_only",
    rule="backup.export",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="oVirt/ovirt-site#1777: a backup's export is read-only, whoever can reach it",
)
def check_backup_export_read_only(lab: HostLab) -> None:
    """Nobody can write to what is served, full or incremental.

    A reader with a mistake would otherwise change the backup that it makes, or the guest's disk.
    """
    with BackupLab.open(lab, lab.place.stopped_vm) as backups:
        base = backups.take()
        for since in (None, base.checkpoint):
            location = backups.begin(since).location
            must(location.read_only, "the driver does not say that the export is read-only")
            with refused(PermissionDenied), open_sink(replace(location, read_only=False)):
                pass
            backups.end(keep=False)


@check(
    "inc.backup_begin_twice_same",
    rule="backup.repeat",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="kubernetes-sigs/vsphere-csi-driver#2507: a lost reply and a retry made a second object",
)
def check_backup_begin_twice_same(lab: HostLab) -> None:
    """A begin that is repeated returns the same backup of the same instant, and there is one checkpoint."""
    with BackupLab.open(lab, lab.place.vm) as backups:
        name = backups.name()
        shown = backups.begin(checkpoint=name)
        first = bytes_of(shown)
        backups.guest_writes()
        again = backups.begin(checkpoint=name)
        must(again.location == shown.location, "the repeat answers with another export")
        must(bytes_of(again) == first, "the repeat shows a later instant")
        backups.end()
        must(backups.known() == [name], f"the backup of {name} has left the checkpoints {backups.known()}")


@check(
    "inc.backup_unknown_base_refused",
    rule="backup.lost",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="abbbi/virtnbdbackup#258: bitmaps get lost; OpenNebula/one#7092: then one existed already",
)
def check_backup_unknown_base_refused(lab: HostLab) -> None:
    """A base that never was, or is gone, is `NotFound`: nothing is left of the attempt, and a full works.

    "The call succeeded": the bitmap of a checkpoint that is lost was taken for an empty one, and the
    increment has nothing in it. Nobody notices before the restore.
    """
    for vm in each_vm(lab):
        with BackupLab.open(lab, vm) as backups:
            lost = backups.take()
            backups.delete(lost.checkpoint)
            name = backups.name()
            for since in (lost.checkpoint, backups.name()):
                with refused(NotFound):
                    backups.begin(since, checkpoint=name)
                must(backups.known() == [], f"a refused begin has left the checkpoints {backups.known()}")
            backups.begin(checkpoint=name)
            backups.end()
            must(backups.known() == [name], "after a refused begin a full leaves no checkpoint")


@check(
    "inc.backup_second_job_refused",
    rule="backup.one-job",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="Corsinvest/cv4pve-barc#38: one VM was backed up twice at a time",
)
def check_backup_second_job_refused(lab: HostLab) -> None:
    """While a backup runs another one of the VM is `Busy`, and the first goes on unharmed."""
    with BackupLab.open(lab, lab.place.vm) as backups:
        shown = backups.begin()
        first = bytes_of(shown)
        second = backups.name()
        with refused(Busy):
            backups.begin(checkpoint=second)
        must(bytes_of(shown) == first, "the first backup no longer shows its instant")
        backups.end()
        must(second not in backups.known(), "a refused backup has left its checkpoint")


@check(
    "inc.backup_end_twice_ok",
    rule="backup.end-twice",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="abbbi/qmpbackup#25: after a crash no backup could be begun or ended",
)
def check_backup_end_twice_ok(lab: HostLab) -> None:
    """Ending again, or what was never begun, succeeds, and takes no checkpoint away that was kept."""
    for vm in each_vm(lab):
        with BackupLab.open(lab, vm) as backups:
            backups.end(keep=True)
            kept = backups.take()
            for keep in (True, False):
                backups.end(keep=keep)
            must(backups.known() == [kept.checkpoint], "ending again took away the checkpoint that was kept")


@check(
    "inc.backup_not_kept_leaves_nothing",
    rule="backup.not-kept",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="abbbi/virtnbdbackup#147: the checkpoint of a failed backup stayed",
)
def check_backup_not_kept_leaves_nothing(lab: HostLab) -> None:
    """A backup that is given up leaves no checkpoint, and its name is free for the next one.

    Each checkpoint costs the guest on every write, and nobody would ever delete this one.
    """
    for vm in each_vm(lab):
        with BackupLab.open(lab, vm) as backups:
            name = backups.name()
            for _ in range(2):
                backups.begin(checkpoint=name)
                backups.end(keep=False)
                must(backups.known() == [], f"a backup that was given up left {backups.known()}")


@check(
    "inc.backup_quiesced_thaws",
    rule="backup.quiesce",
    needs=NEEDS,
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="vmware/open-vm-tools#27: a snapshot left its VM frozen",
)
def check_backup_quiesced_thaws(lab: HostLab) -> None:
    """A quiesced backup has thawed the guest when it returns, and how long it stood still is told.

    It is served for as long as the copy takes; a guest that is frozen for so long is a guest that hangs.
    """
    lab.freeze()  # not applicable, and thawed at the end, where guests cannot be frozen
    lab.driver.thaw(lab.place.vm, lab.call())
    with BackupLab.open(lab, lab.place.vm) as backups:
        backups.guest_writes()
        shown = backups.begin(quiesce=True)
        must(lab.guest_state() is GuestState.THAWED, "begin has returned, and the guest is still frozen")
        must(shown.frozen_seconds > 0, "the guest was frozen, and for how long is not told")
        backups.guest_writes()


@check(
    "host.undeclared_backups_refused",
    rule="any.taxonomy",
    kinds=HYPERVISOR,
    field_bug="vatesfr/xen-orchestra#8313: changed blocks were asked for where they could not be used",
)
def check_backup_undeclared_refused(lab: HostLab) -> None:
    """A driver that says of an instance that it has no backups refuses to begin one, and begins none."""
    driver = lab.driver
    if not isinstance(driver, Backups) or Capability.BACKUPS not in driver.unavailable(lab.call()):
        return
    for vm in each_vm(lab):
        ((device, _),) = lab.attached(vm, 1).items()
        with refused(Unsupported):
            driver.begin_backup(vm, device, lab.call(), checkpoint=lab.prefix)
