"""Several volumes of a VM snapshotted together, and single ones with a quiesced guest."""

from __future__ import annotations

import threading
import time

from ...core.spi import (
    InUse,
    NotFound,
    QuiescedSnapshots,
    Snapshots,
    StorageError,
    VmSnapshots,
    VmSnapshotTaken,
    Volume,
)
from ...transfer_objects.ids import SnapshotId, VolumeId, new_id
from .. import pattern
from ..lab import Lab, expected, must, not_applicable, refused
from ..model import Level, Tier
from ..registry import check
from ._bytes import snapshot_bytes
from ._operations import SIZE, vm, written

NEEDS = (VmSnapshots, Snapshots)
_ROUNDS = 5
_LONGEST_FREEZE = 10.0  # seconds; VSS gives up after that


def _three(lab: Lab) -> tuple[list[Volume], list[VolumeId]]:
    volumes = [written(lab) for _ in range(3)]
    return volumes, [v.id for v in volumes]


@check("group.members_are_snapshots", rule="snap.point-in-time", needs=NEEDS, tier=Tier.STANDARD)
def check_members_are_snapshots(lab: Lab) -> None:
    """Each volume of the VM has one member, that is a snapshot like any other and holds the moment.

    Archiving and restoring a VM's disks works on the members one by one.
    """
    volumes, ids = _three(lab)
    taken = lab.pool.vm_snapshots.take(ids, vm(lab))
    for volume in volumes:
        lab.write(volume, 2)
    must(isinstance(taken.need_unquiesce, bool), f"need_unquiesce is {taken.need_unquiesce!r}")
    must(len(set(taken.members.values())) == len(ids), f"members are not distinct: {taken.members}")
    for own, member in taken.members.items():
        found = lab.pool.snapshots.get(member)
        must((found.volume, found.size) == (own, SIZE), f"the member of {own} is {found}")
        must(member in {s.id for s in lab.pool.snapshots.list(own)}, f"{member} is not listed")
        lab.verify_snapshot(member, own, expected(SIZE, 1))


@check("group.one_or_none", rule="vms.one-or-none", needs=NEEDS, tier=Tier.STANDARD)
def check_one_or_none(lab: Lab) -> None:
    """When one volume of the VM is not there, none of the others keeps a member of the failed snapshot.

    Half a VM snapshot restores a database without its log.
    """
    _, ids = _three(lab)
    wanted = vm(lab)
    with refused(NotFound):
        lab.pool.vm_snapshots.take([*ids[:2], lab.new_id(), ids[2]], wanted)
    for volume in ids:
        left = [s.id for s in lab.pool.snapshots.list(volume)]
        must(not left, f"{volume} keeps {left} of the VM snapshot that failed")
    taken = lab.pool.vm_snapshots.take(ids, wanted)
    must(set(taken.members) == set(ids), "the same VM snapshot cannot be taken afterwards")


@check("group.revert_all", rule="vms.revert-again", needs=NEEDS, tier=Tier.STANDARD)
def check_revert_all(lab: Lab) -> None:
    """Reverting a VM puts every volume back to the moment, and snapshots of their own stay.

    A second revert finds nothing to do, which is what a repeat after a crash relies on.
    """
    volumes, ids = _three(lab)
    taken = vm(lab)
    own = lab.snapshot(ids[0])
    lab.pool.vm_snapshots.take(ids, taken)
    for generation in (2, 3):
        for volume in volumes:
            lab.write(volume, generation)
        lab.pool.vm_snapshots.revert(ids, taken)
        for each in ids:
            lab.verify(each, expected(SIZE, 1))
    lab.verify_snapshot(own.id, ids[0], expected(SIZE, 1))


@check(
    "group.revert_granted_changes_none",
    rule="rev.attached",
    kinds=("managed",),
    needs=NEEDS,
    tier=Tier.STANDARD,
)
def check_revert_granted_changes_none(lab: Lab) -> None:
    """When a host still has the last volume, reverting the VM is `InUse`, and no volume was put back.

    The error says "not applied": a caller that believes it must not find half of the disks in the past.
    """
    if lab.pool.traits.revert_while_attached:
        not_applicable("traits.revert_while_attached is True")
    volumes, ids = _three(lab)
    taken, host = vm(lab), lab.host()
    lab.pool.vm_snapshots.take(ids, taken)
    for volume in volumes:
        lab.write(volume, 2)
    lab.pool.volumes.grant(ids[-1], host)
    with refused(InUse):
        lab.pool.vm_snapshots.revert(ids, taken)
    lab.pool.volumes.revoke(ids[-1], host.id)
    for each in ids:
        lab.verify(each, expected(SIZE, 2))


