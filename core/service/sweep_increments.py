"""What crashes left of incremental snapshots, where no intent tells of it any more.

    increment      a file of a snapshot which is gone, or half a one that nobody writes
    bitmap         in the image of a volume that no VM has, of a snapshot which is gone

Ours is what bears the name of a snapshot in the catalog that was to lie on this very store; what the catalog
has never heard of is left alone. A volume with an intent, of the living or the dead, is left to the sync. All
who make files here write a ref first, so the last look is taken, and the file goes, while the catalog is
locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from sqlalchemy import select
from sqlalchemy.orm import Session

from ...transfer_objects.ids import VolumeId
from ..catalog.snapshots import Ref, RefState, SnapshotRecord, SnapshotState
from ..catalog.volumes import VolumeRecord
from ..dataplane.os_errors import os_errors
from ..site import Site
from ..snapshots import kvm
from ..spi import HasDependents, NotFound, Outcome
from ..steps import step
from .increments import DIRECTORY, POOL, IncrementSite, increments_of
from .leftovers import Leftover, Place, Run, Swept

_GONE = (SnapshotState.DESTROYED, SnapshotState.ERROR)
_MAKING = (RefState.CREATING, RefState.MIGRATING)
_PART = ".part"
_PAGE = 500  # files that are looked up at a time
_SUBDIRECTORIES = ("snapshots", "checkpoints")


def increment_places(site: Site) -> list[Place]:
    """Return what a sweep looks at; nothing is opened before that."""
    config = site.config
    roots = {f"{POOL}{name}": one.directory for name, one in config.increments.items()}
    roots |= {f"{DIRECTORY}{name}": one.path for name, one in config.directories.items()}
    return [
        *(DirectoryPlace(site=site, store=store, root=root) for store, root in roots.items()),
        *(BitmapPlace(site=site, pool=name) for name in config.increments),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryPlace:
    """A directory of increments; `store` is what refs call it."""

    site: Site
    store: str
    root: Path

    @property
    def name(self) -> str:
        """See `Place.name`."""
        return f"directory {self.root}"

    def sweep(self, run: Run) -> Iterator[Swept]:
        """See `Place.sweep`; a directory that is not there, since nothing is mounted, has nothing to tell."""
        for subdirectory in _SUBDIRECTORIES:
            old = [path for path in self._files(subdirectory) if _is_old(path, run)]
            for start in range(0, len(old), _PAGE):
                page = old[start : start + _PAGE]
                with self.site.catalog().reading() as session:
                    found = self._nobodys(session, page, self._named())
                yield from (self._file(path, run) for path in found)

    def _files(self, subdirectory: str) -> list[Path]:
        directory = self.root / subdirectory
        with os_errors(f"cannot read {directory}"):
            return sorted(directory.iterdir()) if directory.is_dir() else []

    def _file(self, path: Path, run: Run) -> Swept:
        size, age = _looks(path, run) or (0, 0.0)
        leftover = Leftover(
            place=self.name,
            kind="increment",
            name=f"{path.parent.name}/{path.name}",
            why="its snapshot is gone, or nobody writes it any more, and no intent tells of it",
            owner=f"snapshot {_snapshot(path)}",
            size=size,
            age=age,
        )

        def remove() -> str:
            named = self._named()
            with self.site.catalog().transaction() as session:
                if not _is_old(path, run) or not self._nobodys(session, [path], named):
                    return "it is needed again, or gone"
                with os_errors(f"cannot remove {path}", outcome=Outcome.UNKNOWN):
                    path.unlink(missing_ok=True)
            return ""

        return run.end(leftover, remove)

    def _named(self) -> set[str]:
        """Return the volumes that intents are about, of the living and the dead."""
        return self.site.mover().journal.named("volume")

    def _nobodys(self, session: Session, paths: Sequence[Path], named: set[str]) -> list[Path]:
        """Return the files that are those of snapshots of ours, and that neither these nor others need."""
        names = {_snapshot(path) for path in paths}
        records = session.scalars(select(SnapshotRecord).where(SnapshotRecord.id.in_(names)))
        known = {record.id: record for record in records}
        refs: dict[str, list[Ref]] = {}
        for ref in session.scalars(select(Ref).where(Ref.snapshot.in_(names))):
            refs.setdefault(ref.snapshot, []).append(ref)

        def is_nobodys(path: Path) -> bool:
            record, own = known.get(_snapshot(path)), refs.get(_snapshot(path), [])
            if record is None or record.volume in named or self.store not in {ref.store for ref in own}:
                return False
            if path.name.endswith(_PART):
                return not any(ref.state in _MAKING for ref in own)
            return record.state in _GONE and all(ref.state is RefState.DESTROYED for ref in own)

        return [path for path in paths if is_nobodys(path)]


def _snapshot(path: Path) -> str:
    return path.name.removesuffix(_PART)


def _looks(path: Path, run: Run) -> tuple[int, float] | None:
    """Return the bytes that a file takes, and the seconds since it was written; None: it is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return (found.st_blocks * 512, run.clock() - found.st_mtime) if S_ISREG(found.st_mode) else None


