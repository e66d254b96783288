"""What an orchestrator may fill: who may do what, how much of it, and who wants to be told.

    authority ─> record ─> quota reserved ─> act ─> done ─> audit
        │                      │              └ failed, undone ─> quota released ─> audit
        └ refused: no trace    └ refused: the record goes, no trace

All are called before anything happens on a backend, and again after a restart; so a reservation has a key,
and reserving or releasing it twice is the same as once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ...transfer_objects.enums import DataStoreRole

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
        """Raise `PermissionDenied` if the account may not; `subject` is a volume or snapshot id."""


class Quota(Protocol):
    """How much an account may have."""

    def reserve(self, reservation: Reservation) -> None:
        """Count it, or raise `LimitExceeded`; a key that is counted already is not counted twice."""

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

    def tell(self, account: str, act: Act, subject: str, problem: str = "") -> None:
        """Tell the audit; what it raises cannot undo what was done."""
        try:
            self.audit.record(Audited(account=account, act=act, subject=subject, problem=problem))
        except Exception:  # noqa: BLE001 - the edge to somebody else's code, and too late to refuse
            _log.exception("the audit of %r failed: %s on %s", account, act, subject)
