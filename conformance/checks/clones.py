"""Volumes made of volumes and of snapshots: equal at first, and their own from then on."""

from __future__ import annotations

from ...core.spi import (
    ClonesVolume,
    HasDependents,
    InvalidArgument,
    Snapshots,
    VolumeFromSnapshot,
    VolumeSpec,
)
from ..lab import Lab, expected, must, refused, zeros
from ..model import Tier
from ..registry import check
from ._bytes import must_be_absent
from ._operations import SIZE, spec, written

_FROM_SNAPSHOT = (Snapshots, VolumeFromSnapshot)


@check("vol.clone_larger_target", rule="clone.equal", needs=(ClonesVolume,), tier=Tier.STANDARD)
def check_clone_larger_target(lab: Lab) -> None:
    """A clone may be larger than its source: a host sees its whole size, zeros behind, and writes there."""
    source = written(lab)
    clone = lab.pool.volumes.clone(source.id, spec(lab, 2 * SIZE))
    must(clone.size == 2 * SIZE, f"asked for {2 * SIZE}, got {clone.size}")
    must(lab.size_seen(clone.id) == 2 * SIZE, f"a host sees {lab.size_seen(clone.id)} bytes")
    lab.verify(clone.id, expected(SIZE, 1) | zeros(SIZE, SIZE), owner=source.id)
    lab.write(clone, 2)
    lab.verify(clone.id, expected(2 * SIZE, 2))


@check("vol.clone_smaller_refused", rule="clone.smaller", needs=(ClonesVolume,), tier=Tier.STANDARD)
def check_clone_smaller_refused(lab: Lab) -> None:
    """A clone smaller than its source is refused, and there is no volume with half of the data."""
    source, small = written(lab), spec(lab, SIZE // 2)
    with refused(InvalidArgument):
        lab.pool.volumes.clone(source.id, small)
    must_be_absent(lab, small.id, "a refused clone")


@check(
    "vol.clone_retry_is_never_empty",
    rule="clone.never-empty",
    needs=(ClonesVolume,),
    tier=Tier.STANDARD,
    field_bug="dell/csm#1425: the retry of a clone returned an empty volume",
)
def check_clone_retry_is_never_empty(lab: Lab) -> None:
    """Asking again for a clone, also after its source changed, gives the first clone with its data.

    The retry comes when the first answer was lost. A failure with zeros is data loss; one with the
    source's new data means that the clone was made anew, over what a VM may have written.
    """
    source, wanted = written(lab), spec(lab)
    lab.pool.volumes.clone(source.id, wanted)
    lab.write(source, 2)
    again = lab.pool.volumes.clone(source.id, wanted)
    lab.verify(again.id, expected(SIZE, 1), owner=source.id)
    with lab.second() as other:
        other.volumes.clone(source.id, wanted)
    lab.verify(again.id, expected(SIZE, 1), owner=source.id)


@check("vol.clone_of_clone", rule="clone.independent", needs=(ClonesVolume,), tier=Tier.STANDARD)
def check_clone_of_clone(lab: Lab) -> None:
    """A clone of a clone equals the first, and outlives a deleted one between them.

    A driver whose clones depend on their source refuses the delete with `HasDependents` instead.
    """
    source = written(lab)
    middle = lab.pool.volumes.clone(source.id, spec(lab))
    last = lab.pool.volumes.clone(middle.id, spec(lab))
    lab.write(middle, 2)
    if lab.pool.traits.clone_depends_on_source:
        with refused(HasDependents):
            lab.pool.volumes.delete(middle.id)
    else:
        lab.pool.volumes.delete(middle.id)
    lab.verify(last.id, expected(SIZE, 1), owner=source.id)
    lab.verify(source.id, expected(SIZE, 1))


@check("snap.volume_from_snapshot_larger", rule="clone.equal", needs=_FROM_SNAPSHOT, tier=Tier.STANDARD)
def check_volume_from_snapshot_larger(lab: Lab) -> None:
    """A volume made of a snapshot may be larger: the snapshot's bytes, and zeros behind."""
    source = written(lab)
    snapshot = lab.snapshot(source.id)
    made = lab.pool.volumes.from_snapshot(snapshot.id, spec(lab, 2 * SIZE))
    must(lab.size_seen(made.id) == 2 * SIZE, f"a host sees {lab.size_seen(made.id)} bytes")
    lab.verify(made.id, expected(SIZE, 1) | zeros(SIZE, SIZE), owner=source.id)


@check(
    "snap.volume_from_snapshot_not_empty",
    rule="clone.never-empty",
    needs=_FROM_SNAPSHOT,
    tier=Tier.STANDARD,
    field_bug="cloudstack#11490: a volume made of a snapshot was empty",
)
def check_volume_from_snapshot_not_empty(lab: Lab) -> None:
    """Two volumes of one snapshot hold its data each, and a retry gives the first one as its host left it."""
    source, first = written(lab), spec(lab)
    snapshot = lab.snapshot(source.id)
    made = [lab.pool.volumes.from_snapshot(snapshot.id, each) for each in (first, spec(lab))]
    for volume in made:
        lab.verify(volume.id, expected(SIZE, 1), owner=source.id)
    lab.write(made[0], 2)
    lab.pool.volumes.from_snapshot(snapshot.id, first)
    lab.verify(made[0].id, expected(SIZE, 2))
    lab.verify(made[1].id, expected(SIZE, 1), owner=source.id)


@check(
    "snap.volume_from_snapshot_outlives_it",
    rule="clone.independent",
    needs=_FROM_SNAPSHOT,
    tier=Tier.STANDARD,
)
def check_volume_from_snapshot_outlives_it(lab: Lab) -> None:
    """A volume made of a snapshot keeps each block when the snapshot and its volume are deleted.

    A driver whose copies depend on their source refuses the delete with `HasDependents` instead.
    """
    source = written(lab)
    snapshot = lab.snapshot(source.id)
    made = lab.pool.volumes.from_snapshot(snapshot.id, VolumeSpec(id=lab.new_id(), size=SIZE))
    if lab.pool.traits.clone_depends_on_source:
        with refused(HasDependents):
            lab.pool.snapshots.delete(snapshot.id)
    else:
        lab.pool.snapshots.delete(snapshot.id)
        lab.pool.volumes.delete(source.id)
    lab.verify(made.id, expected(SIZE, 1), owner=source.id)
