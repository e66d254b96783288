"""The reference model of a primary pool: what the contract lets one expect, and nothing of how it is done.

Each method takes a step and returns how it must end; where it must succeed, the model has changed. Where the
contract leaves it open (may a repeat of a create be told apart from the clone that made the volume?), more
than one end is right, and none of them changes anything: so the model always knows the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ...core.spi import Traits
from .expecting import OK, Expected

GOOD: Expected = (OK,)
_MISSING: Expected = ("NotFound",)


@dataclass(slots=True, kw_only=True)
class VolumeState:
    """A volume.

    Attributes:
        size: bytes, now.
        asked: bytes that it was created with.
        origin: what it was made from.
        cells: offset -> (volume that wrote the block there, generation); zeros elsewhere.
        grants: host -> read-only.
        reverts: how often it was put back: a change tracker may have lost its thread there.
    """

    size: int
    asked: int
    origin: str
    cells: dict[int, tuple[str, int]] = field(default_factory=dict)
    max_iops: int | None = None
    grants: dict[str, bool] = field(default_factory=dict)
    reverts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotState:
    """A snapshot; `order` grows with time, `reverts` is the volume's at the time of the cut."""

    volume: str
    size: int
    cells: dict[int, tuple[str, int]]
    order: int
    reverts: int


class PoolModel:
    """What a pool holds.

    Args:
        traits: the driver's.
    """

    def __init__(self, traits: Traits) -> None:
        self._traits = traits
        self.volumes: dict[str, VolumeState] = {}
        self.snapshots: dict[str, SnapshotState] = {}
        self._cuts = 0

    # -- volumes -----------------------------------------------------------------------------------------

    def create(self, volume: str, size: int) -> Expected:
        """An empty volume."""
        if volume in self.volumes:
            return self._again(self.volumes[volume], size, "empty")
        self.volumes[volume] = VolumeState(size=size, asked=size, origin="empty")
        return GOOD

    def clone(self, source: str, volume: str, size: int) -> Expected:
        """A copy of another volume as it is now."""
        return self._copy(self.volumes.get(source), volume, size, f"volume {source}")

    def from_snapshot(self, snapshot: str, volume: str, size: int) -> Expected:
        """A copy of a snapshot."""
        return self._copy(self.snapshots.get(snapshot), volume, size, f"snapshot {snapshot}")

    def _copy(
        self, source: VolumeState | SnapshotState | None, volume: str, size: int, origin: str
    ) -> Expected:
        refusal = _MISSING if source is None else ("InvalidArgument",) if size < source.size else ()
        if volume in self.volumes:
            return _either(self._again(self.volumes[volume], size, origin), refusal)
        if source is None or refusal:
            return refusal
        made = VolumeState(size=size, asked=size, origin=origin, cells=dict(source.cells))
        self.volumes[volume] = made
        return GOOD

    def _again(self, present: VolumeState, size: int, origin: str) -> Expected:
        """The id is taken. Whether the repeat may succeed hangs on what a driver remembers of the spec."""
        if size not in (present.size, present.asked):
            return ("Conflict",)
        untouched = present.size == present.asked and present.origin == origin
        return GOOD if untouched else (OK, "Conflict")

    def delete(self, volume: str) -> Expected:
        """A missing volume is fine."""
        present = self.volumes.get(volume)
        if present is None:
            return GOOD
        refusal = ("InUse",) if present.grants else ()
        if self._keeps(volume):
            refusal = (*refusal, "HasDependents")
        if not refusal:
            del self.volumes[volume]
            for snapshot in self.snapshots_of(volume):
                del self.snapshots[snapshot]
        return refusal or GOOD

    def _keeps(self, volume: str) -> bool:
        """Tell whether something hangs on a volume."""
        clones = any(v.origin == f"volume {volume}" for v in self.volumes.values())
        if self._traits.clone_depends_on_source and clones:
            return True
        return bool(self.snapshots_of(volume)) and not self._traits.delete_with_snapshots

    def resize(self, volume: str, size: int) -> Expected:
        """Only ever larger."""
        present = self.volumes.get(volume)
        if present is None:
            return _MISSING
        if size < present.size:
            return ("InvalidArgument",)
        present.size = size
        return GOOD

    def write(self, volume: str, offsets: Iterable[int], generation: int) -> None:
        """Blocks of a volume that this host may write."""
        self.volumes[volume].cells.update(dict.fromkeys(offsets, (volume, generation)))

    def discard(self, volume: str, offset: int, length: int) -> None:
        """Zeros in a range."""
        cells = self.volumes[volume].cells
        for at in [at for at in cells if offset <= at < offset + length]:
            del cells[at]

    def writable(self, volume: str) -> bool:
        """Tell whether one more host may be given a volume for writing."""
        return self._traits.multi_attach or False not in self.volumes[volume].grants.values()

    def set_qos(self, volume: str, max_iops: int | None) -> Expected:
        """The limit of a volume."""
        if volume not in self.volumes:
            return _MISSING
        self.volumes[volume].max_iops = max_iops
        return GOOD

    def readopt(self, volume: str, under: str) -> None:
        """Given back and taken over under a free name."""
        taken = self.volumes.pop(volume)
        taken.origin, taken.asked = "adopted", taken.size
        self.volumes[under] = taken

    # -- snapshots -----------------------------------------------------------------------------------------

    def snapshot(self, volume: str, snapshot: str) -> Expected:
        """A cut; a repeat changes nothing."""
        source, present = self.volumes.get(volume), self.snapshots.get(snapshot)
        if present is not None:
            if present.volume == volume:
                return GOOD
            return ("Conflict",) if source is not None else ("Conflict", "NotFound")
        if source is None:
            return _MISSING
        most = self._traits.max_snapshots_per_volume
        if most is not None and len(self.snapshots_of(volume)) >= most:
            return ("LimitExceeded",)
        self._cuts += 1
        self.snapshots[snapshot] = SnapshotState(
            volume=volume,
            size=source.size,
            cells=dict(source.cells),
            order=self._cuts,
            reverts=source.reverts,
        )
        return GOOD

    def delete_snapshot(self, snapshot: str) -> None:
        """A missing snapshot is fine."""
        self.snapshots.pop(snapshot, None)

    def may_delete_snapshot(self, snapshot: str) -> bool:
        """Tell whether the contract is clear: whether a clone keeps its *snapshot*, no trait says."""
        copies = any(v.origin == f"snapshot {snapshot}" for v in self.volumes.values())
        return not (copies and self._traits.clone_depends_on_source)

    def snapshots_of(self, volume: str) -> list[str]:
        """The snapshots of a volume."""
        return [name for name, snapshot in self.snapshots.items() if snapshot.volume == volume]

    def revert(self, volume: str, snapshot: str) -> Expected:
        """Bytes and size become the snapshot's."""
        target, source = self.volumes.get(volume), self.snapshots.get(snapshot)
        refusal: Expected = ()
        if target is None or source is None:
            refusal = _MISSING
        if source is not None and source.volume != volume:
            refusal = _either(refusal, ("InvalidArgument",))
        if target is not None and target.grants and not self._traits.revert_while_attached:
            refusal = _either(refusal, ("InUse",))
        if refusal or target is None or source is None:
            return refusal
        target.size, target.cells = source.size, dict(source.cells)
        target.reverts += 1
        return GOOD

    def newer_than(self, snapshot: str) -> list[str]:
        """The snapshots of the same volume that are cut later."""
        cut = self.snapshots[snapshot]
        others = self.snapshots_of(cut.volume)
        return [name for name in others if self.snapshots[name].order > cut.order]

    def holding(self, snapshot: str) -> list[int]:
        """Where a snapshot is not zero."""
        return sorted(self.snapshots[snapshot].cells)

    def differing(self, base: str | None, target: str) -> list[int]:
        """Where two snapshots differ."""
        new = self.snapshots[target]
        old = self.snapshots[base].cells if base is not None else {}
        places = old.keys() | new.cells.keys()
        return sorted(at for at in places if at < new.size and old.get(at) != new.cells.get(at))

    def changed(self, base: str | None, target: str) -> Expected:
        """Whether the backend must still know: after a revert in between it may have lost the thread."""
        lost = base is not None and self.snapshots[base].reverts != self.snapshots[target].reverts
        return (OK, *_MISSING) if lost else GOOD

    # -- access --------------------------------------------------------------------------------------------

    def grant(self, volume: str, host: str, *, read_only: bool) -> Expected:
        """One writer, unless volumes may be shared."""
        present = self.volumes.get(volume)
        if present is None:
            return _MISSING
        held = present.grants.get(host)
        others = [ro for other, ro in present.grants.items() if other != host]
        refusal: Expected = ()
        if held is not None and held is not read_only:
            refusal = ("Conflict",)
        if not read_only and False in others and not self._traits.multi_attach:
            refusal = (*refusal, "InUse")
        if not refusal:
            present.grants[host] = read_only
        return refusal or GOOD

    def revoke(self, volume: str, host: str) -> None:
        """Whatever is not there is fine."""
        if volume in self.volumes:
            self.volumes[volume].grants.pop(host, None)


def _either(one: Expected, other: Expected) -> Expected:
    return tuple(dict.fromkeys((*one, *other)))
