"""Plays the steps of a history on a pool, and finds what differs from what is expected.

names in a history      v0, v1 … volumes    s0, s1 … snapshots    h0, h1 … hosts
on the backend          one fresh id for each name and player; a name that comes again has the same id

The first line of a step's docstring is also its sentence in a report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ...core.access import Mover
from ...core.dataplane import BlockSource
from ...core.journal import Journal
from ...core.mover import mover_host
from ...core.pool import Pool, open_pool
from ...core.spi import ExtentKind, Host, Qos, Snapshot, StorageError, Volume, VolumeSpec
from ...transfer_objects.ids import HostId, SnapshotId, VolumeId, new_id
from ...transfer_objects.secret import Secret
from .. import pattern
from ..settings import SuiteSettings
from .expecting import OK, Difference, Expected, expecting

CELL = 64 * 1024
CELLS_PER_UNIT = 16
# offset -> (volume that wrote the block, generation)
Cells = Mapping[int, tuple[str, int]]
_GOOD: Expected = (OK,)


class PoolPlayer:
    """Each method is one step; `expect` says how it must end, `shows` what must be seen then.

    Args:
        pool: where it plays.
        mover: reads and writes volumes as a host.
        prefix: begins all ids.
        unit: bytes; volumes are multiples of it. A sixteenth of it has one block that may be written.
        new_host: returns a host that nobody else is.
    """

    def __init__(
        self, pool: Pool, mover: Mover, prefix: str, unit: int, new_host: Callable[[], Host]
    ) -> None:
        self._pool, self._mover, self._prefix = pool, mover, prefix
        self._new_host = new_host
        self._stride = unit // CELLS_PER_UNIT
        self._ids: dict[str, str] = {}
        self._hosts: dict[str, Host] = {}
        self._identity: dict[str, str] = {}
        self._created: dict[str, datetime] = {}
        self._cut_of: dict[str, str] = {}
        self._granted: set[tuple[str, str]] = set()
        self._released: list[tuple[str, VolumeSpec]] = []

    # -- steps that change something ---------------------------------------------------------------------

    def create(self, volume: str, size: int, *, shows: int, expect: Expected = _GOOD) -> None:
        """Create {volume} with {size} bytes."""
        spec = VolumeSpec(id=self._volume(volume), size=size, name=volume)
        self._made(volume, shows, expecting(expect, lambda: self._pool.volumes.create(spec)))

    def clone(self, source: str, volume: str, size: int, *, shows: int, expect: Expected = _GOOD) -> None:
        """Clone {source} as {volume} with {size} bytes."""
        origin, spec = self._volume(source), VolumeSpec(id=self._volume(volume), size=size, name=volume)
        self._made(volume, shows, expecting(expect, lambda: self._pool.volumes.clone(origin, spec)))

    def from_snapshot(
        self, snapshot: str, volume: str, size: int, *, shows: int, expect: Expected = _GOOD
    ) -> None:
        """Make {volume} with {size} bytes from snapshot {snapshot}."""
        origin, spec = self._snapshot(snapshot), VolumeSpec(id=self._volume(volume), size=size, name=volume)
        self._made(volume, shows, expecting(expect, lambda: self._pool.volumes.from_snapshot(origin, spec)))

    def delete(self, volume: str, *, expect: Expected = _GOOD) -> None:
        """Delete {volume}."""
        expecting(expect, lambda: self._pool.volumes.delete(self._volume(volume)))
        if expect == _GOOD:
            self._identity.pop(volume, None)

    def resize(self, volume: str, size: int, *, shows: int, expect: Expected = _GOOD) -> None:
        """Resize {volume} to {size} bytes."""
        self._made(
            volume,
            shows,
            expecting(expect, lambda: self._pool.volumes.resize(self._volume(volume), size)),
        )

    def write(self, volume: str, offsets: Sequence[int], generation: int) -> None:
        """Write generation {generation} to {volume} at {offsets}, and flush."""
        owner = self._volume(volume)
        with self._mover.writing_volume(self._pool, owner) as sink:
            for at in offsets:
                sink.write(at, pattern.block(owner, at, generation))
            sink.flush()

    def discard(self, volume: str, offset: int, length: int) -> None:
        """Write zeros to {length} bytes of {volume} at {offset}, and flush."""
        with self._mover.writing_volume(self._pool, self._volume(volume)) as sink:
            sink.zero(offset, length)
            sink.flush()

    def snapshot(self, volume: str, snapshot: str, *, shows: int, expect: Expected = _GOOD) -> None:
        """Take snapshot {snapshot} of {volume}."""
        of, wanted = self._volume(volume), self._snapshot(snapshot)
        made = expecting(expect, lambda: self._pool.snapshots.create(of, wanted))
        if made is not None:
            self._check_snapshot(snapshot, volume, shows, made)

    def delete_snapshot(self, snapshot: str) -> None:
        """Delete snapshot {snapshot}."""
        expecting(_GOOD, lambda: self._pool.snapshots.delete(self._snapshot(snapshot)))
        self._created.pop(snapshot, None)

    def revert(self, volume: str, snapshot: str, *, shows: int, expect: Expected = _GOOD) -> None:
        """Revert {volume} to snapshot {snapshot}."""
        of, to = self._volume(volume), self._snapshot(snapshot)
        self._made(volume, shows, expecting(expect, lambda: self._pool.volumes.revert(of, to)))

    def grant(self, volume: str, host: str, *, read_only: bool, expect: Expected = _GOOD) -> None:
        """Grant {volume} to host {host} (read-only: {read_only})."""
        who, what = self._host(host), self._volume(volume)
        self._granted.add((volume, host))
        expecting(expect, lambda: self._pool.volumes.grant(what, who, read_only=read_only))

    def revoke(self, volume: str, host: str) -> None:
        """Revoke {volume} from host {host}."""
        who, what = self._host(host), self._volume(volume)
        expecting(_GOOD, lambda: self._pool.volumes.revoke(what, who.id))
        self._granted.discard((volume, host))

    def set_qos(self, volume: str, max_iops: int | None, *, expect: Expected = _GOOD) -> None:
        """Limit {volume} to {max_iops} operations a second."""
        what, qos = self._volume(volume), None if max_iops is None else Qos(max_iops=max_iops)
        expecting(expect, lambda: self._pool.volumes.set_qos(what, qos))

    def readopt(self, volume: str, under: str, size: int) -> None:
        """Release {volume} of {size} bytes, and adopt it as {under}."""
        volumes, old = self._pool.volumes, self._volume(volume)
        right = VolumeSpec(id=self._volume(under), size=size, name=under)
        native = volumes.release(old)
        self._released.append((native, right))
        self._identity.pop(volume, None)
        expecting(("NotFound",), lambda: volumes.get(old))
        wrong = VolumeSpec(id=right.id, size=2 * size, name=under)
        expecting(("Conflict",), lambda: volumes.adopt(native, wrong))
        self._made(under, size, volumes.adopt(native, right))
        self._released.clear()

    # -- steps that look ---------------------------------------------------------------------------------

    def look(self, volume: str, shows: int | None, max_iops: int | None = None) -> None:
        """Look at {volume}."""
        wanted = self._volume(volume)
        if shows is None:
            expecting(("NotFound",), lambda: self._pool.volumes.get(wanted))
            return
        found = self._pool.volumes.get(wanted)
        self._made(volume, shows, found)
        limit = found.qos.max_iops if found.qos else None
        _same(f"the limit of {volume}", limit, max_iops)

    def look_snapshot(self, snapshot: str, volume: str | None, shows: int = 0) -> None:
        """Look at snapshot {snapshot}."""
        wanted = self._snapshot(snapshot)
        if volume is None:
            expecting(("NotFound",), lambda: self._pool.snapshots.get(wanted))
            self._created.pop(snapshot, None)
        else:
            self._check_snapshot(snapshot, volume, shows, self._pool.snapshots.get(wanted))

    def listed(self, volumes: Sequence[str]) -> None:
        """List the volumes."""
        names = {self._volume(name): name for name in self._ids if name.startswith("v")}
        found = [names[v.id] for v in self._pool.volumes.list() if v.id in names]
        _same("the list of volumes", sorted(found), sorted(volumes))

    def snapshots_listed(self, volume: str, snapshots: Sequence[str]) -> None:
        """List the snapshots of {volume}."""
        names = {self._snapshot(name): name for name in self._ids if name.startswith("s")}
        found = [names.get(s.id, s.id) for s in self._pool.snapshots.list(self._volume(volume))]
        _same(f"the list of {volume}'s snapshots", sorted(found), sorted(snapshots))

    def grants_listed(self, volume: str, grants: Mapping[str, bool]) -> None:
        """List the grants of {volume}."""
        names = {host.id: name for name, host in self._hosts.items()}
        found = self._pool.volumes.grants(self._volume(volume))
        shown = sorted((str(names.get(g.host, g.host)), g.read_only) for g in found)
        _same(f"the grants of {volume} (host, read-only)", shown, sorted(grants.items()))

    def read(self, volume: str, size: int, cells: Cells) -> None:
        """Read {volume} and compare each block."""
        with self._mover.reading_volume(self._pool, self._volume(volume)) as source:
            self._compare(volume, volume, source, size, cells)

    def read_snapshot(self, snapshot: str, size: int, cells: Cells) -> None:
        """Read snapshot {snapshot} and compare each block."""
        with self._mover.reading_snapshot(self._pool, self._snapshot(snapshot)) as source:
            self._compare(f"snapshot {snapshot}", self._cut_of[snapshot], source, size, cells)

    def changed(
        self,
        base: str | None,
        target: str,
        *,
        differing: Sequence[int],
        holding: Sequence[int],
        expect: Expected = _GOOD,
    ) -> None:
        """Ask what changed from snapshot {base} to {target}."""
        since = self._snapshot(base) if base is not None else None
        until = self._snapshot(target)
        extents = expecting(expect, lambda: list(self._pool.snapshots.changed(since, until)))
        if extents is None:
            return
        for at in differing:
            if not all(any(e.offset <= byte < e.end for e in extents) for byte in (at, at + 4095)):
                raise Difference(f"DATA LOSS: the block at {at:#x} of {target} changed and is not reported")
        for at in holding:
            if any(e.kind is not ExtentKind.DATA and e.offset <= at < e.end for e in extents):
                raise Difference(f"the block at {at:#x} of {target} holds data and is reported as zeros")

    # -- the end -----------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Remove all that was made; what cannot be removed stays for the run's own clean-up."""
        for native, spec in self._released:
            with suppress(StorageError):
                self._pool.volumes.adopt(native, spec)
        for volume, host in self._granted:
            with suppress(StorageError):
                self._pool.volumes.revoke(self._volume(volume), self._host(host).id)
        newest_first = list(reversed(self._ids))
        for name in [name for name in newest_first if name.startswith("s")]:
            with suppress(StorageError):
                self._pool.snapshots.delete(self._snapshot(name))
        for name in [
            name for name in newest_first if name.startswith("v")
        ] * 2:  # again: for sources of clones
            with suppress(StorageError):
                self._pool.volumes.delete(self._volume(name))

    # -- names, and what is compared -----------------------------------------------------------------------

    def _volume(self, name: str) -> VolumeId:
        return VolumeId(self._ids.setdefault(name, new_id(self._prefix)))

    def _snapshot(self, name: str) -> SnapshotId:
        return SnapshotId(self._ids.setdefault(name, new_id(self._prefix)))

    def _host(self, name: str) -> Host:
        if name not in self._hosts:
            self._hosts[name] = self._new_host()
        return self._hosts[name]

    def _made(self, name: str, size: int, volume: Volume | None) -> None:
        if volume is not None:
            _same(f"the id of {name}", volume.id, self._volume(name))
            _same(f"the size of {name}", volume.size, size)
            known = self._identity.setdefault(name, volume.identity)
            _same(f"the identity of {name}", volume.identity, known)

    def _check_snapshot(self, name: str, volume: str, size: int, found: Snapshot) -> None:
        self._cut_of[name] = volume
        _same(f"the id of {name}", found.id, self._snapshot(name))
        _same(f"the volume of {name}", found.volume, self._volume(volume))
        _same(f"the size of {name}", found.size, size)
        known = self._created.setdefault(name, found.created)
        _same(f"the time at which {name} was cut", found.created, known)

    def _compare(self, what: str, volume: str, source: BlockSource, size: int, cells: Cells) -> None:
        _same(f"the size of {what} that a host sees", source.size, size)
        buffer = memoryview(bytearray(CELL))
        for at in range(0, size, self._stride):
            source.read_into(at, buffer)
            owner, generation = cells.get(at, (volume, None))
            sentence = pattern.difference(buffer[: pattern.BLOCK], self._volume(owner), at, generation)
            if not sentence and any(buffer[pattern.BLOCK :]):
                sentence = f"the bytes behind the block at {at:#x} should be zero"
            if sentence:
                raise Difference(f"{what}: {sentence}")


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Difference(f"{what} is {found}, and should be {wanted}")


def _any_host() -> Host:
    name = new_id("repro")[:40]
    secret = Secret(new_id()[:16])
    return Host(
        id=HostId(name), name=name, iqn=f"iqn.2026-11.bollard:{name}", chap_user=name, chap_secret=secret
    )


def play_on_pool(settings: SuiteSettings, unit: int, history: Callable[[PoolPlayer], None]) -> None:
    """Open the pool of a configuration, play a history on it, and clean up."""
    with (
        tempfile.TemporaryDirectory() as directory,
        open_pool("reproducer", settings.driver, settings.options) as pool,
    ):
        state = Path(directory)
        mover = Mover(host=mover_host(state), journal=Journal(state / "journal"))
        player = PoolPlayer(pool, mover, "repro", unit, _any_host)
        try:
            history(player)
        finally:
            player.clean()
