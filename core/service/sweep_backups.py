"""Backups that were begun and never ended, since their VM went with its host, or libvirt forgot it.

begin (ref says: backing up) ── served from a scratch file ── end (ref says: no more)

While a ref says that it is backed up, the backup is somebody's: a living one's, or the next sync's. Only
backups for checkpoints that are called like a snapshot in the catalog are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import select

from ..catalog import Catalog
from ..catalog.snapshots import Ref, RefState, SnapshotRecord
from ..spi import Backups, BegunBackup, Unsupported
from ..steps import step
from ..vm_snapshots.hypervisor import Hypervisor
from .leftovers import Leftover, Run, Swept


def unended_backups(hypervisor: Hypervisor, catalog: Catalog, run: Run) -> Iterator[Swept]:
    """Yield each backup that nobody will end, with its end; none where a driver cannot list them."""
    driver = hypervisor.require(Backups)
    begun: tuple[BegunBackup, ...] = ()
    with suppress(Unsupported):
        begun = tuple(hypervisor.run("vm.backups", driver.begun_backups, step(run.call)))
    for one in begun:
        if run.clock() - one.began >= run.older_than and _keep(catalog, one.checkpoint) is not None:
            yield _backup(hypervisor, catalog, one, run)


def _backup(hypervisor: Hypervisor, catalog: Catalog, one: BegunBackup, run: Run) -> Swept:
    driver = hypervisor.require(Backups)
    leftover = Leftover(
        place=f"hypervisor {hypervisor.name}, VM {one.vm}",
        kind="backup",
        name=f"{one.device}/{one.checkpoint}",
        why="its snapshot is not being made any more; what guests have overwritten meanwhile is in a file",
        owner=f"snapshot {one.checkpoint}",
        size=one.size,
        age=run.clock() - one.began,
    )

    def remove() -> str:
        keep = _keep(catalog, one.checkpoint)
        if keep is None:
            return "it is needed again"
        hypervisor.run(
            "vm.backup.end", lambda c: driver.end_backup(one.vm, one.device, c, keep=keep), step(run.call)
        )
        return ""

    return run.end(leftover, remove)


def _keep(catalog: Catalog, snapshot: str) -> bool | None:
    """Tell whether the checkpoint of a backup that nobody will end is needed; None: it is somebody's."""
    with catalog.reading() as session:
        if session.get(SnapshotRecord, snapshot) is None:
            return None
        refs = session.scalars(select(Ref).where(Ref.snapshot == snapshot)).all()
    if not refs or any(ref.backing_up or ref.state is RefState.CREATING for ref in refs):
        return None
    return any(ref.tracking for ref in refs)
