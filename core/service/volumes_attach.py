"""Volumes for VMs and hosts.

    attach    grant ── introduce ── attach        detach    detach ── forget ── revoke
    give      grant ── introduce                  take               forget ── revoke

"Give" and "take" are for whoever attaches by himself: a grant alone, or with an introduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from ...transfer_objects.ids import VmId, VolumeId
from ..catalog.holds import Grant, Introduction
from ..catalog.volume_states import VolumeEvent, VolumeState
from ..catalog.volumes import VolumeRecord
from ..checks import check_host, check_id
from ..spi import Call, Host, Introduced, InUse, Location, StorageError
from ..steps import step
from .hooks import Act
from .volumes import VolumeService
from .volumes_records import Holds, ask_for, had_of, held, refuse_if_changed, remember_host
from .volumes_settle import complete_attach, finish_detach, settle_attach, settle_detach
from .volumes_steps import Steps
from .works import Work

_UNDO = 120.0  # seconds for undoing what failed; on top of its deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Where a host finds a volume; `introduced` if it was made known there."""

    location: Location
    introduced: Introduced | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeAttachments:
    """Brings volumes to VMs and hosts, and back."""

    service: VolumeService

    @property
    def steps(self) -> Steps:
        """Return what its operations consist of."""
        return self.service.steps

    def attach(
        self, volume: VolumeId, vm: VmId, host: Host, hypervisor: str, call: Call, *, account: str = ""
    ) -> VolumeRecord:
        """Attach a volume to a VM on a host; the same again returns the same device.

        Args:
            hypervisor: name of the one that reaches the host.

        Raises:
            InUse: another VM has it.
            StorageError: the VM has not got it, and neither has the host, unless it had it before.
        """
        check_id("vm", vm)
        with self.service.acting(account, Act.ATTACH_VOLUME, volume):
            self._check_reach(host, hypervisor)
            self.service.end_interrupted(volume, call)
            found = self.service.records.get(volume)
            if found.vm == vm:
                return found
            holds, managed = self.service.records.holds(volume, host.id), self._managed(found)
            details = {
                "pool": found.pool,
                "managed": managed,
                "hypervisor": hypervisor,
                "had": had_of(holds),
            }
            asked = partial(_ask, host=host, hypervisor=hypervisor, vm=vm, managed=managed, holds=holds)
            work = self.service.records.begin(
                volume, "attach", VolumeEvent.ATTACH_REQUESTED, details, asked, vm=vm, host=host.id
            )
            return self._attach(work, host, call)

    def _attach(self, work: Work, host: Host, call: Call) -> VolumeRecord:
        driver = self.steps.hypervisor(work).driver
        try:
            order = self.steps.grant(work, host, call, read_only=False)
            work, known = self.steps.introduce(work, order, call)
            device = self.steps.hypervisor(work).run(
                "vm.attach", lambda c: driver.attach(VmId(work.vm), known, c), step(call)
            )
        except StorageError as error:
            self._undo(work, error)
            raise
        return complete_attach(self.steps, work, device)

    def _undo(self, work: Work, error: StorageError) -> None:
        """Take back what a failed attach has given; an answer that was lost may mean that the VM has it."""
        try:
            settle_attach(self.steps, work, Call.within(_UNDO))
        except StorageError:
            self.service.records.works.leave(work, error.message)

    def detach(self, volume: VolumeId, call: Call, *, account: str = "") -> VolumeRecord:
        """Take a volume from its VM and its host; one that no VM has is fine.

        Raises:
            StorageError: the VM has it still, or it is on its way out and a repeat or a sync goes on.
        """
        with self.service.acting(account, Act.DETACH_VOLUME, volume):
            self.service.end_interrupted(volume, call)
            found = self.service.records.get(volume)
            if found.vm is None:
                return found
            known = self.service.records.introduction(volume)
            holds = self.service.records.holds(volume, known.host)
            same = partial(refuse_if_changed, vm=found.vm, host=known.host, holds=holds)
            lost = found.state is VolumeState.ERROR
            details = {
                "pool": found.pool,
                "hypervisor": known.hypervisor,
                "path": known.path,
                "lost": lost,
            }
            event = None if lost else VolumeEvent.DETACH_REQUESTED
            work = self.service.records.begin(
                volume, "detach", event, details, same, vm=found.vm, host=known.host
            )
            try:
                self.steps.detach(work, call)
                return finish_detach(self.steps, work, call)
            except StorageError as error:
                self._after_failed_detach(work, error)
                raise

    def _after_failed_detach(self, work: Work, error: StorageError) -> None:
        try:
            settle_detach(self.steps, work, Call.within(_UNDO))
        except StorageError:
            self.service.records.works.leave(work, error.message)

    def give(
        self,
        volume: VolumeId,
        host: Host,
        call: Call,
        *,
        hypervisor: str = "",
        read_only: bool = False,
        account: str = "",
    ) -> Given:
        """Give a host access to a volume, and make it known there if a hypervisor is named.

        Raises:
            StorageError: the host has nothing of it, unless it had it before.
        """
        with self.service.acting(account, Act.GIVE_VOLUME, volume):
            self._check_reach(host, hypervisor)
            self.service.end_interrupted(volume, call)
            found = self.service.records.get(volume)
            holds, managed = self.service.records.holds(volume, host.id), self._managed(found)
            details = {"pool": found.pool, "hypervisor": hypervisor, "had": had_of(holds)}
            asked = partial(_ask, host=host, hypervisor=hypervisor, vm=None, managed=managed, holds=holds)
            work = self.service.records.begin(volume, "give", None, details, asked, host=host.id)
            try:
                order = self.steps.grant(work, host, call, read_only=read_only)
                known = None
                if hypervisor:
                    work, known = self.steps.introduce(work, order, call)
            except StorageError as error:
                self._undo_give(work, error)
                raise
            self.service.records.end(work, None, partial(_given, work))
            return Given(location=order.location, introduced=known)

    def _undo_give(self, work: Work, error: StorageError) -> None:
        try:
            self.service.settle(work, Call.within(_UNDO))
        except StorageError:
            self.service.records.works.leave(work, error.message)

    def take(self, volume: VolumeId, host: Host, call: Call, *, account: str = "") -> None:
        """Take a volume from a host; one that it has not got is fine.

        Raises:
            InUse: a VM has it.
            StorageError: it is on its way out, and a repeat or a sync goes on.
        """
        check_host(host)
        with self.service.acting(account, Act.TAKE_VOLUME, volume):
            self.service.end_interrupted(volume, call)
            found = self.service.records.get(volume)
            if found.vm is not None:
                raise InUse(f"volume {volume} is attached to VM {found.vm}")
            holds = self.service.records.holds(volume, host.id)
            same = partial(refuse_if_changed, vm=None, host=host.id, holds=holds)
            hypervisor = self.service.records.known_by(volume, host.id)
            details = {"pool": found.pool, "hypervisor": hypervisor}
            work = self.service.records.begin(volume, "take", None, details, same, host=host.id)
            self.service.settle(work, call)

    def _check_reach(self, host: Host, hypervisor: str) -> None:
        """Refuse what could neither be done nor, once it is written down, be undone."""
        check_host(host)
        if hypervisor:
            self.service.site.hypervisor(hypervisor)

    def _managed(self, record: VolumeRecord) -> bool:
        return self.service.site.pool(record.pool).managed


def _ask(
    session: Session,
    record: VolumeRecord,
    *,
    host: Host,
    hypervisor: str,
    vm: VmId | None,
    managed: bool,
    holds: Holds,
) -> None:
    if record.vm is not None:
        raise InUse(f"volume {record.id} is attached to VM {record.vm}")
    refuse_if_changed(session, record, vm=None, host=host.id, holds=holds)
    purpose = f"vm:{vm}" if vm else "host"
    if managed:
        ask_for(session, record, host, Grant, purpose)
    if hypervisor:
        remember_host(session, host, hypervisor)
        ask_for(session, record, host, Introduction, purpose)


def _given(work: Work, session: Session, _: VolumeRecord) -> None:
    held(session, work, Grant)
    held(session, work, Introduction, str(work.details.get("path", "")))
