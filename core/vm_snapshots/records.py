"""The durable side of VM snapshots: each method is one transaction, and one legal step of the state machine.

Intent before act: a row says Creating, with every name that the act will use, before any backend hears of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ...transfer_objects.ids import VmId, VmSnapshotId, VolumeId
from ..catalog import Catalog
from ..catalog.transitions import transit
from ..catalog.unfinished import under_way
from ..catalog.vm_snapshots import VmSnapshotMemberRow, VmSnapshotRow
from ..spi import FileLocation, NotFound
from .members import Member, MemberKind
from .states import UNFINISHED, VM_SNAPSHOTS, Event, State
from .tree import Node, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSnapshotSpec:
    """What is to be made.

    Attributes:
        id: the caller's key; the same id and spec give the same snapshot.
        name: what people call it; unique per VM.
        memory: take the VM's memory, too.
        quiesce: have the guest's file systems clean in it.
    """

    id: VmSnapshotId
    vm: VmId
    name: str
    description: str = ""
    memory: bool = False
    quiesce: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VmSnapshot:
    """A VM snapshot as it is recorded; see `VmSnapshotRow` for the fields."""

    spec: VmSnapshotSpec
    state: State
    strategy: str
    created: str
    offering: Mapping[str, str]
    members: Sequence[Member]
    current: bool = False
    parent: VmSnapshotId | None = None
    taken: bool = False
    quiesced: bool = False
    frozen_seconds: float = 0.0
    metadata_text: str = ""
    work: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def id(self) -> VmSnapshotId:
        """The snapshot's id."""
        return self.spec.id


class Records:
    """VM snapshots in the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    # -- reading --------------------------------------------------------------------------------------

    def get(self, snapshot: VmSnapshotId) -> VmSnapshot:
        """Return one, removed ones included, or raise `NotFound`."""
        with self._catalog.transaction() as session:
            return _value(_row(session, snapshot))

    def find(self, snapshot: VmSnapshotId) -> VmSnapshot | None:
        """Return one, or None."""
        with self._catalog.transaction() as session:
            row = session.scalar(select(VmSnapshotRow).where(VmSnapshotRow.id == snapshot))
            return None if row is None else _value(row)

    def of_vm(self, vm: VmId) -> list[VmSnapshot]:
        """Return all that are not removed, oldest first."""
        with self._catalog.transaction() as session:
            return [_value(row) for row in _living(session, vm)]

    def tree(self, vm: VmId) -> Tree:
        """Return the tree of those that exist on their backends."""
        with self._catalog.transaction() as session:
            return _tree(session, vm)

    def unfinished(self) -> list[VmId]:
        """Return the VMs with a task that is under way or was left by a dead process."""
        left = under_way(VmSnapshotRow.__table__.c.state, UNFINISHED)
        vms = select(VmSnapshotRow.vm).where(left).distinct().order_by(VmSnapshotRow.vm)
        with self._catalog.transaction() as session:
            return [VmId(vm) for vm in session.scalars(vms)]

    # -- steps ----------------------------------------------------------------------------------------

    def allocate(
        self,
        spec: VmSnapshotSpec,
        strategy: str,
        members: Sequence[Member],
        *,
        offering: Mapping[str, str],
        work: Mapping[str, Any],
    ) -> VmSnapshot:
        """Write down a new one, with all names that making it will use."""
        row = VmSnapshotRow(
            id=spec.id,
            vm=spec.vm,
            name=spec.name,
            description=spec.description,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            state=State.ALLOCATED,
            memory=spec.memory,
            quiesce=spec.quiesce,
            strategy=strategy,
            offering=dict(offering),
            work=dict(work),
            members=[_member_row(member) for member in members],
        )
        with self._catalog.transaction() as session:
            session.add(row)
            session.flush()
            return _value(row)

    def step(
        self, snapshot: VmSnapshotId, event: Event, *, error: str = "", work: Mapping[str, Any] | None = None
    ) -> VmSnapshot:
        """Take one step of the state machine.

        Args:
            error: why, for the record; "" clears it.
            work: what is to be finished; None leaves what is there.

        Raises:
            IllegalTransition: the state does not allow it.
        """
        with self._catalog.transaction() as session:
            row = _step(session, snapshot, event, error)
            if work is not None:
                row.work = dict(work)
            return _value(row)

    def created(
        self, snapshot: VmSnapshotId, *, quiesced: bool, frozen_seconds: float, metadata_text: str
    ) -> VmSnapshot:
        """Creating becomes Ready, on top of the current one, and current itself: all in one commit."""
        with self._catalog.transaction() as session:
            row = _step(session, snapshot, Event.OPERATION_SUCCEEDED)
            tree = _tree(session, VmId(row.vm)).taken(snapshot)
            row.taken, row.quiesced, row.frozen_seconds = True, quiesced, frozen_seconds
            row.metadata_text, row.work = metadata_text, {}
            _apply(session, VmId(row.vm), tree)
            return _value(row)

    def reverted(self, snapshot: VmSnapshotId) -> VmSnapshot:
        """Reverting becomes Ready, and current."""
        with self._catalog.transaction() as session:
            row = _step(session, snapshot, Event.OPERATION_SUCCEEDED)
            row.work = {}
            _apply(session, VmId(row.vm), _tree(session, VmId(row.vm)).reverted(snapshot))
            return _value(row)

    def expunged(self, snapshot: VmSnapshotId) -> VmSnapshot:
        """Expunging becomes Removed; children and the mark "current" move to the parent."""
        with self._catalog.transaction() as session:
            tree = _tree(session, VmId(_row(session, snapshot).vm))
            row = _step(session, snapshot, Event.OPERATION_SUCCEEDED)
            if row.taken:
                _apply(session, VmId(row.vm), tree.without(snapshot))
            row.taken, row.current, row.work, row.members = False, False, {}, []
            return _value(row)

    def moved(self, snapshot: VmSnapshotId, device: str, image: FileLocation) -> None:
        """A merge has brought a member's bytes to another image."""
        with self._catalog.transaction() as session:
            for member in _row(session, snapshot).members:
                if member.device == device:
                    member.image, member.format = str(image.path), image.format

    def set_volume_snapshot(self, snapshot: VmSnapshotId, volume: VolumeId, made: str) -> None:
        """Say which volume snapshot is made of a member; "": none."""
        with self._catalog.transaction() as session:
            for member in _row(session, snapshot).members:
                if member.volume == volume:
                    member.volume_snapshot = made


