"""Random histories of a primary pool: which steps there are, and when they make sense."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from ...core.spi import (
    AccessControl,
    Adopts,
    Capability,
    ChangedBlocks,
    ClonesVolume,
    HasQos,
    Resizes,
    Reverts,
    Snapshots,
    Traits,
    VolumeFromSnapshot,
)
from ..lab import MIB, Lab
from .planner import Act, Kind, Planner, Watch
from .pool_model import GOOD, PoolModel
from .pool_player import CELLS_PER_UNIT, PoolPlayer

_VOLUMES = st.sampled_from(("v0", "v1", "v2"))
_SNAPSHOTS = st.sampled_from(("s0", "s1", "s2"))
_HOSTS = st.sampled_from(("h0", "h1"))
_UNITS = st.sampled_from((1, 1, 2, 2, 3))
_PLACES = st.lists(st.integers(min_value=0, max_value=3 * CELLS_PER_UNIT - 1), min_size=1, max_size=4)
# Stands for one of the objects that there are; 0 for the first.
_PICK = st.integers(min_value=0, max_value=2)
_MOSTLY = st.sampled_from((True, True, True, False))


# What comes first is what Hypothesis prefers.
_KINDS = (
    Kind(5, "write", (), "volumes", {"pick": _PICK, "places": _PLACES}),
    Kind(4, "snapshot", (Snapshots,), "", {"volume": _VOLUMES, "snapshot": _SNAPSHOTS}),
    Kind(2, "create", (), "", {"volume": _VOLUMES, "units": _UNITS}),
    Kind(2, "clone", (ClonesVolume,), "volumes", {"pick": _PICK, "volume": _VOLUMES, "units": _UNITS}),
    Kind(
        3,
        "from_snapshot",
        (Snapshots, VolumeFromSnapshot),
        "snapshots",
        {"pick": _PICK, "volume": _VOLUMES, "units": _UNITS},
    ),
    Kind(3, "revert", (Snapshots, Reverts), "snapshots", {"pick": _PICK, "own": _MOSTLY, "volume": _VOLUMES}),
    Kind(3, "changed", (Snapshots, ChangedBlocks), "snapshots", {"pick": _PICK, "since": _PICK}),
    Kind(2, "resize", (Resizes,), "", {"volume": _VOLUMES, "units": _UNITS}),
    Kind(2, "delete_snapshot", (Snapshots,), "snapshots", {"snapshot": _SNAPSHOTS}),
    Kind(2, "delete", (), "", {"volume": _VOLUMES}),
    Kind(
        1,
        "discard",
        (),
        "volumes",
        {"pick": _PICK, "quarter": st.integers(0, 3), "cells": st.sampled_from((1, 4, 16))},
    ),
    Kind(1, "set_qos", (HasQos,), "", {"volume": _VOLUMES, "max_iops": st.sampled_from((1000, 5000, None))}),
    Kind(1, "readopt", (Adopts,), "volumes", {"pick": _PICK, "under": _VOLUMES}),
    Kind(2, "grant", (AccessControl,), "", {"volume": _VOLUMES, "host": _HOSTS, "read_only": st.booleans()}),
    Kind(2, "revoke", (AccessControl,), "", {"volume": _VOLUMES, "host": _HOSTS}),
    Kind(2, "again"),
)


def unit_of(traits: Traits) -> int:
    """Return the bytes that all sizes are multiples of: 1 MiB, or more where volumes must be larger."""
    step = math.lcm(CELLS_PER_UNIT * 4096, traits.size_granularity)
    return -(-max(MIB, traits.min_size) // step) * step


class PoolPlanner(Planner):
    """One history: the model says how a step must end; the player does it when all are drawn."""

    kinds = _KINDS

    def __init__(self, lab: Lab, watch: Watch) -> None:
        super().__init__(watch)
        self._last: Act | None = None
        self._able: frozenset[Capability] = lab.pool.capabilities().native
        self._model = PoolModel(lab.pool.traits)
        self._traits = lab.pool.traits
        self._unit = unit_of(lab.pool.traits)
        self._player = PoolPlayer(lab.pool, lab.mover, lab.prefix, self._unit, lab.host)
        self._generation = 0
        self.create("v0", 1)  # most acts are dull without a volume

    def can(self, kind: Kind) -> bool:
        """Tell whether the driver has the abilities, and the objects are there."""
        there = {"": True, "volumes": bool(self._model.volumes), "snapshots": bool(self._model.snapshots)}
        return there[kind.on] and all(mixin.provides in self._able for mixin in kind.needs)

    def do(self, act: Act) -> None:
        """Plan an act, and remember it for `again`."""
        super().do(act)
        if act.kind.name != "again":
            self._last = act

    def again(self) -> None:
        """Do the last step once more: every operation is repeatable."""
        if self._last is not None and self.can(self._last.kind):
            getattr(self, self._last.kind.name)(**self._last.given)

    # -- volumes -----------------------------------------------------------------------------------------

    def create(self, volume: str, units: int) -> None:
        """Create a volume, or ask for it again."""
        size = units * self._unit
        expect = self._model.create(volume, size)
        self.plan(self._player.create, volume, size, shows=self._size(volume), expect=expect)
        self._look(volume)

    def clone(self, pick: int, volume: str, units: int) -> None:
        """Clone; of a volume onto itself the contract says nothing."""
        source = self._picked(pick)
        if source == volume:
            return
        size = units * self._unit
        expect = self._model.clone(source, volume, size)
        self.plan(self._player.clone, source, volume, size, shows=self._size(volume), expect=expect)
        self._look(volume)

    def from_snapshot(self, pick: int, volume: str, units: int) -> None:
        """Make a volume from a snapshot."""
        snapshot = self._picked_snapshot(pick)
        size = units * self._unit
        expect = self._model.from_snapshot(snapshot, volume, size)
        shows = self._size(volume)
        self.plan(self._player.from_snapshot, snapshot, volume, size, shows=shows, expect=expect)
        self._look(volume)

    def delete(self, volume: str) -> None:
        """Delete, also what is not there or in use."""
        self.plan(self._player.delete, volume, expect=self._model.delete(volume))
        self._look(volume)

    def resize(self, volume: str, units: int) -> None:
        """Resize, also to less."""
        size = units * self._unit
        expect = self._model.resize(volume, size)
        self.plan(self._player.resize, volume, size, shows=self._size(volume), expect=expect)
        self._look(volume)

    def write(self, pick: int, places: list[int]) -> None:
        """Write some blocks through a host."""
        volume = self._picked(pick)
        if self._model.writable(volume):
            self._generation += 1
            cells = self._size(volume) // self._stride
            offsets = sorted({place % cells * self._stride for place in places})
            self._model.write(volume, offsets, self._generation)
            self.plan(self._player.write, volume, offsets, self._generation)

    def discard(self, pick: int, quarter: int, cells: int) -> None:
        """Zero a range through a host."""
        volume = self._picked(pick)
        if self._model.writable(volume):
            offset = quarter * 4 * self._stride
            length = min(cells * self._stride, self._size(volume) - offset)
            self._model.discard(volume, offset, length)
            self.plan(self._player.discard, volume, offset, length)

    def set_qos(self, volume: str, max_iops: int | None) -> None:
        """Limit a volume's rate."""
        expect = self._model.set_qos(volume, max_iops)
        self.plan(self._player.set_qos, volume, max_iops, expect=expect)
        self._look(volume)

    def readopt(self, pick: int, under: str) -> None:
        """Give a volume back and take it over, where nothing hangs on it."""
        volume = self._picked(pick)
        free = under == volume or under not in self._model.volumes
        hangs = self._model.volumes[volume].grants or self._model.snapshots_of(volume)
        if free and not hangs and not self._traits.clone_depends_on_source:
            self._model.readopt(volume, under)
            self.plan(self._player.readopt, volume, under, self._size(under))
            self._look(under)

    # -- snapshots ---------------------------------------------------------------------------------------

    def snapshot(self, volume: str, snapshot: str) -> None:
        """Take a snapshot, or ask for it again."""
        present = self._model.volumes.get(volume)
        if present is not None and present.grants and not self._traits.snapshot_while_attached:
            return  # whether a grant without a session counts as attached, the contract leaves open
        expect = self._model.snapshot(volume, snapshot)
        shows = self._model.snapshots[snapshot].size if expect == GOOD else 0
        self.plan(self._player.snapshot, volume, snapshot, shows=shows, expect=expect)
        self._look_snapshot(snapshot)

    def delete_snapshot(self, snapshot: str) -> None:
        """Delete a snapshot, also one that is not there."""
        if self._model.may_delete_snapshot(snapshot):
            self._model.delete_snapshot(snapshot)
            self.plan(self._player.delete_snapshot, snapshot)
            self._look_snapshot(snapshot)

    def revert(self, pick: int, volume: str, *, own: bool) -> None:
        """Revert; what was newer and may be gone now is deleted, so that the state is known."""
        snapshot = self._picked_snapshot(pick)
        volume = self._model.snapshots[snapshot].volume if own else volume
        expect = self._model.revert(volume, snapshot)
        self.plan(self._player.revert, volume, snapshot, shows=self._size(volume), expect=expect)
        self._look(volume)
        if expect == GOOD and not self._traits.revert_keeps_newer:
            for newer in self._model.newer_than(snapshot):
                self._model.delete_snapshot(newer)
                self.plan(self._player.delete_snapshot, newer)

    def changed(self, pick: int, since: int) -> None:
        """Ask what changed since an older snapshot of the same volume, or since ever."""
        target = self._picked_snapshot(pick)
        cut = self._model.snapshots[target]
        bases = [
            None,
            *(s for s in self._model.snapshots_of(cut.volume) if target in self._model.newer_than(s)),
        ]
        base = bases[since % len(bases)]
        self.plan(
            self._player.changed,
            base,
            target,
            differing=self._model.differing(base, target),
            holding=self._model.holding(target),
            expect=self._model.changed(base, target),
        )

    # -- access ------------------------------------------------------------------------------------------

    def grant(self, volume: str, host: str, *, read_only: bool) -> None:
        """Grant."""
        expect = self._model.grant(volume, host, read_only=read_only)
        self.plan(self._player.grant, volume, host, read_only=read_only, expect=expect)
        self._look_grants(volume)

    def revoke(self, volume: str, host: str) -> None:
        """Revoke, also what was never granted."""
        self._model.revoke(volume, host)
        self.plan(self._player.revoke, volume, host)
        self._look_grants(volume)

    # -- invariants, and the end -------------------------------------------------------------------------

    def clean(self) -> None:
        """Remove what was made."""
        self._player.clean()

    def finish(self) -> None:
        """List and read all that there is."""
        model = self._model
        self.plan(self._player.listed, sorted(model.volumes))
        for name, volume in sorted(model.volumes.items()):
            for host in sorted(volume.grants):
                self.plan(self._player.revoke, name, host)
            if Capability.SNAPSHOTS in self._able:
                self.plan(self._player.snapshots_listed, name, sorted(model.snapshots_of(name)))
            self.plan(self._player.read, name, volume.size, dict(sorted(volume.cells.items())))
        for name, snapshot in sorted(model.snapshots.items()):
            self.plan(self._player.read_snapshot, name, snapshot.size, dict(sorted(snapshot.cells.items())))

    def _look(self, volume: str) -> None:
        present = self._model.volumes.get(volume)
        self.plan(
            self._player.look,
            volume,
            present.size if present else None,
            present.max_iops if present else None,
        )

    def _look_snapshot(self, snapshot: str) -> None:
        present = self._model.snapshots.get(snapshot)
        self.plan(
            self._player.look_snapshot,
            snapshot,
            present.volume if present else None,
            present.size if present else 0,
        )

    def _look_grants(self, volume: str) -> None:
        if volume in self._model.volumes:
            grants = dict(self._model.volumes[volume].grants)
            self.plan(self._player.grants_listed, volume, grants)

    @property
    def _stride(self) -> int:
        return self._unit // CELLS_PER_UNIT

    def _size(self, volume: str) -> int:
        present = self._model.volumes.get(volume)
        return present.size if present else 0

    def _picked(self, pick: int) -> str:
        present = sorted(self._model.volumes)
        return present[pick % len(present)]

    def _picked_snapshot(self, pick: int) -> str:
        present = sorted(self._model.snapshots)
        return present[pick % len(present)]
