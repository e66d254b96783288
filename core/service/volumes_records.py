"""The durable side of the volume service: each function is one transaction, and one legal step.

The record's transition, what is asked of grants and introductions, and the act's own row are written
together: a crash finds all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ...transfer_objects.ids import SnapshotId, TemplateId, VmId, VolumeId
from ..catalog import Catalog
from ..catalog.holds import Grant, HoldEvent, HoldState, Introduction
from ..catalog.paging import one
from ..catalog.places import HostRecord
from ..catalog.transitions import now_text
from ..catalog.volume_states import VolumeEvent, VolumeState
from ..catalog.volumes import VolumeRecord
from ..spi import Busy, Conflict, Host, InUse, NotFound, Qos
from .exclusion import refuse_while_made_of_snapshot, refuse_while_snapshot_acts
from .works import Work, Works

KIND = "volume"
Holds = tuple[tuple[str, HoldState, str], ...]
_ASKED_FOR = (HoldState.REQUESTED, HoldState.HELD, HoldState.RELEASING)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVolume:
    """What is asked for.

    Attributes:
        id: the caller's key: the same id and the same rest give the same volume.
        pool: name of the pool.
        size: bytes.
        snapshot: on the same pool, of which it is made; or `template`, which is ready on that pool.
    """

    id: VolumeId
    pool: str
    size: int
    name: str = ""
    qos: Qos | None = None
    snapshot: SnapshotId | None = None
    template: TemplateId | None = None
    account: str = ""

    def details(self) -> Mapping[str, Any]:
        """Return what a sync needs to know of it."""
        plain = self.snapshot is None and self.template is None
        return {"pool": self.pool, "size": self.size, "account": self.account, "plain": plain}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Where a volume was introduced."""

    host: str
    path: str
    hypervisor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecords:
    """Volumes in the catalog, and what is being done to them."""

    catalog: Catalog
    works: Works

    def find(self, volume: VolumeId) -> VolumeRecord | None:
        """Return a record, or None."""
        with self.catalog.reading() as session:
            return session.get(VolumeRecord, volume)

    def get(self, volume: VolumeId) -> VolumeRecord:
        """Return a record that has not been deleted, or raise `NotFound`."""
        found = self.find(volume)
        if found is None or found.state is VolumeState.EXPUNGED:
            raise NotFound(f"there is no volume {volume}")
        return found

    def introduction(self, volume: VolumeId) -> Known:
        """Return on which host a volume that a VM has is known.

        Raises:
            NotFound: on none.
        """
        chosen = select(Introduction).where(
            Introduction.volume == volume, Introduction.state == HoldState.HELD
        )
        with self.catalog.reading() as session:
            row = session.scalar(chosen.limit(1))
            if row is None:
                raise NotFound(f"no host knows volume {volume}")
            return Known(host=row.host, path=row.path, hypervisor=_hypervisor(session, row.host))

    def hypervisor_with(self, record: VolumeRecord) -> str:
        """Return the name of the hypervisor that has the VM of a volume."""
        return self.introduction(VolumeId(record.id)).hypervisor

    def holds(self, volume: VolumeId, host: str) -> Holds:
        """Return what a host has, had or asks of a volume: the tables, states and paths of its rows."""
        with self.catalog.reading() as session:
            return _holds(session, volume, host)

    def known_by(self, volume: VolumeId, host: str) -> str:
        """Return the name of the hypervisor that a volume was introduced to on a host; "" if to none."""
        with self.catalog.reading() as session:
            row = _hold(session, Introduction, volume, host)
            gone = row is None or row.state is HoldState.RELEASED
            return "" if gone else _hypervisor(session, host)

    def creating(self, new: NewVolume) -> Work:
        """Write a new volume down, or one whose creation had failed.

        Raises:
            Conflict: there is a volume of this id.
            Busy: one of this id is being made, of a snapshot or else.
        """
        with self.catalog.transaction() as session:
            refuse_while_made_of_snapshot(session, new.id)
            work = self.works.begin(session, KIND, new.id, "create", new.details())
            record = session.get(VolumeRecord, new.id)
            if record is None:
                record = VolumeRecord(id=new.id, pool=new.pool, created=now_text(session))
                session.add(record)
            elif record.state is not VolumeState.ERROR:
                raise Conflict(f"there is or was a volume {new.id}, which is {record.state}")
            record.pool, record.name, record.size, record.error = new.pool, new.name, new.size, ""
            record.parent_snapshot, record.parent_template = new.snapshot, new.template
            record.take(VolumeEvent.CREATE_REQUESTED)
            return work

    def begin(
        self,
        volume: VolumeId,
        act: str,
        event: VolumeEvent | None,
        details: Mapping[str, Any],
        also: Callable[[Session, VolumeRecord], None] = lambda *_: None,
        *,
        vm: str = "",
        host: str = "",
    ) -> Work:
        """Begin an act on a volume that is there.

        Args:
            event: None: the volume stays as it is, and only this act is kept from meeting another one.
            also: what is checked and written with it.

        Raises:
            Busy: another act on the volume, or on its snapshots, is under way; see `exclusion`.
        """
        with self.catalog.transaction() as session:
            work = self.works.begin(session, KIND, volume, act, details, vm=vm, host=host)
            refuse_while_snapshot_acts(session, volume, act, details)
            record = one(session, VolumeRecord, volume)
            also(session, record)
            if event is not None:
                record.take(event)
            elif record.state is not VolumeState.READY and not _leaves_lost(record, act):
                raise Conflict(f"volume {volume} is {record.state}")
            return work

    def end(
        self,
        work: Work,
        event: VolumeEvent | None,
        also: Callable[[Session, VolumeRecord], None] = lambda *_: None,
        *,
        reason: str = "",
    ) -> VolumeRecord:
        """End an act: record, holds and the act's row in one step."""
        with self.catalog.transaction() as session:
            record = one(session, VolumeRecord, work.object)
            self.works.end(session, work)
            also(session, record)
            if event is not None:
                record.take(event, reason)
            return record

    def note(self, work: Work, also: Callable[[Session], None] = lambda _: None, **details: Any) -> Work:
        """Add to what is known of an act, before its next step."""
        with self.catalog.transaction() as session:
            also(session)
            return self.works.note(session, work, **details)


