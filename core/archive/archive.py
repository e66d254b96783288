"""The archive as its users see it: one object over one secondary store."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ..dataplane.api import BlockSink, BlockSource
from ..spi.call import Call
from ..spi.errors import Conflict, InvalidArgument
from ..spi.model import Extent
from .begin import Beginning
from .blocks import ArchiveSource, ReadOptions
from .checkup import CheckUp, Cursor, check_up
from .collect import Collected, Collector, remove_manifest
from .copy import CopiedSnapshot, SnapshotCopy, parents_first
from .create import Copier, CreateOptions, Creation
from .intent import Timing, WallClock
from .manifest import Manifest
from .names import VERSION, check_id, manifest_key, parse, volume_prefix
from .parallel import Workers
from .replace import Replacement
from .rescue import publish_rescue
from .restore import restore
from .retain import Retained, carry_out, judge
from .retention import Policy
from .stats import VolumeStats, volume_stats
from .store import Store, head_size, keys_under, load_manifest
from .verify import Level, Report, verify


@dataclass(frozen=True, slots=True)
class Entry:
    """A snapshot in a listing."""

    volume: str
    snapshot: str


class Archive:
    """Snapshots on a secondary store, in the format of docs/archive-format.md.

    Any number of `Archive` objects, in any number of processes, may work on one store at a time.

    Args:
        store: an opened driver; its owner closes it.
        writer: who archives; a later run with the same name takes over at once what an earlier one
            began, another name waits for the end of the lease. A job's id is right.
        clock: seconds since the epoch; hosts may differ by less than `timing.grace`.
        new_attempt: makes an id that was never used before.
        timing: leases.
        workers: how much runs at once.
        pause: waits so many seconds (collect, on stores whose listing lags); for tests.
    """

    def __init__(
        self,
        store: Store,
        *,
        writer: str = "",
        clock: WallClock = time.time,
        new_attempt: Callable[[], str] = lambda: uuid.uuid4().hex[:12],
        timing: Timing = Timing(),  # noqa: B008 - frozen
        workers: Workers = Workers(),  # noqa: B008 - frozen
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._store = store
        self._writer = writer or socket.gethostname()
        self._clock = clock
        self._new_attempt = new_attempt
        self._timing = timing
        self._workers = workers
        self._pause = pause

    def create(
        self,
        source: BlockSource,
        call: Call,
        *,
        volume: str,
        snapshot: str,
        parent: str | None = None,
        changed: Iterable[Extent] | None = None,
        options: CreateOptions = CreateOptions(),  # noqa: B008 - frozen
        copy: Copier | None = None,
    ) -> Manifest:
        """Archive a snapshot; safe to repeat after any failure, finished parts are not sent again.

        Args:
            source: the snapshot, which must not change; cloned for each worker.
            call: `progress` is called with bytes looked at, of all.
            parent: a snapshot of the same volume in the archive: store only what differs from it.
            changed: what may differ, sorted (from the driver's changed blocks); nothing else is read.
                None: everything is read and compared by hash.
            copy: who stores the windows (a fleet); None: this process.

        Raises:
            NotFound: the parent is not in the archive, or was deleted just now.
            Conflict: the id has another size or parent in the archive, or our intent was removed.
            Busy: another writer is at it (with `retry_after`).
            DeadlineExceeded: the call's time, or the lease, is over; or it was cancelled.
            DataLoss: the source or a part of the parent is damaged.
        """
        check_id("volume", volume)
        check_id("snapshot", snapshot)
        if changed is not None and parent is None:
            raise InvalidArgument("changed blocks need the parent that they differ from")
        if snapshot == parent:
            raise InvalidArgument("a snapshot cannot be its own parent")
        if self._has(call, volume, snapshot):
            manifest = load_manifest(self._store, volume, snapshot, call)
        else:
            begun = self._beginning(volume, snapshot).begin(parent, call)
            publish_rescue(self._store, call)
            creation = Creation(self._store, begun, self._dated(options), self._workers)
            manifest = creation.run(source, changed, call, copy)
        if (manifest.size, manifest.parent) != (source.size, parent):
            text = f"{volume}/{snapshot} is in the archive with {manifest.size} bytes and the parent"
            raise Conflict(f"{text} {manifest.parent}, not {source.size} and {parent}")
        return manifest

    def replace(
        self,
        source: BlockSource,
        call: Call,
        *,
        volume: str,
        snapshot: str,
        options: CreateOptions = CreateOptions(),  # noqa: B008 - frozen
    ) -> Manifest:
        """Archive a full image in the place of the one that has this id, if any; safe to repeat.

        The old one is there, and whole, until the new one is committed in one step; its space is freed after
        that (by the next `collect` where the store's listing lags, or if freeing fails). Of two that
        replace it at once the later one stays. Increments made from the old one stay whole.

        Args:
            source: as for `create`.

        Raises:
            Busy: another writer is at it (with `retry_after`).
            DataLoss: the source is damaged.
            StorageError: with the outcome not applied, the old one is still there; with the outcome unknown,
                one of the two is.
        """
        check_id("volume", volume)
        check_id("snapshot", snapshot)
        return Replacement(
            store=self._store,
            beginning=self._beginning(volume, snapshot),
            options=self._dated(options),
            workers=self._workers,
            collect=lambda: self._collect_listed(volume, call),
        ).run(source, call)

    def _collect_listed(self, volume: str, call: Call) -> Collected | None:
        """Free what nobody needs if the listing shows it; None: a later `collect` does."""
        if not self._store.traits().listing_consistent:
            return None
        return self.collect(call, volume=volume)

    def _dated(self, options: CreateOptions) -> CreateOptions:
        return replace(options, created=options.created or datetime.fromtimestamp(self._clock(), UTC))

    def _beginning(self, volume: str, snapshot: str) -> Beginning:
        return Beginning(
            store=self._store,
            volume=volume,
            snapshot=snapshot,
            attempt=check_id("attempt", self._new_attempt()),
            writer=self._writer,
            clock=self._clock,
            timing=self._timing,
        )

    def copy_from(
        self, source: Archive, call: Call, *, volume: str, snapshots: Iterable[str] = ()
    ) -> list[CopiedSnapshot]:
        """Copy snapshots of a volume from another archive, parents first; what is here already stays.

        Safe to repeat after any failure. Parts are copied as they are, each checked by its digest.

        Args:
            source: `self` or another archive on the same store would find everything there.
            call: `progress` is called with bytes of parts, of all.
            snapshots: ids; none: all that the source lists.

        Raises:
            NotFound: the source does not have one of them.
            Conflict: this archive has another image under the id of one; those before it were copied.
            Busy: another writer is at it (with `retry_after`).
            DataLoss: a manifest or part of the source is damaged; those before it were copied.
        """
        wanted = list(snapshots) or [entry.snapshot for entry in source.list(call, volume=volume)]
        manifests = parents_first(source.show(call, volume=volume, snapshot=one) for one in set(wanted))
        total = sum(part.size for manifest in manifests for _, part in manifest.parts())
        finished = 0

        def sent(size: int) -> None:
            nonlocal finished
            finished += size
            call.progress(finished, total)

        return [
            SnapshotCopy(
                source=source._store,
                manifest=manifest,
                beginning=self._beginning(volume, manifest.snapshot),
                workers=self._workers,
                sent=sent,
            ).run(call)
            for manifest in manifests
        ]

    def restore(
        self,
        sink: BlockSink,
        call: Call,
        *,
        volume: str,
        snapshot: str,
        offset: int = 0,
        length: int | None = None,
        sink_is_zero: bool = False,
    ) -> Manifest:
        """Write a snapshot, or a range of it, to the same place in `sink`; checks everything it writes.

        Args:
            offset: first byte; `length` in bytes, None: to the end of the image.
            sink_is_zero: the sink is new and reads as zeros, so zeros need not be written.

        Raises:
            NotFound: no such snapshot.
            InvalidArgument: the sink is too small, or the range leaves the image.
            DataLoss: the archive is damaged; the message names the part.
        """
        manifest = self.show(call, volume=volume, snapshot=snapshot)
        restore(
            self._store,
            manifest,
            sink,
            call,
            offset=offset,
            length=length,
            sink_is_zero=sink_is_zero,
            workers=self._workers,
        )
        return manifest

    def open(
        self,
        call: Call,
        *,
        volume: str,
        snapshot: str,
        options: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    ) -> ArchiveSource:
        """Return a snapshot as a block source: what is read of it is fetched then, and checked.

        Raises:
            NotFound: no such snapshot.
            DataLoss: the manifest is damaged.
        """
        return ArchiveSource(self._store, self.show(call, volume=volume, snapshot=snapshot), options)

    def verify(
        self,
        call: Call,
        *,
        volume: str,
        snapshot: str,
        level: Level = Level.DIGEST,
        percent: float = 100.0,
        seed: int = 0,
    ) -> Report:
        """Check a snapshot, or a sample of its windows; see `verify.py` for the levels.

        Raises:
            NotFound: no such snapshot.
            DataLoss: the manifest itself is damaged; whatever else is wrong is in the report.
        """
        manifest = self.show(call, volume=volume, snapshot=snapshot)
        return verify(
            self._store, manifest, call, level=level, percent=percent, seed=seed, workers=self._workers
        )

    def show(self, call: Call, *, volume: str, snapshot: str) -> Manifest:
        """Return the manifest of a snapshot.

        Raises:
            NotFound: no such snapshot.
            DataLoss: the manifest is damaged.
        """
        check_id("volume", volume)
        return load_manifest(self._store, volume, check_id("snapshot", snapshot), call)

    def _has(self, call: Call, volume: str, snapshot: str) -> bool:
        return head_size(self._store, manifest_key(volume, snapshot), call) is not None

    def list(self, call: Call, *, volume: str | None = None, known: Iterable[str] = ()) -> Iterator[Entry]:
        """Yield the snapshots in the archive, those of one volume or all.

        Args:
            known: ids of snapshots of `volume` to ask for even if a lagging listing does not show them.
        """
        prefix = volume_prefix(check_id("volume", volume)) if volume else f"{VERSION}/"
        missing = set(known) if volume else set()
        for item in keys_under(self._store, prefix, call):
            key = parse(item.key)
            if key and not key.attempt:
                missing.discard(key.snapshot)
                yield Entry(key.volume, key.snapshot)
        for snapshot in sorted(missing):
            if volume and self._has(call, volume, snapshot):
                yield Entry(volume, snapshot)

    def volumes(self, call: Call) -> tuple[str, ...]:
        """Return the volumes that have anything in the archive, also if it is only a killed run's parts."""
        keys = (parse(item.key) for item in keys_under(self._store, f"{VERSION}/", call))
        return tuple(sorted({key.volume for key in keys if key}))

    def delete(
        self, call: Call, *, volume: str, snapshot: str, known: Iterable[str] | None = None
    ) -> Collected | None:
        """Delete a snapshot, then free what it alone used; increments made from it stay whole.

        A missing snapshot is fine. Returns None if the store's listing lags and `known` was not given:
        the snapshot is gone then, its space is freed by the next `collect`.
        """
        check_id("volume", volume)
        remove_manifest(self._store, volume, check_id("snapshot", snapshot), call)
        if known is None:
            return self._collect_listed(volume, call)
        return self.collect(call, volume=volume, known=known)

    def collect(self, call: Call, *, volume: str, known: Iterable[str] | None = None) -> Collected:
        """Remove what no snapshot and no running backup of a volume needs.

        Args:
            known: ids of the snapshots of this volume that the caller has begun to archive and not yet
                deleted. Required where `StoreTraits.listing_consistent` is False.

        Raises:
            InvalidArgument: `known` is required.
            DataLoss: a manifest or intent is damaged; nothing was removed.
        """
        check_id("volume", volume)
        known = None if known is None else [check_id("snapshot", snapshot) for snapshot in known]
        collector = Collector(self._store, volume, self._clock, self._timing, known, self._pause)
        return collector.collect(call)

    def stats(self, call: Call, *, volume: str) -> VolumeStats:
        """Return what each snapshot of a volume costs, and what nobody needs; reads no part."""
        return volume_stats(self._store, check_id("volume", volume), self._clock(), self._timing, call)

    def retain(
        self,
        call: Call,
        *,
        volume: str,
        policy: Policy,
        dry_run: bool = False,
        known: Iterable[str] | None = None,
    ) -> Retained:
        """Delete the snapshots of a volume that `policy` does not keep, and free what they alone used.

        Args:
            known: as for `delete`; ids of snapshots that are deleted here do no harm.

        Raises:
            DataLoss: a manifest cannot be read; nothing was deleted.
        """
        verdicts = judge(self._store, check_id("volume", volume), policy, self._clock(), call)
        if dry_run:
            return Retained(volume=volume, verdicts=verdicts, collected=None)

        def collect() -> Collected | None:
            if known is None:
                return self._collect_listed(volume, call)
            return self.collect(call, volume=volume, known=known)

        return carry_out(self._store, volume, verdicts, collect, call)

    def check_up(
        self,
        call: Call,
        cursor: Cursor,
        *,
        percent: float,
        budget: int | None = None,
        level: Level = Level.DIGEST,
    ) -> CheckUp:
        """Look at all manifests and the next few parts of the whole store; see `checkup.py`."""
        return check_up(
            self._store, cursor, call, percent=percent, budget=budget, level=level, workers=self._workers
        )
