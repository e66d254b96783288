"""What an orchestrator may fill: who may do what, how much of it, and who wants to be told.

    authority ─> record ─> quota reserved ─> act ─> done ─> audit
        │                      │              └ failed, undone ─> quota released ─> audit
        └ refused: no trace    └ refused: the record goes, no trace

All are called before anything happens on a backend, and again after a restart; so a reservation has a key,
and reserving or releasing it twice is the same as once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ...transfer_objects.enums import DataStoreRole
from ..spi import StorageError

_log = logging.getLogger("bollard.service")


class Act(StrEnum):
    """What somebody wants to do."""

    CREATE = "create a snapshot"
    ARCHIVE = "archive a snapshot"
    DELETE = "delete a snapshot"
    REVERT = "revert a volume to a snapshot"
    TO_VOLUME = "make a volume from a snapshot"
    TO_TEMPLATE = "make a template from a snapshot"
    CANCEL = "cancel the backup of a snapshot"
    CREATE_VOLUME = "create a volume"
    DELETE_VOLUME = "delete a volume"
    RESIZE_VOLUME = "resize a volume"
    ATTACH_VOLUME = "attach a volume"
    DETACH_VOLUME = "detach a volume"
    GIVE_VOLUME = "give a volume to a host"
    TAKE_VOLUME = "take a volume from a host"
    SEED_TEMPLATE = "bring a template to a pool"
    EVICT_TEMPLATE = "take a template from a pool"
    DELETE_TEMPLATE = "delete a template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a quota counts: one object on one kind of storage. CloudStack counted on the wrong one (#11551).

    Attributes:
        key: the same for the same object, whatever is repeated.
        role: PRIMARY or IMAGE.
        size: bytes that the guest sees: what the object may grow to.
    """

    key: str
    account: str
    role: DataStoreRole
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What became of an act; `problem` is empty if it went well."""

    account: str
    act: Act
    subject: str
    problem: str = ""


class Authority(Protocol):
    """Who may do what."""

    def check(self, account: str, act: Act, subject: str) -> None:
        """Raise `PermissionDenied` if the account may not; `subject` is a volume, snapshot or template id."""


class Quota(Protocol):
    """How much an account may have."""

    def reserve(self, reservation: Reservation) -> None:
        """Count it, or raise `LimitExceeded`; a key that is counted gets this size; less is not refused."""

    def release(self, key: str) -> None:
        """Count it no longer; one that is not counted is fine."""


class Audit(Protocol):
    """Who is told what was done."""

    def record(self, what: Audited) -> None:
        """Take note. It is too late to refuse: an error here is logged, and nothing else."""


class AllowAll:
    """An authority that allows everything, for an orchestrator without accounts."""

    def check(self, account: str, act: Act, subject: str) -> None:
        """See `Authority.check`."""


class NoQuota:
    """A quota without limits."""

    def reserve(self, reservation: Reservation) -> None:
        """See `Quota.reserve`."""

    def release(self, key: str) -> None:
        """See `Quota.release`."""


class NoAudit:
    """Nobody wants to know."""

    def record(self, what: Audited) -> None:
        """See `Audit.record`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The three of them; the defaults allow everything."""

    authority: Authority = AllowAll()
    quota: Quota = NoQuota()
    audit: Audit = NoAudit()

    @contextmanager
    def acting(self, account: str, act: Act, subject: str) -> Iterator[None]:
        """Ask the authority before a block, and tell the audit what became of it."""
        self.authority.check(account, act, subject)
        try:
            yield
        except StorageError as error:
            self.tell(account, act, subject, error.message)
            raise
        self.tell(account, act, subject)

    def tell(self, account: str, act: Act, subject: str, problem: str = "") -> None:
        """Tell the audit; what it raises cannot undo what was done."""
        try:
            self.audit.record(Audited(account=account, act=act, subject=subject, problem=problem))
        except Exception:  # noqa: BLE001 - the edge to somebody else's code, and too late to refuse
            _log.exception("the audit of %r failed: %s on %s", account, act, subject)


def volume_reservation(volume: str, account: str, size: int) -> Reservation:
    """Return what a quota counts for a volume, however it was made."""
    return Reservation(key=volume_key(volume), account=account, role=DataStoreRole.PRIMARY, size=size)


def volume_key(volume: str) -> str:
    """Return the key of a volume's reservation."""
    return f"volume/{volume}"