def _is_old(path: Path, run: Run) -> bool:
    found = _looks(path, run)
    return found is not None and found[1] >= run.older_than


@dataclass(frozen=True, slots=True, kw_only=True)
class BitmapPlace:
    """The images of a pool's volumes that no VM has; the sweep of hypervisors looks at what VMs have."""

    site: Site
    pool: str

    @property
    def name(self) -> str:
        """See `Place.name`."""
        return f"pool {self.pool}, images"

    def sweep(self, run: Run) -> Iterator[Swept]:
        """See `Place.sweep`."""
        found = self._candidates()
        if not found:
            return
        site = increments_of(self.site, self.pool)
        here = {str(one.id) for one in self.site.pool(self.pool).volumes.list()}
        for volume in sorted(found & here):
            yield from self._bitmaps(site, VolumeId(volume), run)

    def _candidates(self) -> set[str]:
        """Return the volumes with a checkpoint that is gone, as far as the catalog knows no VM of theirs."""
        gone = (
            select(SnapshotRecord.volume)
            .join(Ref, Ref.snapshot == SnapshotRecord.id)
            .where(SnapshotRecord.state.in_(_GONE), Ref.checkpoint != "", Ref.tracking.is_(False))
        )
        attached = select(VolumeRecord.id).where(VolumeRecord.vm.is_not(None))
        with self.site.catalog().reading() as session:
            return set(session.scalars(gone.where(SnapshotRecord.volume.not_in(attached)).distinct()))

    def _bitmaps(self, site: IncrementSite, volume: VolumeId, run: Run) -> Iterator[Swept]:
        tracker = self._tracker(site, volume, run)
        if tracker is None:
            return
        for name in [one.name for one in tracker.checkpoints(step(run.call))]:
            if self._is_nobodys(volume, name):
                yield self._bitmap(tracker, volume, name, run)

    def _tracker(self, site: IncrementSite, volume: VolumeId, run: Run) -> kvm.Tracker | None:
        """Return who tracks a volume, if its image has a bitmap of nobody's.

        The image first: finding the VM that has a volume may take a look at all VMs.
        """
        with suppress(NotFound, HasDependents):  # it went just now, or has overlays: which is the newest?
            own = site.volumes.own_image(volume)
            stored = kvm.ImageTracker([own.path]).checkpoints(step(run.call)) if own.format == "qcow2" else ()
            if any(self._is_nobodys(volume, one.name) for one in stored):
                return site.engine.tracker(volume)
        return None

    def _bitmap(self, tracker: kvm.Tracker, volume: VolumeId, name: str, run: Run) -> Swept:
        leftover = Leftover(
            place=self.name,
            kind="bitmap",
            name=f"{volume}/{name}",
            why="its snapshot is gone, and no other one is based on it",
            owner=f"snapshot {name}",
        )

        def remove() -> str:
            if not self._is_nobodys(volume, name):
                return "it is needed again"
            tracker.delete(name, step(run.call))
            return ""

        return run.end(leftover, remove)

    def _is_nobodys(self, volume: VolumeId, name: str) -> bool:
        if volume in self.site.mover().journal.named("volume"):
            return False
        with self.site.catalog().reading() as session:
            record = session.get(SnapshotRecord, name)
            if record is None or record.volume != volume or record.state not in _GONE:
                return False
            refs = session.scalars(select(Ref).where(Ref.snapshot == name)).all()
            return not any(ref.tracking or ref.backing_up for ref in refs)
