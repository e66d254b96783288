"""Snapshots over time: chains, reverts, limits, and what may not be done to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ...core.dataplane import open_sink
from ...core.spi import (
    Conflict,
    DirectSnapshotRead,
    InUse,
    LimitExceeded,
    Location,
    NbdLocation,
    NotFound,
    Resizes,
    Reverts,
    Snapshot,
    Snapshots,
    StorageError,
    Volume,
)
from ...transfer_objects.ids import SnapshotId, new_id
from .. import pattern
from ..lab import Lab, expected, must, not_applicable, refused
from ..model import Tier
from ..registry import check
from ._operations import SIZE, written

_DEEPEST = 32  # of a chain that is read at each point
_MOST = 2000  # snapshots that a check makes to reach a limit
_BROKEN_CHAIN = "cloudstack#9446: deleting the newest snapshot broke the chain"


def _chain(lab: Lab, length: int) -> tuple[Volume, list[Snapshot]]:
    """Return a volume and snapshots of its generations 1, 2, 3…; it ends one generation later."""
    volume, taken = lab.volume(SIZE), []
    for generation in range(1, length + 1):
        lab.write(volume, generation)
        taken.append(lab.snapshot(volume.id))
    lab.write(volume, length + 1)
    return volume, taken


def _delete_and_verify(lab: Lab, length: int, doomed: Sequence[int]) -> None:
    """Delete some of a chain; the others and the volume hold what they held."""
    volume, taken = _chain(lab, length)
    for index in doomed:
        lab.pool.snapshots.delete(taken[index].id)
    left = {s.id for s in lab.pool.snapshots.list(volume.id)}
    kept = {index: s for index, s in enumerate(taken) if index not in doomed}
    must(left == {s.id for s in kept.values()}, f"of {length} snapshots {len(left)} are left: {sorted(left)}")
    for index, snapshot in kept.items():
        lab.verify_snapshot(snapshot.id, volume.id, expected(SIZE, index + 1))
    lab.verify(volume.id, expected(SIZE, length + 1))


@check(
    "snap.delete_newest_keeps_chain",
    rule="snap.delete-keeps-others",
    needs=(Snapshots,),
    tier=Tier.STANDARD,
    field_bug=_BROKEN_CHAIN,
)
def check_delete_newest_keeps_chain(lab: Lab) -> None:
    """Deleting the newest of three snapshots leaves the older two and the volume as they were."""
    _delete_and_verify(lab, 3, [2])


@check(
    "snap.delete_oldest_keeps_chain", rule="snap.delete-keeps-others", needs=(Snapshots,), tier=Tier.STANDARD
)
def check_delete_oldest_keeps_chain(lab: Lab) -> None:
    """Deleting the oldest of three snapshots, on which the others may rest, leaves them as they were."""
    _delete_and_verify(lab, 3, [0])


@check("snap.chain_deep", rule="snap.immutable", needs=(Snapshots,), tier=Tier.DEEP)
def check_chain_deep(lab: Lab) -> None:
    """Of a long chain each snapshot holds its own moment, also after every second one is deleted."""
    length = min(_DEEPEST, lab.pool.traits.max_snapshots_per_volume or _DEEPEST)
    _delete_and_verify(lab, length, range(1, length, 2))


@check("snap.limit_reached_typed", rule="any.taxonomy", needs=(Snapshots,), tier=Tier.DEEP)
def check_limit_reached_typed(lab: Lab) -> None:
    """One snapshot more than the traits allow gives `LimitExceeded`; after a delete there is room again.

    An orchestrator that gets another error here tries for ever, instead of deleting its oldest.
    """
    limit = lab.pool.traits.max_snapshots_per_volume
    if limit is None or limit > _MOST:
        not_applicable(f"traits.max_snapshots_per_volume is {limit}")
    volume = written(lab)
    first, *_ = [lab.snapshot(volume.id) for _ in range(limit)]
    over = SnapshotId(new_id(lab.prefix))
    with refused(LimitExceeded):
        lab.pool.snapshots.create(volume.id, over)
    with refused(NotFound):
        lab.pool.snapshots.get(over)
    lab.pool.snapshots.delete(first.id)
    lab.pool.snapshots.create(volume.id, over)


@check("snap.readonly", rule="snap.read-only", needs=(Snapshots, DirectSnapshotRead), tier=Tier.STANDARD)
def check_readonly(lab: Lab) -> None:
    """The location of a snapshot is read-only, and a network export refuses a client that writes anyway.

    A file's owner can always write to it, so for files the statement has to do.
    """
    volume = written(lab)
    snapshot = lab.snapshot(volume.id)
    location = lab.pool.snapshots.locate(snapshot.id)
    must(location.read_only, "the location of a snapshot is not read-only")
    _try_to_write(location, volume)
    lab.verify_snapshot(snapshot.id, volume.id, expected(SIZE, 1))


def _try_to_write(location: Location, volume: Volume) -> None:
    if isinstance(location, NbdLocation):
        try:
            with open_sink(dataclasses.replace(location, read_only=False), timeout=10) as sink:
                sink.write(0, pattern.block(volume.id, 0, 2))
                sink.flush()
        except StorageError:
            pass


@check("snap.while_attached", rule="snap.point-in-time", needs=(Snapshots,), tier=Tier.STANDARD)
def check_while_attached(lab: Lab) -> None:
    """A snapshot of a volume that a host writes to holds what was flushed before, and nothing later.

    The host stays attached throughout. A failure with an older generation means that acknowledged
    writes sat in a cache that the snapshot does not see.
    """
    if not lab.pool.traits.snapshot_while_attached:
        not_applicable("traits.snapshot_while_attached is False")
    volume = lab.volume(SIZE)
    taken = []
    with lab.mover.writing_volume(lab.pool, volume.id) as sink:
        for generation in (1, 2):
            sink.write(0, pattern.block(volume.id, 0, generation))
            sink.flush()
            taken.append(lab.snapshot(volume.id))
        sink.write(0, pattern.block(volume.id, 0, 3))
        sink.flush()
    for generation, snapshot in enumerate(taken, start=1):
        lab.verify_snapshot(snapshot.id, volume.id, {0: generation})
    lab.verify(volume.id, {0: 3})


@check("snap.same_name_other_volume", rule="snap.same-id", needs=(Snapshots,), tier=Tier.STANDARD)
def check_same_name_other_volume(lab: Lab) -> None:
    """The id of a snapshot is refused on another volume, and both volumes keep the snapshots they have."""
    one, other = written(lab), written(lab)
    snapshot = lab.snapshot(one.id)
    with refused(Conflict):
        lab.pool.snapshots.create(other.id, snapshot.id)
    must(not list(lab.pool.snapshots.list(other.id)), "the refused snapshot is listed all the same")
    must([s.id for s in lab.pool.snapshots.list(one.id)] == [snapshot.id], "the first snapshot is not listed")
    must(lab.pool.snapshots.get(snapshot.id).volume == one.id, "the snapshot changed its volume")
    lab.verify_snapshot(snapshot.id, one.id, expected(SIZE, 1))


@check("snap.revert_resized", rule="rev.exact", needs=(Snapshots, Reverts, Resizes), tier=Tier.STANDARD)
def check_revert_resized(lab: Lab) -> None:
    """Reverting a volume that has grown gives it the snapshot's size back, and the host sees it.

    A revert that keeps the new size leaves blocks of today behind the file system's end.
    """
    volume = written(lab)
    snapshot = lab.snapshot(volume.id)
    grown = lab.pool.volumes.resize(volume.id, 2 * SIZE)
    lab.write(grown, 2)
    reverted = lab.pool.volumes.revert(volume.id, snapshot.id)
    must(reverted.size == SIZE, f"revert returned the size {reverted.size} instead of {SIZE}")
    must(lab.size_seen(volume.id) == SIZE, f"a host sees {lab.size_seen(volume.id)} bytes")
    lab.verify(volume.id, expected(SIZE, 1))
    again = lab.pool.volumes.resize(volume.id, 2 * SIZE)
    lab.verify(again.id, {SIZE: None, 2 * SIZE - pattern.BLOCK: None})


@check(
    "snap.revert_granted",
    rule="rev.attached",
    kinds=("managed",),
    needs=(Snapshots, Reverts),
    tier=Tier.STANDARD,
)
def check_revert_granted(lab: Lab) -> None:
    """A volume that a host has is reverted if the traits say so; else that is `InUse`, and nothing changes.

    Swapping the blocks below a mounted file system destroys it.
    """
    volume, host = written(lab), lab.host()
    snapshot = lab.snapshot(volume.id)
    lab.write(volume, 2)
    lab.pool.volumes.grant(volume.id, host)
    if lab.pool.traits.revert_while_attached:
        lab.pool.volumes.revert(volume.id, snapshot.id)
    else:
        with refused(InUse):
            lab.pool.volumes.revert(volume.id, snapshot.id)
    lab.pool.volumes.revoke(volume.id, host.id)
    lab.verify(volume.id, expected(SIZE, 1 if lab.pool.traits.revert_while_attached else 2))


@check("snap.revert_forth_and_back", rule="rev.keeps-newer", needs=(Snapshots, Reverts), tier=Tier.STANDARD)
def check_revert_forth_and_back(lab: Lab) -> None:
    """Where newer snapshots survive a revert, the volume can be brought forward to them again."""
    if not lab.pool.traits.revert_keeps_newer:
        not_applicable("traits.revert_keeps_newer is False")
    volume, taken = _chain(lab, 3)
    for index in (0, 2, 1):
        lab.pool.volumes.revert(volume.id, taken[index].id)
        lab.verify(volume.id, expected(SIZE, index + 1))
    for index, snapshot in enumerate(taken):
        lab.verify_snapshot(snapshot.id, volume.id, expected(SIZE, index + 1))