def _row(session: Session, snapshot: VmSnapshotId) -> VmSnapshotRow:
    row = session.scalar(select(VmSnapshotRow).where(VmSnapshotRow.id == snapshot))
    if row is None:
        raise NotFound(f"there is no VM snapshot {snapshot}")
    return row


def _step(session: Session, snapshot: VmSnapshotId, event: Event, error: str = "") -> VmSnapshotRow:
    row = _row(session, snapshot)
    transit(session, VM_SNAPSHOTS, row, event, error)
    row.error = error
    return row


def _living(session: Session, vm: VmId) -> Sequence[VmSnapshotRow]:
    of_vm = select(VmSnapshotRow).where(VmSnapshotRow.vm == vm, VmSnapshotRow.state != State.REMOVED)
    return session.scalars(of_vm.order_by(VmSnapshotRow.number)).all()


def _tree(session: Session, vm: VmId) -> Tree:
    return Tree(
        Node(
            id=VmSnapshotId(row.id),
            parent=None if row.parent is None else VmSnapshotId(row.parent),
            current=row.current,
            hidden=row.state == State.HIDDEN,
        )
        for row in _living(session, vm)
        if row.taken
    )


def _apply(session: Session, vm: VmId, tree: Tree) -> None:
    for row in _living(session, vm):
        if VmSnapshotId(row.id) in tree:
            node = tree[VmSnapshotId(row.id)]
            row.parent, row.current = node.parent, node.current


def _member_row(member: Member) -> VmSnapshotMemberRow:
    return VmSnapshotMemberRow(
        device=member.device,
        volume=member.volume,
        kind=member.kind,
        pool=member.pool,
        image="" if member.image is None else str(member.image.path),
        format="" if member.image is None else member.image.format,
        volume_snapshot=member.volume_snapshot,
    )


def _member(row: VmSnapshotMemberRow) -> Member:
    return Member(
        device=row.device,
        volume=VolumeId(row.volume),
        kind=MemberKind(row.kind),
        pool=row.pool,
        image=Member.location(row.image, row.format) if row.image else None,
        volume_snapshot=row.volume_snapshot,
    )


def _value(row: VmSnapshotRow) -> VmSnapshot:
    return VmSnapshot(
        spec=VmSnapshotSpec(
            id=VmSnapshotId(row.id),
            vm=VmId(row.vm),
            name=row.name,
            description=row.description,
            memory=row.memory,
            quiesce=row.quiesce,
        ),
        state=State(row.state),
        strategy=row.strategy,
        created=row.created,
        offering=dict(row.offering),
        members=tuple(_member(member) for member in row.members),
        current=row.current,
        parent=None if row.parent is None else VmSnapshotId(row.parent),
        taken=row.taken,
        quiesced=row.quiesced,
        frozen_seconds=row.frozen_seconds,
        metadata_text=row.metadata_text,
        work=dict(row.work),
        error=row.error,
    )
