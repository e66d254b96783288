"""What must not be done to a volume at the same time; one rule for the services of volumes and of snapshots.

    of a snapshot                     meanwhile its volume is not
    Creating     it is cut            worked on at all
    reverting    the volume is        worked on at all
    BackingUp    it is archived       deleted, resized, attached; it may leave its VM and its hosts

Both stand in the catalog before any backend hears of them, so each side looks for the other in the very
transaction that writes its own down: whoever comes second is refused, on whatever machine, dead or alive.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..catalog import Catalog
from ..catalog.snapshots import SnapshotRecord, SnapshotState
from ..catalog.works import WorkRow
from ..spi import Busy
from .snapshots_tables import SnapshotUse, UseKind

ARCHIVE_EXCLUDES = frozenset({"delete", "resize", "attach"})
_DOING = {SnapshotState.CREATING: "made", SnapshotState.BACKING_UP: "archived"}


def refuse_while_snapshot_acts(session: Session, volume: str, act: str) -> None:
    """Keep an act on a volume from meeting one on its snapshots.

    Raises:
        Busy: names the snapshot, and what is done with it.
    """
    use = session.get(SnapshotUse, (UseKind.REVERT, volume))
    if use is not None:
        raise _busy(f"volume {volume} is being reverted to snapshot {use.snapshot}")
    states = list(_DOING) if act in ARCHIVE_EXCLUDES else [SnapshotState.CREATING]
    chosen = select(SnapshotRecord).where(SnapshotRecord.volume == volume, SnapshotRecord.state.in_(states))
    found = session.scalar(chosen.limit(1))
    if found is not None:
        raise _busy(f"snapshot {found.id} of volume {volume} is being {_DOING[found.state]}")


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
    if row is not None and (not archiving or row.act in ARCHIVE_EXCLUDES):
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
