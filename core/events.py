"""What core tells observers about each operation: enough for a trace, a metric or an audit line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where an operation stands."""

    STARTED = "started"
    RETRIED = "retried"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of one operation; `seconds` since it started, and bytes of objects that it moved."""

    operation: str
    object_id: str
    request_id: str
    phase: Phase
    attempt: int
    seconds: float
    error: str = ""
    sent: int = 0
    received: int = 0


Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Observe nothing."""
