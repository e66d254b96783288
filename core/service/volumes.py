"""Volumes as an orchestrator asks for them: written down, done, written down; again after any failure.

    record and act in one transaction ──> backend ──> record at rest, act gone
                                            │ failed: undone, and the error told
                                            │ cannot be undone, or kill -9: `settle` ends it

Every operation may be repeated, in any process of the fleet. What a dead process left of a volume is ended
before anything else is begun with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from ...transfer_objects.ids import VolumeId
from ..access import Mover
from ..catalog.volume_states import VOLUMES, VolumeEvent, VolumeState
from ..catalog.volumes import VolumeRecord
from ..checks import check_spec
from ..pool import Pool
from ..spi import (
    Busy,
    Call,
    Conflict,
    HasDependents,
    NotFound,
    Outcome,
    Snapshots,
    StorageError,
    Volume,
    VolumeSpec,
)
from ..steps import step
from .exclusion import half_reverted
from .hooks import Act, Hooks, volume_reservation
from .snapshots_claims import claimed
from .volumes_records import KIND, NewVolume, VolumeRecords, refuse_if_used
from .volumes_settle import give_up_create, settle, undo_create
from .volumes_steps import Backends, Steps, learn
from .works import Work

_UNDO = 120.0  # seconds for undoing what failed; on top of its deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeService:
    """Creates, grows and deletes volumes; `VolumeAttachments` brings them to VMs and hosts.

    Attributes:
        mover: whose journal may know of killed copies to a new volume's id; None: nobody copies here.
    """

    records: VolumeRecords
    site: Backends
    hooks: Hooks = Hooks()
    mover: Mover | None = None

    @property
    def steps(self) -> Steps:
        """Return what its operations consist of."""
        return Steps(records=self.records, site=self.site, hooks=self.hooks)

    @contextmanager
    def acting(self, account: str, act: Act, volume: VolumeId) -> Iterator[None]:
        """Ask and tell the hooks; what is begun in the block is in nobody's hands after it."""
        with self.records.works.at_work(), self.hooks.acting(account, act, volume):
            yield

    # -- create ---------------------------------------------------------------------------------------

    def create(self, new: NewVolume, call: Call) -> VolumeRecord:
        """Create a volume; the same again returns it.

        Raises:
            Conflict: the id has, or had, another specification, or is on the pool without a record.
            Busy: another process is at it, or a copy to this id is under way.
            PermissionDenied: and LimitExceeded: authority and quota; nothing was asked of the pool.
            StorageError: of the pool. Nothing of it is left, and the record is in Error.
        """
        with self.acting(new.account, Act.CREATE_VOLUME, new.id):
            pool = self.site.pool(new.pool)
            check_spec(_spec(new), pool.traits)
            self.end_interrupted(new.id, call)
            found = self.records.find(new.id)
            if found is not None and found.state is not VolumeState.ERROR:
                return _same(found, new, pool)
            self._make_room(pool, new.id, call)
            work = self.records.creating(new)
            self._reserve(work, new.account, pool.traits.rounded(new.size))
            try:
                made = _make(pool, new, call)
            except StorageError as error:
                self._undo(work, error)
                raise
            return self.records.end(work, VolumeEvent.SUCCEEDED, lambda _, record: learn(record, made))

    def _make_room(self, pool: Pool, volume: VolumeId, call: Call) -> None:
        """Refuse an id under which the pool has something, and have the journal forget what it had.

        Else undoing a failure would remove somebody's data, and a sweep that knows of a killed copy to this
        id would remove ours.
        """
        if self.mover is not None:
            self.mover.make_room(pool, volume)
        _refuse_foreign(pool, volume, call)

    def _reserve(self, work: Work, account: str, size: int) -> None:
        """Count it, or end the act: no backend has heard of it."""

        def told(_: Session, record: VolumeRecord) -> None:
            record.error = error_text

        try:
            self.hooks.quota.reserve(volume_reservation(work.object, account, size))
        except StorageError as error:
            error_text = error.message
            if error.outcome is Outcome.NOT_APPLIED:
                self.records.end(work, VolumeEvent.FAILED, told, reason=error_text)
            else:  # it may be counted: a repeat or a sync puts that right
                self.records.works.leave(work, error_text)
            raise

    def _undo(self, work: Work, error: StorageError) -> None:
        try:
            # One with another specification is somebody else's, made since we looked.
            if isinstance(error, Conflict) and work.details.get("plain"):
                give_up_create(self.steps, work, error.message)
            else:
                undo_create(self.steps, work, error.message, Call.within(_UNDO))
        except StorageError as other:
            self.records.works.leave(work, other.message)

    # -- delete ---------------------------------------------------------------------------------------

    def delete(self, volume: VolumeId, call: Call, *, account: str = "") -> None:
        """Delete a volume; one that is not there is fine.

        Raises:
            InUse: a VM or a host has it.
            HasDependents: its snapshots must go first.
            StorageError: of the pool; the volume is on its way out, and a repeat or a sync goes on.
        """
        with self.acting(account, Act.DELETE_VOLUME, volume):
            self.end_interrupted(volume, call)
            found = self.records.find(volume)
            if found is None or found.state is VolumeState.EXPUNGED:
                return
            _refuse_dependents(self.site.pool(found.pool), volume)
            work = self._begin_delete(volume, found.pool)
            try:
                self.steps.expunge(work, call)
            except StorageError as error:
                self.records.works.leave(work, error.message)
                raise

    def _begin_delete(self, volume: VolumeId, pool: str) -> Work:
        """Write it down; a revert that a dead process has begun, and perhaps nobody can end, is given up."""
        begin = partial(self.records.begin, volume, "delete", VolumeEvent.EXPUNGE_REQUESTED)
        if self.mover is None or not half_reverted(self.records.catalog, volume):
            return begin({"pool": pool}, refuse_if_used)
        with claimed(self.mover.journal, KIND, volume):
            return begin({"pool": pool, "ends_revert": True}, refuse_if_used)

    # -- resize ---------------------------------------------------------------------------------------

    def resize(self, volume: VolumeId, size: int, call: Call, *, account: str = "") -> VolumeRecord:
        """Grow a volume to `size` bytes; a running VM that has it sees that.

        Raises:
            LimitExceeded: the quota; nothing was asked of the pool.
            StorageError: its record has the size that the pool gave it.
        """
        with self.acting(account, Act.RESIZE_VOLUME, volume):
            self.end_interrupted(volume, call)
            found = self.records.get(volume)
            pool = self.site.pool(found.pool)
            wanted = max(found.size, pool.traits.rounded(size))
            details = {
                "pool": found.pool,
                "managed": pool.managed,
                "size": size,
                "device": found.device,
                "hypervisor": "",
                "account": account,
            }
            if found.vm is not None:
                details["hypervisor"] = self.records.hypervisor_with(found)

            def same(_: Session, record: VolumeRecord) -> None:
                if (record.vm, record.device, record.size) != (found.vm, found.device, found.size):
                    raise Conflict(f"volume {volume} was attached, detached or resized just now")

            work = self.records.begin(
                volume, "resize", VolumeEvent.RESIZE_REQUESTED, details, same, vm=found.vm or ""
            )
            self._reserve(work, account, wanted)
            try:
                self.steps.pool(work).volumes.resize(volume, size, step(call))
                return self.steps.adopt_size(work, call)
            except StorageError as error:
                self._after_failed_resize(work, error)
                raise

    def _after_failed_resize(self, work: Work, error: StorageError) -> None:
        try:
            settle(self.steps, work, Call.within(_UNDO))
        except StorageError:
            self.records.works.leave(work, error.message)

    # -- after a crash --------------------------------------------------------------------------------

    def end_interrupted(self, volume: VolumeId, call: Call) -> None:
        """End what a dead process left of a volume; raises what kept it from being ended."""
        work = self.records.works.claim(KIND, volume)
        if work is not None:
            self.settle(work, call)

    def settle(self, work: Work, call: Call) -> None:
        """Bring an act that was claimed to its end, by what the backends say.

        Raises:
            StorageError: they cannot be asked, or do not do it; the act stays for the next sync.
        """
        try:
            settle(self.steps, work, call)
        except StorageError as error:
            self.records.works.leave(work, error.message)
            raise


