"""Volumes that are filled by a copy: whole, or gone again; and what is copied from one place to another.

    sweep what a killed run left ─> make it, or take the one that is there ─> write ─> flush

A copy that is killed leaves a journal entry, by which the half-filled volume is removed before the repeated
command makes it anew. A volume that was there before is overwritten: CloudStack makes a managed volume first,
and has it filled afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from ...transfer_objects.ids import SnapshotId, VolumeId
from ..dataplane import BlockSink, BlockSource, copy
from ..pool import Pool
from ..site import Site
from ..spi import Call, DeadlineExceeded, InvalidArgument, NotFound, Volume, VolumeSpec
from ..steps import step

Fill = Callable[[BlockSink, bool], object]
"""Writes all of a volume; told whether it reads zeros already."""


def find_volume(pool: Pool, volume: VolumeId, call: Call) -> Volume | None:
    """Return a volume, or None."""
    try:
        return pool.volumes.get(volume, step(call))
    except NotFound:
        return None


def fill_volume(site: Site, pool: Pool, spec: VolumeSpec, least: int, fill: Fill, call: Call) -> Volume:
    """Make a volume and fill it.

    Args:
        spec: of the volume, if it is not there.
        least: bytes that are to be written; what it has behind them reads zeros.

    Raises:
        InvalidArgument: the volume is, or is to be, smaller than that; nothing was done.
        InUse: somebody has access to it.
    """
    mover = site.mover()
    mover.sweep_pool(pool)
    present = find_volume(pool, spec.id, call)
    size = spec.size if present is None else present.size
    if size < least:
        raise InvalidArgument(f"volume {spec.id} has {size} bytes, less than the {least} of its source")
    fresh = present is None
    filled: AbstractContextManager[object] = (
        mover.filling_volume(pool, spec.id) if fresh else mover.unlimited(pool, spec.id)
    )
    with filled:
        made = pool.volumes.create(spec, step(call)) if present is None else present
        with mover.writing_volume(pool, spec.id) as sink:
            slow = pool.throttle.sink(sink, call)
            fill(slow, fresh)
            if not fresh and made.size > least:
                slow.zero(least, made.size - least)
                slow.flush()
    return pool.volumes.get(spec.id, step(call))


@contextmanager
def reading_snapshot(site: Site, pool: Pool, snapshot: SnapshotId) -> Iterator[BlockSource]:
    """Open a snapshot of a pool, after what a killed run left there was removed."""
    site.mover().sweep_pool(pool)
    with site.mover().reading_snapshot(pool, snapshot) as source:
        yield source


@contextmanager
def reading_volume(site: Site, pool: Pool, volume: VolumeId) -> Iterator[BlockSource]:
    """Open a volume that nobody may write to meanwhile, as `reading_snapshot` does.

    Raises:
        InUse: a VM has it.
    """
    site.mover().sweep_pool(pool)
    with site.mover().holding_volume(pool, volume) as opened, opened() as source:
        yield source


def copying(source: BlockSource, call: Call) -> Fill:
    """Return what fills a volume with all of `source`."""

    def fill(sink: BlockSink, zero: bool) -> None:  # noqa: FBT001 - as `Fill` has it
        copy(
            source,
            sink,
            sink_is_zero=zero,
            progress=call.progress,
            cancelled=lambda: _is_over(call),
        )

    return fill


def _is_over(call: Call) -> bool:
    try:
        call.check()
    except DeadlineExceeded:
        return True
    return False
