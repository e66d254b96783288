"""Who takes a VM's snapshot: the strategy with the highest priority among those that can.

    can_handle:  CANT_HANDLE < DEFAULT < PLUGIN < HYPERVISOR < HIGHEST        nobody can: Unsupported, with
                                                                              each one's reason
A strategy's methods run under the VM's lock and between two records; each can be repeated after a kill.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import Any, ClassVar

from ..spi import Call, Unsupported, VmState
from .machine import Machine
from .members import Member
from .records import Records, VmSnapshot, VmSnapshotSpec


class Priority(IntEnum):
    """How well a strategy fits."""

    CANT_HANDLE = 0
    DEFAULT = 1
    PLUGIN = 2
    HYPERVISOR = 3
    HIGHEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A VM snapshot that is asked for.

    Attributes:
        in_use: names of the strategies that the VM's present snapshots are from.
        volume_snapshots: a volume of the VM has snapshots of its own.
    """

    spec: VmSnapshotSpec
    machine: Machine
    state: VmState
    in_use: frozenset[str] = frozenset()
    volume_snapshots: bool = False
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a snapshot will consist of, and all names that making it needs."""

    members: Sequence[Member]
    work: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A snapshot that something is to be done with."""

    snapshot: VmSnapshot
    machine: Machine
    state: VmState
    records: Records
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What taking it gave: `frozen_seconds` is how long the guest stood still."""

    quiesced: bool = False
    frozen_seconds: float = 0.0
    metadata_text: str = ""


class Settled(Enum):
    """What a backend says about a revert that nobody saw the end of."""

    DONE = auto()
    NOT_DONE = auto()
    LOST = auto()


class Strategy(ABC):
    """One way to make VM snapshots. `name` is kept with each snapshot: it may never change."""

    name: ClassVar[str]
    priority: ClassVar[Priority]

    @abstractmethod
    def obstacle(self, asked: Asked) -> str:
        """Return why it cannot do this, "" if it can. Nothing is changed."""

    def can_handle(self, asked: Asked) -> Priority:
        """Return how well it fits."""
        return Priority.CANT_HANDLE if self.obstacle(asked) else self.priority

    @abstractmethod
    def plan(self, asked: Asked) -> Plan:
        """Return what it will make. Nothing is changed."""

    @abstractmethod
    def take(self, job: Job) -> Taken:
        """Make it: all disks at one instant. After a failure `undo` is called; the guest is thawed."""

    @abstractmethod
    def undo(self, job: Job) -> None:
        """Remove whatever a failed or killed `take` made."""

    @abstractmethod
    def find(self, job: Job) -> Taken | None:
        """Ask the backend whether a killed `take` has made it, whole; None if it has to be undone."""

    def plan_revert(self, job: Job) -> Mapping[str, Any]:  # noqa: ARG002 - for overriders
        """Return the names that a revert needs."""
        return {}

    @abstractmethod
    def revert(self, job: Job) -> None:
        """Put all disks back. An error with outcome "not applied" means that none was changed."""

    @abstractmethod
    def settle_revert(self, job: Job) -> Settled:
        """Ask the backend how a revert ended that nobody saw the end of; finish it if it must be."""

    def plan_delete(self, job: Job) -> Mapping[str, Any]:  # noqa: ARG002 - for overriders
        """Return the names that a deletion needs."""
        return {}

    @abstractmethod
    def delete(self, job: Job) -> bool:
        """Delete it. False: others still stand on its data, so it is hidden."""


def choose(strategies: Sequence[Strategy], asked: Asked, excluded: Collection[str] = ()) -> Strategy:
    """Return the strategy with the highest priority; of equals the first.

    Args:
        excluded: names that an operator does not want (`vmSnapshot.strategies.exclude`).

    Raises:
        Unsupported: none can, with each one's reason.
    """
    able = [(s.can_handle(asked), s) for s in strategies if s.name not in excluded]
    best = max(able, key=lambda pair: pair[0], default=None)
    if best is not None and best[0] is not Priority.CANT_HANDLE:
        return best[1]
    reasons = "; ".join(f"{s.name}: {_reason(s, asked, excluded)}" for s in strategies)
    raise Unsupported(f"no strategy can take this snapshot of VM {asked.machine.vm} ({reasons})")


def _reason(strategy: Strategy, asked: Asked, excluded: Collection[str]) -> str:
    return "excluded" if strategy.name in excluded else strategy.obstacle(asked) or "it does not fit"
