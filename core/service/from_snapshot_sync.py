"""After a restart: what dead processes were making of a snapshot.

volume, template    not known to be whole: removed; whoever wanted it has not been told that it is there
revert              written to its end: the volume is neither the old nor the new one
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass

from ...transfer_objects.ids import VolumeId
from ..spi import Busy, Call, StorageError
from .from_snapshot import remove_volume
from .from_snapshot_revert import go_on_reverting
from .from_snapshot_template import remove_template
from .from_snapshot_uses import Uses
from .snapshots_claims import claimed
from .snapshots_context import Context
from .snapshots_tables import SnapshotUse, UseKind

_log = logging.getLogger("bollard.service")
CLAIMS = {UseKind.VOLUME: "volume", UseKind.TEMPLATE: "template", UseKind.REVERT: "volume"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of one snapshot, or of what was made of it; `problem` if it has to be tried again."""

    kind: str
    id: str
    before: str
    after: str
    problem: str = ""


def settle_uses(ctx: Context, volume: VolumeId, call: Call) -> list[Ended]:
    """End what was being made of a volume's snapshots; what somebody living makes is left to him."""
    uses, ended = Uses(ctx.catalog), []
    for use in uses.unfinished(volume):
        with ExitStack() as held:
            try:
                held.enter_context(claimed(ctx.site.mover().journal, CLAIMS[use.kind], use.target))
            except Busy:
                continue
            current = uses.find(use.kind, use.target)
            if current is not None and not current.finished:
                ended.append(_settle(ctx, uses, current, call))
    return ended


def _settle(ctx: Context, uses: Uses, use: SnapshotUse, call: Call) -> Ended:
    after, problem = "reverted" if use.kind is UseKind.REVERT else "gone", ""
    try:
        _act(ctx, uses, use, call)
    except StorageError as error:
        after, problem = "unfinished", error.message
        _log.warning("%s %s is not settled yet: %s", use.kind, use.target, error)
    return Ended(kind=use.kind, id=use.target, before="unfinished", after=after, problem=problem)


def _act(ctx: Context, uses: Uses, use: SnapshotUse, call: Call) -> None:
    if use.kind is UseKind.REVERT:
        go_on_reverting(ctx, use, call)
        return
    if use.kind is UseKind.TEMPLATE:
        remove_template(ctx, uses, use.target, use.place, call)
        return
    pool = ctx.site.pool(use.place)
    ctx.site.mover().sweep_pool(pool)  # a grant to a dead writer keeps a volume from being deleted
    remove_volume(ctx, uses, VolumeId(use.target), pool, call)
