"""The life of a VM snapshot: CloudStack's states and events, with the transitions that are missing there.

    Allocated ──create──> Creating ──ok──> Ready <──ok, failed── Reverting
        │                    │ failed        │ └────revert──────────^
        │ expunge            v               │ expunge
        │                  Error ──expunge──> Expunging ──ok──────> Removed
        └────────────────────────────────────────│──────────────────^
                                                 └──hide──> Hidden (gone for the user, its data still needed)

CloudStack has no way from Creating to Creating, nor from Reverting to Reverting, so nothing can be
driven again after a restart, and a snapshot stuck there blocks its VM for ever; Allocated rows just stay
(cloudstack#8424, #793).
"""

from __future__ import annotations

from enum import StrEnum

from ..catalog.machine import StateMachine


class State(StrEnum):
    """Where a VM snapshot is in its life."""

    ALLOCATED = "Allocated"
    CREATING = "Creating"
    READY = "Ready"
    REVERTING = "Reverting"
    EXPUNGING = "Expunging"
    HIDDEN = "Hidden"
    ERROR = "Error"
    REMOVED = "Removed"


class Event(StrEnum):
    """What happens to a VM snapshot. LOST: its backend no longer has it."""

    CREATE_REQUESTED = "CreateRequested"
    REVERT_REQUESTED = "RevertRequested"
    EXPUNGE_REQUESTED = "ExpungeRequested"
    OPERATION_SUCCEEDED = "OperationSucceeded"
    OPERATION_FAILED = "OperationFailed"
    HIDE = "Hide"
    LOST = "Lost"


# A task is under way, or was when its orchestrator died: `sync` decides which.
ACTIVE = frozenset({State.ALLOCATED, State.CREATING, State.REVERTING, State.EXPUNGING})

VM_SNAPSHOTS = StateMachine(
    "vm_snapshot",
    State.ALLOCATED,
    {
        (State.ALLOCATED, Event.CREATE_REQUESTED): State.CREATING,
        (State.ALLOCATED, Event.EXPUNGE_REQUESTED): State.REMOVED,  # no backend has heard of it
        (State.CREATING, Event.CREATE_REQUESTED): State.CREATING,
        (State.CREATING, Event.OPERATION_SUCCEEDED): State.READY,
        (State.CREATING, Event.OPERATION_FAILED): State.ERROR,
        (State.READY, Event.REVERT_REQUESTED): State.REVERTING,
        (State.READY, Event.EXPUNGE_REQUESTED): State.EXPUNGING,
        (State.READY, Event.LOST): State.ERROR,
        (State.REVERTING, Event.REVERT_REQUESTED): State.REVERTING,
        (State.REVERTING, Event.OPERATION_SUCCEEDED): State.READY,
        (State.REVERTING, Event.OPERATION_FAILED): State.READY,
        (State.REVERTING, Event.LOST): State.ERROR,
        (State.EXPUNGING, Event.EXPUNGE_REQUESTED): State.EXPUNGING,
        (State.EXPUNGING, Event.OPERATION_SUCCEEDED): State.REMOVED,
        (State.EXPUNGING, Event.OPERATION_FAILED): State.ERROR,
        (State.EXPUNGING, Event.HIDE): State.HIDDEN,
        (State.HIDDEN, Event.EXPUNGE_REQUESTED): State.EXPUNGING,
        (State.ERROR, Event.EXPUNGE_REQUESTED): State.EXPUNGING,
    },
    ACTIVE,
)


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        IllegalTransition: there is none.
    """
    return VM_SNAPSHOTS.after(state, event)
