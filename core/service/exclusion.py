"""What must not be done to a volume at the same time; one rule for the services of volumes and of snapshots.

    of a snapshot                     meanwhile its volume is not
    Creating     it is cut            worked on at all
    reverting    the volume is        worked on at all; what a dead one has half reverted is deleted
    BackingUp    it is archived       deleted; where the pool is not managed, resized or attached neither

An archive of a managed pool takes hours and does not touch the volume: it reads the snapshot itself or a
clone of it, a LUN of its own with its own size and grants. So volumes go to VMs and grow meanwhile. Deleting
one is another matter: there are arrays whose snapshots go with their volume. Where nothing is managed, what
is read may be in the volume's very file, which a VM locks, and a resize rewrites.

Both stand in the catalog before any backend hears of them, so each side looks for the other in the very
transaction that writes its own down: whoever comes second is refused, on whatever machine, dead or alive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..catalog.snapshots import SnapshotRecord, SnapshotState
from ..catalog.works import WorkRow
from ..spi import Busy
from .snapshots_tables import SnapshotUse, UseKind

ARCHIVE_EXCLUDES = frozenset({"delete", "resize", "attach"})
ARCHIVE_EXCLUDES_MANAGED = frozenset({"delete"})
_DOING = {SnapshotState.CREATING: "made", SnapshotState.BACKING_UP: "archived"}


def meets_archive(act: str, details: Mapping[str, Any]) -> bool:
    """Tell whether an act on a volume and an archive of its snapshots keep each other out."""
    return act in (ARCHIVE_EXCLUDES_MANAGED if details.get("managed") else ARCHIVE_EXCLUDES)


def refuse_while_snapshot_acts(session: Session, volume: str, act: str, details: Mapping[str, Any]) -> None:
    """Keep an act on a volume from meeting one on its snapshots.

    Args:
        details: of the act; `managed` tells of the pool, and `ends_revert` that whoever acts has the claim of
            the volume, so that a revert there is a dead one's, which nobody needs any more.

    Raises:
        Busy: names the snapshot, and what is done with it.
    """
    use = session.get(SnapshotUse, (UseKind.REVERT, volume))
    if use is not None:
        if not details.get("ends_revert"):
            raise _busy(f"volume {volume} is being reverted to snapshot {use.snapshot}")
        session.delete(use)
    states = list(_DOING) if meets_archive(act, details) else [SnapshotState.CREATING]
    chosen = select(SnapshotRecord).where(SnapshotRecord.volume == volume, SnapshotRecord.state.in_(states))
    found = session.scalar(chosen.limit(1))
    if found is not None:
        raise _busy(f"snapshot {found.id} of volume {volume} is being {_DOING[found.state]}")


def half_reverted(catalog: Catalog, volume: str) -> bool:
    """Tell whether a revert of a volume was begun, by the living or the dead."""
    with catalog.reading() as session:
        return session.get(SnapshotUse, (UseKind.REVERT, volume)) is not None


def refuse_while_made_of_snapshot(session: Session, volume: str) -> None:
    """Keep a volume from being created while one of this id is made of a snapshot.

    Raises:
        Busy: names the snapshot.
    """
    use = session.get(SnapshotUse, (UseKind.VOLUME, volume))
    if use is not None and not use.finished:
        raise _busy(f"volume {volume} is being made of snapshot {use.snapshot}")


def refuse_while_volume_acts(session: Session, volume: str, *, archiving: bool = False) -> None:
    """Keep an act on snapshots from meeting one on their volume.

    Raises:
        Busy: names the act.
    """
    row = session.get(WorkRow, ("volume", volume))
    if row is not None and (not archiving or meets_archive(row.act, row.details)):
        raise _busy(f"volume {volume}: {row.act} is under way")


def check_volume_free(catalog: Catalog, volume: str) -> None:
    """Refuse early, before anything is asked; the transaction that begins the act looks again.

    Raises:
        Busy: see `refuse_while_volume_acts`.
    """
    with catalog.reading() as session:
        refuse_while_volume_acts(session, volume)


def _busy(what: str) -> Busy:
    return Busy(f"{what}; if its process died, a sync ends it", retry_after=1.0)
