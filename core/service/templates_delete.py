"""A template deleted everywhere: from the pools that it was brought to, then from secondary storage.

    record, references, act ── each pool: evict ── each store: image removed ── record gone, act gone

The image goes last: as long as a pool's volumes need the template, and it stays there, it can be brought to
another pool again. Each step may be repeated; after a crash a sync goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from ...transfer_objects.enums import DataStoreRole
from ...transfer_objects.ids import TemplateId
from ..catalog.object_states import ObjectEvent, ObjectState
from ..catalog.volumes import ObjectRef, TemplateRecord
from ..spi import Busy, Call, StorageError
from ..steps import step
from .from_snapshot_template import IMAGE, template_key
from .hooks import Act
from .snapshots_claims import claimed
from .snapshots_context import Context
from .snapshots_images import remove_image
from .snapshots_records import found_in
from .snapshots_tables import SnapshotUse, UseKind
from .templates import TemplateService, seed_key
from .templates_records import KIND, fresh_ref, known_template, ref_on, refs_of, there_on
from .works import Work

DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRemoval:
    """Deletes templates that were seeded on pools, archived from snapshots, or both."""

    templates: TemplateService
    ctx: Context

    def delete(self, template: TemplateId, call: Call, *, account: str = "") -> None:
        """Delete a template; one that is not there is fine.

        Raises:
            Busy: it is being made of a snapshot, or brought to a pool.
            HasDependents: volumes of a pool still need it; it is on its way out, its image is there still,
                and a repeat or a sync goes on.
            StorageError: of a pool or store; as above.
        """
        works = self.templates.works
        with works.at_work(), self.ctx.hooks.acting(account, Act.DELETE_TEMPLATE, template):
            left = works.claim(KIND, template)
            if left is not None:
                self.settle(left, call)
            work = self._begin(template)
            if work is not None:
                self.settle(work, call)

    def settle(self, work: Work, call: Call) -> None:
        """Bring any act on a template that was claimed to its end; see `TemplateService.settle`."""
        if work.act != DELETE:
            self.templates.settle(work, call)
            return
        works = self.templates.works
        try:
            with claimed(self.ctx.site.mover().journal, KIND, work.object):
                works.check(work)
                for ref in self._refs(work.object):
                    self._remove(ref, call)
                    self._gone(work, ref)
                self._end(work)
        except StorageError as error:
            works.leave(work, error.message)
            raise

    def _begin(self, template: TemplateId) -> Work | None:
        """Write down that all of it is to go; None: there is nothing of it."""
        with self.ctx.catalog.transaction() as session:
            use = session.get(SnapshotUse, (UseKind.TEMPLATE, template))
            record = session.get(TemplateRecord, template) if use is None else _adopted(session, use)
            if record is None or record.state is ObjectState.DESTROYED:
                return None
            work = self.templates.works.begin(session, KIND, template, DELETE, {})
            record.take(ObjectEvent.DESTROY_REQUESTED)
            for ref in refs_of(session, template):
                ref.take(ObjectEvent.DESTROY_REQUESTED)
            return work

    def _refs(self, template: str) -> list[ObjectRef]:
        with self.ctx.catalog.reading() as session:
            return list(refs_of(session, template))

    def _remove(self, ref: ObjectRef, call: Call) -> None:
        site, quota = self.ctx.site, self.ctx.hooks.quota
        if ref.role is DataStoreRole.PRIMARY:
            pool = site.pool(ref.store)
            site.mover().sweep_pool(pool)  # a dead writer's access keeps a seed from being removed
            pool.volumes.evict_template(TemplateId(ref.object), step(call))
            quota.release(seed_key(ref.object, ref.store))  # before the state, as everywhere
            return
        archive, store, name = self.ctx.archive(ref.store, ref.object), site.store(ref.store), ref.object
        remove_image(archive, store, name, IMAGE, call, cut="", known=(), writer=name)
        quota.release(template_key(name))

    def _gone(self, work: Work, ref: ObjectRef) -> None:
        with self.ctx.catalog.transaction() as session:
            self.templates.works.note(session, work)
            there_on(session, ref.object, ref.store, ref.role).take(ObjectEvent.SUCCEEDED)

    def _end(self, work: Work) -> None:
        with self.ctx.catalog.transaction() as session:
            self.templates.works.end(session, work)
            session.get_one(TemplateRecord, work.object).take(ObjectEvent.SUCCEEDED)
            use = session.get(SnapshotUse, (UseKind.TEMPLATE, work.object))
            if use is not None:
                session.delete(use)


def _adopted(session: Session, use: SnapshotUse) -> TemplateRecord:
    """Return the record of an archived template; Bollard made them without one before."""
    if not use.finished:
        raise Busy(f"template {use.target} is being made of snapshot {use.snapshot}", retry_after=1.0)
    found = session.get(TemplateRecord, use.target)
    if found is None or found.state is ObjectState.DESTROYED:
        snapshot = found_in(session, use.snapshot)
        found = known_template(session, use.target, snapshot.record.size if snapshot else 0)
    if ref_on(session, use.target, use.place, DataStoreRole.IMAGE) is None:
        fresh_ref(session, use.target, use.place, DataStoreRole.IMAGE, found.size)
        session.flush()
    return found
