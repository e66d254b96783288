"""Templates kept on pools, from which volumes are cloned.

    seed     record ── prepare ── the caller's bytes, written by this machine ── seal ── Ready
    evict    record ── evict ── gone
    delete   see `templates_delete`: from all pools, and from secondary storage

A seed that was not sealed is nobody's: after a crash it is removed, and seeding it again starts anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...transfer_objects.enums import DataStoreRole
from ...transfer_objects.ids import TemplateId, VolumeId
from ..access import Mover
from ..catalog import Catalog
from ..catalog.object_states import ObjectEvent, ObjectState
from ..catalog.volumes import ObjectRef
from ..checks import check_template
from ..dataplane import BlockSink
from ..pool import Pool
from ..spi import Call, Conflict, Outcome, StorageError, TemplateSpec
from ..steps import step
from .hooks import Act, Hooks, Reservation
from .templates_records import KIND, fresh_ref, known_template, ref_on, there_on
from .volumes_steps import Backends
from .works import Work, Works

Fill = Callable[[BlockSink, Call], None]
"""Writes a template's bytes into its seed; flushing is the service's."""

_UNDO = 120.0  # seconds for undoing what failed; on top of its deadline
_GONE = (ObjectState.DESTROYED, ObjectState.ALLOCATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateService:
    """Brings templates to pools and takes them away; one act per template at a time."""

    catalog: Catalog
    works: Works
    site: Backends
    mover: Mover
    hooks: Hooks = Hooks()

    def find(self, template: TemplateId, pool: str) -> ObjectRef | None:
        """Return what a pool has of a template, or had; None if it never had it."""
        with self.catalog.reading() as session:
            return ref_on(session, template, pool, DataStoreRole.PRIMARY)

    def seed(
        self, template: TemplateSpec, pool: str, fill: Fill, call: Call, *, account: str = ""
    ) -> ObjectRef:
        """Bring a template to a pool; one that is there already is returned, and `fill` is not called.

        Raises:
            Conflict: there is a template of this id with another size.
            StorageError: the pool has nothing of it.
        """
        with self.works.at_work(), self.hooks.acting(account, Act.SEED_TEMPLATE, template.id):
            opened = self.site.pool(pool)
            check_template(template, opened.traits)
            self.end_interrupted(template.id, call)
            found = self.find(template.id, pool)
            if found is not None and found.state is ObjectState.READY:
                return _same(found, template)
            work = self._begin_seed(template, pool)
            self._reserve(work, account, template.size)
            try:
                self._fill(work, opened, template, fill, call)
            except BaseException as error:
                self._undo(work, error)
                raise
            return self._end(work, ObjectEvent.SUCCEEDED)

    def _reserve(self, work: Work, account: str, size: int) -> None:
        """Count it, or end the act: no backend has heard of it."""
        wanted = Reservation(key=_key(work), account=account, role=DataStoreRole.PRIMARY, size=size)
        try:
            self.hooks.quota.reserve(wanted)
        except StorageError as error:
            if error.outcome is Outcome.NOT_APPLIED:
                self._end(work, ObjectEvent.FAILED)
            else:  # it may be counted: a repeat or a sync puts that right
                self.works.leave(work, error.message)
            raise

    def _fill(self, work: Work, pool: Pool, template: TemplateSpec, fill: Fill, call: Call) -> None:
        seed = pool.volumes.prepare_template(template, step(call))
        with self.mover.writing_volume(pool, VolumeId(seed.id)) as sink:
            fill(sink, call)
            sink.flush()
        self.works.check(work)  # else half a seed would be sealed that another process has begun meanwhile
        pool.volumes.seal_template(template.id, step(call))

    def _undo(self, work: Work, error: BaseException) -> None:
        try:
            self.settle(work, Call.within(_UNDO))
        except StorageError:
            self.works.leave(work, str(error))

    def evict(self, template: TemplateId, pool: str, call: Call, *, account: str = "") -> None:
        """Take a template from a pool; one that is not there is fine.

        Raises:
            HasDependents: volumes still need it; it is on its way out, and a repeat or a sync goes on.
        """
        with self.works.at_work(), self.hooks.acting(account, Act.EVICT_TEMPLATE, template):
            self.end_interrupted(template, call)
            found = self.find(template, pool)
            if found is None or found.state in _GONE:
                return
            with self.catalog.transaction() as session:
                work = self.works.begin(session, KIND, template, "evict", {"pool": pool})
                there_on(session, template, pool, DataStoreRole.PRIMARY).take(ObjectEvent.DESTROY_REQUESTED)
            self.settle(work, call)

    def end_interrupted(self, template: TemplateId, call: Call) -> None:
        """End what a dead process left of a template."""
        work = self.works.claim(KIND, template)
        if work is not None:
            self.settle(work, call)

    def settle(self, work: Work, call: Call) -> None:
        """Bring an act that was claimed to its end.

        Raises:
            Conflict: others have ended it, and may have brought the template anew.
            StorageError: the pool does not do it; the act stays for the next sync.
        """
        template = TemplateId(work.object)
        try:
            self.works.check(work)
            pool = self.site.pool(work.details["pool"])
            self.mover.sweep_pool(pool)  # a dead writer's access keeps a seed from being removed
            pool.volumes.evict_template(template, step(call))
        except StorageError as error:
            self.works.leave(work, error.message)
            raise
        self.hooks.quota.release(_key(work))  # before the state: a crash releases it once more
        self._end(work, ObjectEvent.FAILED if work.act == "seed" else ObjectEvent.SUCCEEDED)

    def _begin_seed(self, template: TemplateSpec, pool: str) -> Work:
        with self.catalog.transaction() as session:
            work = self.works.begin(session, KIND, template.id, "seed", {"pool": pool})
            known_template(session, template.id, template.size).name = template.name
            ref = fresh_ref(session, template.id, pool, DataStoreRole.PRIMARY, template.size)
            ref.take(ObjectEvent.CREATE_REQUESTED)
            return work

    def _end(self, work: Work, event: ObjectEvent) -> ObjectRef:
        with self.catalog.transaction() as session:
            ref = there_on(session, work.object, work.details["pool"], DataStoreRole.PRIMARY)
            self.works.end(session, work)
            ref.take(event)
            return ref


def _key(work: Work) -> str:
    return seed_key(work.object, work.details["pool"])


def seed_key(template: str, pool: str) -> str:
    """Return the key of a seed's reservation."""
    return f"template/{template}/{pool}"


def _same(found: ObjectRef, template: TemplateSpec) -> ObjectRef:
    if found.size != template.size:
        raise Conflict(f"template {template.id} has {found.size} bytes")
    return found
