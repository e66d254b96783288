"""Checkpoints of a hypervisor's backups: in order, taken away alone, and true whatever befalls the VM."""

from __future__ import annotations

from ...core.spi import (
    Backups,
    MigratesVms,
    NotFound,
    PowersVms,
    ResizesDisks,
)
from ..backup_lab import BackupLab
from ..host_lab import HostLab
from ..lab import must, not_applicable, refused
from ..model import Tier
from ..registry import check
from ._cuts import each_vm, must_be_lost_or_sound, must_be_sound

HYPERVISOR = ("hypervisor",)
NEEDS = (Backups,)
_MANY = 4


@check(
    "inc.checkpoints_oldest_first",
    rule="checkpoint.order",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug="abbbi/virtnbdbackup#17: after the eleventh backup the order of checkpoints was wrong",
)
def check_checkpoints_oldest_first(lab: HostLab) -> None:
    """Checkpoints are told in the order in which they began, whatever their names, also within a second."""
    with BackupLab.open(lab, lab.place.stopped_vm) as backups:
        began = [backups.take().checkpoint for _ in range(_MANY)]
        must(backups.known() == began, f"{backups.known()} are told, they began as {began}")


@check(
    "inc.checkpoint_delete_twice_ok",
    rule="any.missing-ok",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug='abbbi/virtnbdbackup#108, #284: "bitmap not found" kept a full backup from being made',
)
def check_checkpoint_delete_twice_ok(lab: HostLab) -> None:
    """Deleting a checkpoint again, or one that never was, succeeds; its name is free afterwards."""
    for vm in each_vm(lab):
        with BackupLab.open(lab, vm) as backups:
            name = backups.name()
            backups.begin(checkpoint=name)
            backups.end()
            for gone in (name, name, backups.name()):
                backups.delete(gone)
                must(backups.known() == [], f"{gone} was deleted, and there are {backups.known()}")
            backups.begin(checkpoint=name)


@check(
    "inc.checkpoint_delete_keeps_others",
    rule="checkpoint.delete",
    needs=NEEDS,
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="apache/cloudstack#9446: deleting one took the whole chain along",
)
def check_checkpoint_delete_keeps_others(lab: HostLab) -> None:
    """When the middle one of three checkpoints is deleted, the deltas since the others still tell all."""
    with BackupLab.open(lab, lab.place.vm) as backups:
        cuts = []
        for _ in range(3):
            backups.guest_writes()
            cuts.append(backups.take())
        backups.delete(cuts[1].checkpoint)
        backups.guest_writes()
        lab.freeze()
        for base in (cuts[0], cuts[2]):
            must_be_sound(base, backups.take(base), "after another checkpoint was deleted")


@check(
    "inc.checkpoint_restore_verifies",
    rule="checkpoint.verified",
    needs=NEEDS,
    kinds=HYPERVISOR,
    field_bug='abbbi/virtnbdbackup#225: "missing or broken bitmap" of a checkpoint that was registered again',
)
def check_checkpoint_restore_verifies(lab: HostLab) -> None:
    """Of checkpoints that are told again, those without a bitmap are named, and are not registered."""
    for vm in each_vm(lab):
        with BackupLab.open(lab, vm) as backups:
            lost, kept = backups.take().checkpoint, backups.take().checkpoint
            told = backups.driver.checkpoints(vm, lab.call())
            backups.delete(lost)
            for _ in range(2):
                gone = backups.driver.restore_checkpoints(vm, told, lab.call())
                must(list(gone) == [lost], f"the bitmap of {lost} is gone, and {list(gone)} are named")
                must(backups.known() == [kept], f"{backups.known()} are registered, {[kept]} has a bitmap")
            with refused(NotFound):
                backups.begin(lost)


@check(
    "inc.checkpoint_after_reattach",
    rule="backup.changed",
    needs=NEEDS,
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="OpenNebula/one#6206: bitmaps after a power cycle",
)
def check_checkpoint_after_reattach(lab: HostLab) -> None:
    """When the disk was out of its VM, a checkpoint that is restored tells what was written before, too.

    Bitmaps go to the image when it is closed, and come back from there. If the driver says that they are
    lost, a full follows, and nothing is lost but time.
    """
    with BackupLab.open(lab, lab.place.vm) as backups:
        backups.guest_writes()
        base = backups.take()
        told = backups.driver.checkpoints(lab.place.vm, lab.call())
        backups.guest_writes()
        known = lab.introduce(backups.disk)
        lab.detach(lab.place.vm, known)
        backups.device = lab.attach(lab.place.vm, known)
        backups.driver.restore_checkpoints(lab.place.vm, told, lab.call())
        must_be_lost_or_sound(backups, base, "after the disk was out of its VM")