def _leaves_lost(record: VolumeRecord, act: str) -> bool:
    """Tell whether a volume that is in Error leaves VM or host: it could not be deleted before that."""
    return record.state is VolumeState.ERROR and act in ("detach", "take")


def _hypervisor(session: Session, host: str) -> str:
    row = session.get(HostRecord, host)
    return "" if row is None else row.hypervisor


def _hold(session: Session, kind: type[Any], volume: str, host: str) -> Any:
    return session.scalar(select(kind).where(kind.volume == volume, kind.host == host))


def _holds(session: Session, volume: str, host: str) -> Holds:
    kinds: tuple[type[Any], ...] = (Grant, Introduction)
    rows = [row for kind in kinds if (row := _hold(session, kind, volume, host)) is not None]
    return tuple((row.__tablename__, row.state, getattr(row, "path", "")) for row in rows)


def had_of(holds: Holds) -> list[str]:
    """Return what the host has: "grants", "introductions"."""
    return [table for table, state, _ in holds if state is HoldState.HELD]


def refuse_if_changed(
    session: Session, record: VolumeRecord, *, vm: str | None, host: str, holds: Holds
) -> None:
    """Refuse an act that was decided by a look which is true no longer.

    A take that was begun after somebody else's attach had ended could never be done: the VM has the disk,
    and until the take has ended nobody may detach it.

    Raises:
        Busy: the volume was attached, detached, given or taken since; try again.
    """
    if (record.vm, _holds(session, record.id, host)) != (vm, holds):
        raise Busy(f"volume {record.id} was attached or given, or taken back, just now", retry_after=0.1)


def ask_for(session: Session, record: VolumeRecord, host: Host, kind: type[Any], purpose: str) -> None:
    """Write down that a host is to have a volume, before any backend hears of it."""
    row = _hold(session, kind, record.id, host.id)
    if row is None:
        row = kind(volume=record.id, pool=record.pool, host=host.id, created=now_text(session))
        session.add(row)
    elif row.state is HoldState.RELEASING:
        raise Conflict(f"host {host.id} is about to lose volume {record.id}")
    row.purpose = purpose
    if row.state is HoldState.RELEASED:
        row.take(HoldEvent.REQUESTED)


def held(session: Session, work: Work, kind: type[Any], path: str = "") -> None:
    """Write down that a host has it."""
    row = _hold(session, kind, work.object, work.host)
    if row is not None:
        if path:
            row.path = path
        if row.state is HoldState.REQUESTED:
            row.take(HoldEvent.SUCCEEDED)


def releasing(session: Session, kind: type[Any], volume: str, host: str) -> None:
    """Write down that a host is to lose it, before any backend hears of it."""
    row = _hold(session, kind, volume, host)
    if row is not None and row.state is not HoldState.RELEASED:
        row.take(HoldEvent.RELEASE_REQUESTED)


def released(session: Session, kind: type[Any], volume: str, host: str) -> None:
    """Write down that a host has it no more."""
    row = _hold(session, kind, volume, host)
    if row is not None and row.state is HoldState.RELEASING:
        row.take(HoldEvent.SUCCEEDED)


def remember_host(session: Session, host: Host, hypervisor: str) -> None:
    """Keep which hypervisor reaches a host: a sync asks it."""
    row = session.get(HostRecord, host.id)
    if row is None:
        row = HostRecord(id=host.id, name=host.name or host.id)
        session.add(row)
    row.hypervisor, row.seen = hypervisor, now_text(session)


def refuse_if_used(session: Session, record: VolumeRecord) -> None:
    """Keep a volume that a VM or a host has from being deleted."""
    if record.vm is not None:
        raise InUse(f"volume {record.id} is attached to VM {record.vm}")
    kinds: tuple[type[Any], ...] = (Grant, Introduction)
    for kind in kinds:
        asked_for = kind.state.in_(_ASKED_FOR)
        row = session.scalar(select(kind).where(kind.volume == record.id, asked_for).limit(1))
        if row is not None:
            raise InUse(f"volume {record.id} is in use on host {row.host}")


def attached(session: Session, record: VolumeRecord, vm: VmId | None, device: str) -> None:
    """Set or clear which VM has it."""
    del session
    record.vm, record.device = vm, device
