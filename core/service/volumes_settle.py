"""How each act on a volume ends that a dead process, or a failure, has left; decided by asking the backends.

create      the pool has it ────────> made whole by asking for it again ──> Ready
it has not ─────────────> whatever there is of it goes ───────> Error
delete      goes on ──────────────────────────────────────────────────────> Expunged
resize      the pool has the size ──> record and guest get it ────────────> Ready
it has not ─────────────> Ready, with the size that it has
attach      the VM has the disk ────> Ready, attached
it has not ─────────────> forgotten and revoked, unless it had it before ──> Ready
detach      the VM has the disk, and nothing was taken from the host ─────> Ready, attached
it has not ─────────────> forgotten and revoked ──────────────> Ready
give        forgotten and revoked: the caller never learned where it is
take        goes on
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy.orm import Session

from ...transfer_objects.ids import VmId, VolumeId
from ..catalog.holds import Grant, Introduction
from ..catalog.volume_states import VolumeEvent
from ..catalog.volumes import VolumeRecord
from ..spi import Call, NotFound, Unsupported, VolumeSpec
from ..steps import step
from .volumes_records import attached, held
from .volumes_steps import Steps, learn
from .works import Work


def settle(steps: Steps, work: Work, call: Call) -> None:
    """End an act that is ours by `Works.claim`.

    Raises:
        StorageError: a backend cannot be asked, or does not do it; the act stays.
    """
    if work.act not in _SETTLE:
        raise Unsupported(
            f"{work.kind} {work.object}: another version of Bollard began {work.act}, and ends it"
        )
    _SETTLE[work.act](steps, work, call)


def _create(steps: Steps, work: Work, call: Call) -> None:
    pool, volume = steps.pool(work), VolumeId(work.object)
    try:
        found = pool.volumes.get(volume, step(call))
    except NotFound:
        undo_create(steps, work, "interrupted before the pool had it", call)
        return
    record = steps.records.get(volume)
    if record.parent_snapshot is None and record.parent_template is None:
        # One that was cut short may be half made; asked for again it is made whole.
        spec = VolumeSpec(id=volume, size=found.size, name=record.name, qos=found.qos)
        found = pool.volumes.create(spec, step(call))
        steps.records.end(work, VolumeEvent.SUCCEEDED, lambda _, r: learn(r, found))
        return
    undo_create(steps, work, "interrupted while it was copied", call)


def undo_create(steps: Steps, work: Work, reason: str, call: Call) -> None:
    """Remove what there is of a volume; the record says why it is in Error.

    Raises:
        Conflict: others have ended the act; the volume may be whole and in use, and is not touched.
        StorageError: the pool does not remove it; the act stays.
    """
    steps.records.works.check(work)
    steps.pool(work).volumes.delete(VolumeId(work.object), step(call))
    give_up_create(steps, work, reason)


def give_up_create(steps: Steps, work: Work, reason: str) -> None:
    """End a creation of which nothing is on the pool; what is there under its id is somebody else's."""
    steps.release(work)

    def told(_: Session, record: VolumeRecord) -> None:
        record.error = reason

    steps.records.end(work, VolumeEvent.FAILED, told, reason=reason)


def _delete(steps: Steps, work: Work, call: Call) -> None:
    steps.expunge(work, call)


def _resize(steps: Steps, work: Work, call: Call) -> None:
    pool = steps.pool(work)  # one that is not configured here is another matter than a volume that is lost
    try:
        pool.volumes.get(VolumeId(work.object), step(call))
    except NotFound:
        steps.records.end(work, VolumeEvent.LOST, reason="the pool has it no more")
        return
    steps.adopt_size(work, call)


def settle_attach(steps: Steps, work: Work, call: Call) -> str:
    """Bring an attach to its end; return the device, "" if it was undone."""
    device = "" if work.details.get("taking") else steps.device_of(work, call)
    if device:
        complete_attach(steps, work, device)
        return device
    if work.details.get("path"):  # the VM may be about to get it, for a caller who has gone
        steps.detach(work, call)
    work = steps.take_back(work, call, but=work.details.get("had", ()))
    steps.records.end(work, VolumeEvent.FAILED, reason="interrupted, and undone")
    return ""


def complete_attach(steps: Steps, work: Work, device: str) -> VolumeRecord:
    """Write down that the VM has the volume."""

    def done(session: Session, record: VolumeRecord) -> None:
        for kind, path in ((Grant, ""), (Introduction, str(work.details.get("path", "")))):
            held(session, work, kind, path)
        attached(session, record, VmId(work.vm), device)

    return steps.records.end(work, VolumeEvent.SUCCEEDED, done)


def _attach(steps: Steps, work: Work, call: Call) -> None:
    settle_attach(steps, work, call)


def settle_detach(steps: Steps, work: Work, call: Call) -> bool:
    """Bring a detach to its end; tell whether the VM has lost it."""
    if not work.details.get("taking") and steps.device_of(work, call):
        steps.records.end(work, _unless_lost(work, VolumeEvent.FAILED), reason="the VM has it still")
        return False
    finish_detach(steps, work, call)
    return True


def finish_detach(steps: Steps, work: Work, call: Call) -> VolumeRecord:
    """Take the volume from the host, now that no VM there has it."""
    work = steps.take_back(work, call)
    event = _unless_lost(work, VolumeEvent.SUCCEEDED)
    return steps.records.end(work, event, lambda s, r: attached(s, r, None, ""))


def _unless_lost(work: Work, event: VolumeEvent) -> VolumeEvent | None:
    """Return the event, or None: a volume in Error stays there, whether or not a VM has it."""
    return None if work.details.get("lost") else event


def _detach(steps: Steps, work: Work, call: Call) -> None:
    settle_detach(steps, work, call)


def _take(steps: Steps, work: Work, call: Call) -> None:
    work = steps.take_back(work, call)
    steps.records.end(work, None)


def _give(steps: Steps, work: Work, call: Call) -> None:
    work = steps.take_back(work, call, but=work.details.get("had", ()))
    steps.records.end(work, None)


_SETTLE: Mapping[str, Callable[[Steps, Work, Call], None]] = {
    "create": _create,
    "delete": _delete,
    "resize": _resize,
    "attach": _attach,
    "detach": _detach,
    "give": _give,
    "take": _take,
}