def _make(pool: Pool, new: NewVolume, call: Call) -> Volume:
    spec = _spec(new)
    if new.snapshot is not None:
        return pool.volumes.from_snapshot(new.snapshot, spec, step(call))
    if new.template is not None:
        return pool.volumes.from_template(new.template, spec, step(call))
    return pool.volumes.create(spec, step(call))


def _spec(new: NewVolume) -> VolumeSpec:
    return VolumeSpec(id=new.id, size=new.size, name=new.name, qos=new.qos)


def _same(found: VolumeRecord, new: NewVolume, pool: Pool) -> VolumeRecord:
    size = pool.traits.rounded(new.size)
    asked = (new.pool, new.snapshot, new.template, new.name)
    made = (found.pool, found.parent_snapshot, found.parent_template, found.name)
    if asked == made and found.state in VOLUMES.transient:
        raise Busy(f"volume {new.id} is {found.state}", retry_after=1.0)
    if found.state is not VolumeState.READY or asked != made or found.size < size:
        raise Conflict(f"there is a volume {new.id} already, which is {found.state} and another one")
    return found


def _refuse_foreign(pool: Pool, volume: VolumeId, call: Call) -> None:
    """Refuse an id that the pool has and the catalog has not: undoing a failure would remove those data."""
    try:
        pool.volumes.get(volume, step(call))
    except NotFound:
        return
    raise Conflict(f"pool {pool.name!r} has a volume {volume} that the catalog does not know")


def _refuse_dependents(pool: Pool, volume: VolumeId) -> None:
    if pool.traits.delete_with_snapshots or Snapshots.provides not in pool.capabilities().native:
        return
    try:
        first = next(iter(pool.snapshots.list(volume)), None)
    except NotFound:
        return
    if first is not None:
        raise HasDependents(f"volume {volume} has snapshots, such as {first.id}")
