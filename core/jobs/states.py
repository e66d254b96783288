"""How a job moves.

                    RetryScheduled, Released
                 ┌─────────────────────────────┐
                 v                             │          TakenOver: the same state again
    ──────>  Queued ──────── Claimed ──────> Running ──────────────> Succeeded | Failed
                 │                             │ CancelRequested          ^
                 │ CancelRequested             v                          │
                 └──────────> Cancelled <── Cancelling ───────────────────┘  it was done before it could stop

Queued and the last three are resting states. Who finds a job in Running or Cancelling whose worker is dead
takes it over and does it again; every operation can be repeated.
"""

from __future__ import annotations

from enum import StrEnum

from ..catalog.machine import StateMachine


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "Queued"
    RUNNING = "Running"
    CANCELLING = "Cancelling"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def over(self) -> bool:
        """Nothing happens to the job any more."""
        return self in _OVER


class JobEvent(StrEnum):
    """What happens to a job."""

    CLAIMED = "Claimed"
    TAKEN_OVER = "TakenOver"
    RETRY = "RetryScheduled"
    RELEASED = "Released"
    CANCEL_REQUESTED = "CancelRequested"
    SUCCEEDED = "OperationSucceeded"
    FAILED = "OperationFailed"
    CANCELLED = "Cancelled"


_S, _E = JobState, JobEvent
_OVER = frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELLED})

# A worker has these, or had: its lease tells.
HELD = frozenset({_S.RUNNING, _S.CANCELLING})

_MOVES = {
    (_S.QUEUED, _E.CLAIMED): _S.RUNNING,
    (_S.QUEUED, _E.CANCEL_REQUESTED): _S.CANCELLED,
    (_S.RUNNING, _E.TAKEN_OVER): _S.RUNNING,
    (_S.RUNNING, _E.RETRY): _S.QUEUED,
    (_S.RUNNING, _E.RELEASED): _S.QUEUED,
    (_S.RUNNING, _E.CANCEL_REQUESTED): _S.CANCELLING,
    (_S.RUNNING, _E.SUCCEEDED): _S.SUCCEEDED,
    (_S.RUNNING, _E.FAILED): _S.FAILED,
    (_S.CANCELLING, _E.TAKEN_OVER): _S.CANCELLING,
    (_S.CANCELLING, _E.CANCEL_REQUESTED): _S.CANCELLING,
    (_S.CANCELLING, _E.SUCCEEDED): _S.SUCCEEDED,
    (_S.CANCELLING, _E.FAILED): _S.FAILED,
    (_S.CANCELLING, _E.CANCELLED): _S.CANCELLED,
}

JOB = StateMachine("job", _S.QUEUED, _MOVES, transient=HELD)
