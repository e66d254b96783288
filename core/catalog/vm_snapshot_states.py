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

from .machine import StateMachine


class VmSnapshotState(StrEnum):
    """Where a VM snapshot is in its life."""

    ALLOCATED = "Allocated"
    CREATING = "Creating"
    READY = "Ready"
    REVERTING = "Reverting"
    EXPUNGING = "Expunging"
    HIDDEN = "Hidden"
    ERROR = "Error"
    REMOVED = "Removed"


class VmSnapshotEvent(StrEnum):
    """What happens to a VM snapshot. LOST: its backend no longer has it."""

    CREATE_REQUESTED = "CreateRequested"
    REVERT_REQUESTED = "RevertRequested"
    EXPUNGE_REQUESTED = "ExpungeRequested"
    OPERATION_SUCCEEDED = "OperationSucceeded"
    OPERATION_FAILED = "OperationFailed"
    HIDE = "Hide"
    LOST = "Lost"


_S, _E = VmSnapshotState, VmSnapshotEvent

# A task is under way, or was when its orchestrator died: `sync` decides which.
ACTIVE = frozenset({_S.ALLOCATED, _S.CREATING, _S.REVERTING, _S.EXPUNGING})

# What a sync looks at: a hidden one goes with the last that needs it, unless a process died before.
UNFINISHED = ACTIVE | {_S.HIDDEN}

VM_SNAPSHOTS = StateMachine(
    "vm_snapshot",
    _S.ALLOCATED,
    {
        (_S.ALLOCATED, _E.CREATE_REQUESTED): _S.CREATING,
        (_S.ALLOCATED, _E.EXPUNGE_REQUESTED): _S.REMOVED,  # no backend has heard of it
        (_S.CREATING, _E.CREATE_REQUESTED): _S.CREATING,
        (_S.CREATING, _E.OPERATION_SUCCEEDED): _S.READY,
        (_S.CREATING, _E.OPERATION_FAILED): _S.ERROR,
        (_S.READY, _E.REVERT_REQUESTED): _S.REVERTING,
        (_S.READY, _E.EXPUNGE_REQUESTED): _S.EXPUNGING,
        (_S.READY, _E.LOST): _S.ERROR,
        (_S.REVERTING, _E.REVERT_REQUESTED): _S.REVERTING,
        (_S.REVERTING, _E.OPERATION_SUCCEEDED): _S.READY,
        (_S.REVERTING, _E.OPERATION_FAILED): _S.READY,
        (_S.REVERTING, _E.LOST): _S.ERROR,
        (_S.EXPUNGING, _E.EXPUNGE_REQUESTED): _S.EXPUNGING,
        (_S.EXPUNGING, _E.OPERATION_SUCCEEDED): _S.REMOVED,
        (_S.EXPUNGING, _E.OPERATION_FAILED): _S.ERROR,
        (_S.EXPUNGING, _E.HIDE): _S.HIDDEN,
        (_S.HIDDEN, _E.EXPUNGE_REQUESTED): _S.EXPUNGING,
        (_S.ERROR, _E.EXPUNGE_REQUESTED): _S.EXPUNGING,
    },
    ACTIVE,
)
