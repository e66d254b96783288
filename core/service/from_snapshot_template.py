"""A template made of a snapshot: an archived image, of which any pool makes volumes.

    snapshot on a pool ── temporary clone ──┐
                                            ├── raw blocks ──> v1/<template>/image/… on any store
    snapshot archived ── fetched, checked ──┘

No staging store and no conversion: `VolumeSnapshots.restore` writes it to whatever pool is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

from ...transfer_objects.enums import DataStoreRole
from ...transfer_objects.ids import SnapshotId, TemplateId
from ..archive import CreateOptions, Manifest
from ..catalog.snapshots import RefState
from ..checks import check_id
from ..dataplane import BlockSource
from ..intents import Entry
from ..snapshots.origin import origin_of
from ..spi import Call, Conflict, StorageError
from .from_snapshot_uses import Uses
from .hooks import Act, Reservation
from .snapshots_claims import claimed, is_lost
from .snapshots_context import Context
from .snapshots_create import UNDO_SECONDS
from .snapshots_images import manifest_of, remove_image
from .snapshots_records import Found
from .snapshots_tables import SnapshotUse, UseKind

IMAGE = SnapshotId("image")
"""What the archive calls the one image of a template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRequest:
    """A template that somebody wants, on a store by name; `id` is the caller's key."""

    id: TemplateId
    store: str
    account: str = ""


def to_template(ctx: Context, snapshot: SnapshotId, request: TemplateRequest, call: Call) -> Manifest:
    """Make a template of a snapshot; the same request gives the same template.

    Raises:
        InvalidArgument: the snapshot is not at rest.
        Conflict: the store has another template of this id; it stays.
        StorageError: nothing is left of the template; after a crash, a sync removes it.
    """
    check_id("template", request.id)
    ctx.hooks.authority.check(request.account, Act.TO_TEMPLATE, snapshot)
    with claimed(ctx.site.mover().journal, "template", request.id) as claim:
        made = _Making(ctx, Uses(ctx.catalog), snapshot, request, claim).run(call)
    ctx.hooks.tell(request.account, Act.TO_TEMPLATE, snapshot)
    return made


@dataclass(frozen=True, slots=True)
class _Making:
    """One template on its way."""

    ctx: Context
    uses: Uses
    snapshot: SnapshotId
    request: TemplateRequest
    claim: Entry

    def run(self, call: Call) -> Manifest:
        request = self.request
        found = self.uses.readable(self.snapshot)
        there = manifest_of(self.ctx.archive(request.store, request.id), request.id, IMAGE, call)
        known = self.uses.find(UseKind.TEMPLATE, request.id)
        if known is None and there is not None:
            raise Conflict(f"store {request.store!r} has a template {request.id} already")
        if known is not None and known.finished:
            if there is not None:
                self._refuse_another(known)
                self.uses.finish_template(self._use(), found.record.size)
                return there
            self.uses.drop(UseKind.TEMPLATE, request.id)  # it was deleted since
        self.uses.begin(self._use())
        return self._made(found, call)

    def _refuse_another(self, known: SnapshotUse) -> None:
        """Keep the image that is there from passing for this snapshot's, or being removed with a failure."""
        if known.snapshot != self.snapshot:
            raise Conflict(f"template {self.request.id} is made of snapshot {known.snapshot}")

    def _use(self) -> SnapshotUse:
        request = self.request
        return SnapshotUse(
            kind=UseKind.TEMPLATE,
            target=request.id,
            snapshot=self.snapshot,
            place=request.store,
            account=request.account,
        )

    def _reserve(self, size: int) -> None:
        request = self.request
        wanted = Reservation(
            key=template_key(request.id), account=request.account, role=DataStoreRole.IMAGE, size=size
        )
        self.ctx.hooks.quota.reserve(wanted)

    def _made(self, found: Found, call: Call) -> Manifest:
        request, archive = self.request, self.ctx.archive(self.request.store, self.request.id)
        options = CreateOptions(
            created=datetime.fromisoformat(found.order.cut), origin=origin_of(found.order.pool)
        )
        try:
            self._reserve(found.record.size)
            with reading(self.ctx, found, call) as source:
                made = archive.create(source, call, volume=request.id, snapshot=IMAGE, options=options)
        except StorageError:
            if not self._is_lost():
                remove_template(self.ctx, self.uses, request.id, request.store, Call.within(UNDO_SECONDS))
            raise
        if self._is_lost():
            raise Conflict(f"template {request.id}: others have taken over")
        self.uses.finish_template(self._use(), found.record.size)
        return made

    def _is_lost(self) -> bool:
        return is_lost(self.ctx.site.mover().journal, self.claim)


def template_key(template: str) -> str:
    """Return the key of a template's reservation."""
    return f"template/{template}"


def remove_template(ctx: Context, uses: Uses, template: str, store: str, call: Call) -> None:
    """Remove a template that is not whole, then its record. Repeatable.

    Raises:
        StorageError: it stays recorded, for a sync.
    """
    archive = ctx.archive(store, template)
    remove_image(archive, ctx.site.store(store), template, IMAGE, call, cut="", known=(), writer=template)
    ctx.hooks.quota.release(template_key(template))
    uses.drop(UseKind.TEMPLATE, template)


@contextmanager
def reading(ctx: Context, found: Found, call: Call) -> Iterator[BlockSource]:
    """Open a snapshot where it is: on its pool if it is there, else in the archive."""
    order = found.order
    primary = found.ref(DataStoreRole.PRIMARY, RefState.READY)
    if primary is not None:
        pool = ctx.site.pool(primary.store)
        with ctx.site.mover().reading_snapshot(pool, SnapshotId(order.snapshot)) as source:
            yield pool.throttle.source(source, call)
        return
    archive = ctx.archive(order.store, order.snapshot)
    with closing(archive.open(call, volume=order.volume, snapshot=order.snapshot)) as archived:
        yield archived