@check(
    "inc.checkpoint_after_power_cycle",
    rule="backup.changed",
    needs=(Backups, PowersVms),
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="abbbi/virtnbdbackup#225: what happened to the images between the backups?",
)
def check_checkpoint_after_power_cycle(lab: HostLab) -> None:
    """A checkpoint outlives start and stop of its VM; what is written while it is off is told, or it is lost.

    Somebody who writes to the image of a VM that is off either writes to its bitmaps as well, or the
    driver has to notice. A delta that lacks it is an increment that lacks it.
    """
    vm, power = lab.place.stopped_vm, lab.driver
    assert isinstance(power, PowersVms)
    with BackupLab.open(lab, vm) as backups:
        base = backups.take()
        lab.start()
        running = backups.take()
        power.stop_vm(vm, lab.call(), force=True)
        for cut in (base, running):
            must_be_lost_or_sound(backups, cut, "after its VM was on and off")
        backups.disk.write(2)
        for cut in (base, running):
            must_be_lost_or_sound(backups, cut, "after the image was written to while the VM was off")


@check(
    "inc.checkpoint_after_migration",
    rule="backup.changed",
    needs=(Backups, MigratesVms),
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="RHEL-145770: bitmaps that a live migration did not take along",
)
def check_checkpoint_after_migration(lab: HostLab) -> None:
    """A checkpoint of a VM that has moved tells what was written before the move, too, or is told as lost."""
    if not lab.place.second_host:
        not_applicable("[hypervisor] names no second_host")
    vm, moves = lab.place.vm, lab.driver
    assert isinstance(moves, MigratesVms)
    with BackupLab.open(lab, vm) as backups:
        lab.introduce(backups.disk, host=lab.place.second_host)
        backups.guest_writes()
        base = backups.take()
        told = backups.driver.checkpoints(vm, lab.call())
        backups.guest_writes()
        for host in (lab.place.second_host, lab.place.host):
            moves.migrate_vm(vm, host, lab.call())
            backups.driver.restore_checkpoints(vm, told, lab.call())
            must_be_lost_or_sound(backups, base, f"after its VM was moved to {host}")


@check(
    "inc.backup_after_resize",
    rule="backup.changed",
    needs=(Backups, ResizesDisks),
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="abbbi/virtnbdbackup#109: an increment over a resize was cut at the old size",
)
def check_backup_after_resize(lab: HostLab) -> None:
    """When the disk has grown between two cuts, what was written behind its old end is reported as well."""
    vm, grows = lab.place.vm, lab.driver
    assert isinstance(grows, ResizesDisks)
    with BackupLab.open(lab, vm) as backups:
        backups.guest_writes()
        base = backups.take()
        size = 2 * backups.disk.size
        grows.resize_disk(vm, backups.device, size, lab.call())
        backups.disk = backups.disk.grown(size)
        backups.guest_writes()
        if base.checkpoint not in backups.known():
            with refused(NotFound):
                backups.begin(base.checkpoint)
            return
        target = backups.take(base)
        must(len(target.data) == size, f"the disk has {size} bytes, the export {len(target.data)}")
        must_be_sound(base, target, "over a resize")


@check(
    "inc.backup_after_revert",
    rule="backup.changed",
    needs=NEEDS,
    kinds=HYPERVISOR,
    tier=Tier.STANDARD,
    field_bug="OpenNebula/one#6741: after a restore in place the bitmaps no longer fitted the disks",
)
def check_backup_after_revert(lab: HostLab) -> None:
    """After a revert of the VM the delta since an older checkpoint tells all that it put back, or it is lost.

    A revert changes a disk behind its bitmaps. Who does not take them away makes an increment that lacks
    the whole revert.
    """
    vm = lab.place.stopped_vm
    with BackupLab.open(lab, vm) as backups:
        snapshot = lab.vm_snapshot(vm, memory=False)
        backups.disk.write(2)
        base = backups.take()
        lab.revert(vm, snapshot)
        must_be_lost_or_sound(backups, base, "after a revert")