@check("group.delete_again_ok", rule="any.missing-ok", needs=NEEDS, tier=Tier.STANDARD)
def check_delete_again_ok(lab: Lab) -> None:
    """Deleting a VM snapshot removes all members and nothing else, also when one has gone before."""
    _, ids = _three(lab)
    first, second = vm(lab), vm(lab)
    kept = lab.pool.vm_snapshots.take(ids, first)
    gone = lab.pool.vm_snapshots.take(ids, second)
    lab.pool.snapshots.delete(gone.members[ids[1]])
    for _ in range(2):
        lab.pool.vm_snapshots.delete(ids, second)
    for volume in ids:
        left = [s.id for s in lab.pool.snapshots.list(volume)]
        must(
            left == [kept.members[volume]], f"{volume} has {left}, of the other VM snapshot it should be one"
        )
        lab.verify(volume, expected(SIZE, 1))


class _Writer:
    """A host that counts up on two volumes in turn, so that a torn cut shows."""

    def __init__(self, lab: Lab, volumes: list[Volume]) -> None:
        self._lab = lab
        self._volumes = volumes
        self._stop = threading.Event()
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conformance-writer")
        self.error: StorageError | None = None

    def __enter__(self) -> None:
        self._thread.start()
        self._began.wait(30)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        one, two = self._volumes
        mover, pool = self._lab.mover, self._lab.pool
        try:
            with mover.writing_volume(pool, one.id) as first, mover.writing_volume(pool, two.id) as second:
                generation = 0
                while not self._stop.is_set():
                    generation += 1
                    for volume, sink in ((one, first), (two, second)):
                        sink.write(0, pattern.block(volume.id, 0, generation))
                        sink.flush()
                    self._began.set()
        except StorageError as error:
            self.error = error
        finally:
            self._began.set()


@check("group.same_instant", rule="vms.one-or-none", needs=NEEDS, level=Level.SHOULD, tier=Tier.STANDARD)
def check_same_instant(lab: Lab) -> None:
    """All members are of one instant: a writer that goes from disk to disk never gets ahead in between.

    The interface allows cuts one after another, for then the guest is quiesced; storages that can do
    better are worth more. A failure shows how many writes lie between the cuts.
    """
    if not lab.pool.traits.snapshot_while_attached:
        not_applicable("traits.snapshot_while_attached is False")
    volumes = [lab.volume(SIZE), lab.volume(SIZE)]
    ids, writer = [v.id for v in volumes], _Writer(lab, volumes)
    taken: list[VmSnapshotTaken] = []
    with writer:
        for _ in range(_ROUNDS):
            taken.append(lab.pool.vm_snapshots.take(ids, vm(lab)))
            time.sleep(0.02)  # another phase of the writer
    if writer.error is not None:
        raise writer.error
    for cut in taken:
        first, second = (_generation(lab, cut.members[v]) for v in ids)
        must(first - second in (0, 1), f"disk 1 was cut after write {first}, disk 2 after write {second}")


def _generation(lab: Lab, snapshot: SnapshotId) -> int:
    stamp = pattern.read_stamp(snapshot_bytes(lab, snapshot)[: pattern.BLOCK])
    return stamp.generation if stamp is not None else 0


class _Guest:
    """A guest that notes when it was frozen and when it was thawed."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.frozen = 0.0
        self._since: float | None = None

    def freeze(self) -> None:
        self.steps.append("freeze")
        self._since = time.monotonic()

    def thaw(self) -> None:
        self.steps.append("thaw")
        if self._since is not None:
            self.frozen += time.monotonic() - self._since
            self._since = None

    @property
    def is_frozen(self) -> bool:
        return self._since is not None


@check(
    "group.quiesced_cut", rule="quiesce.cut-only", needs=(QuiescedSnapshots, Snapshots), tier=Tier.STANDARD
)
def check_quiesced_cut(lab: Lab) -> None:
    """The driver freezes the guest, cuts and thaws within seconds; the snapshot holds what was flushed.

    Windows' VSS thaws by itself after ten seconds, and then the snapshot is not what was asked for.
    """
    driver, volume, guest = lab.pool.require(QuiescedSnapshots), written(lab), _Guest()
    wanted = SnapshotId(new_id(lab.prefix))
    driver.create_quiesced_snapshot(volume.id, wanted, guest, lab.call())
    must("freeze" in guest.steps, "the guest was never frozen: the snapshot is not quiesced")
    must(not guest.is_frozen, "the driver returned and left the guest frozen")
    must(guest.frozen < _LONGEST_FREEZE, f"the guest was frozen for {guest.frozen:.1f} s")
    lab.write(volume, 2)
    lab.verify_snapshot(wanted, volume.id, expected(SIZE, 1))


@check(
    "group.quiesce_failure_thaws",
    rule="quiesce.thaws",
    needs=(QuiescedSnapshots, Snapshots),
    tier=Tier.STANDARD,
)
def check_quiesce_failure_thaws(lab: Lab) -> None:
    """When the cut fails, the driver itself has thawed the guest before its error arrives.

    Core thaws again, but core may be the process that dies: a guest that stays frozen is an outage.
    """
    driver, guest = lab.pool.require(QuiescedSnapshots), _Guest()
    with refused(NotFound):
        driver.create_quiesced_snapshot(lab.new_id(), SnapshotId(new_id(lab.prefix)), guest, lab.call())
    must(not guest.is_frozen, "the cut failed, and the driver left the guest frozen")
